"""What the leader wants brought to the main job: each finished task's log, shown, and its outputs, in the workspace."""

from collections.abc import Callable, Iterable
from typing import Final

import trio

from mesh.adapters.nx.errors import RestoreError, WorkerError
from mesh.adapters.nx.session import Delivery as NxDelivery
from mesh.adapters.nx.session import NxSession, Status
from mesh.errors import CorruptError, MeshError
from mesh.graph import Task
from mesh.node.logs import LogBook
from mesh.node.tools import Tools
from mesh.node.transfers import MissingError, Transfers
from mesh.node.work import Work
from mesh.protocol import effects as fx
from mesh.protocol import events as ev
from mesh.types import TaskId, UnixMs

AT_ONCE_MAX: Final = 32
_STATUSES: Final[dict[str, Status]] = {
    "success": "success",
    "failure": "failure",
    "skipped": "skipped",
    "cancelled": "cancelled",
}


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
        self._sessions: dict[TaskId, NxSession] = {}
        self._left: dict[NxSession, dict[TaskId, None]] = {}

    def through(self, session: NxSession, tasks: Iterable[TaskId]) -> None:
        """These tasks are shown by the nx that planned them."""
        left = dict.fromkeys(tasks)
        self._left[session] = left
        self._sessions.update(dict.fromkeys(left, session))
        if not left:
            self._nursery.start_soon(self._finish, session)

    def deliver(self, effect: fx.Deliver) -> None:
        """Bring one task."""
        session = self._sessions.get(effect.task)
        shown = None if effect.log is None else self._logs.complete(effect.task, effect.attempt, effect.log)
        if session is None and shown is None and (effect.outputs is None or effect.in_place):
            self._happen(ev.Delivered(effect.task))
        else:
            self._nursery.start_soon(self._deliver, effect, session, shown)

    async def _deliver(self, effect: fx.Deliver, session: NxSession | None, shown: int | None) -> None:
        try:
            async with self._limit:
                await self._fetch(effect, session, shown)
                task = self._work.task(effect.task)
                if session is not None:
                    await self._show(effect, task, session)
                elif effect.outputs is not None and not effect.in_place:
                    await self._restore(effect, task)
        except (MissingError, CorruptError) as error:
            self._happen(ev.Undelivered(effect.task, str(error), local=False))
        except (MeshError, OSError) as error:
            self._happen(ev.Undelivered(effect.task, str(error), local=True))
        else:
            self._happen(ev.Delivered(effect.task))
        if session is not None:
            left = self._left[session]
            left.pop(effect.task, None)
            if not left:
                await self._finish(session)

    async def _fetch(self, effect: fx.Deliver, session: NxSession | None, shown: int | None) -> None:
        if effect.log is not None and shown is not None:
            await self._transfers.ensure(effect.log, effect.holders)
            self._logs.show_rest(effect.task, effect.log, shown)
        if effect.outputs is not None and (session is not None or not effect.in_place):
            await self._transfers.ensure(effect.outputs, effect.holders)

    async def _restore(self, effect: fx.Deliver, task: Task) -> None:
        assert effect.outputs is not None
        runner = await self._tools.runner(task)
        async with self._work.restoring:
            await runner.restore(task, effect.outputs)

    async def _show(self, effect: fx.Deliver, task: Task, session: NxSession) -> None:
        output = b""
        if effect.log is not None and effect.log.size:
            path = self._transfers.store.find(effect.log.digest)
            output = path.read_bytes() if path is not None else b""
        restores = effect.outputs is not None and not effect.in_place
        if restores and not task.cache:
            # nx caches nothing of such a task: its outputs came in dte's own archive.
            await self._restore_beside_nx(effect, task)
            restores = False
        delivery = NxDelivery(
            effect.task,
            _STATUSES[effect.status],
            effect.exit_code,
            output or effect.problem.encode(),
            UnixMs(effect.started_ms),
            UnixMs(effect.ended_ms),
            effect.key,
            effect.outputs if restores else None,
        )
        try:
            await session.deliver(delivery)
        except RestoreError:
            # Once more: what nx found in the way may be gone. Then it is for a person to look at.
            await session.deliver(delivery)

    async def _restore_beside_nx(self, effect: fx.Deliver, task: Task) -> None:
        assert effect.outputs is not None
        runner = await self._tools.nx()
        async with self._work.restoring:
            await runner.restore(task, effect.outputs)

    async def _finish(self, session: NxSession) -> None:
        try:
            await session.finish()
        except WorkerError:
            return  # it has gone by itself; its exit code tells
