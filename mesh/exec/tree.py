"""What a task's declared outputs are on disk: found, told apart from an earlier state, and cleared away.

No symbolic link is ever followed here. What stands behind one is somewhere else, perhaps outside the workspace, and is neither ours to pack
nor ours to delete.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from mesh.errors import FullError, StorageError, UsageError
from mesh.exec.globs import Globs

PROTECTED: Final = ".git"
"""The repository itself is nobody's output, even where a pattern says `**`."""

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# EBUSY: something is mounted there, as caches are in containers.
_STAYS: Final = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY})


class Found(Struct, frozen=True):
    """Something in a workspace: its path from there, and what lstat says of it."""

    path: str
    stat: os.stat_result

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.stat.st_mode)

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.stat.st_mode)

    @property
    def is_symlink(self) -> bool:
        return stat.S_ISLNK(self.stat.st_mode)


def walk(workspace: Path, globs: Globs) -> list[Found]:
    """All that `globs` mean in `workspace`, in the order of the bytes of its paths.

    A directory is meant where it, or its inside as such, is. Raises `UsageError` where a symbolic link is on the way, `StorageError` where
    something cannot be read.
    """
    found: list[Found] = []
    for prefix in globs.prefixes:
        start = _start(workspace, prefix, globs)
        if start is not None and prefix:
            found.extend(_meant(start, globs))
        if start is not None and start.is_directory:
            found.extend(_below(workspace, prefix, globs))
    return sorted(found, key=lambda one: os.fsencode(one.path))


def clear(workspace: Path, globs: Globs) -> None:
    """Delete what `globs` mean; a directory only where nothing else is left in it. Raises as `walk` does."""
    found = walk(workspace, globs)
    directories = {one.path for one in found if one.is_directory}
    for one in reversed(found):  # so that a directory comes after what was in it
        path = workspace / one.path
        with reaching(path, "write"):
            try:
                _delete(path, one)
            except PermissionError:
                if one.path.rpartition("/")[0] not in directories:
                    raise
                # Read-only outputs are outputs too: some tools leave their directories so, and the next run must not end there.
                path.parent.chmod(path.parent.stat().st_mode | stat.S_IRWXU)
                _delete(path, one)


def _delete(path: Path, one: Found) -> None:
    if not one.is_directory:
        path.unlink(missing_ok=True)
        return
    try:
        path.rmdir()
    except OSError as error:
        if error.errno not in _STAYS:
            raise


def fingerprint(workspace: Path, globs: Globs) -> bytes:
    """Changes when anything that `globs` mean is touched in any way. Reads no contents."""
    state = hashlib.sha256()
    for one in walk(workspace, globs):
        at = one.stat
        # A directory's own times change with what is beside the outputs in it.
        touched = (at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns) if not one.is_directory else ()
        state.update(os.fsencode(one.path) + f"\0{at.st_mode}{touched}\0".encode())
    return state.digest()


@contextmanager
def reaching(path: Path, doing: Literal["read", "write"]) -> Iterator[None]:
    """Turn what the operating system says about a path of the workspace into a `StorageError` that says what to do."""
    try:
        yield
    except OSError as error:
        what = (error.strerror or type(error).__name__).lower()
        full = error.errno in _FULL
        remedy = (
            "free space on the workspace's disk"
            if full
            else "the user that runs dte must be able to read and write the outputs of its tasks"
        )
        raise (FullError if full else StorageError)(f"cannot {doing} {path}: {what}; {remedy}") from error


def _start(workspace: Path, prefix: str, globs: Globs) -> Found | None:
    """The file or directory at `prefix`, None where there is none."""
    path = ""
    found = Found("", workspace.stat())
    for segment in prefix.split("/") if prefix else ():
        path = f"{path}/{segment}" if path else segment
        with reaching(workspace / path, "read"):
            try:
                found = Found(path, (workspace / path).lstat())
            except (FileNotFoundError, NotADirectoryError):
                return None
        if path == PROTECTED:
            return None
        if found.is_symlink and not (path == prefix and globs.match(path)):
            raise UsageError(
                f"outputs below {path} cannot be kept: {workspace / path} is a symbolic link; declare them by their real path"
            )
    return found


def _meant(one: Found, globs: Globs) -> Iterator[Found]:
    if globs.match(one.path) or (one.is_directory and globs.match(f"{one.path}/")):
        yield one


def _below(workspace: Path, directory: str, globs: Globs) -> Iterator[Found]:
    waiting = [directory]
    while waiting:
        directory = waiting.pop()
        if directory and not globs.may_contain(directory):
            continue
        with reaching(workspace / directory, "read"), os.scandir(workspace / directory) as entries:
            for entry in entries:
                path = f"{directory}/{entry.name}" if directory else entry.name
                if path == PROTECTED:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(path)
                with suppress(FileNotFoundError):  # a neighbour's, gone in the meantime
                    yield from _meant(Found(path, entry.stat(follow_symlinks=False)), globs)
