"""What can happen to a node: the one union that `Node.step` takes.

Events are facts, told once, in the order in which the shell learnt of them. Nothing in an event is trusted because of where it came from: what
a peer said is inside `Received`, and is judged by the core.
"""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct, field

from mesh.graph import Graph
from mesh.protocol.news import Verdict
from mesh.types import Blob, Digest, NodeId, Quantiles, TaskId, UnixMs
from mesh.wire.messages import Message


class LinkUp(Struct, frozen=True):
    """A link to `peer` stands; TLS has proven who it is. `host` is where it is seen from here; `certificate` is its own, in DER."""

    peer: NodeId
    host: str
    certificate: bytes


class LinkDown(Struct, frozen=True):
    """The link is gone, whoever closed it."""

    peer: NodeId
    reason: str


class Received(Struct, frozen=True):
    """A message came over the link to `peer`."""

    peer: NodeId
    message: Message


class GraphPlanned(Struct, frozen=True):
    """An adapter on this main job has made a task graph; `blob` is its encoding, already in the store."""

    blob: Blob
    graph: Graph
    bail: str = ""
    """Why nothing more of it is to be started once a task of it has failed, for a person; "": all is tried."""
    last: bool = False
    """Nobody expects another one, though the run is not closed: what wants this one's results is still at work."""


class GraphsClosed(Struct, frozen=True):
    """No more graphs will come: the run ends when all tasks are done. `exit_code` is that of the command they were for: where it is not 0 nothing is a success."""

    exit_code: int = 0


class NothingToGive(Struct, frozen=True):
    """No graph is expected, though the run is not closed: the command that it is for does everything itself, and is at work."""


class GraphFetched(Struct, frozen=True):
    """An announced graph is here, verified against its digest."""

    blob: Blob
    data: bytes


class GraphUnfetched(Struct, frozen=True):
    """Nobody could give it."""

    blob: Blob
    reason: str


class Checked(Struct, frozen=True):
    """A graph has been compared with this checkout: what this node must not run (and why), what it has a result for already, and
    how long it thinks that the rest takes.
    """

    digest: Digest
    cannot: Mapping[TaskId, str] = field(default_factory=dict)
    cached: tuple[TaskId, ...] = ()
    estimates: Mapping[TaskId, Quantiles] = field(default_factory=dict)
    """How long each task should take here, from this machine's history; tasks it knows nothing of are absent."""


class Prepared(Struct, frozen=True):
    """All that a task needs is in this node's store."""

    task: TaskId
    attempt: int


class Handed(Struct, frozen=True):
    """The shell hands a task back before or instead of running it. `missing`: results nobody could give; `never`: do not try here again."""

    task: TaskId
    attempt: int
    reason: str
    missing: tuple[TaskId, ...] = ()
    never: bool = False


class TaskRunning(Struct, frozen=True):
    """Its process has started."""

    task: TaskId
    attempt: int


class Execution(Struct, frozen=True):
    """How it went, as the adapter saw it; times are this machine's wall clock."""

    status: Literal["success", "failure"]
    exit_code: int
    started_ms: UnixMs
    ended_ms: UnixMs
    outputs: Blob | None = None
    log: Blob | None = None
    max_rss_bytes: int = 0
    problem: str = ""
    left: tuple[str, ...] = ()
    """Files that it made among other tasks' outputs."""
    key: str = ""
    cache: Literal["none", "hit"] = "none"


class TaskFinished(Struct, frozen=True):
    """It ended by itself, or by its time-out."""

    task: TaskId
    attempt: int
    execution: Execution


class TaskKilled(Struct, frozen=True):
    """It was ended because `Kill` asked for it; there is no result."""

    task: TaskId
    attempt: int


class Delivered(Struct, frozen=True):
    """A task's log and outputs are on this main job: those of the attempt that `Deliver` named."""

    task: TaskId
    attempt: int
    made_here: str = ""
    """Why they could not be brought and were made here once more; then no peer can get them here. "" where they were brought."""


class Undelivered(Struct, frozen=True):
    """They are not. `local`: this machine's fault (a full disk), so that running the task again would not help."""

    task: TaskId
    attempt: int
    reason: str
    local: bool


class Heard(Struct, frozen=True):
    """What `LookAtLog` has found: for how long nothing has come of a running task (None: since it started), and the last line that did."""

    task: TaskId
    attempt: int
    quiet_ms: int | None
    last_line: str


class Stop(Struct, frozen=True):
    """A person or the CI system wants this node to end (`reason`: "SIGINT", "SIGTERM", …)."""

    reason: str
    broken: bool = False
    """It is not that anybody wants it: this node cannot go on."""
    unwanted: bool = False
    """Nobody wants the rest any more: what has failed by then is what the run came to."""
    failed: tuple[TaskId, ...] = ()
    """Tasks that have failed on the main job without having been given to anybody: its tool ran them by itself."""


class Over(Struct, frozen=True):
    """This agent has come too late: the run has ended."""

    verdict: Verdict


class Tick(Struct, frozen=True):
    """`Node.deadline` has come; `late_ms` ago, where this node has stood still."""

    late_ms: int = 0


Event = (
    LinkUp
    | LinkDown
    | Received
    | GraphPlanned
    | GraphsClosed
    | NothingToGive
    | GraphFetched
    | GraphUnfetched
    | Checked
    | Prepared
    | Handed
    | TaskRunning
    | TaskFinished
    | TaskKilled
    | Delivered
    | Undelivered
    | Heard
    | Stop
    | Over
    | Tick
)
