"""What tasks made, on its way to the main job: the run does not end before all of it is there, and who works in the main job's workspace waits for what it needs."""

from msgspec import Struct, field

from mesh.protocol.market import Market
from mesh.protocol.standing import TaskState
from mesh.types import TaskId


class Outstanding(Struct):
    """Of finished tasks."""

    due: dict[TaskId, int] = field(default_factory=dict)
    """What is on its way, and of which attempt it is."""
    _over: dict[TaskId, None] = field(default_factory=dict)

    def begin(self, task: TaskId, attempt: int) -> None:
        """It is brought."""
        self.due[task] = attempt
        self._over.pop(task, None)

    def awaits(self, task: TaskId, attempt: int) -> bool:
        """Whether it is that attempt which is being brought: it may have been made anew meanwhile."""
        return self.due.get(task) == attempt

    def give_up(self, task: TaskId) -> None:
        """It cannot be had, and is to be made anew."""
        self.due.pop(task, None)

    def end(self, state: TaskState, market: Market) -> None:
        """It is there, or never will be. Settled is what has come to that with all before it."""
        del self.due[state.task.id]
        self._over[state.task.id] = None
        stack = [state]
        while stack:
            one = stack.pop()
            if one.task.id in self._over and all(market.tasks[dep].settled for dep in one.task.deps):
                market.settle(one)
                waiting = (market.tasks[other] for other in market.dependents[one.task.id])
                stack += [other for other in waiting if other.task.id in self._over and not other.settled]
