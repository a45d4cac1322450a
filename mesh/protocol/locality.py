"""Where inputs are, and what it costs to bring them elsewhere: what an agent lacks of a task's inputs ÷ the bandwidth at which it got such things before.

It is a cost like others, never a rule: a task goes to an idle agent that must fetch its inputs where that is quicker than to wait for the busy one that has them.

Only outputs of what a task depends on directly are counted: who has those has had, or has made them from, what stands before them. Nothing is measured but what the leader sees
anyway: an award to an idle slot, and the moment at which its process runs.
"""

from collections.abc import Iterator
from typing import Final

from msgspec import Struct, field

from mesh.graph import Task
from mesh.types import NodeId, TaskId

WORTH_BYTES: Final = 2**20
"""Less is not counted: it is there in less time than estimates are off by. It bounds what is kept of agents and tasks."""
USUAL_BYTES_PER_MS: Final = 100_000
"""Of a network of which nothing has been seen: 100 MB a second, about a gigabit."""
PRIOR_MS: Final = 1_000
"""What is assumed, of all agents and of one, counts as much as so much time of fetching."""
HOLDERS_MAX: Final = 8
"""So many of those who have an input are asked for a task beside the others: it bounds the work of one reckoning."""


class _Fetched(Struct):
    """What has been seen of fetching."""

    bytes: int = 0
    ms: int = 0

    def rate(self, usual: float) -> float:
        """Bytes a millisecond, drawn to what is usual."""
        return (self.bytes + usual * PRIOR_MS) / (self.ms + PRIOR_MS)


class Locality(Struct):
    """Large outputs of done tasks: how large, and who has them."""

    _bytes: dict[TaskId, int] = field(default_factory=dict)
    _holders: dict[TaskId, dict[NodeId, None]] = field(default_factory=dict)
    _all: _Fetched = field(default_factory=_Fetched)
    _by: dict[NodeId, _Fetched] = field(default_factory=dict)

    def made(self, task: TaskId, size: int, holders: tuple[NodeId, ...]) -> None:
        """`task` has left so many bytes."""
        if size >= WORTH_BYTES:
            self._bytes[task] = size
            self._holders[task] = dict.fromkeys(holders)

    def gone(self, task: TaskId) -> None:
        """Its outputs are lost."""
        self._bytes.pop(task, None)
        self._holders.pop(task, None)

    def brought(self, task: Task, node: NodeId) -> None:
        """`task` runs there: so its inputs are there."""
        for dep in task.deps:
            if dep in self._holders:
                self._holders[dep][node] = None

    def left(self, node: NodeId) -> None:
        """That node is gone, with all that it had."""
        self._by.pop(node, None)
        for holders in self._holders.values():
            holders.pop(node, None)

    def missing_bytes(self, task: Task, node: NodeId) -> int:
        """What `node` lacks of its inputs."""
        if not self._bytes:
            return 0
        sizes = self._bytes
        return sum(sizes[dep] for dep in dict.fromkeys(task.deps) if dep in sizes and node not in self._holders[dep])

    def fetch_ms(self, size: int, node: NodeId) -> int:
        """How long so many bytes should take to arrive there."""
        usual = self._all.rate(USUAL_BYTES_PER_MS)
        return round(size / self._by.get(node, _Fetched()).rate(usual)) if size else 0

    def fetched(self, node: NodeId, size: int, took_ms: int) -> None:
        """So it was."""
        for seen in (self._all, self._by.setdefault(node, _Fetched())):
            seen.bytes += size
            seen.ms += took_ms

    def holders(self, task: Task) -> Iterator[NodeId]:
        """Some of those who have something of its inputs, each once."""
        found: dict[NodeId, None] = {}
        for dep in task.deps if self._holders else ():
            found.update(dict.fromkeys(list(self._holders.get(dep, ()))[:HOLDERS_MAX]))
        yield from list(found)[:HOLDERS_MAX]
