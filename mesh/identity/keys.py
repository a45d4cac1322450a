"""A node's key, and the check of what it signed.

A node makes a fresh Ed25519 key for each run, and its name in the mesh is the public half itself: a signature can be checked by whoever
knows who is said to have signed. The seed comes from outside, for there are no dice in this room.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from mesh.errors import RemoteError
from mesh.types import NodeId

SEED_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
_PUBLIC_HEX: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class NodeKey:
    """A private key and the name that follows from it. Build with `from_seed`."""

    private: Ed25519PrivateKey = field(repr=False, compare=False)
    node_id: NodeId

    @classmethod
    def from_seed(cls, seed: bytes) -> "NodeKey":
        """The key of 32 random bytes."""
        assert len(seed) == SEED_BYTES, "the seed of an Ed25519 key is 32 bytes"
        private = Ed25519PrivateKey.from_private_bytes(seed)
        return cls(private, NodeId(private.public_key().public_bytes_raw().hex()))

    def sign(self, data: bytes) -> bytes:
        """The signature of `data`: 64 bytes, the same each time."""
        return self.private.sign(data)


def node_id(text: str) -> NodeId:
    """`text` as the name of a node. Raises `RemoteError("malformed")` where it is none."""
    if _PUBLIC_HEX.fullmatch(text) is None:
        raise RemoteError("malformed", f"a node is named by 64 lower-case hexadecimal digits, not {text[:80]!r}")
    return NodeId(text)


@lru_cache(maxsize=1_024)
def _public(signer: NodeId) -> Ed25519PublicKey:
    """One node signs many things."""
    return Ed25519PublicKey.from_public_bytes(bytes.fromhex(signer))


def verify(signer: NodeId, data: bytes, signature: bytes) -> bool:
    """Whether `signer` has signed `data`. `signer` is a well-formed name (see `node_id`)."""
    try:
        _public(signer).verify(signature, data)
    except InvalidSignature:
        return False
    return True
