"""Who answers at the loopback port: each tool's own protocol, below its path, for requests that carry the session's token."""

import hmac
from collections.abc import Mapping
from typing import Protocol

import trio

from mesh.cache.port import LoopbackPort
from mesh.net.http import Request, Response, serve_http


class ToolCache(Protocol):
    """One tool's protocol. `path` is what is left of the target below the tool's own path, with its leading slash."""

    async def answer(self, request: Request, path: str) -> Response:
        """The answer to a request that carries the token."""

    async def refuse(self, request: Request) -> Response:
        """The answer to one that does not, in words that do not end the tool's whole run."""


class LoopbackCache:
    """The server, at `port` or one of its own. `serve` runs until it is cancelled."""

    def __init__(self, tools: Mapping[str, ToolCache], port: LoopbackPort | None = None) -> None:
        self._port = LoopbackPort() if port is None else port
        self.token = self._port.token
        self._tools = dict(tools)

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer whoever comes, or has come already."""
        try:
            listener = trio.SocketListener(trio.socket.from_stdlib_socket(self._port.socket))
            task_status.started()
            await trio.serve_listeners(self._connection, [listener])
        finally:
            self._port.close()

    def url(self, tool: str) -> str:
        """Where `tool` is to be told that its cache is."""
        assert tool in self._tools, f"no cache speaks {tool}'s protocol"
        return self._port.url(tool)

    async def _connection(self, stream: trio.SocketStream) -> None:
        await serve_http(stream, self._handle)

    async def _handle(self, request: Request) -> Response:
        tool, slash, path = request.target.removeprefix("/").partition("/")
        cache = self._tools.get(tool)
        if cache is None:
            return Response(404)
        expected = f"Bearer {self.token}".encode()
        if not hmac.compare_digest(request.headers.get("authorization", "").encode(), expected):
            return await cache.refuse(request)
        return await cache.answer(request, slash + path)
