"""The run authority: what everybody who knows the secret can be, and nobody else.

    secret --HKDF(domain)---------> root key           one per trust domain; its public half may stand in the repository
    secret --HKDF(domain, run)----> run authority key  one per run; signed by the root; signs every node of the run

Both are derived, so no peer must be asked for anything before it can be trusted: two machines that share the secret make the same certificates, byte for
byte. Another run, or another domain, of the same secret is another authority.
"""

import re
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mesh.errors import UsageError
from mesh.identity.certificate import Credentials, der_of, issue_authority, issue_node, issue_root, pem_of
from mesh.identity.keys import SEED_BYTES, NodeKey
from mesh.types import SECRET_BYTES_MIN

NAME_BYTES_MAX: Final = 64
_RUN_ID: Final = re.compile(r"[A-Za-z0-9._:/@-]{1,200}")
_DOMAIN: Final = re.compile(r"[a-z0-9-]{1,32}")


@dataclass(frozen=True, slots=True)
class Authority:
    """The authority of one run in one trust domain. Build with `derive`."""

    run_id: str
    domain: str
    root_public: str
    """64 hexadecimal digits: what may be published, and what `dte verify` can be given."""
    root_pem: bytes
    _key: Ed25519PrivateKey = field(repr=False, compare=False)
    _certificate: x509.Certificate = field(repr=False)

    @classmethod
    def derive(cls, secret: bytes, run_id: str, domain: str = "run") -> "Authority":
        """The authority that `secret` gives. Raises `UsageError` where the secret is too short or a name is not one."""
        if len(secret) < SECRET_BYTES_MIN:
            raise UsageError(
                f"the secret has {len(secret)} bytes and must have at least {SECRET_BYTES_MIN}, so that nobody can guess it; "
                "make one with `openssl rand -hex 32` and give it to every job of the run as DTE_SECRET"
            )
        check_run_id(run_id)
        if _DOMAIN.fullmatch(domain) is None:
            raise UsageError(f"the trust domain {domain!r} must be 1 to 32 of the characters a-z 0-9 and '-'")
        root_key = _derived_key(secret, "root", domain)
        key = _derived_key(secret, "run", domain, run_id)
        root = issue_root(root_key, domain)
        certificate = issue_authority(root, root_key, key.public_key(), domain, run_id)
        return cls(run_id, domain, root_key.public_key().public_bytes_raw().hex(), pem_of(root), key, certificate)

    def issue(self, key: NodeKey, name: str) -> Credentials:
        """What the node with `key` needs to be believed in this run. Raises `UsageError` where `name` cannot be a node's name."""
        if not name.isprintable() or not 1 <= len(name.encode(errors="replace")) <= NAME_BYTES_MAX or not name.strip():
            raise UsageError(
                f"the name {name!r} must be 1 to {NAME_BYTES_MAX} bytes of printable text; choose another with --name"
            )
        certificate = issue_node(self._certificate, self._key, key.private.public_key(), name)
        chain = (certificate, self._certificate)
        return Credentials(
            chain_pem=b"".join(pem_of(part) for part in chain),
            key_pem=key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            anchor_pem=pem_of(self._certificate),
            chain_der=tuple(der_of(part) for part in chain),
        )


def is_run_id(text: str) -> bool:
    """Whether `text` can name a run."""
    return _RUN_ID.fullmatch(text) is not None


def check_run_id(run_id: str) -> None:
    """Raises `UsageError` where `run_id` cannot name a run."""
    if not is_run_id(run_id):
        raise UsageError(
            f"the run id {run_id[:80]!r} must be 1 to 200 of the characters A-Z a-z 0-9 . _ : / @ and '-'; choose another with --run-id"
        )


def _derived_key(secret: bytes, *purpose: str) -> Ed25519PrivateKey:
    # A zero byte can be in no part, so no two purposes are the same bytes.
    info = b"\0".join([b"dte/1", *(part.encode() for part in purpose)])
    return Ed25519PrivateKey.from_private_bytes(HKDF(hashes.SHA256(), SEED_BYTES, salt=None, info=info).derive(secret))
