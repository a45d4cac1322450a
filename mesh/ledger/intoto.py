"""The frame around every ledger entry: an in-toto Statement v1 with one subject, in a DSSE envelope.

Other programs (securesystemslib, in-toto-attestation, slsa-verifier) read it without knowing us; what we add of our own has its own predicate type.
"""

import hashlib
import re
from typing import Any, Final, Protocol

from msgspec import Struct

from mesh.errors import RemoteError
from mesh.identity import NodeKey, seal
from mesh.types import Digest, NodeId
from mesh.wire import canonical
from mesh.wire.canonical import Reader

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
BASE_URI: Final = "https://pypi.org/project/dte-mesh/"
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


class Statement(Struct, frozen=True):
    """That `predicate` is so of the content called `digest`. `name` says what part that content plays."""

    name: str
    digest: Digest
    predicate_type: str
    predicate: dict[str, Any]
    annotations: dict[str, Any] | None = None

    def encode(self) -> bytes:
        """The bytes that are signed."""
        return canonical.encode(
            {
                "_type": STATEMENT_TYPE,
                "subject": [descriptor(self.name, self.digest, self.annotations)],
                "predicateType": self.predicate_type,
                "predicate": self.predicate,
            }
        )

    @classmethod
    def decode(cls, payload: bytes) -> "Statement":
        """The statement of `encode`. Raises `RemoteError("malformed")`."""
        read = Reader(canonical.decode(payload), "statement")
        if (kind := read.text("_type")) != STATEMENT_TYPE:
            raise RemoteError("malformed", f"statement._type: {STATEMENT_TYPE} was expected, not {kind[:80]!r}")
        subjects = read.items("subject", max_items=1)
        if not subjects:
            raise RemoteError("malformed", "statement.subject: one subject was expected")
        subject = Reader(subjects[0], "statement.subject[0]")
        return cls(
            subject.text("name"),
            read_digest(subjects[0], "statement.subject[0]"),
            read.text("predicateType"),
            read.table("predicate"),
            subject.table("annotations") if subject.has("annotations") else None,
        )


class Stating(Protocol):
    """Something that can be put as a statement."""

    def statement(self, signer: NodeId, /) -> Statement:
        """This, as `signer` states it."""


class Sealable(Struct, frozen=True):
    """What every leaf can do."""

    def seal(self: Stating, key: NodeKey) -> bytes:
        """The ledger entry: this leaf, signed. Raises `RemoteError("too-large")`."""
        return seal(key, self.statement(key.node_id).encode(), PAYLOAD_TYPE)


def digest_of(content: bytes) -> Digest:
    """The name of `content`."""
    return Digest(f"sha256:{hashlib.sha256(content).hexdigest()}")


def descriptor(name: str, digest: Digest, annotations: dict[str, Any] | None = None) -> dict[str, Any]:
    """An in-toto ResourceDescriptor."""
    assert _DIGEST.fullmatch(digest) is not None, f"not a digest: {digest}"
    value: dict[str, Any] = {"name": name, "digest": {"sha256": digest.removeprefix("sha256:")}}
    return value if annotations is None else {**value, "annotations": annotations}


def read_digest(value: Any, where: str) -> Digest:
    """The digest in the descriptor `value`. Raises `RemoteError("malformed")`."""
    text = "sha256:" + Reader(Reader(value, where).table("digest"), f"{where}.digest").text("sha256")
    if _DIGEST.fullmatch(text) is None:
        raise RemoteError("malformed", f"{where}.digest.sha256: 64 lower-case hexadecimal digits were expected")
    return Digest(text)
