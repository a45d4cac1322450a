"""The ledger's directory: what `--ledger DIR` leaves behind, and what `dte verify` reads.

Each file is replaced whole, and in the order that the ledger gives: keys, entries, hashes, and the checkpoint last. A reader, or a crash, at any moment
finds a checkpoint with all that it speaks of. There is no fsync: what a power cut takes is on the other nodes too.
"""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG
from typing import Final

from mesh.errors import StorageError, UsageError
from mesh.ledger.checkpoint import CHECKPOINT_BYTES_MAX, origin_of
from mesh.ledger.ledger import VKEYS
from mesh.ledger.tiles import BUNDLE_BYTES_MAX

FILES_MAX: Final = 100_000
_TEMPORARY: Final = ".dte-tmp"
assert CHECKPOINT_BYTES_MAX < BUNDLE_BYTES_MAX


class LedgerDirectory:
    """One run's ledger on disk. Opening it creates it; an earlier ledger of the same run is taken over by the first `write`."""

    def __init__(self, path: Path, run_id: str) -> None:
        """Raises `UsageError` where `path` is in use for something else, `StorageError` where it cannot be made."""
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._left_over = dict.fromkeys(_names(path))
            self._check_owner(run_id)
        except (FileExistsError, NotADirectoryError):
            raise UsageError(
                f"{path}: a ledger needs a directory, and this is a file; choose another --ledger"
            ) from None
        except OSError as error:
            raise self._failed(error) from error

    def write(self, files: Mapping[str, bytes], removed: Iterable[str] = ()) -> None:
        """Bring `Changes` to disk. The first call must hold the whole ledger (`files_since(0)`): whatever else is there goes.

        Raises `StorageError`.
        """
        try:
            for name, data in files.items():
                self._replace(self.path / name, data)
            for name in (*removed, *(name for name in self._left_over if name not in files)):
                (self.path / name).unlink(missing_ok=True)
                # A folder of partial tiles has only ever one file.
                with suppress(OSError):
                    (self.path / name).parent.rmdir()
        except OSError as error:
            raise self._failed(error) from error
        self._left_over = {}

    def _check_owner(self, run_id: str) -> None:
        names = [name for name in self._left_over if not name.endswith(_TEMPORARY)]
        if not names:
            return
        # The first file to be written, and its first line begins with the run.
        first = _read(self.path / VKEYS) if VKEYS in self._left_over else b""
        if not first.startswith(f"{origin_of(run_id)}+".encode()):
            raise UsageError(
                f"{self.path}: the directory is not empty and does not hold the ledger of the run {run_id}; "
                "choose a new or empty one with --ledger, or remove it"
            )

    @staticmethod
    def _replace(path: Path, data: bytes) -> None:
        temporary = path.with_name(f"{path.name}{_TEMPORARY}")
        try:
            temporary.write_bytes(data)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data)
        temporary.replace(path)

    def _failed(self, error: OSError) -> StorageError:
        where = error.filename or self.path
        return StorageError(
            f"{where}: the ledger cannot be written ({error.strerror}); "
            "make room, or make the directory writable, or choose another with --ledger"
        )


def read_directory(path: Path) -> dict[str, bytes]:
    """All files of the ledger in `path`, for `mesh.ledger.verify`. Raises `UsageError` where there is no such directory, `StorageError`."""
    try:
        names = _names(path)
        return {name: _read(path / name) for name in names}
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(
            f"{error.filename}: no ledger is there; give the directory that a run was given with --ledger"
        ) from None
    except OSError as error:
        raise StorageError(f"{error.filename or path}: the ledger cannot be read ({error.strerror})") from error


def _names(path: Path) -> list[str]:
    """The files below `path`, relative to it, in order."""
    found: list[str] = []
    for folder, folders, names in os.walk(path, onerror=_raise):
        folders.sort()
        found.extend(os.path.relpath(os.path.join(folder, name), path) for name in sorted(names))  # noqa: PTH118, os.walk gives text
        if len(found) > FILES_MAX:
            raise UsageError(f"{path}: more than {FILES_MAX} files; this is not the directory of a ledger")
    return found


def _read(path: Path) -> bytes:
    """The file's bytes, but for those beyond what any file of a ledger may have: it is then refused for its length."""
    # A pipe would never end.
    if not S_ISREG(path.stat().st_mode):
        raise UsageError(f"{path}: neither a file nor a folder, so this is not the directory of a ledger")
    with path.open("rb") as file:
        return file.read(BUNDLE_BYTES_MAX + 1)


def _raise(error: OSError) -> None:
    raise error
