"""What the leader wants brought to the main job: each finished task's log, shown, and its outputs, in the workspace."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

import trio

from mesh.errors import CorruptError, MeshError, StorageError, readable
from mesh.node.logs import LogBook
from mesh.node.outlets import Outlet
from mesh.node.tools import Tools
from mesh.node.transfers import MissingError, Transfers
from mesh.node.work import Work
from mesh.protocol import effects as fx
from mesh.protocol import events as ev
from mesh.types import TaskId

AT_ONCE_MAX: Final = 32
LOST_MAX: Final = 3
"""How often a result may be lost on its way before the main job makes it itself."""


class Deliveries:
    """One at work for each finished task; the core is told by events."""

    def __init__(
        self,
        nursery: trio.Nursery,
        happen: Callable[[ev.Event], None],
        tools: Tools,
        transfers: Transfers,
        work: Work,
        logs: LogBook,
    ) -> None:
        self._nursery = nursery
        self._happen = happen
        self._tools = tools
        self._transfers = transfers
        self._work = work
        self._logs = logs
        self._limit = trio.CapacityLimiter(AT_ONCE_MAX)
        self._outlets: dict[TaskId, Outlet] = {}
        self._left: dict[Outlet, dict[TaskId, None]] = {}
        self._lost: dict[TaskId, int] = {}

    def through(self, outlet: Outlet, tasks: Iterable[TaskId]) -> None:
        """These tasks are shown, and their outputs restored, by the tool that planned them."""
        left = dict.fromkeys(tasks)
        self._left[outlet] = left
        self._outlets.update(dict.fromkeys(left, outlet))
        if not left:
            self._nursery.start_soon(outlet.close)

    def deliver(self, effect: fx.Deliver) -> None:
        """Bring one task."""
        outlet = self._outlets.get(effect.task)
        shown = None
        if effect.log is not None:
            shown = self._logs.complete(effect.task, effect.attempt, effect.log)
            self._logs.forget(effect.task)
        if outlet is None and shown is None and (effect.outputs is None or effect.in_place):
            self._happen(ev.Delivered(effect.task, effect.attempt))
        else:
            self._nursery.start_soon(self._deliver, effect, outlet, shown)

    def fetch_log(self, effect: fx.FetchLog) -> None:
        """Have the log of a failed attempt here. Where that cannot be, the next attempt is no worse for it."""
        if self._logs.complete(effect.task, effect.attempt, effect.log) is not None:
            self._nursery.start_soon(self._fetch_log, effect)

    async def _fetch_log(self, effect: fx.FetchLog) -> None:
        with suppress(MissingError, StorageError):
            await self._transfers.ensure(effect.log, effect.holders)

    async def _deliver(self, effect: fx.Deliver, outlet: Outlet | None, shown: int | None) -> None:
        made_here = ""
        try:
            async with self._limit:
                try:
                    await self._bring(effect, outlet, shown)
                except (MissingError, CorruptError, StorageError) as error:
                    if outlet is None or not self._is_final(effect, error):
                        raise
                    made_here = str(error)
                    await outlet.instead(effect, self._work.task(effect.task), made_here)
        except (MissingError, CorruptError) as error:
            self._happen(ev.Undelivered(effect.task, effect.attempt, str(error), local=False))
        except (MeshError, OSError) as error:
            self._happen(ev.Undelivered(effect.task, effect.attempt, readable(str(error)), local=True))
        else:
            self._happen(ev.Delivered(effect.task, effect.attempt, made_here))
            if outlet is not None:
                await self._shown(effect.task, outlet)

    async def _bring(self, effect: fx.Deliver, outlet: Outlet | None, shown: int | None) -> None:
        await self._fetch(effect, outlet, shown)
        if outlet is not None:
            await outlet.show(effect, self._work.task(effect.task))
        elif effect.outputs is not None and not effect.in_place:
            await self._restore(effect)

    def _is_final(self, effect: fx.Deliver, error: Exception) -> bool:
        """Whether running the task again elsewhere would not bring it here: this machine cannot hold it, it has failed, or it was lost too often."""
        self._lost[effect.task] = self._lost.get(effect.task, 0) + 1
        return isinstance(error, StorageError) or effect.status != "success" or self._lost[effect.task] >= LOST_MAX

    async def _shown(self, task: TaskId, outlet: Outlet) -> None:
        left = self._left[outlet]
        if left.pop(task, self) is None and not left:
            await outlet.close()

    async def _fetch(self, effect: fx.Deliver, outlet: Outlet | None, shown: int | None) -> None:
        if effect.log is not None and shown is not None:
            await self._transfers.ensure(effect.log, effect.holders)
            self._logs.show_rest(effect.task, effect.attempt, effect.log, shown)
        if effect.outputs is not None and (outlet is not None or not effect.in_place):
            await self._transfers.ensure(effect.outputs, effect.holders)

    async def _restore(self, effect: fx.Deliver) -> None:
        assert effect.outputs is not None
        task = self._work.task(effect.task)
        runner = await self._tools.runner(task)
        async with self._work.restoring:
            await runner.restore(task, effect.outputs)
