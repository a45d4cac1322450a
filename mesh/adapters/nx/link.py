"""How nx's side, main.cjs and worker.cjs, speaks to ours: JSON lines over a socket that only this user can reach."""

import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, cast

import trio

from mesh.errors import RemoteError
from mesh.wire import canonical

LINE_BYTES_MAX: Final = 1024 * 1024 * 1024
"""A whole plan, or all that a task printed."""
BACKLOG: Final = 16
SOCKET_PATH_BYTES_MAX: Final = 100
"""What every platform takes for the name of a socket."""
_NAME: Final = "/dte-nx-12345678/socket"
_SHORT: Final = "/tmp"  # noqa: S108 - what is made in it is ours alone
_READ_BYTES: Final = 256 * 1024


class LineReader:
    """One value after the other."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._buffer = bytearray()
        self._searched = 0

    async def next(self) -> dict[str, Any] | None:
        """The next value; None at the end of the stream. Raises `RemoteError`."""
        while (end := self._buffer.find(b"\n", self._searched)) < 0:
            self._searched = len(self._buffer)
            if self._searched > LINE_BYTES_MAX:
                raise RemoteError("too-large", f"a line of more than {LINE_BYTES_MAX} bytes")
            data = await self._stream.receive_some(_READ_BYTES)
            if not data:
                return None
            self._buffer += data
        line = self._buffer[:end]
        del self._buffer[: end + 1]
        self._searched = 0
        value = canonical.decode(line)
        if type(value) is not dict:
            raise RemoteError("malformed", "a line: an object was expected")
        return cast("dict[str, Any]", value)


@asynccontextmanager
async def listen() -> AsyncIterator[tuple[str, trio.SocketListener]]:
    """A socket in a directory of its own, and its path."""
    beside = tempfile.gettempdir()
    fits = len(os.fsencode(beside + _NAME)) <= SOCKET_PATH_BYTES_MAX
    with tempfile.TemporaryDirectory(prefix="dte-nx-", dir=beside if fits else _SHORT) as folder:
        path = os.fspath(Path(folder) / "socket")
        server = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
        try:
            await server.bind(path)
            server.listen(BACKLOG)
            async with trio.SocketListener(server) as listener:
                yield path, listener
        finally:
            server.close()
