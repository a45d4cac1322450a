"""Keeps the output of tasks from when it is written until it is shown, in little memory and without losing a byte.

Each attempt of a task has up to `TASK_MEMORY_MAX_BYTES` in memory, all together `MEMORY_MAX_BYTES`; what is above goes to a temporary file of its own, which is
only open while it is written or read. Where the disk is full the rest stays in memory: a log is worth more than the bound.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct, field

from mesh.types import TaskId

TASK_MEMORY_MAX_BYTES: Final = 1024 * 1024
MEMORY_MAX_BYTES: Final = 64 * 1024 * 1024
_READ_BYTES: Final = 256 * 1024

assert TASK_MEMORY_MAX_BYTES <= MEMORY_MAX_BYTES


class _Log(Struct):
    memory: bytearray = field(default_factory=bytearray)
    file: Path | None = None
    size: int = 0
    title: str = ""
    """Why nothing came of this attempt."""


class Logs:
    """The logs that are not shown yet, by task and attempt."""

    def __init__(self) -> None:
        self._logs: dict[TaskId, dict[int, _Log]] = {}
        self._memory_bytes = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._files = 0
        self._disk_ok = True

    def add(self, task: TaskId, attempt: int, data: bytes) -> None:
        """The next bytes that an attempt of `task` has written."""
        log = self._logs.setdefault(task, {}).setdefault(attempt, _Log())
        log.memory += data
        log.size += len(data)
        self._memory_bytes += len(data)
        if len(log.memory) > TASK_MEMORY_MAX_BYTES or self._memory_bytes > MEMORY_MAX_BYTES:
            self._spill(log)

    def came_to_nothing(self, task: TaskId, attempt: int, title: str) -> None:
        """`task` will run again: what this attempt has written stays, closed off by a line of ours."""
        log = self._logs.get(task, {}).get(attempt)
        if log is not None:
            log.title = title

    def counts(self, task: TaskId, attempt: int) -> None:
        """The log of `task` is that of this attempt: it comes last, and what has been overtaken by it is not shown."""
        attempts = self._logs.get(task, {})
        counting = attempts.pop(attempt, None)
        for number, log in list(attempts.items()):
            if not log.title:
                self._forget(attempts.pop(number))
        if counting is not None:
            counting.title = ""
            attempts[attempt] = counting
        if not attempts:
            self._logs.pop(task, None)

    def size(self, task: TaskId, attempt: int) -> int:
        """How much that attempt has written."""
        log = self._logs.get(task, {}).get(attempt)
        return log.size if log is not None else 0

    def __contains__(self, task: TaskId) -> bool:
        return task in self._logs

    def tasks(self) -> list[TaskId]:
        """Those with a log here."""
        return list(self._logs)

    def read(self, task: TaskId) -> Iterator[bytes]:
        """The whole log, in pieces: attempt after attempt, with a line of ours between two."""
        attempts = self._logs.get(task, {})
        for place, (number, log) in enumerate(attempts.items(), 1):
            if log.file is not None:
                with log.file.open("rb") as stream:
                    while piece := stream.read(_READ_BYTES):
                        yield piece
            yield bytes(log.memory)
            if log.title or place < len(attempts):
                yield f"\n── {log.title or f'so far attempt {number}'} ──\n".encode()

    def drop(self, task: TaskId) -> None:
        """It has been shown, or will not be."""
        for log in self._logs.pop(task, {}).values():
            self._forget(log)

    def _forget(self, log: _Log) -> None:
        self._memory_bytes -= len(log.memory)
        if log.file is not None:
            log.file.unlink(missing_ok=True)

    def close(self) -> None:
        """Forget everything, also on disk."""
        self._logs.clear()
        self._memory_bytes = 0
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _spill(self, log: _Log) -> None:
        if not self._disk_ok:
            return
        try:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="dte-logs-", ignore_cleanup_errors=True)
            if log.file is None:
                self._files += 1
                log.file = Path(self._folder.name, f"{self._files}.log")
                log.file.touch(mode=0o600)
            size = log.file.stat().st_size
            try:
                with log.file.open("ab") as stream:
                    stream.write(log.memory)
            except OSError:
                # Half a write must not be read twice: the file is as before, and the memory keeps all of it.
                with log.file.open("r+b") as stream:
                    stream.truncate(size)
                raise
        except OSError:
            self._disk_ok = False
            return
        self._memory_bytes -= len(log.memory)
        log.memory = bytearray()
