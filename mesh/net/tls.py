"""TLS 1.3 with proof from both sides, on a pump of our own.

`ssl.SSLObject` stands between two memory buffers; this file moves bytes between those and the socket. That is more
than twice as fast as `trio.SSLStream` for bulk, because it takes all records that have arrived at one wake-up
(docs/spec/wire.md has the handshake and its limits).

    connect, accept ──▶ handshake ──▶ open ──▶ aclose: close_notify, a moment for the peer to read on ──▶ closed
                           │            └─▶ broken: a reset, an end without close_notify, a send cancelled halfway
                           └─▶ UntrustedError, NotDteError, UnreachableError

TLS 1.3 lets the dialer finish its handshake before the other side has looked at its certificate. So a dialer is
`proven` only when the first byte has come back, and a refusal that comes in its place is an `UntrustedError` then.
"""

import contextlib
import os
import socket
import ssl
from typing import Final, cast

import trio
from msgspec import Struct

from mesh.errors import RemoteError
from mesh.identity import Credentials, node_id_of
from mesh.net.errors import BrokenStreamError, NetError, NotDteError, UnreachableError, UntrustedError
from mesh.types import NodeId

ALPN_LINK: Final = "dte/1"
ALPN_HTTP: Final = "http/1.1"
HANDSHAKE_MS: Final = 10_000
RECEIVE_BYTES: Final = 256 * 1024
"""What is taken from or given to the kernel at once (measured: 16 KiB is a fifth slower, 1 MiB a seventh)."""
RECEIVE_SOME_BYTES: Final = 64 * 1024
RECORD_BYTES: Final = 16 * 1024
"""The most that TLS puts into one record."""
PART_MS: Final = 1_000
"""How long a closing side waits for the other to have read its last words."""
REPLY_MS: Final = 50
"""How long a reader may spend on sending what TLS itself answers; the rest goes out before the next data."""

_MISSING_CERTIFICATE: Final = "PEER_DID_NOT_RETURN_A_CERTIFICATE"
_UNPROVEN: Final = ("CERTIFICATE_VERIFY_FAILED", "BAD_SIGNATURE", _MISSING_CERTIFICATE)
_REFUSALS: Final = (
    "SSLV3_ALERT_BAD_CERTIFICATE",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED",
    "SSLV3_ALERT_CERTIFICATE_REVOKED",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED",
    "TLSV1_ALERT_ACCESS_DENIED",
    "TLSV1_ALERT_DECRYPT_ERROR",
    "TLSV1_ALERT_UNKNOWN_CA",
)


class Tls(Struct, frozen=True):
    """One node's side of every handshake: both roles show the same certificate and trust the same run authority."""

    server: ssl.SSLContext
    link: ssl.SSLContext
    http: ssl.SSLContext

    @classmethod
    def of(cls, credentials: Credentials) -> "Tls":
        """The contexts that `credentials` make."""
        return cls(
            _context(credentials, ssl.PROTOCOL_TLS_SERVER, ALPN_LINK, ALPN_HTTP),
            _context(credentials, ssl.PROTOCOL_TLS_CLIENT, ALPN_LINK),
            _context(credentials, ssl.PROTOCOL_TLS_CLIENT, ALPN_HTTP),
        )


async def accept(connection: trio.socket.SocketType, tls: Tls, remote: str) -> "TlsStream":
    """The stream to whoever has dialled us. Takes the socket over. Raises `UntrustedError` or `NotDteError`."""
    stream = TlsStream(connection, tls.server, remote, server=True)
    await stream.open(HANDSHAKE_MS)
    return stream


async def connect(
    connection: trio.socket.SocketType, tls: Tls, alpn: str, remote: str, timeout_ms: int = HANDSHAKE_MS
) -> "TlsStream":
    """The stream to whom we have dialled. Takes the socket over.

    Raises `UntrustedError`, `NotDteError` or `UnreachableError`.
    """
    stream = TlsStream(connection, tls.link if alpn == ALPN_LINK else tls.http, remote, server=False)
    await stream.open(timeout_ms)
    if stream.alpn != alpn:
        stream.abort()
        raise NotDteError(
            remote, f"does not speak {alpn}: it runs another major version of dte; install one version everywhere"
        )
    return stream


class TlsStream:
    """A connection to a peer that is who its certificate says. One task may send and another receive; sends take turns."""

    def __init__(
        self, connection: trio.socket.SocketType, context: ssl.SSLContext, remote: str, *, server: bool
    ) -> None:
        self.remote = remote
        self.peer = NodeId("")
        self.certificate = b""
        """The peer's own, in DER."""
        self.alpn = ""
        """What both sides speak from here; "" where the dialer named nothing."""
        self.proven = server
        self._socket = connection
        self._server = server
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server)
        self._sending = trio.Lock()
        self._unsent = memoryview(b"")
        """Bytes of `_outgoing` that the kernel has not taken yet. Nothing may overtake them."""
        self._broken: NetError | None = None
        """Why nothing can be sent any more; there may still be something to read."""
        self._unreadable: NetError | None = None

    async def open(self, timeout_ms: int) -> None:
        """The handshake, once, before anything else; the stream is closed where it fails."""
        try:
            with trio.fail_after(timeout_ms / 1000):
                await self._handshake()
            self.certificate = self._tls.getpeercert(binary_form=True) or b""
            self.peer = node_id_of(self.certificate)
        except trio.TooSlowError:
            self.abort()
            raise self._silent(f"did not finish the TLS handshake in {timeout_ms / 1000:g} s") from None
        except RemoteError as error:
            self.abort()
            raise UntrustedError(self.remote, str(error)) from None
        except BaseException:
            self.abort()
            raise
        self.alpn = self._tls.selected_alpn_protocol() or ""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`. Cancelled halfway it leaves the stream broken, because the peer has a part of it."""
        if len(data) > RECORD_BYTES or self._sending.locked():
            await self._sending.acquire()
        else:
            # A task switch costs more than a short frame; who sends much lets others have their turn.
            await trio.lowlevel.checkpoint_if_cancelled()
            self._sending.acquire_nowait()
        try:
            if self._broken is not None:
                raise self._broken
            view = memoryview(data)
            try:
                for start in range(0, len(view), RECEIVE_BYTES):
                    self._tls.write(view[start : start + RECEIVE_BYTES])
                    await self._flush()
            except ssl.SSLError as error:
                raise self._break(f"cannot be sent to: {_words(error)}") from None
            except BaseException:
                self._break("was being sent something when that was cancelled")
                raise
        finally:
            self._sending.release()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What has arrived, at most `max_bytes`, at least one byte; b"" once the peer has closed in good order."""
        buffer = memoryview(bytearray(max_bytes or RECEIVE_SOME_BYTES))
        return bytes(buffer[: await self.receive_into(buffer)])

    async def receive_into(self, buffer: memoryview) -> int:
        """Put what has arrived into `buffer` and say how much it was; 0 once the peer has closed in good order."""
        while True:
            try:
                count = self._decrypted_into(buffer)
            except NetError:
                await self._reply()
                raise
            if count is not None:
                return count
            await self._reply()
            await self._fill()

    async def aclose(self) -> None:
        """Tell the peer that this is the end, give it a moment to read up to there, and close.

        Never raises but `Cancelled`.
        """
        try:
            if self._broken is None and not self._sending.locked() and self._socket.fileno() >= 0:
                # SSLWantReadError says that the peer's own close_notify is not here yet.
                with contextlib.suppress(ssl.SSLError):
                    self._tls.unwrap()
                await self._part()
        finally:
            self.abort()

    def abort(self) -> None:
        """Close now. The peer will find the stream broken, unless `aclose` came first."""
        self._socket.close()

    async def _handshake(self) -> None:
        try:
            while True:
                try:
                    self._tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    await self._flush()
                    await self._fill()
            await self._flush()
        except (ssl.SSLEOFError, BrokenStreamError):
            raise self._silent("closed the connection before it had proven who it is") from None
        except ssl.SSLError as error:
            await self._part()  # TLS has put the reason into an alert.
            raise self._refusal(error) or NotDteError(
                self.remote, f"is not a dte node, or an old one: TLS 1.3 was expected ({_words(error)})"
            ) from None

    def _silent(self, problem: str) -> NetError:
        """A dialer may try again; to a listener it is a port scanner, or a health check."""
        return (NotDteError if self._server else UnreachableError)(self.remote, problem)

    def _refusal(self, error: ssl.SSLError) -> UntrustedError | None:
        """What `error` says about trust, if that is what it is about."""
        if error.reason in _REFUSALS:
            return UntrustedError(self.remote, f"it refused our certificate: {_words(error)}")
        if error.reason == _MISSING_CERTIFICATE:
            return UntrustedError(self.remote, "it showed no certificate")
        if error.reason in _UNPROVEN:
            detail = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else _words(error)
            return UntrustedError(self.remote, f"its certificate does not verify: {detail}")
        return None

    def _decrypted_into(self, buffer: memoryview) -> int | None:
        """None where more has to be received first."""
        if self._unreadable is not None:
            raise self._unreadable
        count = 0
        try:
            while count < len(buffer) and self._has_more:
                got = cast("int", self._tls.read(len(buffer) - count, buffer[count:]))
                if got == 0:
                    return count
                self.proven = True
                count += got
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            return count
        except ssl.SSLError as error:
            # TLS names a failure only once, and what came before it is good.
            self._unreadable = self._failed(error)
            if count == 0:
                raise self._unreadable from None
        return count or None

    @property
    def _has_more(self) -> bool:
        """Whether a look at what is here may be worth its price: without this, TLS says by an exception that it needs more."""
        return bool(self._incoming.pending or self._tls.pending() or self._incoming.eof)

    def _failed(self, error: ssl.SSLError) -> NetError:
        if not self.proven and (refusal := self._refusal(error)) is not None:
            self._broken = refusal
        if self._broken is not None:
            return self._broken
        ended = isinstance(error, ssl.SSLEOFError)
        return self._break(
            "ended the connection without closing it" if ended else f"broke the connection: {_words(error)}"
        )

    def _break(self, problem: str) -> NetError:
        self._broken = self._broken or BrokenStreamError(self.remote, problem)
        return self._broken

    async def _fill(self) -> None:
        """Wait for the kernel to have something, and hand it to TLS."""
        try:
            await trio.lowlevel.wait_readable(self._socket)
            data = os.read(self._socket.fileno(), RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            raise self._break(f"broke the connection: {os.strerror(error.errno or 0)}") from None
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    async def _flush(self) -> None:
        """Hand what TLS has to say to the kernel. May be cancelled and called again: no byte is lost or sent twice."""
        try:
            while self._unsent or self._outgoing.pending:
                self._unsent = self._unsent or memoryview(self._outgoing.read())
                try:
                    self._unsent = self._unsent[os.write(self._socket.fileno(), self._unsent) :]
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(self._socket)
        except OSError as error:
            raise self._break(f"cannot be sent to: {os.strerror(error.errno or 0)}") from None

    async def _reply(self) -> None:
        """Send what TLS answers by itself (a KeyUpdate, an alert), but a peer that does not read cannot stop our reading."""
        if self._outgoing.pending and not self._sending.locked():
            # A failure to send is found by the next sender; there may still be something to read.
            with trio.move_on_after(REPLY_MS / 1000), contextlib.suppress(NetError):
                async with self._sending:
                    await self._flush()

    async def _part(self) -> None:
        """Send the last words, then read on until the peer closes: unread bytes would make a reset, which overtakes them."""
        with (
            trio.move_on_after(PART_MS / 1000),
            contextlib.suppress(OSError, NetError, trio.BusyResourceError, trio.ClosedResourceError),
        ):
            async with self._sending:
                await self._flush()
            self._socket.shutdown(socket.SHUT_WR)
            while await self._socket.recv(RECEIVE_BYTES):
                pass


def _context(credentials: Credentials, protocol: int, *alpn: str) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # A node is named by its key; the run authority vouches for that, not for hosts.
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    # Python sets this by default, and a connection cut by a third party would look as if its end were meant.
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0  # Links are long-lived, and a resumed handshake would look at no certificate.
    context.set_alpn_protocols(list(alpn))
    context.load_verify_locations(cadata=credentials.anchor_pem.decode("ascii"))
    # `ssl` reads keys from named files only; this one is never on a disk.
    with os.fdopen(os.memfd_create("credentials"), "wb") as file:
        file.write(credentials.key_pem + credentials.chain_pem)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
    return context


def _words(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()
