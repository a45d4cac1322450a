"""A task's output on its way: from the process to a blob here, and piece by piece to the main job while the task runs.

The pieces are for people who watch; what counts is the blob, whose digest is in the signed completion. So a piece may be lost with a link and nothing is
lost: what the main job has seen is compared with the digest, and the rest is fetched.
"""

import base64
import time
from collections.abc import Callable
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
    """One execution's output: `write` is the runner's log sink."""

    def __init__(self, task: TaskId, attempt: int, store: BlobStore, send: Callable[[Log], None]) -> None:
        self._task = task
        self._attempt = attempt
        self._send = send
        self._store = store
        self._spool = Spool(store)
        self._unsent = bytearray()
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
        self._unsent += data
        if len(self._unsent) >= PIECE_MAX_BYTES:
            self.flush()

    def conclude(self, whole: bytes) -> None:
        """What has been written was for those who watch: `whole` is what counts."""
        self._spool.abort()
        self._spool = Spool(self._store)
        try:
            self._spool.write(whole)
        except StorageError as error:
            self.problem = error

    def flush(self) -> None:
        """Send what has come in."""
        while self._unsent:
            piece = bytes(self._unsent[:PIECE_MAX_BYTES])
            del self._unsent[:PIECE_MAX_BYTES]
            self._send(Log(self._task, self._attempt, self._sent, base64.b64encode(piece).decode()))
            self._sent += len(piece)

    def finish(self) -> Blob:
        """All of it, in the store, and sent. Raises `StorageError`."""
        if self.problem is not None:
            raise self.problem
        self.flush()
        return self._spool.finish()

    def abort(self) -> None:
        """Nobody needs it."""
        self._spool.abort()


class _Seen:
    def __init__(self, attempt: int, store: BlobStore) -> None:
        self.attempt = attempt
        self.spool = Spool(store)
        self.whole = True
        self.last_at = time.monotonic()


class LogBook:
    """The main job's side: pieces in, shown as they come; and at the end the whole, checked."""

    def __init__(self, store: BlobStore, show: Callable[[TaskId, bytes], None]) -> None:
        self._store = store
        self._show = show
        self._seen: dict[TaskId, _Seen] = {}

    def piece(self, message: Log) -> None:
        """A piece has come. One that does not fit where it should is not shown: the blob will tell."""
        seen = self._seen.get(message.task)
        if seen is None or seen.attempt < message.attempt:
            if seen is not None:
                seen.spool.abort()
            seen = self._seen[message.task] = _Seen(message.attempt, self._store)
        if seen.attempt != message.attempt or message.offset != seen.spool.size:
            seen.whole = seen.whole and seen.attempt != message.attempt
            return
        if not seen.whole:
            return
        try:
            data = base64.b64decode(message.data, validate=True)
            seen.spool.write(data)
            seen.last_at = time.monotonic()
        except Exception:  # noqa: BLE001  a bad piece or a full disk: the blob will tell
            seen.whole = False
            return
        self._show(message.task, data)

    def read(self, task: TaskId, attempt: int, offset: int, limit: int) -> bytes:
        """Some of what has come of a running attempt, which may have begun under an earlier number."""
        seen = self._seen.get(task)
        return b"" if seen is None or seen.attempt > attempt else seen.spool.read(offset, limit)

    def last_of(self, task: TaskId, attempt: int) -> tuple[int | None, str]:
        """For how many milliseconds nothing has come of a running attempt, and the last line that did; None where nothing has come at all."""
        seen = self._seen.get(task)
        if seen is None or seen.attempt > attempt:
            return None, ""
        size = seen.spool.size
        tail = seen.spool.read(max(0, size - LAST_LINE_BYTES), LAST_LINE_BYTES).decode(errors="replace").split("\n")
        said = [line.strip() for line in tail if line.strip()]
        return int((time.monotonic() - seen.last_at) * 1000), said[-1][:LAST_LINE_CHARS] if said else ""

    def complete(self, task: TaskId, attempt: int, log: Blob) -> int | None:
        """None where all of `log` has been shown and is in the store; else how many of its bytes have been shown."""
        seen = self._seen.pop(task, None)
        if seen is None or seen.attempt != attempt:
            if seen is not None:
                seen.spool.abort()
            return None if log.size == 0 else 0
        shown = seen.spool.size
        try:
            return None if seen.spool.finish() == log else min(shown, log.size)
        except Exception:  # noqa: BLE001  a full disk is told when the blob is fetched
            seen.spool.abort()
            return min(shown, log.size)

    def show_rest(self, task: TaskId, log: Blob, shown: int) -> None:
        """Show what of `log`, which is in the store, has not been shown."""
        path = self._store.find(log.digest)
        if path is None:
            return
        with path.open("rb") as file:
            file.seek(shown)
            while data := file.read(PIECE_MAX_BYTES):
                self._show(task, data)
