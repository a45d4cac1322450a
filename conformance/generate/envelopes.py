"""Envelopes: DSSE in its one canonical form, and each way in which it may not be it."""

import base64
from collections.abc import Iterator

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from vector import Vector, canonical, error, ok

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
TYPE = "application/vnd.in-toto+json"
LIMIT = 65_535


def node_id(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()


def signed(payload: bytes, kind: str = TYPE) -> bytes:
    return b"DSSEv1 %d %s %d %s" % (len(kind.encode()), kind.encode(), len(payload), payload)


def envelope(payload: bytes, /, **changes: object) -> dict[str, object]:
    signature = KEY.sign(signed(payload))
    signatures = [{"keyid": node_id(KEY), "sig": base64.b64encode(signature).decode()}]
    value: dict[str, object] = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": TYPE,
        "signatures": signatures,
    }
    return {**value, **changes}


def opened(name: str, clause: str, comment: str, data: bytes, expect: dict[str, object]) -> Vector:
    return Vector(
        f"envelopes/{name}", f"identity.md {clause}", comment, "envelope.open", {"envelope": data.hex()}, expect
    )


def vectors() -> Iterator[Vector]:
    payload = b'{"a":1}'
    good = canonical(envelope(payload))
    result = ok(signer=node_id(KEY), type=TYPE, payload=payload.hex())
    yield opened("good", "4.1", "A signed payload.", good, result)
    nothing = ok(signer=node_id(KEY), type=TYPE, payload="")
    yield opened("empty-payload", "4.2", "Nothing can be signed, too.", canonical(envelope(b"")), nothing)
    yield opened("white-space", "4.3", "A space behind the end.", good + b" ", error("malformed"))
    backwards = (
        b'{"signatures"'
        + good[good.index(b'"signatures"') + 12 : -1]
        + b","
        + good[1 : good.index(b',"signatures"')]
        + b"}"
    )
    yield opened("order", "4.3", "Keys in another order.", backwards, error("malformed"))
    yield opened("more-fields", "4.3", "A field of no meaning.", canonical(envelope(payload, x=1)), error("malformed"))
    signature = {"keyid": node_id(KEY), "sig": base64.b64encode(KEY.sign(signed(payload))).decode()}
    two = canonical(envelope(payload, signatures=[signature, signature]))
    yield opened("two-signatures", "4.1", "One signer each.", two, error("malformed"))
    yield opened(
        "no-signature", "4.1", "Nobody signed.", canonical(envelope(payload, signatures=[])), error("malformed")
    )
    loose = canonical(envelope(payload, payload=base64.b64encode(payload).decode().rstrip("=")))
    yield opened("no-padding", "4.1", "Base64 without its padding.", loose, error("malformed"))
    upper = canonical(envelope(payload, signatures=[{**signature, "keyid": node_id(KEY).upper()}]))
    yield opened("upper-case", "4.1", "A node id in capitals is another spelling.", upper, error("malformed"))
    other = canonical(envelope(payload, signatures=[{**signature, "keyid": node_id(OTHER)}]))
    yield opened("other-signer", "4.4", "Signed by somebody else.", other, error("bad-signature"))
    swapped = canonical(envelope(payload, payload=base64.b64encode(b'{"a":2}').decode()))
    yield opened("other-payload", "4.4", "The payload was changed afterwards.", swapped, error("bad-signature"))
    retyped = canonical(envelope(payload, payloadType="text/plain"))
    yield opened("other-type", "4.2", "The type is signed, too.", retyped, error("bad-signature"))
    long = canonical(envelope(b"x" * LIMIT))
    yield opened("too-large", "4.4", "More than a ledger entry may be.", long, error("too-large"))
    yield opened("not-json", "4.1", "Bytes that are no JSON.", b"\x7fELF", error("malformed"))
