"""Which tasks an agent takes that is there for some targets only (`dte join --targets GLOB`)."""

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from mesh.adapters.nx.plan import TOOL as NX
from mesh.adapters.nx.plan import nx_target
from mesh.cache.port import TURBO
from mesh.graph import Task
from mesh.types import TaskId


def beside(globs: Sequence[str], tasks: Mapping[TaskId, Task]) -> dict[TaskId, str]:
    """Those of `tasks` that none of `globs` means, each with the reason; none where there are no globs."""
    if not globs:
        return {}
    reason = f"it is there for {', '.join(globs)} only"
    return {
        task.id: reason
        for task in tasks.values()
        if not any(fnmatchcase(name, glob) for name in names(task) for glob in globs)
    }


def names(task: Task) -> Iterator[str]:
    """What a glob may mean by `task`: its id as it is shown, its target alone, and that of all its shards."""
    yield task.id
    target = _target(task)
    yield target
    stem, _, shard = target.rpartition("/")
    if stem and shard.isdigit():
        yield stem


def _target(task: Task) -> str:
    if task.tool == NX:
        return nx_target(task)
    return task.id.rpartition("#" if task.tool == TURBO else ":")[2]
