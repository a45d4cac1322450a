"""How many of the tasks that are left can ever run at one time: never fewer than is said here, and it costs nothing more as tasks end.

Tasks are laid out in chains. In a chain each task waits, directly or not, for the one before it, so no two of them ever run together: as many tasks can
run at once as there are chains with something left, and no more. What is left of a chain is a chain, so the layout holds to the end, and a result only
counts down one number. The fewest chains there can be is exactly the width (Dilworth's theorem); one pass from the end of the graph comes close to it.
"""

from collections.abc import Iterable

from msgspec import Struct, field

from mesh.graph import Task
from mesh.types import TaskId


class Width(Struct):
    """Tasks that are left, in chains. A task that is bound to the main job is a link of its chain, but needs no agent."""

    left: dict[TaskId, None] = field(default_factory=dict)
    """In no particular order."""
    chains: int = 0
    """Those with a task left that an agent may run: so many agents can have work at one time, and no more."""
    _chain: dict[TaskId, int] = field(default_factory=dict)
    _in_chain: list[int] = field(default_factory=list)
    """Of each chain, how many such tasks are left."""
    _bound: dict[TaskId, None] = field(default_factory=dict)

    @classmethod
    def of(cls, tasks: Iterable[Task]) -> "Width":
        """`tasks` are all that are left, each behind those it depends on."""
        left = {task.id: task for task in tasks}
        chain, count = _chains({one: [dep for dep in dict.fromkeys(left[one].deps) if dep in left] for one in left})
        width = cls(_chain=chain, _in_chain=[0] * count)
        for task in left.values():
            if task.where == "main":
                width._bound[task.id] = None
            width.again(task.id)
        return width

    def done(self, task: TaskId) -> None:
        """It is not left any more."""
        if task in self.left:
            del self.left[task]
            self._count(task, -1)

    def again(self, task: TaskId) -> bool:
        """It is, after all: its outputs are lost. False where that was done before the layout was made, and has no place in it."""
        if task not in self._chain:
            return False
        if task not in self.left:
            self.left[task] = None
            self._count(task, 1)
        return True

    def _count(self, task: TaskId, number: int) -> None:
        if task not in self._bound:
            chain = self._chain[task]
            before = self._in_chain[chain]
            self._in_chain[chain] = before + number
            self.chains += (before + number > 0) - (before > 0)


def _chains(deps: dict[TaskId, list[TaskId]]) -> tuple[dict[TaskId, int], int]:
    """The chain of each task, and how many chains there are; `deps` is in the order of dependency, and closed.

    From the end of the graph each task goes on with a chain that is at hand behind one of its dependents, and begins one where there is none. What a
    dependent has left over when the last task before it has chosen goes on to that one: a chain may pass by tasks that belong to others.
    """
    dependents: dict[TaskId, list[TaskId]] = {task: [] for task in deps}
    undecided = {task: len(before) for task, before in deps.items()}
    """How many of the tasks before it have not chosen yet."""
    for task, before in deps.items():
        for dep in before:
            dependents[dep].append(task)
    chain: dict[TaskId, int] = {}
    at_hand: dict[TaskId, list[int]] = {}
    count = 0
    for task in reversed(deps):
        givers = (other for other in dependents[task] if at_hand[other])
        # Whoever has the fewest others to give to: what it has would be left over most easily.
        giver = min(givers, key=lambda other: undecided[other], default=None)
        if giver is None:
            chain[task] = count
            count += 1
        else:
            chain[task] = at_hand[giver].pop()
        mine = [chain[task]]
        for other in dependents[task]:
            undecided[other] -= 1
            if not undecided[other]:
                fewer, more = sorted((mine, at_hand[other]), key=len)
                at_hand[other] = []
                more.extend(fewer)
                mine = more
        at_hand[task] = mine
    return chain, count
