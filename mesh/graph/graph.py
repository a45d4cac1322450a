"""A task graph: tasks by id, checked once, so that nobody behind this door meets a cycle or an unknown name."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from msgspec import Struct

from mesh.errors import RemoteError
from mesh.graph.task import Task
from mesh.types import TaskId
from mesh.wire import canonical
from mesh.wire.canonical import Reader

GRAPH_VERSION: Final = 1
GRAPH_TASKS_MAX: Final = 200_000
GRAPH_BYTES_MAX: Final = 256 * 1024 * 1024


class Graph(Struct, frozen=True):
    """Tasks in a topological order: each one stands behind all it depends on. Build with `Graph.of`."""

    tasks: Mapping[TaskId, Task]

    @classmethod
    def of(cls, tasks: Iterable[Task]) -> "Graph":
        """Check and order `tasks`. Raises `RemoteError` with `duplicate-task`, `unknown-dependency` or `cycle`."""
        by_id: dict[TaskId, Task] = {}
        for task in tasks:
            if task.id in by_id:
                raise RemoteError("duplicate-task", task.id)
            by_id[task.id] = task
        for task in by_id.values():
            for dep in task.deps:
                if dep not in by_id:
                    raise RemoteError("unknown-dependency", f"{task.id} depends on {dep}, which is not in the graph")
        return cls({task_id: by_id[task_id] for task_id in _topological(by_id)})

    def dependents(self) -> dict[TaskId, list[TaskId]]:
        """For each task the tasks that wait for it, in graph order."""
        result: dict[TaskId, list[TaskId]] = {task_id: [] for task_id in self.tasks}
        for task in self.tasks.values():
            for dep in task.deps:
                result[dep].append(task.id)
        return result

    def closure(self, task_id: TaskId) -> list[TaskId]:
        """All that `task_id` depends on, directly or not, in graph order: what must be on disk before it starts."""
        wanted: dict[TaskId, None] = {}
        stack = list(self.tasks[task_id].deps)
        while stack:
            dep = stack.pop()
            if dep not in wanted:
                wanted[dep] = None
                stack.extend(self.tasks[dep].deps)
        return [other for other in self.tasks if other in wanted] if len(wanted) > 1 else list(wanted)

    def encode(self) -> bytes:
        """The canonical bytes, which name the graph by their digest."""
        return canonical.encode({"version": GRAPH_VERSION, "tasks": [task.to_json() for task in self.tasks.values()]})

    @classmethod
    def decode(cls, data: bytes) -> "Graph":
        """The graph of `encode`. Raises `RemoteError`."""
        if len(data) > GRAPH_BYTES_MAX:
            raise RemoteError("too-large", f"a graph of {len(data)} bytes; the limit is {GRAPH_BYTES_MAX}")
        read = Reader(canonical.decode(data), "graph")
        if (version := read.number("version")) != GRAPH_VERSION:
            raise RemoteError("version", f"graph format {version}; this dte reads {GRAPH_VERSION}")
        return cls.of(Task.from_json(item) for item in read.items("tasks", max_items=GRAPH_TASKS_MAX))


def _topological(tasks: Mapping[TaskId, Task]) -> Iterator[TaskId]:
    """Kahn's order; among tasks that are ready together the one that was named first comes first."""
    missing = {task_id: len(set(task.deps)) for task_id, task in tasks.items()}
    waiting: dict[TaskId, list[TaskId]] = {task_id: [] for task_id in tasks}
    for task in tasks.values():
        for dep in dict.fromkeys(task.deps):
            waiting[dep].append(task.id)
    ready = [task_id for task_id, count in missing.items() if count == 0]
    seen = 0
    for task_id in ready:  # `ready` grows while it is read
        seen += 1
        yield task_id
        for dependent in waiting[task_id]:
            missing[dependent] -= 1
            if missing[dependent] == 0:
                ready.append(dependent)
    if seen < len(tasks):
        raise RemoteError(
            "cycle", " → ".join(_cycle(tasks, {task_id for task_id, count in missing.items() if count > 0}))
        )


def _cycle(tasks: Mapping[TaskId, Task], stuck: Iterable[TaskId]) -> list[TaskId]:
    """One cycle among the tasks that never became ready, first name repeated at the end."""
    left = set(stuck)
    path: list[TaskId] = []
    at = min(left)
    while at not in path:
        path.append(at)
        at = min(dep for dep in tasks[at].deps if dep in left)
    return [*path[path.index(at) :], at]
