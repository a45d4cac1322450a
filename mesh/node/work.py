"""What the worker wants done: inputs brought, tasks run, and ended."""

from collections.abc import Callable, Mapping
from typing import Final

import trio
from msgspec.structs import replace

from mesh.adapters.base import Outcome
from mesh.adapters.nx.errors import WorkerError
from mesh.adapters.turbo.errors import TurboError
from mesh.errors import CorruptError, FullError, MeshError, RemoteError, StorageError, readable
from mesh.graph import Graph, Task
from mesh.ledger.completion import Completion
from mesh.ledger.statements import open_leaf
from mesh.node.logs import FLUSH_MS, Stream
from mesh.node.remarks import Remarks
from mesh.node.tools import Tools
from mesh.node.transfers import MissingError, Transfers
from mesh.protocol import effects as fx
from mesh.protocol import events as ev
from mesh.store.results import Results
from mesh.types import Blob, Digest, TaskId
from mesh.wire.messages import Log

TROUBLE_MS: Final = 1_000
"""So long a task is kept that this machine could not run just now, before it is handed back."""


class Work:
    """Runs this node's tasks, each in a task of its own, and tells the core by events."""

    def __init__(
        self,
        nursery: trio.Nursery,
        happen: Callable[[ev.Event], None],
        told_as: Callable[[TaskId], int],
        send_log: Callable[[Log], None],
        tools: Tools,
        transfers: Transfers,
        results: Results,
        domain: str,
        remarks: Callable[[Mapping[TaskId, Task]], Remarks],
    ) -> None:
        self._nursery = nursery
        self._happen = happen
        self._told_as = told_as
        self._send_log = send_log
        self._tools = tools
        self._transfers = transfers
        self._results = results
        self._domain = domain
        self._tasks: dict[TaskId, Task] = {}
        self.remarks = remarks(self._tasks)
        self._running: dict[TaskId, trio.CancelScope] = {}
        self._present: dict[TaskId, Digest] = {}
        """Whose outputs are in the workspace: what was restored, or has run, here."""
        self._streams: dict[TaskId, Stream] = {}
        self.restoring = trio.Lock()
        """The workspace has one writer of restored files at a time, on a main job also its delivery."""

    def know(self, graph: Graph) -> None:
        """Tasks that may be asked for from now on."""
        self._tasks.update(graph.tasks)

    def task(self, task: TaskId) -> Task:
        """The task of that name."""
        return self._tasks[task]

    # --- results of earlier runs ---------------------------------------------------------------------

    def cached(self, graph: Graph) -> tuple[TaskId, ...]:
        """Tasks whose result this node has, from now or from an earlier run."""
        return tuple(task.id for task in graph.tasks.values() if self._stored(task) is not None)

    def _stored(self, task: Task) -> Completion | None:
        if not task.cache or not task.key or task.tool != "native":
            return None
        envelope = self._results.find(self._domain, task.key)
        if envelope is None:
            return None
        try:
            leaf = open_leaf(envelope).leaf
        except RemoteError:
            return None
        if not isinstance(leaf, Completion) or leaf.status != "success" or leaf.task != task.id or leaf.key != task.key:
            return None
        blobs = [blob for blob in (leaf.outputs, leaf.log) if blob is not None and blob.size]
        return leaf if all(self._transfers.has(blob) for blob in blobs) else None

    def keep(self, effect: fx.Keep) -> None:
        """Remember a result for later runs. A full disk only costs the next run time."""
        try:
            self._results.record(self._domain, effect.key, effect.envelope)
        except StorageError:
            return

    async def send_logs(self) -> None:
        """Send on what running tasks have written, now and then, until cancelled."""
        while True:
            await trio.sleep(FLUSH_MS / 1000)
            for stream in self._streams.values():
                stream.flush()

    # --- effects -------------------------------------------------------------------------------------

    def prepare(self, effect: fx.Prepare) -> None:
        """Bring inputs into the store."""
        if all(self._transfers.has(need.outputs) for need in effect.needs):
            self._happen(ev.Prepared(effect.task, effect.attempt))
        else:
            self._nursery.start_soon(self._prepare, effect)

    async def _prepare(self, effect: fx.Prepare) -> None:
        missing: list[TaskId] = []
        problems: list[Exception] = []

        async def bring(need: fx.Need) -> None:
            try:
                await self._transfers.ensure(need.outputs, need.holders)
            except MissingError as error:
                missing.append(need.task)
                problems.append(error)
            except StorageError as error:
                problems.append(error)

        async with trio.open_nursery() as nursery:
            for need in effect.needs:
                nursery.start_soon(bring, need)
        if problems:
            # What this machine cannot store is its own affair, and may pass where its disk is full.
            never = not any(isinstance(problem, MissingError | FullError) for problem in problems)
            self._happen(ev.Handed(effect.task, effect.attempt, str(problems[0]), tuple(missing), never=never))
        else:
            self._happen(ev.Prepared(effect.task, effect.attempt))

    def execute(self, effect: fx.Execute) -> None:
        """Run a task."""
        # Made here and not in the new task: it may be asked to end before it has begun.
        scope = self._running[effect.task] = trio.CancelScope()
        self._nursery.start_soon(self._execute, effect, scope)

    def kill(self, effect: fx.Kill) -> None:
        """End a task."""
        scope = self._running.get(effect.task)
        if scope is not None:
            scope.cancel()

    async def _execute(self, effect: fx.Execute, scope: trio.CancelScope) -> None:
        event: ev.Event = ev.TaskKilled(effect.task, effect.attempt)
        with scope:
            try:
                event = await self._attempt(effect)
            finally:
                del self._running[effect.task]
        self._happen(event)

    async def _attempt(self, effect: fx.Execute) -> ev.Event:
        """Whatever goes wrong on this side of the command is handed back: it says nothing about the task."""
        task, attempt = effect.task, effect.attempt
        try:
            for need in effect.needs:
                await self._restore(need)
            stored = None if effect.anew else self._stored(self._tasks[task])
            if stored is not None:
                return ev.TaskFinished(task, attempt, await self._reuse(stored))
            return ev.TaskFinished(task, attempt, await self._run(self._tasks[task], attempt))
        except _NotRestoredError as error:
            return ev.Handed(task, attempt, str(error), missing=(error.need.task,))
        except (WorkerError, TurboError) as error:
            # The tool itself broke, which the next start of it may mend.
            return ev.Handed(task, attempt, str(error))
        except (FullError, OSError) as error:
            # It may pass, but hardly at once: where nobody else is there, it comes back in no time.
            await trio.sleep(TROUBLE_MS / 1_000)
            return ev.Handed(task, attempt, _explained(error) if isinstance(error, OSError) else str(error))
        except MeshError as error:
            return ev.Handed(task, attempt, str(error), never=True)

    async def _restore(self, need: fx.Need) -> None:
        if self._present.get(need.task) == need.outputs.digest:
            return
        task = self._tasks[need.task]
        runner = await self._tools.runner(task)
        async with self.restoring:
            if self._present.get(need.task) == need.outputs.digest:
                return
            try:
                await runner.restore(task, need.outputs)
            except CorruptError as error:
                raise _NotRestoredError(need, str(error)) from None
            self._present[need.task] = need.outputs.digest

    async def _reuse(self, stored: Completion) -> ev.Execution:
        """A result of an earlier run, brought into the workspace as if the task had run now."""
        if stored.outputs is not None:
            await self._restore(fx.Need(stored.task, stored.key, stored.outputs, ()))
        return ev.Execution(
            "success",
            0,
            stored.started_ms,
            stored.ended_ms,
            outputs=stored.outputs,
            log=stored.log,
            key=stored.key,
            cache="hit",
        )

    async def _run(self, task: Task, attempt: int) -> ev.Execution:
        runner = await self._tools.runner(task)
        await self.remarks.before(task)
        self._happen(ev.TaskRunning(task.id, attempt))
        stream = Stream(task.id, self._transfers.store, self._told_as, self._send_log)
        self._present.pop(task.id, None)
        self._streams[task.id] = stream
        try:
            outcome = await runner.run(task, stream.write)
            if outcome.log is not None:
                stream.conclude(outcome.log)
            log = stream.finish()
        except BaseException:
            stream.abort()
            raise
        finally:
            del self._streams[task.id]
        if outcome.outputs is not None:
            self._present[task.id] = outcome.outputs.digest
        if outcome.status == "success":
            took_ms = outcome.ended_ms - outcome.started_ms
            remark, left = await self.remarks.after(task, took_ms, beside=bool(self._streams))
            return _execution(replace(outcome, problem=outcome.problem or remark), log, left)
        return _execution(outcome, log)


class _NotRestoredError(Exception):
    def __init__(self, need: fx.Need, reason: str) -> None:
        super().__init__(f"the outputs of {need.task} could not be restored: {reason}")
        self.need = need


def _explained(error: OSError) -> str:
    what = (error.strerror or str(error) or type(error).__name__).lower()
    at = f"{error.filename}: " if error.filename else ""
    return readable(
        f"this machine could not run it: {at}{what}; see to that, or keep the task away from it (runs_on, --targets)"
    )


def _execution(outcome: Outcome, log: Blob, left: tuple[str, ...] = ()) -> ev.Execution:
    return ev.Execution(
        outcome.status,
        outcome.exit_code,
        outcome.started_ms,
        outcome.ended_ms,
        outputs=outcome.outputs,
        log=log,
        max_rss_bytes=outcome.max_rss_bytes,
        problem=outcome.problem,
        left=left,
        key=outcome.key,
        cache="hit" if outcome.cached else "none",
    )
