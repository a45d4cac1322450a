"""How a wrapped tool on the main job is given what the mesh has done: each shows results in its own way, and restores outputs by itself."""

from collections.abc import Callable
from typing import Final, Protocol

import trio
from msgspec.structs import replace

from mesh.adapters.nx.beside import ended
from mesh.adapters.nx.errors import NotKeptError, RestoreError, WorkerError
from mesh.adapters.nx.plan import nx_caches
from mesh.adapters.nx.session import Delivery, NxSession
from mesh.adapters.nx.session import Status as NxStatus
from mesh.adapters.turbo.session import Status as TurboStatus
from mesh.adapters.turbo.session import TurboSession
from mesh.cache.nx_chain import NxChain
from mesh.errors import LocalError, MeshError
from mesh.graph import Task
from mesh.node.tools import Tools
from mesh.protocol import effects as fx
from mesh.store.blobs import BlobStore
from mesh.types import Blob, TaskId, UnixMs

_NX: Final[dict[str, NxStatus]] = {name: name for name in ("success", "failure", "skipped", "cancelled")}
_TURBO: Final[dict[str, TurboStatus]] = {name: name for name in ("success", "failure", "skipped", "cancelled")}


class Outlet(Protocol):
    """One tool's process on the main job, which waits for results."""

    async def show(self, effect: fx.Deliver, task: Task) -> None:
        """Give it one, whose log and outputs are in the store. Raises a `MeshError`."""

    async def instead(self, effect: fx.Deliver, task: Task, reason: str) -> None:
        """It cannot be brought here, for that `reason`: have the tool, or its runner, make it in this workspace. Raises a `MeshError`."""

    async def close(self) -> None:
        """It has had all of them."""


class NxOutlet:
    """An nx whose runner has been replaced: it prints each log, restores each archive, and sums up."""

    def __init__(
        self, session: NxSession, tools: Tools, store: BlobStore, restoring: trio.Lock, chain: NxChain
    ) -> None:
        self._session = session
        self._chain = chain
        self._tools = tools
        self._store = store
        self._restoring = restoring

    async def show(self, effect: fx.Deliver, task: Task) -> None:
        """Have nx show it, twice if need be: what it found in the way may be gone by then. Of what has left more than can be passed on nx makes it here as well."""
        if effect.status == "success" and effect.outputs is None and nx_caches(task) and not effect.in_place:
            await self.instead(effect, task, effect.problem)
            return
        restores = effect.outputs is not None and (not effect.in_place or task.key in self._session.at_hand)
        if effect.outputs is not None and restores and effect.status == "failure":
            runner = await self._tools.nx()
            async with self._restoring:
                await runner.show_remains(task, effect.outputs)
            restores = False
        elif effect.outputs is not None and restores and not task.cache:
            # nx caches nothing of such a task: its outputs came in dte's own archive.
            runner = await self._tools.nx()
            async with self._restoring:
                await runner.restore(task, effect.outputs)
            restores = False
        beside, log = ended(task, effect.problem, self._log(effect))
        delivery = replace(
            _delivery(effect, log or (b"" if effect.status == "success" else effect.problem.encode())),
            archive=effect.outputs if restores else None,
            ended=beside,
        )
        try:
            await self._deliver(delivery, task)
        except RestoreError:
            try:
                await self._deliver(delivery, task)
            except RestoreError as error:
                await self.instead(effect, task, str(error))
        if effect.status == "success" and effect.outputs is not None and effect.key and task.cache:
            self._chain.publish(effect.key, effect.outputs)

    async def _deliver(self, delivery: Delivery, task: Task) -> None:
        if delivery.archive is None:
            await self._session.deliver(delivery)
            return
        runner = await self._tools.nx()
        async with runner.ground.restoring(task):  # no task that runs here writes or reads there meanwhile
            await self._session.deliver(delivery)

    async def instead(self, effect: fx.Deliver, task: Task, reason: str) -> None:
        """Run it here, in nx's own workspace, and show that. A task that failed stays failed: only its log is missing then."""
        if effect.status != "success":
            await self._session.deliver(_delivery(effect, f"{effect.problem or reason}\n".encode()))
            return
        for dep in task.deps:
            await self._session.wait_delivered(dep)
        code, log, problem = await self._run_here(task)
        beside, log = ended(task, problem, log)
        shown = replace(_delivery(effect, log), ended=beside)
        await self._session.deliver(replace(shown, status="failure", exit_code=code) if code else shown)
        if code:
            raise NotHereError(f"run again here it failed with exit code {code} ({reason})")

    async def _run_here(self, task: Task) -> tuple[int, bytes, str]:
        """The exit code of `task` in this workspace, where what it leaves is in place whether nx could store it or not; what it prints, and its problem."""
        runner = await self._tools.nx()
        said: list[bytes] = []
        try:
            outcome = await runner.run(task, said.append, planned_here=True)
        except NotKeptError as error:
            return 0, b"".join(said) if error.log is None else error.log, error.problem
        except MeshError as error:
            return 1, b"".join([*said, f"{error}\n".encode()]), ""
        return outcome.exit_code, b"".join(said) if outcome.log is None else outcome.log, outcome.problem

    def _log(self, effect: fx.Deliver) -> bytes:
        path = self._store.find(effect.log.digest) if effect.log is not None and effect.log.size else None
        return path.read_bytes() if path is not None else b""

    async def close(self) -> None:
        """Let nx print its summary and exit."""
        try:
            await self._session.finish()
        except WorkerError:
            return  # it has gone by itself; its exit code tells


class TurboOutlet:
    """A turbo whose reads of its cache are held: it restores and prints what it is given, and runs the rest itself."""

    def __init__(self, session: TurboSession, stops: Callable[[], bool]) -> None:
        self._session = session
        self._stops = stops
        self._keeps = False
        self.failed: Final[dict[TaskId, Blob]] = {}
        """The logs of what failed on agents: turbo runs it here, and prints that."""
        self.given_up = trio.Event()
        """All is decided, and some of it is not to be done: turbo, which waits for that, is to be ended."""

    async def show(self, effect: fx.Deliver, task: Task) -> None:
        """Answer turbo's read: but not that of a task which the run has stopped before, since turbo would do it here."""
        if effect.status in ("skipped", "cancelled") and self._stops():
            self._keeps = True
            return
        if effect.status == "failure" and effect.log is not None:
            self.failed[task.id] = effect.log
        outputs = effect.outputs if effect.status == "success" else None
        self._session.deliver(task.id, _TURBO[effect.status], outputs)

    async def instead(self, effect: fx.Deliver, task: Task, reason: str) -> None:
        """Let turbo run it: to turbo, it is not in the cache."""
        del reason
        self._session.deliver(task.id, _TURBO[effect.status], None)

    async def close(self) -> None:
        """Turbo sees for itself, but for what it would wait for in vain."""
        if self._keeps:
            self.given_up.set()


class NotHereError(LocalError):
    """A task that succeeded elsewhere cannot be had on the main job."""


def _delivery(effect: fx.Deliver, log: bytes) -> Delivery:
    """Without an archive: as of what needs no restoring."""
    return Delivery(
        effect.task,
        _NX[effect.status],
        effect.exit_code,
        log,
        UnixMs(effect.started_ms),
        UnixMs(effect.ended_ms),
        effect.key,
        cached=effect.cached,
    )
