"""The smallest thing that does what a mesh does with an nx run: a main job, agents in workspaces of their own, blobs carried between them."""

import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from mesh.adapters.base import Outcome, Runner
from mesh.adapters.nx.environment import main_environment
from mesh.adapters.nx.runner import NxRunner
from mesh.adapters.nx.session import Delivery, Loopback, MainRunner, NxSession, listen, serve
from mesh.cache.nx import NxCache
from mesh.cache.server import LoopbackCache
from mesh.graph import Task
from mesh.store.blobs import BlobStore
from mesh.types import TaskId
from tests.nx_workspace import Workspace


@dataclass
class Node:
    """One machine: a workspace, a store, a cache on the loopback."""

    workspace: Workspace
    blobs: BlobStore
    cache: NxCache
    loopback: Loopback
    runner: NxRunner
    present: set[TaskId] = field(default_factory=set)


@dataclass
class Ran:
    """What came of a run."""

    exit_code: int
    stdout: str
    stderr: str
    outcomes: dict[TaskId, Outcome]
    skipped: list[TaskId]
    where: dict[TaskId, int]
    declined: bool


@asynccontextmanager
async def node(workspace: Workspace, folder: Path, **environment: str) -> AsyncIterator[Node]:
    """A machine that is running."""
    blobs = BlobStore(folder)
    archives = NxCache(blobs)
    server = LoopbackCache({"nx": archives})
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        loopback = Loopback(server.url("nx"), server.token, archives)
        runner = NxRunner(nursery, workspace.path, blobs, loopback, workspace.environment(**environment))
        try:
            yield Node(workspace, blobs, archives, loopback, runner)
        finally:
            await runner.aclose()
            nursery.cancel_scope.cancel()


class Mesh:
    """Drives one nx command over a main job and some agents: each agent takes whatever is ready."""

    def __init__(self, main: Node, agents: list[Node]) -> None:
        self._main = main
        self._agents = agents
        self.outcomes: dict[TaskId, Outcome] = {}
        self.skipped: list[TaskId] = []
        self.where: dict[TaskId, int] = {}
        self.logs: dict[TaskId, bytes] = {}
        self.reached = 0
        self.on_session: Callable[[NxSession], object] = lambda _: None

    async def run(self, *arguments: str, **environment: str) -> Ran:
        """The command, to its end."""
        async with listen() as (path, listener), trio.open_nursery() as nursery:
            nursery.start_soon(serve, listener, self._main.cache, self._handle)
            base = self._main.workspace.environment(DTE_SECRET="hush", **environment)
            loopback = self._main.loopback
            result = await trio.run_process(
                self._main.workspace.command(*arguments),
                cwd=self._main.workspace.path,
                env=main_environment(base, path, loopback.url, loopback.token),
                stdin=subprocess.DEVNULL,
                capture_stdout=True,
                capture_stderr=True,
                check=False,
            )
            nursery.cancel_scope.cancel()
        return Ran(
            result.returncode,
            result.stdout.decode(),
            result.stderr.decode(),
            self.outcomes,
            self.skipped,
            self.where,
            declined=not self.reached,
        )

    async def _handle(self, session: NxSession) -> None:
        self.reached += 1
        self.on_session(session)
        await session.accept()
        here = MainRunner(self._main.runner, session)
        places: list[tuple[Node, Runner]] = [(self._main, here), *((agent, agent.runner) for agent in self._agents)]
        for place, _ in places:
            place.runner.load(session.graph)
        waiting = dict(session.graph.tasks)
        changed = trio.Condition()
        busy: set[TaskId] = set()

        def ready(number: int) -> Task | None:
            for task in waiting.values():
                if task.id in busy or (number == 0) != (task.where == "main"):
                    continue
                if all(dep in self.outcomes and self.outcomes[dep].status == "success" for dep in task.deps):
                    return task
            return None

        async def work(number: int, place: Node, runner: Runner) -> None:
            while waiting:
                async with changed:
                    task = ready(number)
                    if task is None:
                        if waiting:
                            await changed.wait()
                        continue
                    busy.add(task.id)
                outcome = await self._one(session, place, runner, task)
                await self._deliver(session, task, outcome, here=place is self._main)
                self.where[task.id] = number
                async with changed:
                    self.outcomes[task.id] = outcome
                    del waiting[task.id]
                    busy.discard(task.id)
                    if outcome.status == "failure":
                        await self._skip(session, task.id, waiting)
                    changed.notify_all()

        async with trio.open_nursery() as nursery:
            for number, (place, runner) in enumerate(places):
                nursery.start_soon(work, number, place, runner)
        await session.finish()

    async def _one(self, session: NxSession, place: Node, runner: Runner, task: Task) -> Outcome:
        for dep in session.graph.closure(task.id):
            outputs = self.outcomes[dep].outputs
            if outputs is not None and dep not in place.present:
                self._carry(outputs, place)
                await runner.restore(session.graph.tasks[dep], outputs)
            place.present.add(dep)
        said: list[bytes] = []
        outcome = await runner.run(task, said.append)
        self.logs[task.id] = outcome.log if outcome.log is not None else b"".join(said)
        place.present.add(task.id)
        return outcome

    async def _deliver(self, session: NxSession, task: Task, outcome: Outcome, *, here: bool) -> None:
        archive = None
        if outcome.status == "success" and outcome.outputs is not None and not here:
            self._carry(outcome.outputs, self._main)
            archive = outcome.outputs
        await session.deliver(
            Delivery(
                task.id,
                outcome.status,
                outcome.exit_code,
                self.logs[task.id],
                outcome.started_ms,
                outcome.ended_ms,
                outcome.key,
                archive,
            )
        )

    async def _skip(self, session: NxSession, failed: TaskId, waiting: dict[TaskId, Task]) -> None:
        for task in session.graph.tasks.values():
            if task.id in waiting and failed in session.graph.closure(task.id):
                del waiting[task.id]
                self.skipped.append(task.id)
                await session.deliver(Delivery(task.id, "skipped"))

    def _carry(self, blob: object, place: Node) -> None:
        for other in (self._main, *self._agents):
            found = other.blobs.find(blob.digest)  # type: ignore[attr-defined]
            if found is not None and other is not place:
                place.blobs.put(found.read_bytes())
                return
