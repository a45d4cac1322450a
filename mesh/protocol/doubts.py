"""Does a failure speak of the task, or of the machine? An agent that has completed nothing yet may itself be what is broken.

    unproven --a task that it ran succeeds--> proven, for good: what fails there counts
       |
       +--STRIKES_MAX different tasks failed there and passed elsewhere, or could not be started there--> out of the run

A failure on an unproven agent is in doubt while somebody else can try the task: another agent that has a slot free, else the main job. It counts as soon as that agent completes anything, or the task has
failed in a second place, or nobody is left to try; it does not where the task passes elsewhere first. So a task that fails wherever it is tried
stays failed, and an agent on which everything fails turns no task red that is well on another.

An agent with STRIKES_MAX open doubts and strikes gets nothing more until it is clear which of the two it is: what fails at once asks for more at once.
"""

from typing import Final

from msgspec import Struct, field

from mesh.ledger.completion import Completion
from mesh.protocol.market import Market
from mesh.protocol.standing import TaskState
from mesh.types import Instant, NodeId, TaskId

STRIKES_MAX: Final = 3
QUICK_MAX_MS: Final = 60_000
"""What a machine lacks shows soon: a task that failed after so long has failed by itself, and to try it again would cost as long once more."""


class Doubt(Struct, frozen=True):
    """A failure that does not count yet, as its agent has signed it."""

    node: NodeId
    failed: Completion
    envelope: bytes


class Doubts(Struct):
    """What is held for and against the agents of one run."""

    proven: dict[NodeId, None] = field(default_factory=dict)
    open: dict[TaskId, Doubt] = field(default_factory=dict)
    out: dict[NodeId, str] = field(default_factory=dict)
    """Who gets no more tasks, and why."""
    held: dict[NodeId, None] = field(default_factory=dict)
    """Who is given nothing for now."""
    _strikes: dict[NodeId, dict[TaskId, None]] = field(default_factory=dict)

    def may_doubt(self, failed: Completion, state: TaskState, node: NodeId, market: Market, now: Instant) -> bool:
        """Whether this failure may be the agent's own: it has completed nothing yet, nobody else has failed at the task, and somebody else can try."""
        quick = failed.ended_ms - failed.started_ms < QUICK_MAX_MS
        # Who works in the main job's own workspace has nothing of its own that could be broken.
        own = node != market.main and not market.agents[node].shares_main
        if not own or not quick or node in self.proven or failed.allowed_to_fail:
            return False
        if state.worn_out or any(other != node for other, _ in state.failed):
            return False
        others = (other for other in market.agents.values() if other.node != node)
        return any(market.may_come_to(state, other, now) for other in others)

    def prove(self, node: NodeId) -> list[Doubt]:
        """`node` has completed a task that it ran: returns its failures, which count now."""
        if node in self.proven:
            return []
        self.proven[node] = None
        self._strikes.pop(node, None)
        return [self.open.pop(task) for task, doubt in list(self.open.items()) if doubt.node == node]

    def settle(self, task: TaskId) -> Doubt | None:
        """It is known what became of `task`: returns the doubt there was about it."""
        return self.open.pop(task, None)

    def settle_all(self) -> list[Doubt]:
        """Nothing is tried any more: returns the failures that count now."""
        found = list(self.open.values())
        self.open.clear()
        return found

    def strike(self, node: NodeId, task: TaskId) -> bool:
        """`task` failed on `node` and passed elsewhere, or could not be started there. True where that was the last that was needed."""
        if node in self.proven or node in self.out:
            return False
        tasks = self._strikes.setdefault(node, {})
        tasks[task] = None
        return len(tasks) >= STRIKES_MAX

    def waiting(self) -> list[NodeId]:
        """Those that are to be given nothing until others have tried what failed there."""
        against = {node: dict(tasks) for node, tasks in self._strikes.items()}
        for task, doubt in self.open.items():
            against.setdefault(doubt.node, {})[task] = None
        return [node for node, tasks in against.items() if len(tasks) >= STRIKES_MAX and node not in self.proven]

    def struck(self, node: NodeId) -> tuple[TaskId, ...]:
        """The tasks that are held against it."""
        return tuple(self._strikes.get(node, ()))
