"""Blobs over HTTP/1.1: `GET /blob/sha256/<hex>`, whole or by Range, so that `curl` can fetch what a peer can.

The client verifies nothing: bytes go to the caller's sink as they come, and the sink hashes them. A connection is used
again only after an answer that was read to its end.
"""

import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import h11
import trio
from msgspec import Struct

from mesh.errors import CorruptError, RemoteError
from mesh.net.dialer import dial
from mesh.net.errors import BrokenStreamError, NetError, NotHereError, UnreachableError
from mesh.net.http import CHUNK_BYTES, HEAD_BYTES_MAX, IDLE_MS, FileBody, Handler, Request, Response
from mesh.net.tls import ALPN_HTTP, Tls, TlsStream
from mesh.types import Digest

POOL_IDLE_MS: Final = 60_000
assert POOL_IDLE_MS < IDLE_MS  # A connection from the pool should not just be ending on the other side.
POOL_MAX: Final = 64
STALL_MS: Final = 15_000
"""How long a peer may send nothing while we wait for it."""

Lookup = Callable[[Digest], Path | None]
"""Where the whole, verified blob is; None where it is not here."""
Sink = Callable[[memoryview], object]
"""Takes the next bytes; the view is filled again after the call."""

_PATH: Final = re.compile(r"/blob/sha256/([0-9a-f]{64})")
_RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
_METHODS: Final = ("GET", "HEAD")


async def _nothing_else(_: Request) -> Response:
    return Response(404, {}, b"there is nothing here\n")


def blob_handler(lookup: Lookup, otherwise: Handler = _nothing_else) -> Handler:
    """Serves `/blob/`, and leaves every other target to `otherwise`."""

    async def handle(request: Request) -> Response:
        if not request.target.startswith("/blob/"):
            return await otherwise(request)
        if request.method not in _METHODS:
            return Response(405, {"Allow": ", ".join(_METHODS)})
        match = _PATH.fullmatch(request.target)
        path = lookup(Digest(f"sha256:{match[1]}")) if match is not None else None
        if match is None or path is None:
            return Response(404, {}, b"this blob is not here\n")
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            return Response(404, {}, b"this blob is no longer here\n")
        return _blob(path, size, match[1], request.headers.get("range", "") if request.method == "GET" else "")

    return handle


def _blob(path: Path, size: int, name: str, wanted: str) -> Response:
    headers = {"Content-Type": "application/octet-stream", "ETag": f'"{name}"', "Accept-Ranges": "bytes"}
    part = _part(wanted, size)
    if part is None:
        return Response(200, headers, FileBody(path, 0, size))
    start, end = part
    if start >= end:
        return Response(416, headers | {"Content-Range": f"bytes */{size}"})
    return Response(
        206, headers | {"Content-Range": f"bytes {start}-{end - 1}/{size}"}, FileBody(path, start, end - start)
    )


def _part(wanted: str, size: int) -> tuple[int, int] | None:
    """[start, end) of the Range asked for, empty where it cannot be; None where the whole is to be sent (RFC 9110, 14.2)."""
    match = _RANGE.fullmatch(wanted.replace(" ", ""))
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        return max(0, size - int(match[2])), size
    start = int(match[1])
    if not match[2]:
        return start, size
    return (start, min(int(match[2]) + 1, size)) if int(match[2]) >= start else None


class _Wish(Struct, frozen=True):
    """What is asked of whom. `length` None: all there is from `offset`."""

    address: str
    digest: Digest
    size: int | None
    offset: int
    length: int | None

    @property
    def is_whole(self) -> bool:
        return self.offset == 0 and self.length is None

    @property
    def expected(self) -> int | None:
        return self.length if self.length is not None or self.size is None else self.size - self.offset

    def headers(self) -> list[tuple[str, str]]:
        if self.is_whole:
            return [("Host", self.address)]
        last = "" if self.length is None else self.offset + self.length - 1
        return [("Host", self.address), ("Range", f"bytes={self.offset}-{last}")]


class BlobClient:
    """Fetches blobs from peers. Several fetches may be under way at once, each on a connection of its own."""

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._idle: list[tuple[str, float, TlsStream]] = []
        """Connections that can be used again, since when, the oldest first."""

    def close(self) -> None:
        """Close the connections that nobody is using."""
        while self._idle:
            self._idle.pop()[2].abort()

    async def fetch(
        self, address: str, digest: Digest, size: int | None, sink: Sink, *, offset: int = 0, length: int | None = None
    ) -> int:
        """Give `sink` the bytes of `digest` from `offset`, `length` (at least 1) or all, and say how many they were.

        `size` is that of the whole blob, where it is known. Raises `NotHereError`, `UnreachableError`, `UntrustedError`
        or another `NetError`, `CorruptError` where the size is wrong, and `RemoteError("malformed")`; `sink` may have
        been given something by then.
        """
        assert length is None or length > 0, "HTTP has no Range for nothing"
        wish = _Wish(address, digest, size, offset, length)
        if (used := self._take(address)) is not None:
            with contextlib.suppress(_StaleError):
                return await self._get(used, wish, sink)
        return await self._get(await dial(address, self._tls, ALPN_HTTP), wish, sink)

    async def _get(self, stream: TlsStream, wish: _Wish, sink: Sink) -> int:
        try:
            head, early = await _ask(stream, wish)
            length = _body_length(head, wish)
            await _pass_on(stream, wish, early, length, sink)
        except BaseException:
            stream.abort()
            raise
        if (b"connection", b"close") in head.headers:
            stream.abort()
        else:
            self._keep(wish.address, stream)
        return length

    def _keep(self, address: str, stream: TlsStream) -> None:
        now = trio.current_time()
        self._idle.append((address, now, stream))
        while self._idle and (len(self._idle) > POOL_MAX or self._idle[0][1] < now - POOL_IDLE_MS / 1000):
            self._idle.pop(0)[2].abort()

    def _take(self, address: str) -> TlsStream | None:
        """A connection that is likely to be still good: the one used last."""
        oldest = trio.current_time() - POOL_IDLE_MS / 1000
        for index in reversed(range(len(self._idle))):
            known, since, stream = self._idle[index]
            if known == address and since >= oldest:
                del self._idle[index]
                return stream
        return None


class _StaleError(Exception):
    """A connection that had been used before ended without a byte of an answer."""


async def _ask(stream: TlsStream, wish: _Wish) -> tuple[h11.Response, bytes]:
    """The head of the answer, and what of its body came with it."""
    used_before = stream.proven
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES_MAX)
    target = f"/blob/{wish.digest.replace(':', '/')}"
    request = http.send(h11.Request(method="GET", target=target, headers=wish.headers())) or b""
    # Where the peer has refused us, its reason can be read though nothing can be sent.
    with contextlib.suppress(BrokenStreamError):
        await stream.send_all(request)
    try:
        while not isinstance(event := http.next_event(), h11.Response):
            if event is h11.NEED_DATA:
                http.receive_data(await _receive(stream, wish))
    except BrokenStreamError:
        if used_before and not http.trailing_data[0]:
            raise _StaleError from None
        raise
    except h11.RemoteProtocolError as error:
        raise RemoteError("malformed", f"{wish.address} did not answer in HTTP/1.1: {error}") from None
    return event, http.trailing_data[0]


def _body_length(head: h11.Response, wish: _Wish) -> int:
    if head.status_code == 404:
        raise NotHereError(wish.address, wish.digest)
    if head.status_code != (200 if wish.is_whole else 206):
        raise NetError(wish.address, f"answered a request for {wish.digest} with status {head.status_code}")
    length = next((int(value) for name, value in head.headers if name == b"content-length"), None)
    if length is None:
        raise RemoteError("malformed", f"{wish.address} did not say how long {wish.digest} is")
    if wish.expected is not None and length != wish.expected:
        raise CorruptError(f"{wish.address} has {length} bytes for {wish.digest}, where {wish.expected} were asked for")
    return length


async def _pass_on(stream: TlsStream, wish: _Wish, early: bytes, length: int, sink: Sink) -> None:
    """The body, straight from the stream into `sink`."""
    if len(early) > length:
        raise RemoteError("malformed", f"{wish.address} sent more than the length of {wish.digest}")
    if early:
        sink(memoryview(early))
    left = length - len(early)
    buffer = memoryview(bytearray(min(CHUNK_BYTES, left)))
    while left:
        count = await _receive_into(stream, buffer[:left], wish)
        sink(buffer[:count])
        left -= count


async def _receive(stream: TlsStream, wish: _Wish) -> bytes:
    buffer = memoryview(bytearray(HEAD_BYTES_MAX))
    return bytes(buffer[: await _receive_into(stream, buffer, wish)])


async def _receive_into(stream: TlsStream, buffer: memoryview, wish: _Wish) -> int:
    try:
        with trio.fail_after(STALL_MS / 1000):
            count = await stream.receive_into(buffer)
    except trio.TooSlowError:
        raise UnreachableError(wish.address, f"sent nothing of {wish.digest} for {STALL_MS // 1000} s") from None
    if count == 0:
        raise BrokenStreamError(wish.address, f"closed the connection before the end of {wish.digest}")
    return count
