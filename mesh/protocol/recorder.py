"""The leader's pen: what is appended to the ledger, when it is signed, and which files that changes.

Entries are signed in batches: one checkpoint for all that came within CHECKPOINT_MS, and one at the very end.
"""

from base64 import b64encode
from typing import Final

from msgspec import Struct, field

from mesh.graph import Task
from mesh.identity.keys import NodeKey
from mesh.ledger import statements
from mesh.ledger.completion import Completion, Status
from mesh.ledger.ledger import Ledger
from mesh.protocol.effects import Effect, Tell, WriteLedger
from mesh.protocol.news import CheckpointMade, Verdict
from mesh.types import Blob, Epoch, Instant, NodeId, Seq, UnixMs, after

CHECKPOINT_MS: Final = 200
_EXIT_CODES: Final[dict[Verdict, int]] = {"success": 0, "failure": 1, "error": 3, "cancelled": 130}


class Recorder(Struct):
    """The one who appends."""

    ledger: Ledger
    key: NodeKey
    run_id: str
    written: int = 0
    """Entries that a signed checkpoint covers."""
    dirty_since: Instant | None = None
    joined: dict[NodeId, None] = field(default_factory=dict)
    exit_code: int = 0
    """Of the command that the run is for, once it has ended."""

    def append(self, envelope: bytes, now: Instant) -> int:
        """One entry; returns its index."""
        if self.dirty_since is None:
            self.dirty_since = now
        return self.ledger.append(envelope)

    def genesis(self, genesis: statements.Genesis, now: Instant) -> None:
        """Leaf 0: who leads, and by whose authority."""
        self.append(genesis.seal(self.key), now)

    def join(self, node: NodeId, name: str, chain: tuple[bytes, ...], now: Instant) -> None:
        """A node whose signatures count from here on."""
        if node not in self.joined:
            self.joined[node] = None
            self.append(statements.Joined(self.run_id, node, name, chain).seal(self.key), now)

    def graph(self, blob: Blob, tasks: int, now: Instant) -> None:
        """What is to be done."""
        self.append(statements.GraphLeaf(self.run_id, blob.digest, tasks).seal(self.key), now)

    def decided(self, task: Task, status: Status, problem: str, epoch: Epoch, attempt: int) -> Completion:
        """How a task ended that nobody ran: the leader's own word."""
        return Completion(
            run_id=self.run_id,
            task=task.id,
            key=task.key,
            status=status,
            exit_code=1 if status == "failure" else 0,
            epoch=epoch,
            seq=Seq(0),
            attempt=attempt,
            name="main",
            outputs=None,
            log=None,
            started_ms=UnixMs(0),
            ended_ms=UnixMs(0),
            deps=task.deps,
            problem=problem,
            allowed_to_fail=task.allow_failure,
        )

    def verdict(self, verdict: Verdict, now: Instant) -> list[Effect]:
        """How it ended, and what is signed with that."""
        exit_code = self.exit_code or _EXIT_CODES[verdict]
        leaf = statements.VerdictLeaf(self.run_id, verdict, exit_code, self.ledger.size, self.ledger.root)
        self.append(leaf.seal(self.key), now)
        return self.sign()

    def due(self, now: Instant) -> list[Effect]:
        """Sign, where it is time to."""
        deadline = self.deadline()
        return self.sign() if deadline is not None and now >= deadline else []

    def deadline(self) -> Instant | None:
        """When the next checkpoint is to be made."""
        return None if self.dirty_since is None else after(self.dirty_since, CHECKPOINT_MS)

    def sign(self) -> list[Effect]:
        """A checkpoint over all that there is."""
        if self.dirty_since is None:
            return []
        self.dirty_since = None
        change = self.ledger.files_since(self.written)
        self.written = self.ledger.size
        return [
            WriteLedger(change.files, change.removed),
            Tell(CheckpointMade(self.ledger.size, b64encode(self.ledger.root).decode(), 0)),
        ]
