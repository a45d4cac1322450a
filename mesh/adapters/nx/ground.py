"""Which parts of a workspace tasks' outputs take up, since nothing may be restored into a directory that a running task writes.

Some tasks declare a directory that holds another task's outputs (a `dist` at the root). Restoring the wide one wipes the narrow one, so that
who restores has to put the narrow ones back afterwards.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from mesh.errors import UsageError
from mesh.exec.globs import Globs
from mesh.graph import Task


def lies_within(inner: Task, outer: Task) -> bool:
    """Whether outputs of `inner` are in a directory that `outer` declares as its own."""
    return inner.id != outer.id and any(_holds(theirs, ours) for theirs in _places(outer) for ours in _places(inner))


class Ground:
    """Who writes where at the moment. Runs may overlap each other, as under nx alone; a restore may overlap no run."""

    def __init__(self) -> None:
        self._running: list[frozenset[str]] = []
        self._restoring: list[frozenset[str]] = []
        self._changed = trio.Condition()

    @asynccontextmanager
    async def running(self, task: Task) -> AsyncIterator[None]:
        """For as long as `task` runs."""
        async with self._held(task, self._running, self._restoring):
            yield

    @asynccontextmanager
    async def restoring(self, task: Task) -> AsyncIterator[None]:
        """For as long as the outputs of `task` are being put in place."""
        async with self._held(task, self._restoring, self._running):
            yield

    @asynccontextmanager
    async def _held(self, task: Task, ours: list[frozenset[str]], others: list[frozenset[str]]) -> AsyncIterator[None]:
        places = _places(task)
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
    try:
        return frozenset(Globs(task.outputs).prefixes)
    except UsageError:  # nx understands it, dte does not: it may be anywhere
        return frozenset(("",))


def _overlap(some: frozenset[str], others: frozenset[str]) -> bool:
    return any(_holds(one, other) or _holds(other, one) for one in some for other in others)


def _holds(directory: str, path: str) -> bool:
    return directory in ("", path) or path.startswith(f"{directory}/")
