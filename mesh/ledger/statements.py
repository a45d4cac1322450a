"""What a ledger entry can say, and who must sign it.

    Genesis        entry 0: which run, who leads it, and the root that every certificate must lead to      the leader
    Joined         a node is in the roster from here on                                                    the leader
    GraphLeaf      tasks to be done                                                                        the leader
    Completion     a task ended (completion.py)                         the agent that ran it; the leader where nobody did
    EpochLeaf      somebody else leads from here on                                                        the new leader
    VerdictLeaf    the last entry: the run is over                                                         the leader

Every leaf names its run, so that none can be moved into another. `leaf.seal(key)` makes an entry and `open_leaf` reads one.
"""

import base64
import binascii
from collections.abc import Callable
from typing import Final, Literal, cast, get_args

from msgspec import Struct

from mesh.errors import RemoteError
from mesh.identity import node_id, open_envelope
from mesh.ledger.completion import (
    PROVENANCE_TYPE,
    CacheUse,
    Completion,
    Status,
    one_of,
    read_completion,
)
from mesh.ledger.intoto import BASE_URI, PAYLOAD_TYPE, Sealable, Statement, digest_of
from mesh.types import Digest, Epoch, NodeId
from mesh.wire.canonical import Reader

__all__ = [
    "CacheUse",
    "Completion",
    "EpochLeaf",
    "Genesis",
    "GraphLeaf",
    "Joined",
    "Leaf",
    "SignedLeaf",
    "Status",
    "Verdict",
    "VerdictLeaf",
    "open_leaf",
    "read_leaf",
]

Verdict = Literal["success", "failure", "error", "cancelled"]

ROSTER_RULE: Final = "certificate"
"""The only rule so far: whoever holds a certificate of the run authority may be let in."""

GENESIS_TYPE: Final = f"{BASE_URI}genesis/v1"
JOINED_TYPE: Final = f"{BASE_URI}joined/v1"
GRAPH_TYPE: Final = f"{BASE_URI}graph/v1"
EPOCH_TYPE: Final = f"{BASE_URI}epoch/v1"
VERDICT_TYPE: Final = f"{BASE_URI}verdict/v1"


class Genesis(Sealable, frozen=True):
    """The run begins, in epoch 1. `chain` is the leader's [node, run authority], `root_public` the key that has signed the run authority's."""

    run_id: str
    leader: NodeId
    name: str
    chain: tuple[bytes, ...]
    root_public: str
    roster: str = ROSTER_RULE

    def statement(self, signer: NodeId, /) -> Statement:
        assert signer == self.leader
        predicate = {
            "run_id": self.run_id,
            "leader": self.leader,
            "name": self.name,
            "chain": _chain_to_json(self.chain),
            "root_public": self.root_public,
            "roster": self.roster,
        }
        return Statement("certificate", digest_of(self.chain[0]), GENESIS_TYPE, predicate)


class Joined(Sealable, frozen=True):
    """A node is in the roster: from here on it may sign completions and cosign checkpoints. `chain` is its [node, run authority]."""

    run_id: str
    node: NodeId
    name: str
    chain: tuple[bytes, ...]

    def statement(self, _signer: NodeId, /) -> Statement:
        predicate = {"run_id": self.run_id, "node": self.node, "name": self.name, "chain": _chain_to_json(self.chain)}
        return Statement("certificate", digest_of(self.chain[0]), JOINED_TYPE, predicate)


class GraphLeaf(Sealable, frozen=True):
    """Tasks to be done: the graph called `digest`, which adds `tasks` tasks to those of earlier graphs."""

    run_id: str
    digest: Digest
    tasks: int

    def statement(self, _signer: NodeId, /) -> Statement:
        return Statement("graph", self.digest, GRAPH_TYPE, {"run_id": self.run_id, "tasks": self.tasks})


class EpochLeaf(Sealable, frozen=True):
    """`leader` takes the run over in `epoch`, on top of the `size` entries that hash to `root`: all that stand before this one."""

    run_id: str
    epoch: Epoch
    leader: NodeId
    size: int
    root: bytes

    def statement(self, signer: NodeId, /) -> Statement:
        assert signer == self.leader
        predicate = {"run_id": self.run_id, "epoch": self.epoch, "leader": self.leader, "size": self.size}
        return Statement("ledger", _root_digest(self.root), EPOCH_TYPE, predicate)


class VerdictLeaf(Sealable, frozen=True):
    """The run is over: what became of its tasks, and the exit code of the command. It speaks of the `size` entries before it, which hash to `root`.

    `success` says that every task ended well or was allowed not to, and the command, too; `failure` may be the command's alone.
    """

    run_id: str
    verdict: Verdict
    exit_code: int
    size: int
    root: bytes

    def statement(self, _signer: NodeId, /) -> Statement:
        predicate = {
            "run_id": self.run_id,
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "size": self.size,
        }
        return Statement("ledger", _root_digest(self.root), VERDICT_TYPE, predicate)


Leaf = Genesis | Joined | GraphLeaf | Completion | EpochLeaf | VerdictLeaf


class SignedLeaf(Struct, frozen=True):
    """A leaf and who has signed it; the signature has been checked, whether that node may say this has not."""

    leaf: Leaf
    signer: NodeId


def open_leaf(envelope: bytes) -> SignedLeaf:
    """The leaf in a ledger entry. Raises `RemoteError` with `too-large`, `malformed` or `bad-signature`."""
    opened = open_envelope(envelope)
    if opened.payload_type != PAYLOAD_TYPE:
        raise RemoteError("malformed", f"payloadType: {PAYLOAD_TYPE} was expected, not {opened.payload_type[:80]!r}")
    return SignedLeaf(read_leaf(opened.payload, opened.signer), opened.signer)


def read_leaf(payload: bytes, signer: NodeId) -> Leaf:
    """The leaf in the payload of an envelope that `signer` has signed. Raises `RemoteError("malformed")`."""
    statement = Statement.decode(payload)
    read = _READERS.get(statement.predicate_type)
    if read is None:
        raise RemoteError(
            "malformed", f"predicateType: {statement.predicate_type[:80]!r} is no kind of entry that this dte knows"
        )
    return read(statement, signer)


def _read_genesis(statement: Statement, _signer: NodeId) -> Genesis:
    read = Reader(statement.predicate, "genesis")
    return Genesis(
        read.text("run_id"),
        node_id(read.text("leader")),
        read.text("name"),
        _read_chain(read, statement.digest),
        node_id(read.text("root_public")),
        one_of(read, "roster", (ROSTER_RULE,)),
    )


def _read_joined(statement: Statement, _signer: NodeId) -> Joined:
    read = Reader(statement.predicate, "joined")
    chain = _read_chain(read, statement.digest)
    return Joined(read.text("run_id"), node_id(read.text("node")), read.text("name"), chain)


def _read_graph(statement: Statement, _signer: NodeId) -> GraphLeaf:
    read = Reader(statement.predicate, "graph")
    return GraphLeaf(read.text("run_id"), statement.digest, read.number("tasks"))


def _read_epoch(statement: Statement, _signer: NodeId) -> EpochLeaf:
    read = Reader(statement.predicate, "epoch")
    return EpochLeaf(
        read.text("run_id"),
        Epoch(read.number("epoch")),
        node_id(read.text("leader")),
        read.number("size"),
        _root_bytes(statement.digest),
    )


def _read_verdict(statement: Statement, _signer: NodeId) -> VerdictLeaf:
    read = Reader(statement.predicate, "verdict")
    return VerdictLeaf(
        read.text("run_id"),
        cast("Verdict", one_of(read, "verdict", get_args(Verdict))),
        read.number("exit_code", low=-(2**32), high=2**32),
        read.number("size"),
        _root_bytes(statement.digest),
    )


_READERS: Final[dict[str, Callable[[Statement, NodeId], Leaf]]] = {
    GENESIS_TYPE: _read_genesis,
    JOINED_TYPE: _read_joined,
    GRAPH_TYPE: _read_graph,
    PROVENANCE_TYPE: read_completion,
    EPOCH_TYPE: _read_epoch,
    VERDICT_TYPE: _read_verdict,
}


def _root_digest(root: bytes) -> Digest:
    return Digest(f"sha256:{root.hex()}")


def _root_bytes(digest: Digest) -> bytes:
    return bytes.fromhex(digest.removeprefix("sha256:"))


def _chain_to_json(chain: tuple[bytes, ...]) -> list[str]:
    return [base64.b64encode(der).decode() for der in chain]


def _read_chain(read: Reader, digest: Digest) -> tuple[bytes, ...]:
    try:
        chain = tuple(base64.b64decode(text, validate=True) for text in read.texts("chain"))
    except (binascii.Error, ValueError):
        raise RemoteError("malformed", "chain: certificates in base64 were expected") from None
    if not chain or digest_of(chain[0]) != digest:
        raise RemoteError("malformed", "the subject of the statement is not the first certificate of its chain")
    return chain
