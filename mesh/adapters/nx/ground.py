"""Which parts of a workspace tasks' outputs take up, since nothing may be restored into a directory that a running task writes or reads.

Some tasks declare a directory that holds another task's outputs (a `dist` at the root), or the very same one. Restoring one wipes what is there of
the other, so that who restores has to put that back afterwards.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import trio

from mesh.errors import UsageError
from mesh.exec.globs import Globs
from mesh.exec.places import Places
from mesh.graph import Graph, Task
from mesh.types import TaskId


def lies_within(inner: Task, outer: Task) -> bool:
    """Whether outputs of `inner` are in a directory that `outer` declares as its own."""
    return inner.id != outer.id and any(_holds(theirs, ours) for theirs in _places(outer) for ours in _places(inner))


class Present:
    """Tasks whose outputs are in place in this workspace, found by what they share with another one's."""

    def __init__(self) -> None:
        self._tasks: dict[TaskId, Task] = {}
        self._places = Places[TaskId]()

    def add(self, task: Task) -> None:
        """Its outputs have been put in place."""
        self._tasks[task.id] = task
        self._places.add(task.id, _places(task))

    def within(self, task: Task) -> list[Task]:
        """Those that are narrower: a place of theirs lies in one of `task`, and none the other way round."""
        return [other for other in self._sharing(task) if not lies_within(task, other)]

    def to_put_back(self, task: Task, graph: Graph) -> list[dict[str, Any]]:
        """For link.cjs: which outputs have to be put back when `task` is restored, as a `whole` or what would be missing.

        Of what it depends on none: it found that in place, and its archive has what it left of it. As a whole, what a task made that came after it,
        and what a narrower one made; of two that take up the same place nobody can say whose is what, and all that either left has to be there.
        """
        shared = self._sharing(task)
        before = set(graph.closure(task.id)) if shared else set[TaskId]()
        found = []
        for other in shared:
            if other.id in before:
                continue
            later = other.id in graph.tasks and task.id in graph.closure(other.id)
            if later or lies_within(other, task):
                found.append({"outputs": list(other.outputs), "whole": later or not lies_within(task, other)})
        return found

    def _sharing(self, task: Task) -> list[Task]:
        return [self._tasks[other] for other in self._places.sharing(_places(task)) if other != task.id]


class Ground:
    """Who writes and reads where at the moment. Runs may overlap each other, as under nx alone; a restore may overlap no run."""

    def __init__(self) -> None:
        self._running: list[frozenset[str]] = []
        self._restoring: list[frozenset[str]] = []
        self._changed = trio.Condition()

    @asynccontextmanager
    async def running(self, task: Task, graph: Graph) -> AsyncIterator[None]:
        """For as long as `task` runs, which may read all that it depends on in `graph`."""
        read = (_places(graph.tasks[dep]) for dep in graph.closure(task.id))
        async with self._held(_places(task).union(*read), self._running, self._restoring):
            yield

    @asynccontextmanager
    async def restoring(self, task: Task) -> AsyncIterator[None]:
        """For as long as the outputs of `task` are being put in place."""
        async with self._held(_places(task), self._restoring, self._running):
            yield

    @asynccontextmanager
    async def _held(
        self, places: frozenset[str], ours: list[frozenset[str]], others: list[frozenset[str]]
    ) -> AsyncIterator[None]:
        async with self._changed:
            while any(_overlap(places, taken) for taken in others):
                await self._changed.wait()
            ours.append(places)
        try:
            yield
        finally:
            with trio.CancelScope(shield=True):
                async with self._changed:
                    ours.remove(places)
                    self._changed.notify_all()


def _places(task: Task) -> frozenset[str]:
    return _taken_up(task.outputs)


@cache
def _taken_up(outputs: tuple[str, ...]) -> frozenset[str]:
    try:
        return frozenset(Globs(outputs).prefixes)
    except UsageError:  # nx understands it, dte does not: it may be anywhere
        return frozenset(("",))


def _overlap(some: frozenset[str], others: frozenset[str]) -> bool:
    return any(_holds(one, other) or _holds(other, one) for one in some for other in others)


def _holds(directory: str, path: str) -> bool:
    return directory in ("", path) or path.startswith(f"{directory}/")
