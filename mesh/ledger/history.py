"""What the entries of one ledger may say, in which order, and by whom: the rules that no hash can hold.

Fed entry by entry, it keeps the roster, the leader and what has ended, and answers with sentences about what is wrong (docs/spec/ledger.md, 7).
"""

from collections.abc import Iterator

from msgspec import Struct, field

from mesh.errors import RemoteError
from mesh.identity import verify_chain
from mesh.ledger.merkle import Tree
from mesh.ledger.statements import (
    Completion,
    EpochLeaf,
    Genesis,
    GraphLeaf,
    Joined,
    SignedLeaf,
    Verdict,
    VerdictLeaf,
)
from mesh.types import Epoch, NodeId, TaskId


class Ended(Struct, frozen=True):
    """Where a task's last completion stands, whether it is a good one, and whether what depends on the task may run.

    A failed attempt that is tried again is an entry too, and so is a second run for outputs that were lost: the last one is what became of the task,
    and one good one is enough for what depends on it.
    """

    index: int
    good: bool
    passed: bool


class History(Struct):
    """The run as its ledger tells it. `tree` holds at least the entries before the one that is taken."""

    run_id: str
    tree: Tree
    root_public: str = ""
    authority: str = ""
    leader: NodeId | None = None
    epoch: Epoch = Epoch(0)
    roster: dict[NodeId, str] = field(default_factory=dict)
    """The names of those who may sign completions and cosign checkpoints."""
    tasks: int = 0
    ended: dict[TaskId, Ended] = field(default_factory=dict)
    verdict: Verdict | None = None

    def take(self, index: int, signed: SignedLeaf) -> Iterator[str]:
        """Go on by the entry at `index`; yields what is wrong with it."""
        leaf, signer = signed.leaf, signed.signer
        if leaf.run_id != self.run_id:
            yield f"it belongs to the run {leaf.run_id[:200]}, and this is the ledger of {self.run_id}"
        if self.verdict is not None:
            yield "it stands behind the verdict, which must be the last entry"
        if isinstance(leaf, Genesis):
            yield from self._genesis(index, leaf, signer)
            return
        if self.leader is None:
            yield "no genesis stands before it, so nobody can say who may sign it"
            return
        if signer not in self.roster and not isinstance(leaf, EpochLeaf):
            yield f"it was signed by {signer}, who is not in the roster: no genesis or joined entry before it names that node"
            return
        match leaf:
            case Joined():
                yield from self._joined(leaf, signer)
            case GraphLeaf():
                yield from self._by_leader(signer, "a graph")
                self.tasks += leaf.tasks
            case Completion():
                yield from self._completion(index, leaf, signer)
            case EpochLeaf():
                yield from self._epoch(index, leaf, signer)
            case VerdictLeaf():
                yield from self._verdict(index, leaf, signer)

    def finish(self) -> Iterator[str]:
        """What is missing at the end."""
        if self.verdict is None:
            yield "there is no verdict: the run did not finish, or its last entries were cut off"

    def _genesis(self, index: int, leaf: Genesis, signer: NodeId) -> Iterator[str]:
        if index != 0:
            yield "a genesis can only be entry 0"
            return
        self.root_public = leaf.root_public
        self.leader = leaf.leader
        self.epoch = Epoch(1)
        self.roster[leaf.leader] = leaf.name
        if signer != leaf.leader:
            yield f"the genesis names {leaf.leader} as the leader and was signed by {signer}"
        yield from self._member(leaf.chain, leaf.leader, leaf.name)

    def _joined(self, leaf: Joined, signer: NodeId) -> Iterator[str]:
        yield from self._by_leader(signer, "a new member")
        if leaf.node in self.roster:
            yield f"{leaf.node} has joined before"
            return
        problems = tuple(self._member(leaf.chain, leaf.node, leaf.name))
        yield from problems
        if not problems:
            self.roster[leaf.node] = leaf.name

    def _member(self, chain: tuple[bytes, ...], node: NodeId, name: str) -> Iterator[str]:
        """Whether `chain` makes `node` a member. The first chain says which authority the others must come from."""
        try:
            member = verify_chain(chain, self.root_public)
        except RemoteError as error:
            yield f"the certificate chain of {node} does not lead to the root of the genesis, {self.root_public}: {error}"
            return
        if not self.authority:
            self.authority = member.authority
        if member.authority != self.authority or member.run_id != self.run_id:
            yield f"the certificate of {node} is by the authority of the run {member.run_id}, and not by the genesis' one"
        if member.node_id != node or member.name != name:
            yield f"the certificate is that of {member.node_id} ({member.name}), and the entry speaks of {node} ({name})"

    def _by_leader(self, signer: NodeId, what: str) -> Iterator[str]:
        if signer != self.leader:
            yield f"{what} must be signed by {self.leader}, who leads epoch {self.epoch}, and was signed by {signer}"

    def _completion(self, index: int, leaf: Completion, signer: NodeId) -> Iterator[str]:
        # The leader also says of tasks that it has given up that they failed: such a completion has no log.
        ran = leaf.status == "success" or (leaf.status == "failure" and leaf.log is not None)
        if not ran:
            yield from self._by_leader(signer, f"task {leaf.task}, which nobody ran,")
        elif leaf.name != self.roster[signer]:
            yield f"task {leaf.task} is said to have run on {leaf.name!r}; who signed is {self.roster[signer]!r} ({signer})"
        if not 1 <= leaf.epoch <= self.epoch:
            yield f"task {leaf.task} was awarded in epoch {leaf.epoch}, and the ledger has only come to epoch {self.epoch}"
        if ran:
            for dep in leaf.deps:
                needed = self.ended.get(dep)
                if needed is None:
                    yield f"task {leaf.task} ran; it depends on {dep}, which must have ended in an earlier entry and has not"
                elif not needed.passed:
                    yield f"task {leaf.task} ran; it depends on {dep}, which must have ended well, and has failed in entry {needed.index}"
        good = leaf.status == "success" or (leaf.status == "failure" and leaf.allowed_to_fail)
        before = self.ended.get(leaf.task)
        self.ended[leaf.task] = Ended(index, good, passed=good or (before is not None and before.passed))

    def _epoch(self, index: int, leaf: EpochLeaf, signer: NodeId) -> Iterator[str]:
        if leaf.leader not in self.roster:
            yield f"{leaf.leader} takes over the run and is not in the roster"
            return
        if signer != leaf.leader:
            yield f"the epoch of {leaf.leader} must be signed by that node, and was signed by {signer}"
        if leaf.epoch <= self.epoch:
            yield f"epoch {leaf.epoch} comes after epoch {self.epoch}, and epochs must grow"
        yield from self._stands_on(index, leaf.size, leaf.root)
        self.leader, self.epoch = leaf.leader, leaf.epoch

    def _verdict(self, index: int, leaf: VerdictLeaf, signer: NodeId) -> Iterator[str]:
        yield from self._by_leader(signer, "the verdict")
        yield from self._stands_on(index, leaf.size, leaf.root)
        self.verdict = leaf.verdict
        if leaf.verdict in ("success", "failure") and len(self.ended) != self.tasks:
            yield f"the verdict is {leaf.verdict}, which needs all {self.tasks} tasks of the graphs to have ended, and {len(self.ended)} have"
        bad = [(ended.index, task) for task, ended in self.ended.items() if not ended.good]
        if leaf.verdict == "success" and leaf.exit_code != 0:
            yield f"the verdict is success, and the command has ended with exit code {leaf.exit_code}"
        if leaf.verdict == "success" and bad:
            at, task = min(bad)
            yield f"the verdict is success, and task {task} has ended badly in entry {at}"

    def _stands_on(self, index: int, size: int, root: bytes) -> Iterator[str]:
        if size != index or root != self.tree.root(index):
            yield f"it speaks of {size} entries with the root {root.hex()}, and {index} entries with {self.tree.root(index).hex()} stand before it"
