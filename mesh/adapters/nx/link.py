"""How nx's side, main.cjs and worker.cjs, speaks to ours: JSON lines over a socket that only this user can reach."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, cast

import trio

from mesh.adapters.nx.door import Door
from mesh.errors import RemoteError
from mesh.wire import canonical

LINE_BYTES_MAX: Final = 1024 * 1024 * 1024
"""A whole plan, or all that a task printed."""
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
    """A door of its own, and who stands at it."""
    with Door() as door:
        async with trio.SocketListener(trio.socket.from_stdlib_socket(door.socket)) as listener:
            yield door.path, listener
