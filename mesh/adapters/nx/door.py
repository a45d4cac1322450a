"""A socket that only this user can reach, where nx's side finds ours. What knocks before anybody listens is kept waiting."""

import os
import shutil
import socket
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final, Self

BACKLOG: Final = 16
SOCKET_PATH_BYTES_MAX: Final = 100
"""What every platform takes for the name of a socket."""
_NAME: Final = "/dte-nx-12345678/socket"
_SHORT: Final = "/tmp"  # noqa: S108 - what is made in it is ours alone


class Door:
    """The socket, in a directory of its own, until it is closed."""

    def __init__(self) -> None:
        beside = tempfile.gettempdir()
        fits = len(os.fsencode(beside + _NAME)) <= SOCKET_PATH_BYTES_MAX
        self._folder = tempfile.mkdtemp(prefix="dte-nx-", dir=beside if fits else _SHORT)
        self.path: Final = os.fspath(Path(self._folder) / "socket")
        self.socket: Final = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(self.path)
        self.socket.listen(BACKLOG)

    def close(self) -> None:
        """Nobody comes in any more."""
        self.socket.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
