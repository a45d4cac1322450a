"""Writing files so that a reader sees the old content or the new one, never half; and what to tell a person where a disk says no.

Every room of the store writes through here, so that a full disk is explained once and in one way.
"""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from mesh.errors import FullError, StorageError

DATA_DIR_VARIABLE: Final = "DTE_DATA_DIR"

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FORBIDDEN: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_UNREAD: Final = frozenset({errno.ENXIO, errno.EPIPE})
_OUTPUTS: Final = (1, 2)


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn what the operating system says about `path` into a `StorageError` that says what to do."""
    try:
        yield
    except OSError as error:
        raise (FullError if error.errno in _FULL else StorageError)(_explain(path, error)) from error


def _explain(path: Path, error: OSError) -> str:
    # Not `str(error)`: it would name a temporary file.
    what = (error.strerror or type(error).__name__).lower()
    if error.errno in _FULL:
        remedy = f"free space there, or set {DATA_DIR_VARIABLE} to a directory with more"
    elif error.errno in _FORBIDDEN:
        remedy = f"make it writable, or set {DATA_DIR_VARIABLE} to a directory that is"
    elif error.errno in _UNREAD:
        remedy = "nobody reads from it"
    else:
        remedy = f"see that its directory exists, or set {DATA_DIR_VARIABLE} to another one"
    return f"cannot write {path}: {what}; {remedy}"


def write_atomically(path: Path, data: bytes | memoryview, *, durable: bool = True, mode: int = 0o644) -> None:
    """Replace the content of `path`, or of what it is a link to, in one step. With `durable` it is on the disk on return, and outlives a power cut.

    A device or a pipe is written to, and what is this process's own output is added to: to replace those would take them from others.
    """
    with storing(path):
        about = _about(path)
        if about is None or stat.S_ISREG(about.st_mode):
            output = None if about is None else next((file for file in _OUTPUTS if _is_open_as(about, file)), None)
            if output is None:
                _replace(Path(os.path.realpath(path)), data, durable=durable, mode=mode)
            else:
                write_all(output, data)
        else:
            _write_to(path, data)


def _about(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _is_open_as(about: os.stat_result, file: int) -> bool:
    try:
        return os.path.samestat(about, os.fstat(file))
    except OSError:
        return False


def _write_to(path: Path, data: bytes | memoryview) -> None:
    # A pipe that nobody reads would keep us waiting for a reader.
    file = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        os.set_blocking(file, True)
        write_all(file, data)
    finally:
        os.close(file)


def _replace(path: Path, data: bytes | memoryview, *, durable: bool, mode: int) -> None:
    # In the same directory, since a rename is atomic only within one file system.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            write_all(file, data)
            if durable:
                os.fsync(file)
        finally:
            os.close(file)
        temporary.rename(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    if durable:
        sync_directory(path.parent)


def write_all(file: int, data: bytes | memoryview) -> None:
    """Write the whole of `data`: a disk that is nearly full takes a part and refuses only the next call."""
    written = os.write(file, data)
    if written < len(data):
        view = memoryview(data)
        while written < len(view):
            written += os.write(file, view[written:])


def sync_directory(directory: Path) -> None:
    """Make the names in `directory` durable: syncing a file does not save the name that it was renamed to."""
    with storing(directory):
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
