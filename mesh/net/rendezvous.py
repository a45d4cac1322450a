"""Meeting in a shared directory: each node leaves a file that says where it listens, and reads the others'.

A file is a hint and nothing more: whoever is found has to prove itself in the handshake. The directory may be on a
network file system, which may hang: everything runs in a thread, and a cancelled call does not wait for it.
"""

import contextlib
import os
import stat
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import trio
from msgspec import Struct

from mesh.errors import RemoteError, UsageError
from mesh.identity import node_id as node_id_from
from mesh.types import NodeId
from mesh.wire import canonical
from mesh.wire.canonical import Reader
from mesh.wire.messages import ADDRESSES_MAX

ADVERT_BYTES_MAX: Final = 16 * 1024
ADVERTS_MAX: Final = 4_096
OVER_MAX_MS: Final = 10 * 60 * 1_000
"""For so long it can be seen that a run is over. A later run of the same name must not be taken for the one before."""
_SUFFIX: Final = ".json"
_OVER: Final = "over"

T = TypeVar("T")


class Advert(Struct, frozen=True):
    """Where a node says that it can be reached."""

    node_id: NodeId
    addresses: tuple[str, ...]


class Rendezvous:
    """One node's place in `directory`.

    `run_tag` keeps runs apart and is readable by all: it must tell nothing about the secret.
    """

    def __init__(self, directory: Path, run_tag: str) -> None:
        assert run_tag.isalnum(), "a run tag is a file name"
        self._directory = directory
        self._place = directory / run_tag
        self._mine: Path | None = None

    async def publish(self, node_id: NodeId, addresses: Sequence[str]) -> None:
        """Say that `node_id` listens on `addresses`, in place of what was said before.

        Raises `UsageError` where the directory is of no use.
        """
        data = canonical.encode({"version": 1, "node_id": node_id, "addresses": list(addresses)[:ADDRESSES_MAX]})
        self._mine = self._place / f"{node_id}{_SUFFIX}"
        await _in_thread(partial(_remove, self._place / _OVER))
        await _in_thread(partial(self._write, self._mine, data))

    async def peers(self) -> list[Advert]:
        """What is there, in order of node ids; what is half-written, foreign or huge is passed over. Raises `UsageError`."""
        return await _in_thread(self._read)

    async def withdraw(self) -> None:
        """Take our file away, if it is still there."""
        mine = self._mine
        if mine is not None:
            await _in_thread(partial(_remove, mine))

    async def conclude(self, verdict: str) -> None:
        """Say that the run is over, to those who come too late."""
        data = canonical.encode({"version": 1, "verdict": verdict, "ended_ms": time.time_ns() // 1_000_000})
        await _in_thread(partial(self._write, self._place / _OVER, data))

    async def concluded(self) -> str:
        """How the run has ended; "" where nothing is known of that."""
        return await _in_thread(partial(_verdict, self._place / _OVER))

    def _write(self, path: Path, data: bytes) -> None:
        draft = path.with_suffix(".draft")
        try:
            self._place.parent.mkdir(exist_ok=True)
            self._place.mkdir(exist_ok=True)
            draft.write_bytes(data)
            draft.replace(path)
        except OSError as error:
            raise self._useless("written to", error) from None

    def _read(self) -> list[Advert]:
        try:
            paths = sorted(path for path in self._place.iterdir() if path.suffix == _SUFFIX)
        except FileNotFoundError as error:
            if not os.path.isdir(self._directory.parent):  # noqa: PTH112 - where it cannot be looked at, a Path raises
                raise self._useless("read", error) from None
            return []  # Nobody has been here yet.
        except OSError as error:
            raise self._useless("read", error) from None
        adverts = (_advert(path) for path in paths[:ADVERTS_MAX])
        return [advert for advert in adverts if advert is not None]

    def _useless(self, what: str, error: OSError) -> UsageError:
        return UsageError(
            f"the rendezvous directory {self._directory} cannot be {what} ({os.strerror(error.errno or 0)}): "
            "it must be there, or its parent, and be shared with write access by every job of the run"
        )


def _advert(path: Path) -> Advert | None:
    try:
        read = Reader(canonical.decode(_content(path)), path.name)
        if read.number("version") != 1:
            return None
        advert = Advert(node_id_from(read.text("node_id")), read.texts("addresses")[:ADDRESSES_MAX])
    except (OSError, RemoteError):
        return None
    return advert if path.name == f"{advert.node_id}{_SUFFIX}" else None


def _verdict(path: Path) -> str:
    try:
        read = Reader(canonical.decode(_content(path)), path.name)
        age_ms = time.time_ns() // 1_000_000 - read.number("ended_ms")
        return read.text("verdict") if read.number("version") == 1 and abs(age_ms) < OVER_MAX_MS else ""
    except (OSError, RemoteError):
        return ""


def _content(path: Path) -> bytes:
    # Neither a link to elsewhere nor a pipe that never says anything.
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        about = os.fstat(file)
        if not stat.S_ISREG(about.st_mode) or about.st_size > ADVERT_BYTES_MAX:
            return b""
        return os.read(file, ADVERT_BYTES_MAX)
    finally:
        os.close(file)


def _remove(path: Path) -> None:
    # What stays behind is a hint that leads nowhere.
    with contextlib.suppress(OSError):
        path.unlink()


async def _in_thread(work: Callable[[], T]) -> T:
    return await trio.to_thread.run_sync(work, abandon_on_cancel=True)
