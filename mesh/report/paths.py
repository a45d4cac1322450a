"""The longest way through a graph: what a run cannot be faster than, and how far it still has to go."""

from collections.abc import Callable, Iterable, Mapping

from mesh.types import TaskId


def longest_path(
    deps: Mapping[TaskId, Iterable[TaskId]], weight_ms: Callable[[TaskId], int]
) -> tuple[int, list[TaskId]]:
    """The heaviest chain of `deps`, whose keys are in topological order, and its weight. Dependencies that are no keys count nothing.

    Among chains of one weight it is the one whose task comes first in that order, so that two tellers of one run name the same.
    """
    reached: dict[TaskId, int] = {}
    before: dict[TaskId, TaskId | None] = {}
    for task, its_deps in deps.items():
        start_ms, last = 0, None
        for dep in its_deps:
            if (end_ms := reached.get(dep, -1)) > start_ms or (last is None and end_ms == start_ms):
                start_ms, last = end_ms, dep
        reached[task] = start_ms + weight_ms(task)
        before[task] = last
    if not reached:
        return 0, []
    at: TaskId | None = max(reached, key=lambda task: reached[task])
    assert at is not None
    total_ms = reached[at]
    path: list[TaskId] = []
    while at is not None:
        path.append(at)
        at = before[at]
    return total_ms, path[::-1]
