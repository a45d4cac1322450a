"""Runs of this machine, one file each: where one that runs can be asked, and where the logs are of one that is over.

Only this user can read them: the token in such a file opens what the run's tasks have written.
"""

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from mesh.errors import RemoteError, readable
from mesh.store.files import storing, write_atomically
from mesh.types import Blob, Digest, TaskId
from mesh.wire import canonical
from mesh.wire.canonical import Reader

RUNS_MAX: Final = 50
"""Older ones are forgotten when a new one begins."""


class Attempt(Struct):
    """One try of a task: `status` is running, success, failure, lost, superseded (another one counted before it had ended) or cancelled."""

    number: int
    where: str
    status: str = "running"
    exit_code: int | None = None
    log: Blob | None = None


Attempts = dict[TaskId, list[Attempt]]
"""Every task of a run, in the order of its graphs, with its tries in their order."""


@dataclass(frozen=True, slots=True)
class KnownRun:
    """One run. `url` and `token` are "" once it is over; only then there are `attempts`."""

    run_id: str
    workspace: str
    pid: int
    url: str = ""
    token: str = field(default="", repr=False)
    attempts: Attempts = field(default_factory=dict)

    @property
    def running(self) -> bool:
        """Whether it may be asked."""
        return bool(self.url) and _lives(self.pid)

    def ended(self, attempts: Attempts) -> "KnownRun":
        """What remains of it: nobody is there to be asked any more, and nothing runs."""
        return replace(self, url="", token="", attempts=_over(attempts))


class Runs:
    """The files, in a directory of their own."""

    def __init__(self, data_dir: Path) -> None:
        self._directory = data_dir / "runs"
        self._agents = data_dir / "agents"

    def begin(self, run: KnownRun) -> Path:
        """A run has begun: returns its file. Raises `StorageError`."""
        with storing(self._directory):
            self._directory.mkdir(mode=0o700, exist_ok=True)
        for old in self._files()[RUNS_MAX - 1 :]:
            with suppress(OSError):
                old.unlink()
            shutil.rmtree(self.agents_of(old), ignore_errors=True)
        path = self._directory / f"{time.time_ns() // 1_000_000:013d}-{run.pid}.json"
        self.write(path, run)
        return path

    def agents_of(self, path: Path) -> Path:
        """Where the agents that the run of this file starts on this machine write: no other run does, whatever it is called."""
        return self._agents / path.stem

    def write(self, path: Path, run: KnownRun) -> None:
        """Replace what the file says. Raises `StorageError`."""
        write_atomically(path, canonical.encode(_to_json(run)), durable=False, mode=0o600)

    def known(self) -> Iterator[KnownRun]:
        """All runs, the newest first; what cannot be read is passed over."""
        for path in self._files():
            with suppress(OSError, RemoteError):
                yield _from_json(canonical.decode(path.read_bytes()))

    def _files(self) -> list[Path]:
        return sorted(self._directory.glob("*.json"), reverse=True)


def begin_here(run_id: str, workspace: Path, url: str, token: str) -> KnownRun:
    """A run of this process."""
    return KnownRun(run_id, readable(str(workspace)), os.getpid(), url, token)


def _over(attempts: Attempts) -> Attempts:
    return {task: [_ended(one) for one in tries] for task, tries in attempts.items()}


def _ended(one: Attempt) -> Attempt:
    return one if one.status != "running" else Attempt(one.number, one.where, "cancelled")


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return True


def _to_json(run: KnownRun) -> dict[str, Any]:
    return {
        "version": 1,
        "run_id": run.run_id,
        "workspace": run.workspace,
        "pid": run.pid,
        "url": run.url,
        "token": run.token,
        "tasks": [
            {"id": task, "attempts": [_attempt_json(attempt) for attempt in attempts]}
            for task, attempts in run.attempts.items()
        ],
    }


def _attempt_json(attempt: Attempt) -> Mapping[str, Any]:
    log = attempt.log
    return {
        "number": attempt.number,
        "where": attempt.where,
        "status": attempt.status,
        "exit_code": attempt.exit_code,
        "log": None if log is None else {"digest": log.digest, "size": log.size},
    }


def _from_json(value: Any) -> KnownRun:
    read = Reader(value, "run")
    if read.number("version") != 1:
        raise RemoteError("version", "a run that another dte has written")
    attempts: Attempts = {}
    for item in read.items("tasks", max_items=1_000_000):
        one = Reader(item, "task")
        attempts[TaskId(one.text("id"))] = [_attempt(each) for each in one.items("attempts", max_items=10_000)]
    return KnownRun(
        read.text("run_id"),
        read.text("workspace"),
        read.number("pid"),
        read.text("url"),
        read.text("token"),
        _over(attempts),
    )


def _attempt(value: Any) -> Attempt:
    read = Reader(value, "attempt")
    log = None
    if read.has("log"):
        about = Reader(read.table("log"), "log")
        log = Blob(Digest(about.text("digest")), about.number("size"))
    code = read.number("exit_code", low=-(2**32), high=2**32) if read.has("exit_code") else None
    return Attempt(read.number("number"), read.text("where"), read.text("status"), code, log)
