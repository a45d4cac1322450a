"""The runner of each tool, in this node's workspace, made when it is first needed."""

from collections.abc import Mapping
from pathlib import Path

import trio

from mesh.adapters.base import Runner
from mesh.adapters.native.runner import NativeRunner
from mesh.adapters.nx.errors import WorkerError
from mesh.adapters.nx.runner import NxRunner
from mesh.adapters.nx.session import Loopback, MainRunner, NxSession
from mesh.cache.nx import NxCache
from mesh.cache.server import LoopbackCache
from mesh.errors import UsageError
from mesh.graph import Graph, Task
from mesh.store.blobs import BlobStore
from mesh.types import TaskId


class Tools:
    """All runners of one node, and the loopback cache that nx asks."""

    def __init__(
        self,
        nursery: trio.Nursery,
        workspace: Path,
        store: BlobStore,
        *,
        run_id: str,
        cookie: str,
        hidden: tuple[str, ...],
        environ: Mapping[str, str],
    ) -> None:
        self._nursery = nursery
        self._workspace = workspace
        self._store = store
        self._environ = environ
        self._native = NativeRunner(workspace, store, run_id=run_id, cookie=cookie, hidden=hidden, environ=environ)
        self._nx: NxRunner | None = None
        self._loopback: Loopback | None = None
        self._loading = trio.Lock()
        self._sessions: dict[TaskId, MainRunner] = {}

    async def loopback(self) -> Loopback:
        """The cache on 127.0.0.1, served from the first time it is asked for."""
        async with self._loading:
            if self._loopback is None:
                archives = NxCache(self._store)
                server = LoopbackCache({"nx": archives})
                await self._nursery.start(server.serve)
                self._loopback = Loopback(server.url("nx"), server.token, archives)
        return self._loopback

    async def nx(self) -> NxRunner:
        """The nx that is kept running in this workspace."""
        loopback = await self.loopback()
        if self._nx is None:
            self._nx = NxRunner(self._nursery, self._workspace, self._store, loopback, self._environ)
        return self._nx

    async def warm_up(self) -> None:
        """Load what this workspace will probably need while there is nothing else to do. A failure shows again when it matters."""
        if (self._workspace / "nx.json").is_file() and (self._workspace / "node_modules" / "nx").exists():
            try:
                await (await self.nx()).start()
            except WorkerError:
                return

    async def load(self, graph: Graph, session: NxSession | None = None) -> dict[TaskId, str]:
        """Get ready for the tasks of `graph`; returns those of tools that do not work here, with the reason."""
        tasks = [task for task in graph.tasks.values() if task.tool == "nx"]
        if not tasks:
            return {}
        runner = await self.nx()
        runner.load(graph)
        if session is not None:
            main = MainRunner(runner, session)
            self._sessions.update(dict.fromkeys(graph.tasks, main))
            return {}
        try:
            await runner.start()
        except WorkerError as error:
            return {task.id: str(error) for task in tasks}
        return {}

    async def runner(self, task: Task) -> Runner:
        """Who runs `task`. Raises `UsageError` for a tool that this version does not know."""
        match task.tool:
            case "native":
                return self._native
            case "nx":
                return self._sessions.get(task.id) or await self.nx()
            case other:
                raise UsageError(
                    f"{task.id} is a task of {other!r}, which this version of dte cannot run; install one version everywhere"
                )

    async def aclose(self) -> None:
        """End what the tools keep running."""
        await self._native.aclose()
        if self._nx is not None:
            await self._nx.aclose()
