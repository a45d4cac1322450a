"""Dialling: from an address as people write it to a proven stream, or to an error that says what to look at."""

import errno
import os
import socket
from collections.abc import Iterator
from typing import Final

import trio

from mesh.errors import UsageError
from mesh.net.address import join_address, split_address
from mesh.net.errors import UnreachableError
from mesh.net.tls import ALPN_LINK, Tls, TlsStream, connect

DIAL_MS: Final = 10_000
"""For name, connection and handshake together."""


async def dial(address: str, tls: Tls, alpn: str = ALPN_LINK, timeout_ms: int = DIAL_MS) -> TlsStream:
    """The stream to the node at `address`; of a name with several addresses the first that answers.

    Raises `UnreachableError`, `UntrustedError` or `NotDteError`. The node may still refuse us until the stream is
    `proven`.
    """
    deadline = trio.current_time() + timeout_ms / 1000
    host, port = _split(address)
    try:
        with trio.fail_at(deadline):
            stream = await trio.open_tcp_stream(host, port)
    except trio.TooSlowError:
        raise UnreachableError(
            address,
            f"did not answer in {timeout_ms / 1000:g} s: check the address, and that no firewall or container network is in between",
        ) from None
    except (OSError, UnicodeError) as error:
        raise UnreachableError(address, _problem(error)) from None
    left_ms = round(1000 * (deadline - trio.current_time()))
    return await connect(stream.socket, tls, alpn, address, max(left_ms, 1))


async def resolve(address: str) -> list[str]:
    """Every address behind the name in `address`, each of which may be a peer of its own. Raises `UnreachableError`."""
    host, port = _split(address)
    try:
        with trio.fail_after(DIAL_MS / 1000):
            found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except trio.TooSlowError:
        raise UnreachableError(address, f"was not resolved in {DIAL_MS / 1000:g} s: check the DNS server") from None
    except (OSError, UnicodeError) as error:
        raise UnreachableError(address, _problem(error)) from None
    return list(dict.fromkeys(join_address(str(place[0]), port) for *_, place in found))


def _split(address: str) -> tuple[str, int]:
    """Most addresses come from peers: a bad one is no usage error of ours."""
    try:
        return split_address(address)
    except UsageError as error:
        raise UnreachableError(address[:100], f"cannot be dialled: {error}") from None


def _problem(error: OSError | UnicodeError) -> str:
    if isinstance(error, UnicodeError):
        return "is no host name"
    causes = list(_leaves(error))
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return "cannot be resolved to an address: check the name, and the DNS server of this machine"
    if all(cause.errno == errno.ECONNREFUSED for cause in causes):
        return "refused the connection: nothing listens there; check that the other job runs, and its port"
    words = ", ".join(dict.fromkeys(os.strerror(cause.errno) if cause.errno else str(cause) for cause in causes))
    return f"cannot be reached ({words}): check the address, and the network between the two machines"


def _leaves(error: BaseException) -> Iterator[OSError]:
    """Trio hides one failure for each address that it has tried behind its own."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    elif isinstance(error, OSError):
        if isinstance(error.__cause__, OSError | BaseExceptionGroup):
            yield from _leaves(error.__cause__)
        else:
            yield error
