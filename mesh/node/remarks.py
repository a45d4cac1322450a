"""What a person should know of a task that succeeded: it left more than its declared outputs, or changed files that git tracks."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Final

import trio

from mesh.cache.port import NX, TURBO
from mesh.errors import UsageError
from mesh.exec.globs import Globs
from mesh.exec.leftovers import LOOK_SHARE_MAX, Left, Leftovers, among, below, some
from mesh.exec.places import Places
from mesh.graph import Task
from mesh.protocol.news import News, TaskEnded
from mesh.types import TaskId

_TOOLS: Final = (NX, TURBO)
"""Tasks of dte.toml declare outputs for dte itself, which says by other means what is not declared. Of theirs only tracked files count that they have
changed on an agent: those the main job does not have.
"""

SINCE_MS: Final = 100
"""So much earlier than its task a file may have been made by it: clocks of file systems are coarse."""


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
        self._workspace = workspace
        self._leftovers = Leftovers(workspace)
        self._tasks = tasks
        self._is_main = is_main
        self._shares_main = shares_main
        self._alone = alone
        self._outputs: dict[TaskId, Globs | None] = {}
        """Of all tasks so far, in the order in which they became known."""
        self._places = Places[TaskId]()
        self._at_home: dict[str, dict[TaskId, Globs]] = {}
        """The same by the directory of the project, where that is known."""
        self._took_ms: dict[str, float] = {}
        """How long it took to look there among others' outputs."""
        self._elsewhere: dict[TaskId, TaskEnded] = {}
        """On the main job: tasks that left something among others' outputs on another machine."""

    async def before(self, task: Task) -> None:
        """It is about to run."""
        if self._says_something(task):
            await self._leftovers.before(_home(task) if task.tool in _TOOLS else None)

    async def after(self, task: Task, duration_ms: int, *, beside: bool) -> tuple[str, tuple[str, ...]]:
        """It has succeeded, and others run still where `beside`: one line, or "", and files that it, or one of those, made among other tasks' outputs."""
        if not self._says_something(task):
            return "", ()
        if task.tool not in _TOOLS:
            left = await self._leftovers.changed(duration_ms, str(task.payload.get("cwd", "")), self, beside=beside)
            return left.remark(elsewhere=True), ()
        since_ns = time.time_ns() - (duration_ms + SINCE_MS) * 1_000_000
        left = await self._leftovers.after(duration_ms, _home(task), self, beside=beside)
        elsewhere = not self._is_main
        if self._alone():
            return Left(changed=left.changed, certain=left.certain).remark(elsewhere=elsewhere), ()
        return left.remark(elsewhere=elsewhere), await self._among_others(task, duration_ms, since_ns)

    async def _among_others(self, task: Task, duration_ms: int, since_ns: int) -> tuple[str, ...]:
        """What is new where other tasks of its project have their outputs, and belongs to these alone."""
        home = _home(task)
        self._compile()
        tasks = dict(self._at_home.get(home, {})) if home is not None else {}
        own = tasks.pop(task.id, None)
        if home is None or own is None or self._took_ms.get(home, 0) > duration_ms * LOOK_SHARE_MAX:
            return ()
        prefixes = (place for globs in tasks.values() for place in globs.prefixes)
        # Of outputs that may be anywhere (`**/dist/**`) those in the project are looked for, unless that is the whole workspace: that would be too much to look at.
        places = dict.fromkeys(home if _is_around(place, home) else place for place in prefixes)
        for whole in ("", "."):
            places.pop(whole, None)

        def meant(path: str) -> bool:
            return not own.match(path) and any(globs.match(path) for globs in tasks.values())

        began = time.monotonic()
        found = await trio.to_thread.run_sync(among, self._workspace, places, meant, since_ns)
        self._took_ms[home] = (time.monotonic() - began) * 1_000
        return found

    def _says_something(self, task: Task) -> bool:
        if self._is_main:
            return task.tool in _TOOLS
        return not self._shares_main()

    # --- on the main job, at the end -----------------------------------------------------------------

    def hear(self, item: News) -> None:
        """The main job is told how tasks ended."""
        if isinstance(item, TaskEnded):
            self._elsewhere.pop(item.task, None)
            if item.left:
                self._elsewhere[item.task] = item

    def missing(self) -> Iterator[str]:
        """A line for each task that left files among others' outputs, which are not here: one machine that does everything has them."""
        for task, ended in self._elsewhere.items():
            home = _home(self._tasks[task])
            lost = tuple(path for path in ended.left if self._is_missing(path, home))
            if lost:
                yield (
                    f"{task} on {ended.agent}: it left {some(lost)}, which only other tasks declare as outputs, and these did not make: "
                    "that is on its machine only"
                )

    def _is_missing(self, path: str, home: str | None) -> bool:
        """Not where all of the place is gone: then something has removed that since."""
        if os.path.lexists(self._workspace / path):
            return False
        places = self._places_of(path, home)
        return any(path.startswith(f"{place}/") and (self._workspace / place).is_dir() for place in places)

    def _places_of(self, path: str, home: str | None) -> Iterator[str]:
        """Directories that tasks declare around it; of outputs that may be anywhere the project, or the directory in it."""
        for place in (place for globs in self._about(path) if globs is not None for place in globs.prefixes):
            if home is not None and _is_around(place, home) and path.startswith(f"{home}/"):
                first, inner, _ = path.removeprefix(f"{home}/").partition("/")
                yield f"{home}/{first}" if inner else home
            elif place:
                yield place

    # --- what is declared ----------------------------------------------------------------------------

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
        self._compile()
        return (self._outputs[task] for task in self._places.sharing((place,)))

    def _compile(self) -> None:
        """Take in the outputs of tasks that are new."""
        fresh = [*self._tasks.values()][len(self._outputs) :] if len(self._outputs) < len(self._tasks) else ()
        for task in fresh:
            try:
                globs = Globs(task.outputs)
                self._places.add(task.id, globs.prefixes)
                self._outputs[task.id] = globs
                if (home := _home(task)) is not None:
                    self._at_home.setdefault(home, {})[task.id] = globs
            except UsageError:  # the tool understands it, dte does not: it may be anything
                self._places.add(task.id, ("",))
                self._outputs[task.id] = None


def _is_around(place: str, home: str) -> bool:
    """Whether that is the project's directory, or one around it."""
    return place == home or below(home, place)


def _home(task: Task) -> str | None:
    """The directory of its project; None where that is not known."""
    if task.tool == NX:
        return str(task.payload["tasks"][0]["task"]["projectRoot"])
    if task.tool != TURBO:
        return None
    log = PurePosixPath(task.payload["log"])
    return str(log.parent.parent) if log.parent.name == ".turbo" else None
