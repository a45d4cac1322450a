"""One task of the run as the leader sees it: where it stands, what is expected of it, and who is at it."""

from enum import IntEnum
from typing import Final

from msgspec import Struct, field

from mesh.graph import Task
from mesh.ledger.completion import Completion
from mesh.types import Epoch, Instant, NodeId, TaskId
from mesh.wire.messages import Record

ATTEMPTS_MAX: Final = 10
"""A task whose awards come to nothing this often, for whatever reason, is failed: something eats agents."""


class Phase(IntEnum):
    """Where a task is, as the leader sees it."""

    WAITING = 0
    READY = 1
    AWARDED = 2
    RUNNING = 3
    DONE = 4


class Live(Struct):
    """One award of which nothing has come yet."""

    node: NodeId
    attempt: int
    awarded_at: Instant
    started_at: Instant | None = None
    fetch_bytes: int = 0
    """What its agent lacked of its inputs, if it could run as soon as it had them."""
    withdrawing: bool = False
    """It is asked back, unless it has started."""


class TaskState(Struct):
    """One task of the run."""

    task: Task
    graph: int
    """Which announced graph it came with, from 1."""
    waits_for: dict[TaskId, None]
    phase: Phase = Phase.WAITING
    duration_ms: int = 0
    """What it should take at speed 1."""
    sure: bool = False
    """Whether that is known well enough to say when it will be over."""
    moment: bool = False
    """Whether it is known to be a moment."""
    rank_ms: int = 0
    """How far it is from the end of the graph, its own duration included."""
    guessed: bool = False
    """Whether that is made of durations that nobody knew beforehand."""
    order: int = 0
    arrival: int = 0
    """The how manieth it was to become ready."""
    ready_at: Instant = Instant(0)
    attempt: int = 0
    """Numbers its awards, so that a message about an earlier one is known for that."""
    taken_back: int = 0
    """How many of these were taken back before they started."""
    in_doubt: bool = False
    """It failed where nothing has succeeded yet: where no other agent can try it at once, the main job does."""
    here_only: bool = False
    """What it needs is in the main job's workspace alone, from where it cannot be passed on."""
    strays: TaskId | None = None
    """The task behind which it failed, and that left more than its outputs on another machine: there it is tried once more."""
    failed: dict[tuple[NodeId, int], None] = field(default_factory=dict)
    """Attempts that failed while retries were left: where, and which. The same failure may be told twice."""
    lives: dict[NodeId, Live] = field(default_factory=dict)
    """Its live awards, the oldest first: one, or two where it has been copied."""
    copies: int = 0
    not_on: dict[NodeId, str] = field(default_factory=dict)
    handed: dict[NodeId, int] = field(default_factory=dict)
    """How often each agent has handed it back for some trouble of its own."""
    record: Record | None = None
    remade: bool = False
    """It was done, and what it made was lost."""
    settled: bool = False
    """Its outputs are in the main job's workspace (or it has none to bring)."""

    @property
    def urgency(self) -> tuple[int, int, TaskId]:
        """The least goes first: the longest way to the end, and of ways as long the one that has been open longest. Guesses within a factor of two count as one: families of tasks differ by less than what their tasks differ by."""
        way_ms = 1 << self.rank_ms.bit_length() >> 1 if self.guessed else self.rank_ms
        return -way_ms, self.arrival, self.task.id

    @property
    def of_a_moment(self) -> bool:
        """Whether it is one of those that are given out many together: it is known to take a moment, and shares nothing but processors."""
        asked = self.task.resources
        alone = self.task.mutex or self.task.whole_agent or asked.memory_bytes or asked.gpu
        return self.moment and not alone

    @property
    def refusals(self) -> str:
        """Why those who will not be asked again could not run it."""
        return "; ".join(dict.fromkeys(self.not_on.values()))

    @property
    def attempts(self) -> int:
        """How often it was really tried."""
        return self.attempt - self.taken_back

    @property
    def worn_out(self) -> bool:
        """Whether it is given up."""
        return self.attempts >= ATTEMPTS_MAX

    @property
    def may_fail_again(self) -> bool:
        """Whether it has retries left."""
        return len(self.failed) < self.task.retries

    @property
    def may_be_copied(self) -> bool:
        """Whether two may run it at one time: neither where that could do harm nor where it takes a whole agent."""
        return self.task.cache and not self.task.mutex and not self.task.whole_agent

    @property
    def stops(self) -> bool:
        """It is done, but not in a way that lets anything behind it start."""
        record = self.record
        allowed = record is not None and record.status == "failure" and self.task.allow_failure
        return record is not None and record.status != "success" and not allowed

    def live(self, node: NodeId, attempt: int) -> Live | None:
        """That award, if nothing has come of it yet."""
        live = self.lives.get(node)
        return live if live is not None and live.attempt == attempt else None

    def numbered(self, attempt: int) -> Live | None:
        """The same, whoever has it."""
        return next((live for live in self.lives.values() if live.attempt == attempt), None)

    def asked_for(self, done: Completion, epoch: Epoch) -> bool:
        """Whether it is about what was awarded: whatever an agent says, the ledger stays one that verifies."""
        return (
            done.status in ("success", "failure")
            and 1 <= done.attempt <= self.attempt
            and done.epoch <= epoch
            and done.names(self.task.deps)
            and done.allowed_to_fail == self.task.allow_failure
            and done.log is not None
        )
