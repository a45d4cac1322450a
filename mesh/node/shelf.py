"""The logs of a run's tasks, attempt by attempt, for whoever asks: while they are written, and afterwards from the store.

A log is read in pages from an offset; one that grows is followed by asking again from where the last page ended.
"""

import base64
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from mesh.net.http import Request, Response
from mesh.protocol.news import GraphAdded, News, TaskEnded, TaskRequeued, TaskStarted
from mesh.store.blobs import BlobStore
from mesh.store.runs import Attempt, Attempts
from mesh.types import TaskId
from mesh.wire import canonical

PAGE_BYTES: Final = 256 * 1024
LOGS: Final = "logs"
"""The first part of the path where logs are asked for."""

Live = Callable[[TaskId, int, int, int], bytes]
"""(task, attempt, offset, limit): what a running attempt has written, from `offset` on."""


def nothing_live(_task: TaskId, _attempt: int, _offset: int, _limit: int) -> bytes:
    """Of a run that is over."""
    return b""


class LogShelf:
    """All of one run. `live` knows what is not in the store yet."""

    def __init__(self, store: BlobStore, live: Live = nothing_live, attempts: Attempts | None = None) -> None:
        self._store = store
        self._live = live
        self.attempts: Attempts = {} if attempts is None else attempts
        self._ended: dict[TaskId, str] = {}
        if attempts is not None:
            self._ended = dict.fromkeys(attempts, "over")

    def hear(self, item: News) -> None:
        """Keep up with what happens."""
        match item:
            case GraphAdded(_, tasks):
                for task, _ in tasks:
                    self.attempts.setdefault(task, [])
            case TaskStarted(task, _, agent, number):
                self._ended.pop(task, None)
                if (one := self._numbered(task, number)) is None:
                    self.attempts[task].append(Attempt(number, agent))
                else:
                    one.status = "running"  # it was given up, and counts again
            case TaskRequeued():
                self._ended.pop(item.task, None)
                self._close(item, "lost" if item.log is None else "failure")
            case TaskEnded():
                self._ended[item.task] = item.status
                if item.agent:
                    self._close(item, item.status)
                self._close_others(item)
            case _:
                pass

    def _numbered(self, task: TaskId, number: int) -> Attempt | None:
        return next((one for one in self.attempts.setdefault(task, []) if one.number == number), None)

    def _close(self, item: TaskRequeued | TaskEnded, status: str) -> None:
        found = self._numbered(item.task, item.attempt)
        if item.log is None and (found is None or found.status != "running"):
            return  # an award that never started has nothing to show, and what is known of one that has ended stays
        if found is None:
            found = Attempt(item.attempt, item.agent)
            self.attempts[item.task].append(found)
        found.status, found.exit_code, found.log = status, item.exit_code, item.log

    def _close_others(self, end: TaskEnded) -> None:
        """Nothing more comes of what still runs of a task that is decided."""
        for one in self.attempts.get(end.task, ()):
            if one.status == "running":
                one.status = "superseded" if end.agent else end.status

    def listing(self) -> dict[str, Any]:
        """All tasks: how far each is."""
        return {
            "tasks": [
                {"id": task, "status": self._status(task), "attempts": len(attempts)}
                for task, attempts in self.attempts.items()
            ]
        }

    def _status(self, task: TaskId) -> str:
        told = [one.status for one in self.attempts[task] if one.status not in ("lost", "superseded")]
        return told[-1] if told else self._ended.get(task, "waiting")

    def page(self, task: TaskId, index: int, offset: int) -> dict[str, Any] | None:
        """Some of the log of the attempt at `index` (from 0), from `offset` on; None for a task that is not there.

        `done`: there is no more of this attempt. `over`: nor will there be another.
        """
        attempts = self.attempts.get(task)
        if attempts is None:
            return None
        over = task in self._ended and index >= len(attempts) - 1
        about = {"task": task, "attempts": len(attempts), "over": over}
        if index >= len(attempts):
            return {**about, "attempt": 0, "where": "", "status": self._status(task), "data": "", "done": over}
        one = attempts[index]
        data = self._read(task, one, offset)
        # A log that is known of and not here yet is on its way, as long as the run lasts.
        missing = one.log is not None and offset + len(data) < one.log.size and self._live is not nothing_live
        done = one.status != "running" and not missing and len(data) < PAGE_BYTES
        return {
            **about,
            "attempt": one.number,
            "where": one.where,
            "status": one.status,
            "exit_code": one.exit_code,
            "data": base64.b64encode(data).decode(),
            "done": done,
            "over": over and done,
        }

    def _read(self, task: TaskId, one: Attempt, offset: int) -> bytes:
        path = self._store.find(one.log.digest) if one.log is not None and one.log.size else None
        if path is None:
            return self._live(task, one.number, offset, PAGE_BYTES)
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(PAGE_BYTES)

    # --- over HTTP -----------------------------------------------------------------------------------

    async def answer(self, request: Request, path: str) -> Response:
        """`/` is the listing, `/TASK?index=0&from=0` a page, null for a task that is not there."""
        try:
            task, index, offset = parse_path(path)
        except ValueError:
            return Response(400, {}, b"/TASK?index=N&from=OFFSET was expected\n")
        if request.method != "GET":
            return Response(405)
        if not task:
            return _json(self.listing())
        return _json(self.page(task, index, offset))

    async def refuse(self, request: Request) -> Response:
        """Who has no token."""
        del request
        return Response(403)


def parse_path(path: str) -> tuple[TaskId, int, int]:
    """Task ("" for the listing), index and offset of `/TASK?index=0&from=0`. Raises `ValueError`."""
    parts = urlsplit(path)
    asked = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    numbers = [asked.get(key, "0") for key in ("index", "from")]
    if not all(number.isdecimal() and len(number) < 16 for number in numbers):
        raise ValueError(path)
    return TaskId(unquote(parts.path.removeprefix("/"))), int(numbers[0]), int(numbers[1])


def _json(value: dict[str, Any] | None) -> Response:
    return Response(200, {"Content-Type": "application/json"}, canonical.encode(value))
