"""The one port of a node: every connection has to prove itself first, and is then a link or HTTP, as its ALPN says.

A connection that has not proven itself costs little, whoever it is: a handshake has a time limit, and when too many are
under way the oldest goes, so that those who say nothing cannot keep out those who do.
"""

import errno
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Self

import trio

from mesh.errors import UsageError
from mesh.net.address import join_address, split_address
from mesh.net.errors import NetError, NotDteError
from mesh.net.hosts import is_loopback, machine_hosts
from mesh.net.http import Handler, serve_http
from mesh.net.link import Link, accept_link
from mesh.net.tls import ALPN_LINK, Tls, TlsStream, accept

HANDSHAKES_MAX: Final = 256
PEER_REQUEST_BODY_BYTES_MAX: Final = 1024 * 1024
"""Peers fetch; nobody puts anything large over this port."""

_ANY: Final = ("0.0.0.0", "::")  # noqa: S104 - recognized here, bound only where somebody asked for it


class Listener:
    """Listens from `bind` on; connections are taken while `serve` runs."""

    def __init__(self, listeners: Sequence[trio.SocketListener], tls: Tls) -> None:
        self._listeners = listeners
        self._tls = tls
        self._handshakes: dict[trio.CancelScope, None] = {}
        """In order of their beginning."""
        self.addresses = _advertised(listeners)
        """Where others may find this node, "HOST:PORT", loopback last."""

    @classmethod
    async def bind(cls, addresses: Sequence[str], tls: Tls) -> Self:
        """Listen on each of `addresses` ("HOST:PORT"; port 0: any that is free; no host: every interface).

        Raises `UsageError`.
        """
        listeners: list[trio.SocketListener] = []
        try:
            for address in addresses:
                host, port = split_address(address)
                try:
                    listeners += await trio.open_tcp_listeners(port, host=host or None)
                except OSError as error:
                    raise UsageError(_problem(address, error)) from None
        except BaseException:
            await _close(listeners)
            raise
        return cls(listeners, tls)

    async def aclose(self) -> None:
        """Stop listening; what `serve` has taken goes on."""
        await _close(self._listeners)

    async def serve(
        self,
        on_link: Callable[[Link], Awaitable[object]],
        http_handler: Handler,
        on_refused: Callable[[NetError], object],
    ) -> None:
        """Take connections until cancelled.

        `on_link` has a link for as long as it runs; `on_refused` is told who has not come in, and why.
        """

        async def take(tcp: trio.SocketStream) -> None:
            try:
                stream = await self._admit(tcp.socket)
            except NetError as error:
                on_refused(error)
                return
            if stream.alpn == ALPN_LINK:
                async with accept_link(stream) as link:
                    await on_link(link)
            else:
                await serve_http(stream, http_handler, stream.peer, request_body_bytes_max=PEER_REQUEST_BODY_BYTES_MAX)

        async with trio.open_nursery() as nursery:
            await trio.serve_listeners(take, list(self._listeners), handler_nursery=nursery)

    async def _admit(self, connection: trio.socket.SocketType) -> TlsStream:
        remote = _remote(connection)
        with trio.CancelScope() as scope:
            self._handshakes[scope] = None
            if len(self._handshakes) > HANDSHAKES_MAX:
                oldest = next(iter(self._handshakes))
                del self._handshakes[oldest]
                oldest.cancel()
            try:
                return await accept(connection, self._tls, remote)
            finally:
                self._handshakes.pop(scope, None)
        raise NotDteError(remote, f"was dropped: more than {HANDSHAKES_MAX} others wanted to come in meanwhile")


def _advertised(listeners: Sequence[trio.SocketListener]) -> tuple[str, ...]:
    found: dict[tuple[str, int], None] = {}
    for listener in listeners:
        host, port = listener.socket.getsockname()[:2]
        hosts = machine_hosts(listener.socket.family) if host in _ANY else [host]
        found.update(dict.fromkeys((host, port) for host in hosts))
    return tuple(join_address(*place) for place in sorted(found, key=lambda place: is_loopback(place[0])))


def _remote(connection: trio.socket.SocketType) -> str:
    try:
        return join_address(*connection.getpeername()[:2])
    except OSError:
        return "a connection that has ended"


def _problem(address: str, error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return f"cannot listen on {address}: its host is no address and no name that this machine knows"
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"cannot listen on {address}: another process does; choose another port, or port 0 for any that is free"
            )
        case errno.EADDRNOTAVAIL:
            hosts = ", ".join([*machine_hosts(socket.AF_INET), *machine_hosts(socket.AF_INET6)])
            return f"cannot listen on {address}: this machine has no such address; it has {hosts}"
        case errno.EACCES:
            return f"cannot listen on {address}: this user may not; choose a port above 1023"
        case _:
            return f"cannot listen on {address}: {os.strerror(error.errno or 0)}"


async def _close(listeners: Sequence[trio.SocketListener]) -> None:
    for listener in listeners:
        await listener.aclose()
