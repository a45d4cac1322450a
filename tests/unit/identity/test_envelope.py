"""An envelope says who sealed it, and nobody can change what is in it."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import RemoteError
from mesh.identity import ENVELOPE_BYTES_MAX, NodeKey, Opened, open_envelope, seal, verify
from mesh.wire import canonical

KEY, OTHER = NodeKey.from_seed(b"k" * 32), NodeKey.from_seed(b"o" * 32)
TYPE = "application/vnd.in-toto+json"
SEALED = seal(KEY, b'{"a":1}', TYPE)


def changed(**fields):
    return canonical.encode({**json.loads(SEALED), **fields})


@given(st.binary(max_size=2_000), st.text(st.characters(codec="utf-8"), max_size=40))
def test_what_is_sealed_is_what_is_opened(payload, payload_type):
    assert open_envelope(seal(KEY, payload, payload_type)) == Opened(payload, payload_type, KEY.node_id)


def test_the_signature_is_dsse_s():
    # The pre-authentication encoding of DSSE's own protocol description, with our payload.
    envelope = json.loads(SEALED)
    signature = base64.b64decode(envelope["signatures"][0]["sig"])
    assert verify(KEY.node_id, b'DSSEv1 28 application/vnd.in-toto+json 7 {"a":1}', signature)
    assert envelope["signatures"][0]["keyid"] == KEY.node_id


def test_a_flipped_bit_anywhere_is_refused():
    for at in range(len(SEALED)):
        for bit in range(8):
            data = bytearray(SEALED)
            data[at] ^= 1 << bit
            with pytest.raises(RemoteError) as caught:
                open_envelope(bytes(data))
            assert caught.value.word in ("malformed", "bad-signature")


def test_a_signature_by_another_node_is_refused():
    forged = json.loads(seal(OTHER, b'{"a":1}', TYPE))["signatures"][0]["sig"]
    with pytest.raises(RemoteError, match=rf"bad-signature: .* not signed by {KEY.node_id}"):
        open_envelope(changed(signatures=[{"keyid": KEY.node_id, "sig": forged}]))


def test_another_payload_type_is_refused():
    with pytest.raises(RemoteError, match="bad-signature"):
        open_envelope(changed(payloadType="text/plain"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"payload":',
        changed(payload=None),
        changed(payload="!"),
        changed(payload="\u00e9"),
        changed(payload="eyJhIjoxfR=="),
        changed(signatures=[]),
        changed(signatures=[{"keyid": KEY.node_id, "sig": ""}] * 2),
        changed(signatures=[{"keyid": "x", "sig": ""}]),
        changed(signatures=["x"]),
        changed(payloadType="x" * 1_025),
        changed(extra=1),
        SEALED + b"\n",
        b" " + SEALED,
        SEALED.replace(b'"payload":', b'"payload": '),
    ],
)
def test_what_is_no_canonical_envelope_is_refused(data):
    with pytest.raises(RemoteError) as caught:
        open_envelope(data)
    assert caught.value.word == "malformed"


def test_the_limit_is_that_of_a_ledger_entry():
    overhead = len(seal(KEY, b"", TYPE))
    most = (ENVELOPE_BYTES_MAX - overhead) // 4 * 3
    assert len(seal(KEY, b"x" * most, TYPE)) <= ENVELOPE_BYTES_MAX
    with pytest.raises(RemoteError, match=r"too-large: an envelope of .* bytes; the limit is 65535"):
        seal(KEY, b"x" * (most + 3), TYPE)
    with pytest.raises(RemoteError, match="too-large"):
        open_envelope(b"x" * (ENVELOPE_BYTES_MAX + 1))
