"""Certificates: how a key is shown to belong to a run, at once in a TLS handshake and long after it offline.

A chain is root -> run authority -> node. The run authority's certificate is what peers trust in the handshake, and not the root's: a node of another run
of the same secret is a stranger. The root's public half is for those who check a result later and hold no secret.

Dates say nothing here, from 1970 to 9999: a machine with a wrong clock must not be cut off, and a run's keys die with its processes. Serial numbers
are hashes of the key, so that equal input makes equal bytes.

Nodes have no lasting host names, so every node's certificate carries the same ones (for `curl`) and one that is its own (to pin it):
`dte.invalid`, `localhost`, 127.0.0.1 and ::1, and `<first 32 digits of its id>.dte.invalid`. `.invalid` never resolves, so nobody can own it.
"""

import hashlib
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, SignatureAlgorithmOID
from msgspec import Struct

from mesh.errors import RemoteError
from mesh.types import NodeId

HOST_NAME: Final = "dte.invalid"
"""A host name that every node's certificate is valid for: `curl --connect-to ::HOST:PORT https://dte.invalid/`."""

CERTIFICATE_BYTES_MAX: Final = 4_096
_BEGIN: Final = datetime(1970, 1, 1, tzinfo=UTC)
_END: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)  # RFC 5280: no date of expiry
_Extension = TypeVar("_Extension", bound=x509.ExtensionType)
_SCOPE: Final = re.compile(r"dte:([a-z0-9-]+)/(.+)")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a node's TLS needs, and its chain as the ledger keeps it: `chain_der` is the node's certificate and the run authority's."""

    chain_pem: bytes
    key_pem: bytes = field(repr=False)
    anchor_pem: bytes
    """The run authority's certificate. It is not self-signed: OpenSSL takes it as an anchor with X509_V_FLAG_PARTIAL_CHAIN."""
    chain_der: tuple[bytes, ...]


class Member(Struct, frozen=True):
    """Whom a checked chain speaks of. `authority` is the run authority's public key; all members of one run share it."""

    node_id: NodeId
    name: str
    domain: str
    run_id: str
    authority: str


def host_name_of(node: NodeId) -> str:
    """The one host name that only this node's certificate is valid for."""
    return f"{node[:32]}.{HOST_NAME}"


def node_id_of(der: bytes) -> NodeId:
    """The name of the node whose certificate `der` is. Raises `RemoteError("bad-certificate")`."""
    return NodeId(_public_key(_load(der)).public_bytes_raw().hex())


def name_of(der: bytes) -> str:
    """What the certificate `der` calls its node. Raises `RemoteError("bad-certificate")`."""
    return _common_name(_load(der))


def verify_chain(chain_der: Sequence[bytes], root_public: str | None) -> Member:
    """Check [node, run authority] against the root's public key (64 hex digits). Raises `RemoteError("bad-certificate")`.

    With `root_public` None the run authority is taken as it comes: the caller then compares `Member.authority` with one that it trusts.
    """
    if len(chain_der) != 2:
        raise RemoteError(
            "bad-certificate", f"a chain is a node's and its run authority's certificate, not {len(chain_der)}"
        )
    node, authority = (_load(der) for der in chain_der)
    _check_signed(node, _public_key(authority), "the run authority beside it")
    if root_public is not None:
        root = Ed25519PublicKey.from_public_bytes(bytes.fromhex(root_public))
        _check_signed(authority, root, f"the root {root_public}")
    if not _is_authority(authority) or _is_authority(node):
        raise RemoteError("bad-certificate", "a run authority must be a certificate authority, and a node must not")
    domain, run_id = _scope(authority)
    return Member(
        NodeId(_public_key(node).public_bytes_raw().hex()),
        _common_name(node),
        domain,
        run_id,
        _public_key(authority).public_bytes_raw().hex(),
    )


def issue_root(key: Ed25519PrivateKey, domain: str) -> x509.Certificate:
    """The self-signed certificate of a trust domain."""
    name = _name(f"dte root {domain}")
    return _authority_builder(name, name, key.public_key(), key.public_key(), path_length=1).sign(key, None)


def issue_authority(
    root: x509.Certificate, root_key: Ed25519PrivateKey, public: Ed25519PublicKey, domain: str, run_id: str
) -> x509.Certificate:
    """The certificate of the authority of one run, which names the run in full (a common name would be too short for it)."""
    tag = hashlib.sha256(run_id.encode()).hexdigest()[:16]
    builder = _authority_builder(_name(f"dte run {tag}"), root.subject, public, root_key.public_key(), path_length=0)
    scope = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"dte:{domain}/{run_id}")])
    return builder.add_extension(scope, critical=False).sign(root_key, None)


def issue_node(
    authority: x509.Certificate, authority_key: Ed25519PrivateKey, public: Ed25519PublicKey, name: str
) -> x509.Certificate:
    """A node's certificate, for both ends of a connection."""
    node = NodeId(public.public_bytes_raw().hex())
    hosts = [x509.DNSName(host) for host in (HOST_NAME, host_name_of(node), "localhost")]
    addresses = [x509.IPAddress(ip_address(text)) for text in ("127.0.0.1", "::1")]
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return (
        _builder(_name(name), authority.subject, public, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.SubjectAlternativeName([*hosts, *addresses]), critical=False)
        .sign(authority_key, None)
    )


def pem_of(certificate: x509.Certificate) -> bytes:
    """The certificate as text."""
    return certificate.public_bytes(Encoding.PEM)


def der_of(certificate: x509.Certificate) -> bytes:
    """The certificate as bytes."""
    return certificate.public_bytes(Encoding.DER)


def _builder(
    subject: x509.Name, issuer: x509.Name, public: Ed25519PublicKey, issuer_public: Ed25519PublicKey
) -> x509.CertificateBuilder:
    # Positive and at most 20 bytes, as RFC 5280 wants it, and never zero.
    serial = int.from_bytes(b"\x01" + hashlib.sha256(public.public_bytes_raw()).digest()[:18])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(_BEGIN)
        .not_valid_after(_END)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_public), critical=False)
    )


def _authority_builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: Ed25519PublicKey,
    issuer_public: Ed25519PublicKey,
    *,
    path_length: int,
) -> x509.CertificateBuilder:
    return (
        _builder(subject, issuer, public, issuer_public)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _load(der: bytes) -> x509.Certificate:
    if len(der) > CERTIFICATE_BYTES_MAX:
        raise RemoteError("bad-certificate", f"{len(der)} bytes; the limit is {CERTIFICATE_BYTES_MAX}")
    try:
        # Some things that RFC 5280 forbids, a serial number below one for instance, only make it warn.
        with warnings.catch_warnings(action="error", category=CryptographyDeprecationWarning):
            certificate = x509.load_der_x509_certificate(der)
            is_ours = certificate.signature_algorithm_oid == SignatureAlgorithmOID.ED25519
    except (ValueError, x509.InvalidVersion, CryptographyDeprecationWarning) as error:
        raise RemoteError("bad-certificate", f"not a certificate: {error}") from None
    if not is_ours or der_of(certificate) != der:
        raise RemoteError("bad-certificate", "not an Ed25519 certificate in DER")
    return certificate


def _public_key(certificate: x509.Certificate) -> Ed25519PublicKey:
    try:
        public = certificate.public_key()
    except Exception as error:  # noqa: BLE001, what cryptography raises for unknown and broken keys has no common base
        raise RemoteError("bad-certificate", f"its key cannot be read: {error}") from None
    if not isinstance(public, Ed25519PublicKey):
        raise RemoteError("bad-certificate", "its key is not an Ed25519 key")
    return public


def _check_signed(certificate: x509.Certificate, issuer: Ed25519PublicKey, whose: str) -> None:
    try:
        issuer.verify(certificate.signature, certificate.tbs_certificate_bytes)
    except InvalidSignature:
        raise RemoteError("bad-certificate", f"it was not signed by {whose}") from None


def _is_authority(certificate: x509.Certificate) -> bool:
    constraints = _extension(certificate, x509.BasicConstraints)
    return constraints is not None and constraints.ca


def _scope(authority: x509.Certificate) -> tuple[str, str]:
    """The trust domain and the run that the authority speaks for."""
    names = _extension(authority, x509.SubjectAlternativeName)
    for uri in names.get_values_for_type(x509.UniformResourceIdentifier) if names is not None else ():
        if (match := _SCOPE.fullmatch(uri)) is not None:
            return match[1], match[2]
    raise RemoteError("bad-certificate", "the run authority does not say which run it is for")


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
    except Exception as error:  # noqa: BLE001, what cryptography raises for malformed extensions has no common base
        raise RemoteError("bad-certificate", f"its extensions cannot be read: {error}") from None


def _common_name(certificate: x509.Certificate) -> str:
    try:
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError as error:
        raise RemoteError("bad-certificate", f"its name cannot be read: {error}") from None
    if len(names) != 1 or not isinstance(names[0].value, str):
        raise RemoteError("bad-certificate", "it does not name its node")
    return names[0].value
