"""Contents by their SHA-256, on disk: what is in the store has been verified, what has not been verified is not in the store.

    <root>/sha256/ab/abcdef…   one read-only file for each content, named by 64 hex characters
    <root>/incoming/           what is being written; moved into place once its hash is known
    <root>/boot                which start of this machine the blobs were last written or verified under

A blob is not fsynced, since it need not be: its name says what it must be, and it can be had again. Only a power cut can take from a file
that was complete, so a blob that is older than the machine's last start is hashed again when it is first asked for.
"""

import errno
import hashlib
import os
import re
import secrets
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from mesh.errors import CorruptError
from mesh.store.files import storing, write_all, write_atomically
from mesh.types import Blob, Digest

CHUNK_BYTES: Final = 256 * 1024
STALE_MS: Final = 24 * 60 * 60 * 1_000
"""An incoming file that nobody has written to for so long belongs to a process that is gone."""

_NAME: Final = re.compile("[0-9a-f]{64}")
_READ_ONLY: Final = 0o444
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class BlobStore:
    """The contents this machine holds. Several processes may share one; writers of the same digest do not disturb each other."""

    def __init__(self, root: Path) -> None:
        self._blobs = root / "sha256"
        self._incoming = root / "incoming"
        with storing(root):
            self._blobs.mkdir(parents=True, exist_ok=True)
            self._incoming.mkdir(exist_ok=True)
            self._remove_stale()
            self._trusted_since_ns = _boot_mark_ns(root / "boot")

    def path(self, digest: Digest) -> Path:
        """Where the content of this name is, or would be."""
        name = digest.removeprefix("sha256:")
        # Whoever takes digests from the network has checked them; here is where one that slipped through would leave the store.
        assert _NAME.fullmatch(name), digest
        return self._blobs / name[:2] / name

    def find(self, digest: Digest) -> Path | None:
        """The file with this content, or None. After the machine has been restarted the first call for a digest reads the whole file."""
        path = self.path(digest)
        try:
            written_ns = path.stat().st_mtime_ns
        except OSError:
            return None
        return path if written_ns >= self._trusted_since_ns or self._verify_again(path, digest) else None

    def put(self, data: bytes) -> Blob:
        """Keep `data`."""
        blob = Blob(_digest(hashlib.sha256(data)), len(data))
        if self.find(blob.digest) is None:
            with self.writer() as writer:
                writer.write(data)
                writer.finish(blob.digest, blob.size)
        return blob

    def writer(self) -> "BlobWriter":
        """Take in a content piece by piece."""
        return BlobWriter(self, self._incoming / secrets.token_hex(16))

    def adopt(self, path: Path) -> Blob:
        """Keep the file at `path`, to which nobody may write any more, by moving it in: it is gone from where it was."""
        with storing(self._incoming), path.open("rb", buffering=0) as file:
            blob = Blob(_digest(hashlib.file_digest(file, "sha256")), os.fstat(file.fileno()).st_size)
            try:
                self._admit(path, blob.digest)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                file.seek(0)
                with self.writer() as writer:
                    while chunk := file.read(CHUNK_BYTES):
                        writer.write(chunk)
                    writer.finish(blob.digest, blob.size)
                path.unlink()
            else:
                os.fchmod(file.fileno(), _READ_ONLY)
                os.utime(file.fileno())
        return blob

    def _admit(self, incoming: Path, digest: Digest) -> None:
        """Give a verified file its name. A content that is there already is replaced by the same content."""
        path = self.path(digest)
        try:
            incoming.rename(path)
        except FileNotFoundError:
            path.parent.mkdir(exist_ok=True)
            incoming.rename(path)

    def _verify_again(self, path: Path, digest: Digest) -> bool:
        try:
            with path.open("rb", buffering=0) as file:
                if _digest(hashlib.file_digest(file, "sha256")) == digest:
                    os.utime(file.fileno())
                    return True
        except OSError:
            return False  # unreadable is as good as absent
        with suppress(OSError):
            path.unlink()
        return False

    def _remove_stale(self) -> None:
        before_s = time.time() - STALE_MS / 1_000
        with os.scandir(self._incoming) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # another process may do the same
                    if entry.stat().st_mtime < before_s:
                        Path(entry.path).unlink()


class BlobWriter:
    """One content on its way into the store. Left without `finish`, it leaves nothing behind."""

    def __init__(self, store: BlobStore, incoming: Path) -> None:
        self._store = store
        self._incoming = incoming
        self._hash = hashlib.sha256()
        self._size = 0
        with storing(incoming.parent):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._file = os.open(incoming, flags, _READ_ONLY)
        self._open = True

    def write(self, data: bytes | memoryview) -> None:
        """Append `data`. After an error nothing of the content is left."""
        try:
            with storing(self._incoming.parent):
                write_all(self._file, data)
        except BaseException:
            self.abort()
            raise
        self._hash.update(data)
        self._size += len(data)

    def read(self, offset: int, limit: int) -> bytes:
        """Some of what has been written so far."""
        with self._incoming.open("rb") as file:
            file.seek(offset)
            return file.read(limit)

    def finish(self, expected: Digest | None = None, size: int | None = None) -> Blob:
        """Let the content be seen under its name. Raises `CorruptError`, and leaves nothing, where it is not what was `expected`."""
        blob = Blob(_digest(self._hash), self._size)
        try:
            if size is not None and size != blob.size:
                raise CorruptError(f"{blob.size} bytes came where {expected or 'the content'} has {size}")
            if expected is not None and expected != blob.digest:
                raise CorruptError(f"{blob.size} bytes that hash to {blob.digest} came for {expected}")
            with storing(self._store.path(blob.digest)):
                self._close()  # first: a network file system may tell of a full disk only now
                self._store._admit(self._incoming, blob.digest)  # noqa: SLF001 - the store's own other half
        except BaseException:
            self.abort()
            raise
        self._open = False
        return blob

    def abort(self) -> None:
        """Forget the content. Harmless where it has been finished or forgotten."""
        if self._open:
            self._open = False
            with suppress(OSError):
                self._close()
            with suppress(OSError):
                self._incoming.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def _close(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)


def _digest(state: "hashlib._Hash") -> Digest:
    return Digest(f"sha256:{state.hexdigest()}")


def _boot_mark_ns(mark: Path) -> int:
    """Since when files have been written that no power cut can have touched: the mark is made anew at the first use after a start."""
    try:
        boot = _BOOT_ID.read_bytes()
    except OSError:
        boot = secrets.token_bytes(16)  # a platform that does not tell: what an earlier process wrote is verified
    try:
        if mark.read_bytes() == boot:
            return mark.stat().st_mtime_ns
    except FileNotFoundError:
        pass
    write_atomically(mark, boot, durable=False)
    return mark.stat().st_mtime_ns
