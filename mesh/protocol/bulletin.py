"""What each agent is told of the records: those that its awards need, and those of its own results; what others need is not its affair.

An agent that knows of a task knows of all before it. So what one more award needs is found by a walk that ends at what is known, and a run costs no
message for each pair of an agent and a task.
"""

from collections.abc import Callable, Iterable

from msgspec import Struct, field

from mesh.protocol import parts
from mesh.protocol.effects import Effect, Send
from mesh.types import Epoch, NodeId, TaskId
from mesh.wire.messages import Record

Deps = Callable[[TaskId], Iterable[TaskId]]


class Bulletin(Struct):
    """All records, and who knows which."""

    latest: dict[TaskId, Record] = field(default_factory=dict)
    """Of a task that is being run again, the one before: it says what is missing."""
    _known: dict[NodeId, dict[TaskId, None]] = field(default_factory=dict)
    _knowers: dict[TaskId, dict[NodeId, None]] = field(default_factory=dict)
    """The same, by task."""
    _due: dict[NodeId, dict[TaskId, None]] = field(default_factory=dict)
    """What is to be told before the next award."""

    @property
    def agents(self) -> list[NodeId]:
        """Those that are told anything, the main job's own worker among them."""
        return list(self._known)

    def begin(self, agent: NodeId) -> None:
        """A newcomer, or one that introduces itself again."""
        self._known.setdefault(agent, {})
        self._due.setdefault(agent, {})

    def forget(self, agent: NodeId) -> None:
        """It has a new link, and what went over the last one may be lost: it knows nothing."""
        if agent in self._known:
            self.leave(agent)
            self.begin(agent)

    def leave(self, agent: NodeId) -> None:
        """It is gone."""
        for task in self._known.pop(agent, ()):
            del self._knowers[task][agent]
        self._due.pop(agent, None)

    def record(self, record: Record) -> None:
        """A record is new, or has changed: whoever knew of the task is told."""
        self.latest[record.task] = record
        for agent in self._knowers.get(record.task, ()):
            self._due[agent][record.task] = None

    def acknowledge(self, agent: NodeId, task: TaskId) -> None:
        """`agent` has sent a result of `task`, and is to be told that it need not keep it."""
        if agent in self._due:
            self._due[agent][task] = None

    def need(self, agent: NodeId, deps: Iterable[TaskId], deps_of: Deps) -> None:
        """A task with these `deps` is awarded to `agent`."""
        if agent not in self._known:
            return
        known, due = self._known[agent], self._due[agent]
        stack = list(deps)
        while stack:
            task = stack.pop()
            if task not in known:
                known[task] = due[task] = None
                self._knowers.setdefault(task, {})[agent] = None
                stack.extend(deps_of(task))

    def tell(self, agent: NodeId, epoch: Epoch) -> list[Effect]:
        """What is to be told now."""
        due = self._due.get(agent)
        if not due:
            return []
        records = tuple(self.latest[task] for task in due if task in self.latest)
        due.clear()
        return [Send(agent, message) for message in parts.of_records(epoch, records)]
