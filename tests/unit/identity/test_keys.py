"""A node is named by its key, and its signature is its word."""

import pytest

from mesh.errors import RemoteError
from mesh.identity import NodeKey, node_id, verify

# RFC 8032, section 7.1, test 2.
SEED = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
PUBLIC = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


def test_the_name_and_the_signature_are_those_of_rfc_8032():
    key = NodeKey.from_seed(SEED)
    assert key.node_id == PUBLIC
    assert key.sign(b"\x72") == SIGNATURE
    assert verify(key.node_id, b"\x72", SIGNATURE)


def test_a_signature_of_other_data_or_by_another_node_is_refused():
    key, other = NodeKey.from_seed(SEED), NodeKey.from_seed(bytes(32))
    assert not verify(key.node_id, b"\x73", SIGNATURE)
    assert not verify(other.node_id, b"\x72", SIGNATURE)


@pytest.mark.parametrize("signature", [b"", SIGNATURE[:-1], SIGNATURE + b"\0", bytes(64)])
def test_a_signature_of_another_length_is_refused(signature):
    assert not verify(node_id(PUBLIC), b"\x72", signature)


def test_a_private_key_is_in_no_repr():
    assert SEED.hex() not in repr(NodeKey.from_seed(SEED))
    assert "private" not in repr(NodeKey.from_seed(SEED))


@pytest.mark.parametrize("text", ["", PUBLIC.upper(), PUBLIC[:-1], f"{PUBLIC}0", f" {PUBLIC[1:]}", f"{PUBLIC}\n"])
def test_a_node_has_one_spelling_of_its_name(text):
    with pytest.raises(RemoteError, match="malformed: a node is named by 64"):
        node_id(text)
    assert node_id(PUBLIC) == PUBLIC
