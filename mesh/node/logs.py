"""A task's output on its way: from the process to a blob here, and piece by piece to the main job while the task runs.

The pieces are for people who watch; what counts is the blob, whose digest is in the signed completion. So a piece may be lost with a link and nothing is
lost: what the main job has seen is compared with the digest, and the rest is fetched.
"""

import base64
import time
from collections.abc import Callable, Iterator
from typing import Final

from mesh.errors import StorageError
from mesh.store.blobs import BlobStore, BlobWriter
from mesh.types import Blob, Digest, TaskId
from mesh.wire.messages import Log

EMPTY: Final = Blob(Digest("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"), 0)
IN_MEMORY_MAX_BYTES: Final = 256 * 1024
PIECE_MAX_BYTES: Final = 256 * 1024
LAST_LINE_BYTES: Final = 4 * 1024
LAST_LINE_CHARS: Final = 200
FLUSH_MS: Final = 100
"""Output waits at most this long to be sent on: a person sees no difference, and a chatty task costs few messages."""


class Spool:
    """Some bytes that become a blob: in memory while they are few, in the store's own incoming file beyond."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._parts: list[bytes] = []
        self._writer: BlobWriter | None = None
        self.size = 0

    def write(self, data: bytes) -> None:
        """Append. Raises `StorageError`."""
        self.size += len(data)
        if self._writer is not None:
            self._writer.write(data)
            return
        self._parts.append(data)
        if self.size > IN_MEMORY_MAX_BYTES:
            self._writer = self._store.writer()
            for part in self._parts:
                self._writer.write(part)
            self._parts.clear()

    def read(self, offset: int, limit: int) -> bytes:
        """Some of what has been written so far."""
        if self._writer is not None:
            return self._writer.read(offset, limit)
        return b"".join(self._parts)[offset : offset + limit]

    def finish(self) -> Blob:
        """The blob, now in the store."""
        if self._writer is not None:
            return self._writer.finish()
        return self._store.put(b"".join(self._parts)) if self.size else EMPTY

    def abort(self) -> None:
        """Forget it."""
        self._parts.clear()
        if self._writer is not None:
            self._writer.abort()


class Stream:
    """One execution's output: `write` is the runner's log sink.

    `told_as` is asked under which attempt a task's output is sent now, and says 0 while it is not. Under another one than before it is sent from its beginning: who has
    awarded the task anew expects a log of that award.
    """

    def __init__(
        self, task: TaskId, store: BlobStore, told_as: Callable[[TaskId], int], send: Callable[[Log], None]
    ) -> None:
        self._task = task
        self._told_as = told_as
        self._send = send
        self._store = store
        self._spool = Spool(store)
        self._attempt = 0
        self._sent = 0
        self.problem: Exception | None = None

    def write(self, data: bytes) -> None:
        """The next bytes. Never raises: what goes wrong is told by `finish`."""
        if self.problem is not None:
            return
        try:
            self._spool.write(data)
        except Exception as error:  # noqa: BLE001  it is raised again, where somebody can act on it
            self.problem = error
            return
        if self._spool.size - self._sent >= PIECE_MAX_BYTES:
            self.flush()

    def conclude(self, whole: bytes) -> None:
        """What has been written was for those who watch: `whole` is what counts."""
        self.flush()
        self._spool.abort()
        self._spool = Spool(self._store)
        self._sent = len(whole)
        try:
            self._spool.write(whole)
        except StorageError as error:
            self.problem = error

    def flush(self) -> None:
        """Send what has come in, as far as may be now; what is left is in the blob."""
        while self.problem is None and (attempt := self._told_as(self._task)):
            if attempt != self._attempt:
                self._attempt, self._sent = attempt, 0
            if self._sent >= self._spool.size:
                return
            try:
                piece = self._spool.read(self._sent, PIECE_MAX_BYTES)
            except OSError:
                return
            self._send(Log(self._task, attempt, self._sent, base64.b64encode(piece).decode()))
            self._sent += len(piece)

    def finish(self) -> Blob:
        """All of it, in the store. Raises `StorageError`."""
        if self.problem is not None:
            raise self.problem
        self.flush()
        return self._spool.finish()

    def abort(self) -> None:
        """Nobody needs it."""
        self._spool.abort()


class _Seen:
    """What has come of one attempt."""

    def __init__(self, store: BlobStore) -> None:
        self.spool = Spool(store)
        self.whole = True
        self.last_at = time.monotonic()
        self._kept: Blob | None = None

    def keep(self) -> Blob:
        """All of it, in the store; nothing where the disk is full, which is told when the blob is fetched."""
        if self._kept is None:
            try:
                self._kept = self.spool.finish()
            except Exception:  # noqa: BLE001  whatever it was, what is shown of a task that runs must not stop the run
                self.spool.abort()
                self._kept = EMPTY
        return self._kept


Show = Callable[[TaskId, int, bytes], None]
"""(task, attempt, data): the next bytes of what that attempt has written."""


class LogBook:
    """The main job's side: pieces in, shown as they come; and at the end the whole, checked. Every attempt has a log of its own."""

    def __init__(self, store: BlobStore, show: Show) -> None:
        self._store = store
        self._show = show
        self._seen: dict[TaskId, dict[int, _Seen]] = {}

    def piece(self, message: Log) -> None:
        """A piece has come. One that does not fit where it should is not shown: the blob will tell."""
        attempts = self._seen.setdefault(message.task, {})
        seen = attempts.get(message.attempt)
        if seen is None:
            seen = attempts[message.attempt] = _Seen(self._store)
        seen.whole = seen.whole and message.offset == seen.spool.size
        if not seen.whole:
            return
        try:
            data = base64.b64decode(message.data, validate=True)
            seen.spool.write(data)
            seen.last_at = time.monotonic()
        except Exception:  # noqa: BLE001  a bad piece or a full disk: the blob will tell
            seen.whole = False
            return
        self._show(message.task, message.attempt, data)

    def _of(self, task: TaskId, attempt: int) -> _Seen | None:
        return self._seen.get(task, {}).get(attempt)

    def read(self, task: TaskId, attempt: int, offset: int, limit: int) -> bytes:
        """Some of what has come of an attempt."""
        seen = self._of(task, attempt)
        return b"" if seen is None else seen.spool.read(offset, limit)

    def last_of(self, task: TaskId, attempt: int) -> tuple[int | None, str]:
        """For how many milliseconds nothing has come of a running attempt, and the last line that did; None where nothing has come at all."""
        seen = self._of(task, attempt)
        if seen is None:
            return None, ""
        size = seen.spool.size
        tail = seen.spool.read(max(0, size - LAST_LINE_BYTES), LAST_LINE_BYTES).decode(errors="replace").split("\n")
        said = [line.strip() for line in tail if line.strip()]
        return int((time.monotonic() - seen.last_at) * 1000), said[-1][:LAST_LINE_CHARS] if said else ""

    def complete(self, task: TaskId, attempt: int, log: Blob) -> int | None:
        """None where all of `log`, which that attempt has left, has been shown and is in the store; else how many of its bytes have been shown."""
        seen = self._of(task, attempt)
        if seen is None:
            return None if log.size == 0 else 0
        return None if seen.keep() == log else min(seen.spool.size, log.size)

    def forget(self, task: TaskId) -> None:
        """One attempt counts: of the others nothing is kept."""
        for seen in self._seen.pop(task, {}).values():
            seen.spool.abort()

    def show_rest(self, task: TaskId, attempt: int, log: Blob, shown: int) -> None:
        """Show what of `log`, which is in the store, has not been shown."""
        for data in self.pieces(log, shown):
            self._show(task, attempt, data)

    def pieces(self, log: Blob, offset: int = 0) -> Iterator[bytes]:
        """What is in the store of a whole log, from `offset` on."""
        path = self._store.find(log.digest) if log.size else None
        if path is None:
            return
        with path.open("rb") as file:
            file.seek(offset)
            while data := file.read(PIECE_MAX_BYTES):
                yield data
