"""Tasks that left more than their outputs, as files that nobody declares: it is on one machine only, and what fails elsewhere may lack just that.

So a failure behind such a task, on another machine, does not count yet: the task is tried once more where that was left. A failure that has this
cause is then no failure, as it is none where one machine does everything; any other fails there as well.
"""

from collections import Counter
from collections.abc import Iterable

from msgspec import Struct, field

from mesh.ledger.completion import Completion
from mesh.protocol.market import Market
from mesh.protocol.standing import TaskState
from mesh.types import Instant, NodeId, TaskId


class Strays(Struct):
    """Of one run."""

    left: dict[TaskId, NodeId] = field(default_factory=dict)
    """Where each of those tasks ran."""

    def record(self, done: Completion, holders: tuple[NodeId, ...]) -> None:
        """A task is done. What a person is told of one that succeeded is that it left something."""
        if done.status == "success" and done.problem and holders:
            self.left[done.task] = holders[0]
        else:
            self.left.pop(done.task, None)

    def claim(self, state: TaskState, failed_on: NodeId, market: Market, now: Instant) -> bool:
        """Whether what `state` failed for on one machine may be on another one: from the first time on it is for that one."""
        cause = state.strays or (None if state.in_doubt else self._behind(market.upstream(state)))
        place = market.agents.get(self.left[cause]) if cause in self.left else None
        if place is None or place.node == failed_on or not market.may_come_to(state, place, now):
            return False
        state.strays = cause
        state.in_doubt = place.node == market.main  # which else does nothing that agents can do
        for other in market.others():
            if other is not place:
                state.not_on.setdefault(other.node, f"{cause} left something on {place.name}")
        return True

    def _behind(self, upstream: Iterable[TaskId]) -> TaskId | None:
        """One of those that left something, on the machine where most of them did."""
        found = [task for task in upstream if task in self.left]
        counts = Counter(self.left[task] for task in found)
        return max(found, key=lambda task: counts[self.left[task]], default=None)
