"""nx's self-hosted remote cache: `GET` and `PUT /v1/cache/<hash>`, answered so that nothing that goes wrong here ends the user's nx.

An nx run aborts on any answer to a GET but 200 with a good archive and 404, and nx before 22.7 replays a stored failure as a success: so an
archive is read to its end before it is kept and before it is served, and one of a failed task is neither. To a PUT nx survives 200, 409 and
403; anything else is tried again for a minute and then fails the task.
"""

import gzip
import os
import re
import tarfile
import zlib
from collections.abc import AsyncIterator, Iterable
from pathlib import Path, PurePosixPath
from typing import Final, Protocol

import trio
from msgspec import Struct

from mesh.errors import CorruptError, StorageError
from mesh.net.http import FileBody, Request, Response
from mesh.store.blobs import BlobStore
from mesh.types import Blob, Digest

ARCHIVE_ENTRIES_MAX: Final = 2_000_000
ARCHIVE_BYTES_MAX: Final = 64 * 1024 * 1024 * 1024
"""Unpacked. nx itself holds a whole archive in memory, so that an honest one is far smaller."""
TERMINAL_OUTPUT_BYTES_MAX: Final = 1024 * 1024 * 1024

_PATH: Final = re.compile(r"/v1/cache/([0-9]{1,20})")
_CODE_BYTES: Final = 4
_ENDING: Final = ("terminalOutput", "code")
_READ_BYTES: Final = 1024 * 1024


class NxArchive(Struct, frozen=True):
    """What one archive holds: the files of the task's outputs, relative to the workspace, and how the task ended."""

    files: tuple[str, ...]
    code: int
    terminal_output: bytes


def parse_archive(path: Path) -> NxArchive:
    """Read an archive as nx packs it, to the end. Raises `CorruptError` for one that nx could not, or must not, unpack."""
    files: list[str] = []
    ending: dict[str, bytes] = {}
    links: set[PurePosixPath] = set()
    unpacked_bytes = 0
    try:
        with gzip.open(path) as packed, tarfile.open(fileobj=packed, mode="r|") as tar:
            for entry in tar:
                unpacked_bytes += entry.size
                if len(files) >= ARCHIVE_ENTRIES_MAX or unpacked_bytes > ARCHIVE_BYTES_MAX:
                    raise CorruptError(f"{path.name} unpacks to more than nx could hold")
                _check_entry(entry, links)
                if entry.isreg() and entry.name in _ENDING and entry.name not in ending:
                    ending[entry.name] = _content(tar, entry)
                elif entry.name.split("/")[0] in _ENDING:
                    raise CorruptError(
                        f"{path.name} holds the output {entry.name}, which nx takes for how the task ended"
                    )
                else:
                    files.append(entry.name)
            # tarfile stops at the end of the tar; the checksum of the whole stands behind it.
            while packed.read(_READ_BYTES):
                pass
    except (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise CorruptError(f"{path.name} is not a whole gzipped tar: {error}") from None
    code = ending.get("code", b"")
    if len(code) != _CODE_BYTES:
        raise CorruptError(f"{path.name} does not say how its task ended")
    return NxArchive(tuple(files), int.from_bytes(code, "big"), ending.get("terminalOutput", b""))


class Behind(Protocol):
    """A cache behind this one."""

    async def fetch(self, hashes: Iterable[str]) -> Iterable[str]:
        """Put what it has of `hashes` into this one."""

    def publish(self, nx_hash: str, archive: Blob) -> None:
        """Take `archive`, which is in the blob store, in its own time."""


class NxCache:
    """Which archive answers which hash in this session. The archives themselves are in the blob store."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._index: dict[str, Blob] = {}
        self._checked: set[Digest] = set()
        self._not_kept: dict[str, str] = {}
        self.behind: Behind | None = None
        """What is asked on a miss, and told of what nx puts; None where there is nothing behind this cache."""

    def offer(self, nx_hash: str, archive: Blob) -> None:
        """Let `archive`, which is in the blob store, answer for `nx_hash`."""
        self._index[nx_hash] = archive

    def stored(self, nx_hash: str) -> Blob | None:
        """The archive that answers for `nx_hash`, offered or put by nx; None where the store has lost it."""
        archive = self._index.get(nx_hash)
        return archive if archive is not None and self._blobs.find(archive.digest) is not None else None

    def not_kept(self, nx_hash: str) -> str:
        """Why the archive that nx put for `nx_hash` is not here; "" where it put none."""
        return self._not_kept.get(nx_hash, "")

    async def check(self, archive: Blob) -> None:
        """Make sure that nx may be served `archive`. Raises `CorruptError` where it may not, or where the archive is not in the store."""
        if archive.digest in self._checked:
            return
        path = await trio.to_thread.run_sync(self._blobs.find, archive.digest)
        if path is None:
            raise CorruptError(f"{archive.digest} is not in the blob store")
        if (code := (await trio.to_thread.run_sync(parse_archive, path)).code) != 0:
            raise CorruptError(f"{archive.digest} is the archive of a task that failed with exit code {code}")
        self._checked.add(archive.digest)

    async def keep(self, nx_hash: str, body: AsyncIterator[bytes]) -> Blob:
        """Take in an archive; the first one of a hash stays. Raises `CorruptError`, `StorageError`, and whatever reading `body` raises."""
        with self._blobs.writer() as writer:
            async for data in body:
                writer.write(data)
            archive = writer.finish()
        await self.check(archive)
        if self.stored(nx_hash) is None:
            self._index[nx_hash] = archive
        return archive

    async def answer(self, request: Request, path: str) -> Response:
        """One request of nx."""
        match = _PATH.fullmatch(path)
        if match and request.method == "GET":
            return await self._get(match[1])
        if match and request.method == "PUT":
            return await self._put(match[1], request)
        return await self.refuse(request)

    async def refuse(self, request: Request) -> Response:
        """As if nothing were stored, and nothing could be."""
        async for _ in request.body:
            pass
        return Response(403 if request.method == "PUT" else 404)

    async def _get(self, nx_hash: str) -> Response:
        if self.behind is not None and self.stored(nx_hash) is None:
            await self.behind.fetch((nx_hash,))
        archive = self._index.get(nx_hash)
        if archive is None:
            return Response(404)
        path = self._blobs.path(archive.digest)
        try:
            await self.check(archive)
            whole = path.stat().st_size == archive.size and os.access(path, os.R_OK)
        except (CorruptError, OSError):
            whole = False
        if not whole:
            # A miss: nx runs the task. Whoever asked nx to restore it sees that it was not restored.
            return Response(404)
        return Response(200, {"Content-Type": "application/octet-stream"}, FileBody(path, 0, archive.size))

    async def _put(self, nx_hash: str, request: Request) -> Response:
        try:
            archive = await self.keep(nx_hash, request.body)
        except (StorageError, CorruptError) as error:
            self._not_kept[nx_hash] = str(error)
            # nx has done its part: the task must not fail for it. Who needs the archive asks `stored`.
            return await self.refuse(request)
        self._not_kept.pop(nx_hash, None)
        if self.behind is not None:
            self.behind.publish(nx_hash, archive)
        return Response(200 if self._index[nx_hash] == archive else 409)


def _check_entry(entry: tarfile.TarInfo, links: set[PurePosixPath]) -> None:
    """Refuse what would leave the workspace once it is unpacked: nx before 24 does not look."""
    path = PurePosixPath(entry.name)
    if not (entry.isreg() or entry.isdir() or entry.issym()):
        raise CorruptError(f"{path}: neither a file, nor a directory, nor a symbolic link")
    if path.is_absolute() or ".." in path.parts or not links.isdisjoint(path.parents):
        raise CorruptError(f"{path} is outside the workspace, or behind a link")
    if entry.issym():
        target = PurePosixPath(entry.linkname)
        up = next((at for at, part in enumerate(target.parts) if part != ".."), len(target.parts))
        # `..` only at the start: further on, what it leads to would depend on other links.
        if target.is_absolute() or up >= len(path.parts) or ".." in target.parts[up:]:
            raise CorruptError(f"{path} is a link to {target}, which may be outside the workspace")
        links.add(path)


def _content(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    limit = _CODE_BYTES if entry.name == "code" else TERMINAL_OUTPUT_BYTES_MAX
    if entry.size > limit:
        raise CorruptError(f"{entry.name} has {entry.size} bytes; at most {limit} were expected")
    file = tar.extractfile(entry)
    assert file is not None  # it is a regular file
    return file.read()
