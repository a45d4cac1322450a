"""What a person should know of a task that succeeded: it left more than its declared outputs, or changed files that git tracks."""

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from mesh.cache.port import NX, TURBO
from mesh.errors import UsageError
from mesh.exec.globs import Globs
from mesh.exec.leftovers import Left, Leftovers
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

    async def before(self, task: Task) -> None:
        """It is about to run."""
        if self._says_something(task):
            await self._leftovers.before(_home(task))

    async def after(self, task: Task, duration_ms: int, *, beside: bool) -> str:
        """It has succeeded, and others run still where `beside`: one line, or ""."""
        if not self._says_something(task):
            return ""
        left = await self._leftovers.after(duration_ms, _home(task), self._declared, beside=beside)
        return (Left(changed=left.changed, certain=left.certain) if self._alone() else left).remark()

    def _says_something(self, task: Task) -> bool:
        return task.tool in _TOOLS and (self._is_main or not self._shares_main())

    def _declared(self, path: str) -> bool:
        """Whether `path` is an output of any task, or a directory that may hold one."""
        return any(self._may_make(task, path) for task in self._tasks.values() if task.outputs)

    def _may_make(self, task: Task, path: str) -> bool:
        if task.id not in self._outputs:
            try:
                self._outputs[task.id] = Globs(task.outputs)
            except UsageError:  # the tool understands it, dte does not: it may be anything
                self._outputs[task.id] = None
        globs = self._outputs[task.id]
        return globs is None or globs.match(path) or globs.may_contain(path)


def _home(task: Task) -> str | None:
    """The directory of its project; None where that is not known."""
    if task.tool == NX:
        return str(task.payload["tasks"][0]["task"]["projectRoot"])
    log = PurePosixPath(task.payload["log"])
    return str(log.parent.parent) if log.parent.name == ".turbo" else None
