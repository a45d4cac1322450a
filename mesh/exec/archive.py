"""A task's outputs as one archive, and back: the same tree gives the same bytes, and nothing is written that was not declared.

An archive comes from another machine. It is judged as a whole before the first byte of it reaches the workspace, and each file gets its name
only when it is complete.
"""

import mmap
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

from msgspec import Struct

from mesh.errors import CorruptError, UsageError
from mesh.exec.globs import Globs
from mesh.exec.tar import END, Entry, Kind, head, read_entries
from mesh.exec.tree import PROTECTED, Found, clear, reaching, walk

CHUNK_BYTES: Final = 256 * 1024


class Writer(Protocol):
    """Takes the bytes of an archive; a blob writer is one."""

    def write(self, data: bytes | memoryview, /) -> None: ...


class Packed(Struct, frozen=True):
    """What went into an archive: how many files, directories and links, and which outputs declared by name are not there."""

    files: int
    missing: tuple[str, ...]


def pack(workspace: Path, patterns: Sequence[str], writer: Writer) -> Packed:
    """Write all that `patterns` mean in `workspace` to `writer`.

    Raises `UsageError` for what cannot be kept (a socket, a link out of the workspace) and `StorageError` for what cannot be read.
    """
    globs = Globs(patterns)
    found = walk(workspace, globs)
    # A directory with something in it needs no entry: it is made for what is in it.
    filled = {parent for one in found for parent in _parents(one.path)}
    kept = [one for one in found if not (one.is_directory and one.path in filled)]
    pending = bytearray()
    for one in kept:
        _pack_one(workspace, one, pending, writer)
    pending += END
    writer.write(bytes(pending))
    return Packed(len(kept), tuple(name for name in globs.literals if not os.path.lexists(workspace / name)))


def restore(archive: Path, workspace: Path, patterns: Sequence[str], *, beside: bool = False) -> None:
    """Replace all that `patterns` mean in `workspace` by what is in `archive`; with `beside` what is not in that stays.

    Raises `CorruptError` with nothing changed where the archive holds what it must not, `StorageError` where this machine cannot hold it; then
    some files may be missing, but none is half written.
    """
    globs = Globs(patterns)
    with _contents(archive) as data:
        entries = list(read_entries(data))
        _check(entries, globs, workspace, beside=beside)
        if not beside:
            clear(workspace, globs)
        made: set[Path] = set()
        for entry in entries:
            path = workspace / entry.path
            directory = path if entry.kind is Kind.DIRECTORY else path.parent
            with reaching(path, "write"):
                if directory not in made:
                    directory.mkdir(parents=True, exist_ok=True)
                    made.add(directory)
                if entry.kind is not Kind.DIRECTORY:
                    _write(path, entry, data)


def names(archive: Path) -> tuple[str, ...]:
    """The paths of all that is in `archive`. Raises `CorruptError` where it is none."""
    with _contents(archive) as data:
        return tuple(entry.path for entry in read_entries(data))


def _pack_one(workspace: Path, one: Found, pending: bytearray, writer: Writer) -> None:
    path = workspace / one.path
    if one.is_symlink:
        with reaching(path, "read"):
            target = str(path.readlink())
        if _leaves(one.path, target):
            raise UsageError(
                f"output {one.path} is a symbolic link to {target}, which another machine may not have; make it relative, inside the workspace"
            )
        pending += head(Entry(one.path, Kind.SYMLINK, target=target))
    elif one.is_directory:
        pending += head(Entry(one.path, Kind.DIRECTORY))
    elif one.is_file:
        _pack_file(path, one.path, pending, writer)
    else:
        raise UsageError(f"output {one.path} is a socket, a pipe or a device; exclude it with `!{one.path}`")


def _pack_file(path: Path, name: str, pending: bytearray, writer: Writer) -> None:
    with reaching(path, "read"):
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        state = os.fstat(file)
        entry = Entry(name, Kind.FILE, executable=bool(state.st_mode & 0o100), size=state.st_size)
        pending += head(entry)
        left = entry.size
        while left:
            with reaching(path, "read"):
                chunk = os.read(file, min(left, CHUNK_BYTES))
            if not chunk:
                raise UsageError(f"output {name} became shorter while it was packed; which process still writes to it?")
            left -= len(chunk)
            pending += chunk
            _flush(pending, writer)
        pending += bytes(entry.padding)
    finally:
        os.close(file)


def _flush(pending: bytearray, writer: Writer) -> None:
    if len(pending) >= CHUNK_BYTES:
        writer.write(bytes(pending))
        pending.clear()


@contextmanager
def _contents(archive: Path) -> Iterator[memoryview]:
    with reaching(archive, "read"), archive.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise CorruptError("archive: it is empty")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    with mapped, memoryview(mapped) as data:
        yield data


def _check(entries: Sequence[Entry], globs: Globs, workspace: Path, *, beside: bool) -> None:
    """Judge a whole archive: order, names, declared or not, and no way through a symbolic link."""
    before = b""
    leaves: set[str] = set()  # files and links: nothing can be below them
    for entry in entries:
        path = entry.path
        segments = path.split("/")
        if (
            not path
            or "" in segments
            or "." in segments
            or ".." in segments
            or segments[0] == PROTECTED
            or "\0" in path
        ):
            raise CorruptError(f"archive: {path!r} is no path within a workspace")
        if os.fsencode(path) <= before:
            raise CorruptError(f"archive: {path!r} is out of order")
        before = os.fsencode(path)
        if not (globs.match(path) or (entry.kind is Kind.DIRECTORY and globs.match(f"{path}/"))):
            raise CorruptError(f"archive: {path!r} is not among the declared outputs")
        if any(parent in leaves for parent in _parents(path)):
            raise CorruptError(f"archive: {path!r} leads through something that is no directory")
        if entry.kind is not Kind.DIRECTORY:
            leaves.add(path)
        if entry.kind is Kind.SYMLINK and _leaves(path, entry.target):
            raise CorruptError(f"archive: the symbolic link {path!r} to {entry.target!r} leaves the workspace")
    for parent in sorted({parent for entry in entries for parent in _parents(entry.path)}):
        # One that is itself an output is about to be cleared away.
        if (workspace / parent).is_symlink() and (beside or not globs.match(parent)):
            raise CorruptError(
                f"archive: {parent!r} is a symbolic link in this workspace; outputs are not written through it"
            )


def _write(path: Path, entry: Entry, data: memoryview) -> None:
    temporary = path.with_name(f".dte-{secrets.token_hex(8)}.tmp")
    try:
        if entry.kind is Kind.SYMLINK:
            temporary.symlink_to(entry.target)
        else:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            file = os.open(
                temporary, flags, 0o777 if entry.executable else 0o666
            )  # less the user's umask, as for any new file
            try:
                at, end = entry.offset, entry.offset + entry.size
                while at < end:
                    at += os.write(file, data[at : min(end, at + CHUNK_BYTES)])
            finally:
                os.close(file)
        temporary.rename(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def _leaves(path: str, target: str) -> bool:
    """Whether a link at `path` may lead out of the workspace. `..` is fine at the beginning only: behind a name, which may itself be a link,
    nobody can tell where it leads.
    """
    segments = [segment for segment in target.split("/") if segment not in ("", ".")]
    up = 0
    while up < len(segments) and segments[up] == "..":
        up += 1
    return target.startswith("/") or not target or up > path.count("/") or ".." in segments[up:]


def _parents(path: str) -> Iterator[str]:
    while (slash := path.rfind("/")) >= 0:
        path = path[:slash]
        yield path
