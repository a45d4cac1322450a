"""The server side of HTTP/1.1 over any byte stream: blobs for peers over TLS, the tools' cache on the loopback.

h11 reads and writes the heads, and undoes chunking. A body of known length needs no parser: its bytes go straight
between the stream and the handler or the file. Each exchange has an h11 connection of its own, which starts with the
bytes that the one before it left over.

    read head ──▶ handler ──▶ answer ─┬─ body read, keep-alive ─▶ read head
        │                             ├─ body read ─────────────▶ closed
        └─ 400, 431, 501 ─────────────┴─ unread ──▶ linger ──────▶ closed
"""

import http
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, Protocol, Self

import h11
import trio
from msgspec import Struct, field

from mesh.errors import RemoteError
from mesh.types import NodeId

HEAD_BYTES_MAX: Final = 64 * 1024
CHUNK_BYTES: Final = 256 * 1024
"""What is read and sent at a time: smaller costs wake-ups, larger falls out of the processor's cache (both measured)."""
REQUEST_BODY_BYTES_MAX: Final = 4 * 1024 * 1024 * 1024
IDLE_MS: Final = 120_000
"""How long a connection may take to the end of its next request's head."""
STALL_MS: Final = 60_000
"""How long a body may stand still, in either direction."""
LINGER_MS: Final = 5_000
"""How long to go on reading before closing a connection whose request was not read to its end."""

_logger = logging.getLogger(__name__)


class ByteStream(Protocol):
    """What HTTP stands on: a `TlsStream`, or a `trio.SocketStream` on the loopback."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None: ...

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray: ...

    async def aclose(self) -> None: ...


class Request(Struct, frozen=True):
    """One request. Header names are lower-case; a header that came several times is joined with commas.

    `length` is that of the body: 0 for none, None where it comes in chunks. Reading `body` raises `RemoteError` where
    the peer sends too much, too little or nothing for too long; let it through, and the peer gets the right answer.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    peer: NodeId | None
    length: int | None
    body: AsyncIterator[bytes]


class FileBody(Struct, frozen=True):
    """`length` bytes of a file, from `offset`."""

    path: Path
    offset: int
    length: int


class Response(Struct, frozen=True):
    """One answer. Content-Length is set from `body`, which a HEAD request is told of but not sent."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | FileBody = b""


Handler = Callable[[Request], Awaitable[Response]]


async def serve_http(
    stream: ByteStream,
    handler: Handler,
    peer: NodeId | None = None,
    *,
    request_body_bytes_max: int = REQUEST_BODY_BYTES_MAX,
) -> None:
    """Answer requests on `stream` until one side has had enough, then close it. A peer that goes away is no error.

    A `RemoteError` of the handler is answered with 400 (`too-large`: 413) and its message; any other exception is
    logged here, and the peer is told no more than 500.
    """
    try:
        rest: bytes | None = b""
        while rest is not None:
            rest = await _Exchange(stream, rest, peer, request_body_bytes_max).run(handler)
    except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
        pass  # There is nobody left to tell.
    except Exception:  # A head that cannot be written: the handler's mistake, which must not end the node.
        _logger.exception("an answer could not be sent")
    finally:
        await stream.aclose()


class _Exchange:
    """One request and its answer."""

    def __init__(self, stream: ByteStream, rest: bytes, peer: NodeId | None, body_bytes_max: int) -> None:
        self._stream = stream
        self._peer = peer
        self._body_bytes_max = body_bytes_max
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        if rest:
            self._http.receive_data(rest)

    async def run(self, handler: Handler) -> bytes | None:
        """The bytes that already belong to the next request, or None where there will be none."""
        try:
            head = await self._receive_head()
        except h11.RemoteProtocolError as error:
            await self._answer("GET", _refusal(error.error_status_hint, str(error)), close=True)
            await self._linger()
            return None
        if head is None:
            return None
        headers = _joined(head)
        body = _Body(self._http, self._stream, _length(headers), self._body_bytes_max)
        method = head.method.decode("ascii")
        request = Request(method, head.target.decode("ascii"), headers, self._peer, body.length, body)
        response = await self._handle(handler, request, body)
        keep = body.finished and head.http_version >= b"1.1" and "close" not in headers.get("connection", "").lower()
        await self._answer(method, response, close=not keep)
        if not body.finished:
            await self._linger()
        return body.rest() if keep else None

    async def _receive_head(self) -> h11.Request | None:
        """None where the peer closed instead."""
        with trio.fail_after(IDLE_MS / 1000):
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(bytes(await self._stream.receive_some(CHUNK_BYTES)))
        return event if isinstance(event, h11.Request) else None

    async def _handle(self, handler: Handler, request: Request, body: "_Body") -> Response:
        try:
            body.check_length()
            return await handler(request)
        except RemoteError as error:
            return _refusal(413 if error.word == "too-large" else 400, str(error))
        except Exception:  # One bad answer must not end the node.
            _logger.exception("%s %s could not be answered", request.method, request.target)
            return _UNABLE

    async def _answer(self, method: str, response: Response, *, close: bool) -> None:
        if isinstance(response.body, bytes):
            head = self._head(response, len(response.body), close=close)
            await self._send(head if method == "HEAD" else head + response.body)
            return
        try:
            # Opened before the head is sent, so that a file that went meanwhile can still be answered rightly.
            file = os.open(response.body.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            gone = isinstance(error, FileNotFoundError)
            if not gone:
                _logger.error("%s cannot be served: %s", response.body.path, error)  # noqa: TRY400 - it is the disk's mistake, not the code's
            await self._answer(method, _refusal(404, "it is no longer here") if gone else _UNABLE, close=close)
            return
        try:
            await self._send(self._head(response, response.body.length, close=close))
            if method != "HEAD":
                for piece in _pieces(file, response.body):
                    await self._send(piece)
        finally:
            os.close(file)

    def _head(self, response: Response, length: int, *, close: bool) -> bytes:
        headers = [(name, value) for name, value in response.headers.items() if name.lower() != "content-length"]
        if response.status not in (204, 304):
            headers.append(("Content-Length", str(length)))
        if close:
            headers.append(("Connection", "close"))
        reason = http.HTTPStatus(response.status).phrase.encode()
        data = self._http.send(h11.Response(status_code=response.status, headers=headers, reason=reason))
        assert data is not None
        return data

    async def _send(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        for start in range(0, len(view), CHUNK_BYTES):
            with trio.fail_after(STALL_MS / 1000):
                await self._stream.send_all(view[start : start + CHUNK_BYTES])

    async def _linger(self) -> None:
        """Read on for a moment: closing on unread bytes would reset the connection, and the peer would lose the answer."""
        with trio.move_on_after(LINGER_MS / 1000):
            while await self._stream.receive_some(CHUNK_BYTES):
                pass


class _Body:
    """The body of one request.

    The peer is told to go on (`Expect: 100-continue`) when its first byte has to be waited for.
    """

    def __init__(self, connection: h11.Connection, stream: ByteStream, length: int | None, bytes_max: int) -> None:
        self.length = length
        self.finished = length == 0
        self._http = connection
        self._stream = stream
        self._bytes_max = bytes_max
        self._received = 0
        self._early = b"" if length is None else connection.trailing_data[0]
        """What came with the head: of this body, and where the peer pipelines of the next request."""

    def check_length(self) -> None:
        """Refuse at once what says that it will be too long."""
        if self.length is not None and self.length > self._bytes_max:
            raise self._too_large()

    def rest(self) -> bytes:
        """What has been received beyond the body's end, once it is finished."""
        return self._http.trailing_data[0] if self.length is None else self._early

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self.finished:
            raise StopAsyncIteration
        data = await (self._chunk() if self.length is None else self._straight(self.length - self._received))
        if not data:
            raise StopAsyncIteration
        self._received += len(data)
        if self._received > self._bytes_max:
            raise self._too_large()
        self.finished = self._received == self.length
        return data

    async def _straight(self, missing: int) -> bytes:
        data = self._early[:missing]
        self._early = self._early[missing:]
        return data or await self._receive(min(missing, CHUNK_BYTES))

    async def _chunk(self) -> bytes:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(await self._receive(CHUNK_BYTES))
        except h11.RemoteProtocolError as error:
            raise RemoteError("malformed", str(error)) from None
        if isinstance(event, h11.Data):
            return bytes(event.data)
        self.finished = True
        return b""

    async def _receive(self, bytes_max: int) -> bytes:
        try:
            with trio.fail_after(STALL_MS / 1000):
                if self._http.they_are_waiting_for_100_continue:
                    go_on = self._http.send(h11.InformationalResponse(status_code=100, headers=[]))
                    await self._stream.send_all(go_on or b"")
                data = await self._stream.receive_some(bytes_max)
        except trio.TooSlowError:
            raise RemoteError("stalled", f"no byte of the request's body for {STALL_MS // 1000} s") from None
        except trio.BrokenResourceError as error:
            raise RemoteError("truncated", f"the connection broke inside the request's body: {error}") from None
        if not data:
            raise RemoteError("truncated", "the connection was closed inside the request's body")
        return bytes(data)

    def _too_large(self) -> RemoteError:
        return RemoteError("too-large", f"the request's body is longer than {self._bytes_max} bytes")


def _joined(head: h11.Request) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in head.headers:
        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _length(headers: Mapping[str, str]) -> int | None:
    """None for chunks, which win over a length (RFC 9112, 6.3); h11 has refused lengths that are none or that differ."""
    return None if "transfer-encoding" in headers else int(headers.get("content-length", "0"))


def _pieces(file: int, body: FileBody) -> Iterator[memoryview]:
    """The bytes of `body`, in one buffer again and again: each piece must be sent before the next is asked for.

    Read in the event loop: a thread per piece costs more than a piece, and the kernel is told to read ahead.
    """
    os.posix_fadvise(file, body.offset, body.length, os.POSIX_FADV_SEQUENTIAL)
    buffer = memoryview(bytearray(min(CHUNK_BYTES, body.length)))
    at, end = body.offset, body.offset + body.length
    while at < end:
        try:
            count = os.preadv(file, [buffer[: end - at]], at)
        except OSError as error:
            _logger.error("%s cannot be read: %s", body.path, error)  # noqa: TRY400 - it is the disk's mistake, not the code's
            count = 0
        if count == 0:
            # Closing is all that can be said now: the peer counts what it gets.
            raise trio.BrokenResourceError(f"{body.path} ended at byte {at} of {end}")
        yield buffer[:count]
        at += count


def _refusal(status: int, message: str) -> Response:
    return Response(status, {"Content-Type": "text/plain; charset=utf-8"}, message.encode() + b"\n")


_UNABLE: Final = _refusal(500, "the request could not be answered; the log of this node says why")
