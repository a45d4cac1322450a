"""How bytes move: one port, TLS with proof from both sides, links for control, HTTP for blobs, and ways to meet.

Listener ─┬─▶ Link          dial_link ──▶ Link          frames, one long-lived link per pair of peers
          └─▶ serve_http    BlobClient.fetch            blobs, each transfer on a connection of its own
"""

from mesh.net.address import join_address, split_address
from mesh.net.blobs import BlobClient, blob_handler
from mesh.net.dialer import dial, resolve
from mesh.net.errors import (
    BrokenStreamError,
    NetError,
    NotDteError,
    NotHereError,
    UnreachableError,
    UntrustedError,
)
from mesh.net.http import ByteStream, FileBody, Handler, Request, Response, serve_http
from mesh.net.link import Link, accept_link, dial_link
from mesh.net.listener import Listener
from mesh.net.rendezvous import Advert, Rendezvous
from mesh.net.tls import ALPN_HTTP, ALPN_LINK, Tls, TlsStream

__all__ = [
    "ALPN_HTTP",
    "ALPN_LINK",
    "Advert",
    "BlobClient",
    "BrokenStreamError",
    "ByteStream",
    "FileBody",
    "Handler",
    "Link",
    "Listener",
    "NetError",
    "NotDteError",
    "NotHereError",
    "Rendezvous",
    "Request",
    "Response",
    "Tls",
    "TlsStream",
    "UnreachableError",
    "UntrustedError",
    "accept_link",
    "blob_handler",
    "dial",
    "dial_link",
    "join_address",
    "resolve",
    "serve_http",
    "split_address",
]
