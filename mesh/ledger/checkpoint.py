"""Signed checkpoints: a C2SP signed note that says how long the ledger is and what its root is, by the leader, and by witnesses.

    dte/run/42
    3
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

    — dte/run/42 <key id and signature of the leader>
    — dte/node/5e21… <key id, time and signature of a node that has seen the ledger grow to this>

A note is read strictly: what is parsed must render to the same bytes, so that no bit of it can differ. Unlike a general reader of notes, which must skip
signatures of keys that it does not know, this project's verifier refuses them: everybody who may sign is in the ledger.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from mesh.errors import RemoteError
from mesh.identity import NodeKey, is_run_id, verify
from mesh.types import NodeId

LOG_KEY: Final = 0x01
"""The signature type of a log's own Ed25519 key."""
WITNESS_KEY: Final = 0x04
"""The signature type of `cosignature/v1`."""

CHECKPOINT_BYTES_MAX: Final = 1024 * 1024
SIGNATURES_MAX: Final = 4_096
LEDGER_ENTRIES_MAX: Final = 1_000_000
_ORIGIN: Final = "dte/run/"
_WITNESS: Final = "dte/node/"
_NOTE: Final = re.compile(
    rb"(?P<text>[^\n]+\n(?:0|[1-9][0-9]{0,9})\n[A-Za-z0-9+/]{43}=\n)\n(?P<signatures>(?:[^\n]+\n)+)"
)
_LINE: Final = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})")


class SignatureLine(Struct, frozen=True):
    """One signature of a note. Who made it is not known before a key of this name and id is tried."""

    name: str
    key_id: bytes
    signature: bytes

    def render(self) -> str:
        """The line, without its end."""
        return f"— {self.name} {base64.b64encode(self.key_id + self.signature).decode()}"


class VerifierKey(Struct, frozen=True):
    """A public key as notes name it: `<name>+<key id>+<base64 of type and key>`."""

    name: str
    kind: int
    node: NodeId

    @property
    def key_id(self) -> bytes:
        """Four bytes that tell keys of one name apart."""
        return hashlib.sha256(self.name.encode() + b"\n" + self._material()).digest()[:4]

    def render(self) -> str:
        """The key as a line of `vkeys`, without its end."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(self._material()).decode()}"

    @classmethod
    def parse(cls, text: str) -> "VerifierKey":
        """The key that `render` wrote, and no other spelling of it. Raises `RemoteError("malformed")`."""
        name, _, rest = text.partition("+")
        material = _base64(rest.partition("+")[2])
        key = cls(name, material[0], NodeId(material[1:].hex())) if len(material) == 33 else None
        if key is None or key.render() != text or not name or re.search(r"\s", name) is not None:
            raise RemoteError("malformed", f"not a verifier key: {text[:120]!r}")
        return key

    def _material(self) -> bytes:
        return bytes([self.kind]) + bytes.fromhex(self.node)


class Checkpoint(Struct, frozen=True):
    """A note taken apart. Nothing in it is verified before `signed_by` or `cosigned_by` has said so."""

    origin: str
    size: int
    root: bytes
    signatures: tuple[SignatureLine, ...]

    @property
    def text(self) -> bytes:
        """What is signed."""
        return _text(self.origin, self.size, self.root)

    @property
    def run_id(self) -> str:
        """The run whose ledger this is."""
        return self.origin.removeprefix(_ORIGIN)

    def render(self) -> bytes:
        """The note."""
        return self.text + b"\n" + "".join(f"{line.render()}\n" for line in self.signatures).encode()

    def signed_by(self, leader: NodeId) -> bool:
        """Whether the first signature is `leader`'s, as that of the log."""
        return bool(self.signatures) and self._holds(self.signatures[0], log_key(self.run_id, leader), self.text)

    def cosigned_by(self, witness: NodeId, line: SignatureLine) -> bool:
        """Whether `line` is the cosignature of `witness`."""
        if len(line.signature) < 8:
            return False
        time_s = int.from_bytes(line.signature[:8])
        bare = SignatureLine(line.name, line.key_id, line.signature[8:])
        return self._holds(bare, witness_key(witness), _cosigned(self.text, time_s))

    def with_cosignatures(self, lines: Iterable[SignatureLine]) -> "Checkpoint":
        """This checkpoint with `lines` behind the signatures that it has; a name that is there already is not added again."""
        by_name = {line.name: line for line in self.signatures}
        for line in lines:
            by_name.setdefault(line.name, line)
        return replace(self, signatures=tuple(by_name.values()))

    @staticmethod
    def _holds(line: SignatureLine, key: VerifierKey, message: bytes) -> bool:
        return line.name == key.name and line.key_id == key.key_id and verify(key.node, message, line.signature)


def origin_of(run_id: str) -> str:
    """The name of the ledger of a run."""
    return f"{_ORIGIN}{run_id}"


def log_key(run_id: str, leader: NodeId) -> VerifierKey:
    """The key by which `leader` signs the checkpoints of the run."""
    return VerifierKey(origin_of(run_id), LOG_KEY, leader)


def witness_key(node: NodeId) -> VerifierKey:
    """The key by which `node` cosigns. The name says the key, so a cosignature can be checked by its line alone."""
    return VerifierKey(f"{_WITNESS}{node}", WITNESS_KEY, node)


def witness_of(line: SignatureLine) -> NodeId | None:
    """The node that `line` is said to be of, where it is said to be a cosignature."""
    name = line.name.removeprefix(_WITNESS)
    return NodeId(name) if name != line.name and re.fullmatch(r"[0-9a-f]{64}", name) is not None else None


def sign(key: NodeKey, run_id: str, size: int, root: bytes) -> Checkpoint:
    """The leader's checkpoint."""
    verifier = log_key(run_id, key.node_id)
    signature = key.sign(_text(verifier.name, size, root))
    return Checkpoint(verifier.name, size, root, (SignatureLine(verifier.name, verifier.key_id, signature),))


def cosign(key: NodeKey, checkpoint: Checkpoint, time_s: int) -> SignatureLine:
    """A witness's line: that at `time_s` (Unix seconds) this was the longest consistent ledger of the run that it had seen."""
    verifier = witness_key(key.node_id)
    signature = key.sign(_cosigned(checkpoint.text, time_s))
    return SignatureLine(verifier.name, verifier.key_id, time_s.to_bytes(8) + signature)


def parse_line(text: str) -> SignatureLine:
    """A signature line, without its end. Raises `RemoteError("malformed")`."""
    match = _LINE.fullmatch(text)
    data = _base64(match[2]) if match is not None else b""
    if match is None or len(data) <= 4:
        raise RemoteError("malformed", f"not the signature line of a note: {text[:120]!r}")
    line = SignatureLine(match[1], data[:4], data[4:])
    if line.render() != text:
        raise RemoteError("malformed", f"the base64 of a signature line is not canonical: {text[:120]!r}")
    return line


def parse(note: bytes) -> Checkpoint:
    """A checkpoint from its bytes. Raises `RemoteError` with `malformed` or `too-large`."""
    if len(note) > CHECKPOINT_BYTES_MAX or note.count(b"\n") > SIGNATURES_MAX:
        raise RemoteError("too-large", f"a checkpoint of {len(note)} bytes; the limit is {CHECKPOINT_BYTES_MAX}")
    match = _NOTE.fullmatch(note)
    if match is None:
        raise RemoteError("malformed", "a checkpoint is an origin, a size, a root, an empty line and signatures")
    try:
        origin, size, root = match["text"].decode().splitlines()
        lines = match["signatures"].decode().removesuffix("\n").split("\n")
    except (UnicodeDecodeError, ValueError):
        raise RemoteError("malformed", "a checkpoint is three lines of UTF-8 and signatures") from None
    checkpoint = Checkpoint(origin, int(size), _base64(root), tuple(parse_line(line) for line in lines))
    if checkpoint.render() != note or origin_of(checkpoint.run_id) != origin or not is_run_id(checkpoint.run_id):
        raise RemoteError("malformed", f"not a checkpoint of a dte run: {origin[:120]!r}")
    if checkpoint.size > LEDGER_ENTRIES_MAX:
        raise RemoteError("too-large", f"a ledger of {checkpoint.size} entries; the limit is {LEDGER_ENTRIES_MAX}")
    return checkpoint


def _text(origin: str, size: int, root: bytes) -> bytes:
    return f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n".encode()


def _cosigned(text: bytes, time_s: int) -> bytes:
    return f"cosignature/v1\ntime {time_s}\n".encode() + text


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise RemoteError("malformed", f"base64 was expected, not {text[:120]!r}") from None
