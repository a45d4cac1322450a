"""The one port on 127.0.0.1 where every tool finds its remote cache, each below a path of its own: `/nx`, `/turbo`, …

A run's tasks are other people's code on the same machine, so each request must carry the session's random token.
"""

import hmac
import secrets
from collections.abc import Mapping
from typing import Final, Protocol

import trio

from mesh.net.http import Request, Response, serve_http

LOOPBACK: Final = "127.0.0.1"
TOKEN_BYTES: Final = 24


class ToolCache(Protocol):
    """One tool's protocol. `path` is what is left of the target below the tool's own path, with its leading slash."""

    async def answer(self, request: Request, path: str) -> Response:
        """The answer to a request that carries the token."""

    async def refuse(self, request: Request) -> Response:
        """The answer to one that does not, in words that do not end the tool's whole run."""


class LoopbackCache:
    """The server. `serve` runs until it is cancelled; `url` is right from when it has started."""

    def __init__(self, tools: Mapping[str, ToolCache]) -> None:
        self.token = secrets.token_urlsafe(TOKEN_BYTES)
        self._tools = dict(tools)
        self._port = 0

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen and answer."""
        listeners = await trio.open_tcp_listeners(0, host=LOOPBACK)
        self._port = listeners[0].socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._connection, listeners)

    def url(self, tool: str) -> str:
        """Where `tool` is to be told that its cache is."""
        assert self._port, "the cache is not being served yet"
        assert tool in self._tools, f"no cache speaks {tool}'s protocol"
        return f"http://{LOOPBACK}:{self._port}/{tool}"

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
