"""DSSE envelopes: some bytes, what kind of bytes they are, and who signed both.

The envelope is canonical JSON with exactly one signature, whose `keyid` is the signer's node id. One content by one signer has one sequence of bytes,
because Ed25519 is deterministic and anything but the canonical form is refused: an envelope may be named by its hash (docs/spec/identity.md).
"""

import base64
import binascii
from typing import Final

from msgspec import Struct

from mesh.errors import RemoteError
from mesh.identity.keys import NodeKey, node_id, verify
from mesh.types import NodeId
from mesh.wire import canonical
from mesh.wire.canonical import Reader

ENVELOPE_BYTES_MAX: Final = 65_535
"""What a ledger entry may be: its length is written in sixteen bits."""


class Opened(Struct, frozen=True):
    """What was in an envelope, and whose signature was on it. Only `open_envelope` makes one: the signature has been checked."""

    payload: bytes
    payload_type: str
    signer: NodeId


def seal(key: NodeKey, payload: bytes, payload_type: str) -> bytes:
    """The envelope of `payload`, signed. Raises `RemoteError("too-large")` where it would be no ledger entry."""
    data = _render(payload, payload_type, key.node_id, key.sign(_signed_bytes(payload, payload_type)))
    _limit(data)
    return data


def open_envelope(data: bytes) -> Opened:
    """What `seal` closed. Raises `RemoteError` with `too-large`, `malformed` or `bad-signature`."""
    _limit(data)
    read = Reader(canonical.decode(data), "envelope")
    payload_type = read.text("payloadType", max_chars=1_024)
    entry = Reader(_only(read.items("signatures", max_items=1)), "envelope.signatures[0]")
    signer = node_id(entry.text("keyid"))
    payload = _base64(read.text("payload"), "payload")
    signature = _base64(entry.text("sig"), "sig")
    if _render(payload, payload_type, signer, signature) != data:
        raise RemoteError("malformed", "the envelope is not in its canonical form")
    if not verify(signer, _signed_bytes(payload, payload_type), signature):
        raise RemoteError(
            "bad-signature", f"the envelope was not signed by {signer}, whom it names, or was changed since"
        )
    return Opened(payload, payload_type, signer)


def _signed_bytes(payload: bytes, payload_type: str) -> bytes:
    """DSSE's pre-authentication encoding: no byte of the type can be taken for one of the payload."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _render(payload: bytes, payload_type: str, signer: NodeId, signature: bytes) -> bytes:
    return canonical.encode(
        {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": payload_type,
            "signatures": [{"keyid": signer, "sig": base64.b64encode(signature).decode()}],
        }
    )


def _limit(data: bytes) -> None:
    if len(data) > ENVELOPE_BYTES_MAX:
        raise RemoteError("too-large", f"an envelope of {len(data)} bytes; the limit is {ENVELOPE_BYTES_MAX}")


def _only(items: list[object]) -> object:
    if not items:
        raise RemoteError("malformed", "envelope.signatures: one signature was expected")
    return items[0]


def _base64(text: str, name: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise RemoteError("malformed", f"envelope.{name}: base64 was expected") from None
