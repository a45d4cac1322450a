"""What a person should know of a task that succeeded: it left more than its declared outputs, or changed files that git tracks."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from mesh.cache.port import NX, TURBO
from mesh.errors import UsageError
from mesh.exec.globs import Globs
from mesh.exec.leftovers import Left, Leftovers
from mesh.exec.places import Places
from mesh.graph import Task
from mesh.types import TaskId

_TOOLS: Final = (NX, TURBO)
"""Tasks of dte.toml declare outputs for dte itself, which says by other means what is not declared."""


class Remarks:
    """One node's workspace. `tasks` are all that this node knows of.

    On a main job that is `alone` only changed files count: whatever else a task leaves there is where the user looks for it. Local agents share
    that place with it and with each other, and say nothing.
    """

    def __init__(
        self,
        workspace: Path,
        tasks: Mapping[TaskId, Task],
        is_main: bool,
        shares_main: Callable[[], bool],
        alone: Callable[[], bool],
    ) -> None:
        self._leftovers = Leftovers(workspace)
        self._tasks = tasks
        self._is_main = is_main
        self._shares_main = shares_main
        self._alone = alone
        self._outputs: dict[TaskId, Globs | None] = {}
        """Of all tasks so far, in the order in which they became known."""
        self._places = Places[TaskId]()

    async def before(self, task: Task) -> None:
        """It is about to run."""
        if self._says_something(task):
            await self._leftovers.before(_home(task))

    async def after(self, task: Task, duration_ms: int, *, beside: bool) -> str:
        """It has succeeded, and others run still where `beside`: one line, or ""."""
        if not self._says_something(task):
            return ""
        left = await self._leftovers.after(duration_ms, _home(task), self, beside=beside)
        return (Left(changed=left.changed, certain=left.certain) if self._alone() else left).remark()

    def _says_something(self, task: Task) -> bool:
        return task.tool in _TOOLS and (self._is_main or not self._shares_main())

    def whole(self, path: str) -> bool:
        """Whether `path` is an output of any task: a file, or a directory with all that is in it."""
        file = path.rstrip("/")
        return any(globs is None or globs.match(path) or globs.match(file) for globs in self._about(file))

    def part(self, directory: str) -> bool:
        """Whether an output of any task may be in it."""
        place = directory.rstrip("/")
        return any(globs is None or globs.may_contain(place) for globs in self._about(place))

    def _about(self, place: str) -> Iterator[Globs | None]:
        """The outputs of those tasks that have any there."""
        fresh = [*self._tasks.values()][len(self._outputs) :] if len(self._outputs) < len(self._tasks) else ()
        for task in fresh:
            try:
                globs = Globs(task.outputs)
                self._places.add(task.id, globs.prefixes)
                self._outputs[task.id] = globs
            except UsageError:  # the tool understands it, dte does not: it may be anything
                self._places.add(task.id, ("",))
                self._outputs[task.id] = None
        return (self._outputs[task] for task in self._places.sharing((place,)))


def _home(task: Task) -> str | None:
    """The directory of its project; None where that is not known."""
    if task.tool == NX:
        return str(task.payload["tasks"][0]["task"]["projectRoot"])
    log = PurePosixPath(task.payload["log"])
    return str(log.parent.parent) if log.parent.name == ".turbo" else None
