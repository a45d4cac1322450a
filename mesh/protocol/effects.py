"""What a node wants done: the one union that `Node.step` returns. The shell performs effects in order and decides nothing."""

from collections.abc import Mapping

from msgspec import Struct

from mesh.graph import Graph
from mesh.ledger.completion import Completion
from mesh.protocol.news import News, Verdict
from mesh.types import Blob, Digest, NodeId, TaskId
from mesh.wire.messages import Message


class Send(Struct, frozen=True):
    """Over the link to `peer`; nothing happens where there is none (the state is told again when there is)."""

    peer: NodeId
    message: Message


class Connect(Struct, frozen=True):
    """Keep trying to have a link to `peer`, at any of `addresses`."""

    peer: NodeId
    addresses: tuple[str, ...]


class Disconnect(Struct, frozen=True):
    """Close the link to `peer`, and do not try again."""

    peer: NodeId
    reason: str


class FetchGraph(Struct, frozen=True):
    """Get a graph from any of `holders`. Answered by `GraphFetched` or `GraphUnfetched`."""

    blob: Blob
    holders: tuple[NodeId, ...]


class Check(Struct, frozen=True):
    """Compare a graph with this checkout and this store. Answered by `Checked`."""

    digest: Digest
    graph: Graph


class Need(Struct, frozen=True):
    """A finished dependency whose outputs must be in the workspace before a task may start."""

    task: TaskId
    key: str
    outputs: Blob
    holders: tuple[NodeId, ...]


class Prepare(Struct, frozen=True):
    """Bring what a task needs into the store. Answered by `Prepared` or `Handed`."""

    task: TaskId
    attempt: int
    needs: tuple[Need, ...]


class Execute(Struct, frozen=True):
    """Restore what it needs and run it. Answered by `TaskRunning` and `TaskFinished`, by `Handed`, or after `Kill` by `TaskKilled`."""

    task: TaskId
    attempt: int
    needs: tuple[Need, ...]
    anew: bool = False
    """No result of an earlier run may be taken: what its key stands for was made from something else."""


class Kill(Struct, frozen=True):
    """End every process of a running task."""

    task: TaskId
    attempt: int


class Deliver(Struct, frozen=True):
    """Bring a finished task to this main job: its log, and its outputs into the workspace. Answered by `Delivered` or `Undelivered`.

    `in_place`: it ran in this very workspace, where its outputs already are.
    """

    task: TaskId
    status: str
    exit_code: int
    started_ms: int
    ended_ms: int
    attempt: int
    key: str
    outputs: Blob | None
    log: Blob | None
    holders: tuple[NodeId, ...]
    cached: bool
    in_place: bool
    problem: str

    @classmethod
    def of(cls, done: Completion, holders: tuple[NodeId, ...], *, in_place: bool) -> "Deliver":
        """The delivery of what `done` tells of."""
        return cls(
            task=done.task,
            status=done.status,
            exit_code=done.exit_code,
            started_ms=done.started_ms,
            ended_ms=done.ended_ms,
            attempt=done.attempt,
            key=done.key,
            outputs=done.outputs,
            log=done.log,
            holders=holders,
            cached=done.cache == "hit",
            in_place=in_place,
            problem=done.problem,
        )


class FetchLog(Struct, frozen=True):
    """Bring the log of a failed attempt to this main job: the task is tried again, and a person will want to see both. Nothing answers it."""

    task: TaskId
    attempt: int
    log: Blob
    holders: tuple[NodeId, ...]


class LookAtLog(Struct, frozen=True):
    """See when a running task was last heard of. Answered by `Heard`."""

    task: TaskId
    attempt: int


class WriteLedger(Struct, frozen=True):
    """Files of the ledger directory that are new or have changed, and those that fuller ones have replaced."""

    files: Mapping[str, bytes]
    removed: tuple[str, ...]


class Keep(Struct, frozen=True):
    """Remember a result of this node for later runs, under the task's key."""

    key: str
    envelope: bytes


class Tell(Struct, frozen=True):
    """News for people and programs."""

    news: News


class End(Struct, frozen=True):
    """This node is done. `verdict` is that of the run; None where an agent leaves without having heard it. `reason` is for a person."""

    verdict: Verdict | None
    reason: str
    released: bool = False
    """The agent was told that it can no longer help."""


Effect = (
    Send
    | Connect
    | Disconnect
    | FetchGraph
    | Check
    | Prepare
    | Execute
    | Kill
    | Deliver
    | FetchLog
    | LookAtLog
    | WriteLedger
    | Keep
    | Tell
    | End
)
