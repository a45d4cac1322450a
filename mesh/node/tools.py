"""The runner of each tool, in this node's workspace, made when it is first needed."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import trio

from mesh.adapters.base import Runner
from mesh.adapters.native.runner import NativeRunner
from mesh.adapters.nx import session as nx_session
from mesh.adapters.nx.errors import WorkerError
from mesh.adapters.nx.node_options import PNP
from mesh.adapters.nx.runner import NxRunner
from mesh.adapters.turbo import session as turbo_session
from mesh.adapters.turbo.runner import TurboRunner
from mesh.cache.nx import NxCache
from mesh.cache.port import NX, TURBO, LoopbackPort
from mesh.cache.server import LoopbackCache
from mesh.cache.turbo import TurboCache
from mesh.errors import UsageError
from mesh.exec.packages import NX_PLACES
from mesh.graph import Graph, Task
from mesh.store.blobs import BlobStore
from mesh.types import TaskId


class Tools:
    """All runners of one node, and the loopback cache that the tools ask."""

    def __init__(
        self,
        nursery: trio.Nursery,
        workspace: Path,
        store: BlobStore,
        *,
        run_id: str,
        cookie: str,
        environ: Mapping[str, str],
        port: LoopbackPort | None = None,
    ) -> None:
        self._nursery = nursery
        self._workspace = workspace
        self._store = store
        self._environ = environ
        self._port = port
        self._native = NativeRunner(workspace, store, run_id=run_id, cookie=cookie, environ=environ)
        self._nx: NxRunner | None = None
        self._turbo: TurboRunner | None = None
        self.archives = NxCache(store)
        self._artifacts = TurboCache(store)
        self._server: LoopbackCache | None = None
        self._starting = trio.Lock()
        self._bound: dict[TaskId, Runner] = {}

    # --- the loopback cache --------------------------------------------------------------------------

    async def _served(self) -> LoopbackCache:
        """The cache on 127.0.0.1, served from the first time it is asked for."""
        async with self._starting:
            if self._server is None:
                server = LoopbackCache({NX: self.archives, TURBO: self._artifacts}, self._port)
                await self._nursery.start(server.serve)
                self._server = server
        return self._server

    async def nx_cache(self) -> nx_session.Loopback:
        """What nx is to be told of."""
        server = await self._served()
        return nx_session.Loopback(server.url(NX), server.token, self.archives)

    async def turbo_cache(self) -> turbo_session.Loopback:
        """What turbo is to be told of."""
        server = await self._served()
        return turbo_session.Loopback(server.url(TURBO), server.token, self._artifacts)

    # --- runners -------------------------------------------------------------------------------------

    async def nx(self) -> NxRunner:
        """The nx that is kept running in this workspace."""
        loopback = await self.nx_cache()
        if self._nx is None:
            self._nx = NxRunner(self._nursery, self._workspace, self._store, loopback, self._environ)
        return self._nx

    async def turbo(self) -> TurboRunner:
        """Whoever runs turbo's tasks here."""
        loopback = await self.turbo_cache()
        if self._turbo is None:
            self._turbo = TurboRunner(self._workspace, loopback, self._environ)
        return self._turbo

    async def runner(self, task: Task) -> Runner:
        """Who runs `task`. Raises `UsageError` for a tool that this version does not know."""
        bound = self._bound.get(task.id)
        if bound is not None:
            return bound
        match task.tool:
            case "native":
                return self._native
            case "nx":
                return await self.nx()
            case "turbo":
                return await self.turbo()
            case other:
                raise UsageError(
                    f"{task.id} is a task of {other!r}, which this dte cannot run; install one version everywhere"
                )

    def bind(self, tasks: Iterable[TaskId], runner: Runner) -> None:
        """These tasks are `runner`'s: on the main job the tool itself may restore, and even run, what stays there."""
        self._bound.update(dict.fromkeys(tasks, runner))

    # --- loading -------------------------------------------------------------------------------------

    async def warm_up(self) -> None:
        """Load what this workspace will probably need while there is nothing else to do. A failure shows again when it matters."""
        places = (*(self._workspace / place / "nx" for place in NX_PLACES), self._workspace / PNP)
        installed = any(place.exists() for place in places)
        if (self._workspace / "nx.json").is_file() and installed:
            try:
                await (await self.nx()).start()
            except WorkerError:
                return

    async def load(self, graph: Graph) -> dict[TaskId, str]:
        """Get ready for the tasks of `graph`; returns those of tools that do not work here, with the reason."""
        tasks = [task for task in graph.tasks.values() if task.tool == NX]
        if not tasks:
            return {}
        runner = await self.nx()
        runner.load(graph)
        try:
            await runner.start()
        except WorkerError as error:
            return {task.id: str(error) for task in tasks}
        return {}

    async def aclose(self) -> None:
        """End what the tools keep running."""
        await self._native.aclose()
        if self._nx is not None:
            await self._nx.aclose()
        if self._turbo is not None:
            await self._turbo.aclose()
