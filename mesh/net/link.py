"""The long-lived link between two peers: frames in both directions over one stream.

Sending never waits: frames go into an outbox that one writer empties, many small ones in one write. A peer that does
not read makes its outbox grow, and at a bound the link ends, so that it costs others neither time nor memory. Reading
is as fast as the reader asks.

The accepting side sends an empty frame at once. TLS 1.3 alone would not tell the dialer that it has been accepted (see
`tls`).

    open ──▶ over, with `reason` (the first one counts):
             the peer closed · the stream broke · a bad frame · a full outbox · `close` was called
"""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Self

import trio

from mesh.errors import RemoteError
from mesh.net.dialer import DIAL_MS, dial
from mesh.net.errors import BrokenStreamError, NetError, UnreachableError
from mesh.net.tls import ALPN_LINK, RECEIVE_BYTES, Tls, TlsStream
from mesh.types import NodeId
from mesh.wire.frames import FRAME_BYTES_MAX, FrameDecoder, encode_frame

OUTBOX_BYTES_MAX: Final = 32 * 1024 * 1024
assert OUTBOX_BYTES_MAX > FRAME_BYTES_MAX  # Every frame can be sent on an idle link.
BULK_BYTES_MAX: Final = 1024 * 1024
"""So much may wait in the outbox before bulk is held back."""
FLUSH_MS: Final = 2_000
"""How long a link that ends on purpose goes on sending what was sent before."""


@asynccontextmanager
async def dial_link(address: str, tls: Tls, timeout_ms: int = DIAL_MS) -> AsyncIterator["Link"]:
    """A link to the node at `address`, which has accepted us.

    Raises `UnreachableError`, `UntrustedError` or `NotDteError`.
    """
    stream = await dial(address, tls, ALPN_LINK, timeout_ms)
    try:
        with trio.fail_after(timeout_ms / 1000):
            greeting = await stream.receive_some()
    except trio.TooSlowError:
        stream.abort()
        raise UnreachableError(
            address, f"did not take us in within {timeout_ms / 1000:g} s: is it overloaded?"
        ) from None
    except BrokenStreamError:
        greeting = b""
    except BaseException:
        stream.abort()
        raise
    if not greeting:
        stream.abort()
        raise UnreachableError(address, "closed the connection at once: it may just be ending")
    async with _running(Link(stream, greeting)) as link:
        yield link


@asynccontextmanager
async def accept_link(stream: TlsStream) -> AsyncIterator["Link"]:
    """The link over `stream`, whose dialer is told that it has been accepted."""
    async with _running(Link(stream)) as link:
        link.send(b"")
        yield link


class Link:
    """Frames to and from `peer`.

    Made by `dial_link` and `accept_link`; leaving their block flushes what was sent, and closes.
    """

    def __init__(self, stream: TlsStream, received: bytes = b"", *, outbox_bytes_max: int = OUTBOX_BYTES_MAX) -> None:
        self.peer: NodeId = stream.peer
        self.certificate = stream.certificate
        self.remote = stream.remote
        self.reason = ""
        """Why the link is over; "" while it is not."""
        self._stream = stream
        self._decoder = FrameDecoder()
        self._inbox: deque[bytes] = deque()
        self._outbox: deque[bytes] = deque()
        self._outbox_bytes = 0
        """Of all that the kernel has not taken yet, what is being written included."""
        self._outbox_bytes_max = outbox_bytes_max
        self._changed = trio.lowlevel.ParkingLot()
        self._reading = trio.CancelScope()
        self._writing = trio.CancelScope()
        self._take(received)

    def send(self, frame: bytes) -> None:
        """Put `frame` into the outbox. On a link that is over it is dropped, as what was still on its way is lost, too."""
        if self.reason:
            return
        data = encode_frame(frame)
        if self._outbox_bytes + len(data) > self._outbox_bytes_max:
            self.close(f"{self.remote} does not read: {self._outbox_bytes} bytes are waiting for it")
            return
        self._outbox.append(data)
        self._outbox_bytes += len(data)
        self._changed.unpark_all()

    @property
    def is_congested(self) -> bool:
        """Whether what is sent now would come late, and all that is sent after it: what can wait is to wait here."""
        return bool(self.reason) or self._outbox_bytes >= BULK_BYTES_MAX

    def frames(self) -> AsyncIterator[bytes]:
        """What the peer sends, frame by frame, until the link is over: then see `reason`. For one reader."""
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self._inbox:
            if self.reason:
                raise StopAsyncIteration
            with trio.CancelScope() as self._reading:
                await self._receive()
        return self._inbox.popleft()

    def close(self, reason: str) -> None:
        """End the link now. What is in the outbox is dropped; leave the block without this to have it sent."""
        if not self.reason:
            self.reason = reason
            self._reading.cancel()
            self._writing.cancel()
            self._changed.unpark_all()

    async def write(self) -> None:
        """Empty the outbox for as long as the link lives."""
        with self._writing:
            try:
                while True:
                    while not self._outbox:
                        await self._changed.park()
                    batch = self._batch()
                    await self._stream.send_all(batch)
                    self._outbox_bytes -= len(batch)
                    self._changed.unpark_all()
            except NetError as error:
                self.close(str(error))

    async def flush(self) -> None:
        """Wait until the kernel has all that was sent, but not for long."""
        with trio.move_on_after(FLUSH_MS / 1000):
            while self._outbox_bytes and not self.reason:
                await self._changed.park()

    def _batch(self) -> bytes:
        batch = [self._outbox.popleft()]
        size = len(batch[0])
        while self._outbox and size + len(self._outbox[0]) <= RECEIVE_BYTES:
            size += len(self._outbox[0])
            batch.append(self._outbox.popleft())
        return b"".join(batch)

    async def _receive(self) -> None:
        try:
            data = await self._stream.receive_some()
        except NetError as error:
            self.close(str(error))
            return
        if data:
            self._take(data)
        elif self._decoder.inside_frame:
            self.close(f"{self.remote} closed the link inside a frame")
        else:
            self.close(f"{self.remote} closed the link")

    def _take(self, data: bytes) -> None:
        try:
            # An empty frame says nothing by itself.
            self._inbox.extend(filter(None, self._decoder.receive(data)))
        except RemoteError as error:
            self.close(f"{self.remote} broke the protocol: {error}")


@asynccontextmanager
async def _running(link: Link) -> AsyncIterator[Link]:
    stream = link._stream  # noqa: SLF001 - the other half of the class
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.write)
            yield link
            await link.flush()
            nursery.cancel_scope.cancel()
        await stream.aclose()
    except BaseExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        # The writer raises nothing: this is the block's own exception, as if there were no nursery.
        raise group.exceptions[0] from group.exceptions[0].__cause__
    finally:
        link.close("it was closed on this side")
        stream.abort()
