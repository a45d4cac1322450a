"""The smallest thing that does what a mesh does with a turbo run: a main job, agents in workspaces of their own, artifacts carried between them."""

import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from mesh.adapters.base import Outcome, Runner
from mesh.adapters.turbo.command import find
from mesh.adapters.turbo.drift import drift
from mesh.adapters.turbo.environment import main_environment
from mesh.adapters.turbo.plan import TurboPlan, plan
from mesh.adapters.turbo.runner import TurboRunner
from mesh.adapters.turbo.session import Loopback, MainTurboRunner, TurboSession
from mesh.cache.server import LoopbackCache
from mesh.cache.turbo import TurboCache
from mesh.errors import LocalError
from mesh.graph import Task
from mesh.store.blobs import BlobStore
from mesh.types import TaskId
from tests.turbo_workspace import Workspace

MAIN = "main"
LIMIT_S = 300
SETTLE_S = 5
"""How long tasks may take to be decided after the command has ended, before they count as cancelled."""


@dataclass
class Node:
    """One machine: a workspace, a store, a cache on the loopback."""

    name: str
    workspace: Workspace
    blobs: BlobStore
    cache: TurboCache
    loopback: Loopback
    runner: TurboRunner
    environment: dict[str, str]
    present: dict[TaskId, None] = field(default_factory=dict)
    cannot: dict[TaskId, str] = field(default_factory=dict)


@dataclass
class Ran:
    """What came of a run."""

    exit_code: int
    stdout: str
    stderr: str
    plan: TurboPlan
    outcomes: dict[TaskId, Outcome]
    statuses: dict[str, str]
    where: dict[str, str]
    logs: dict[str, str]
    cannot: dict[str, dict[TaskId, str]]
    handed: list[str]
    recovered: tuple[TaskId, ...]
    not_taken: tuple[TaskId, ...]
    notices: tuple[str, ...]
    trailing_ms: int
    """From the end of an agent's last task to that of the command."""


@asynccontextmanager
async def node(name: str, workspace: Workspace, folder: Path, **environment: str) -> AsyncIterator[Node]:
    """A machine that is running."""
    blobs = BlobStore(folder)
    cache = TurboCache(blobs)
    server = LoopbackCache({"turbo": cache})
    environ = workspace.environment(**environment)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        loopback = Loopback(server.url("turbo"), server.token, cache)
        runner = TurboRunner(workspace.path, loopback, environ)
        try:
            yield Node(name, workspace, blobs, cache, loopback, runner, environ)
        finally:
            await runner.aclose()
            nursery.cancel_scope.cancel()


class Mesh:
    """Drives one turbo command over a main job and some agents: each agent takes whatever is ready, one task at a time."""

    def __init__(self, main: Node, agents: list[Node], main_slots: int) -> None:
        self._main = main
        self._agents = agents
        self._main_slots = main_slots
        self.outcomes: dict[TaskId, Outcome] = {}
        self.statuses: dict[TaskId, str] = {}
        self.where: dict[TaskId, str] = {}
        self.logs: dict[TaskId, bytes] = {}
        self.handed: list[str] = []
        self._busy: dict[TaskId, Node] = {}
        self._changed = trio.Condition()
        self._last_agent_s = 0.0

    async def run(self, *arguments: str, **environment: str) -> Ran:
        """The command, to its end. A variable `LATE_NAME` is `NAME`, and comes only when the plan is made."""
        main = self._main
        late = {name.removeprefix("LATE_"): value for name, value in environment.items() if name.startswith("LATE_")}
        environ = {**main.environment, "DTE_SECRET": "hush", **environment}
        argv = main.workspace.command(*arguments)
        command = find(tuple(argv), main.workspace.path)
        assert command is not None
        planned = await plan(command, main.workspace.path, environ)
        if planned.objection:
            plain = {name: value for name, value in environ.items() if not name.startswith("DTE_")}
            code, stdout, stderr = await self._command(argv, plain)
            return self._ran(code, stdout, stderr, planned)
        async with trio.open_nursery() as nursery, TurboSession.open(nursery, planned, main.loopback) as session:
            session.elsewhere = lambda: [task for task, place in self._busy.items() if place is not main]
            nursery.start_soon(self._work, nursery, session)
            nursery.start_soon(_let_go_when_cancelled, session)
            env = {**main_environment(environ, session.url, main.loopback.token), **late}
            code, stdout, stderr = await self._command(argv, env)
            ended_s = trio.current_time()
            session.command_ended(code)
            with trio.move_on_after(SETTLE_S):
                async with self._changed:
                    while len(self.statuses) < len(session.graph.tasks):
                        await self._changed.wait()
            for task in session.graph.tasks:
                self.statuses.setdefault(task, "cancelled")
            nursery.cancel_scope.cancel()
        trailing_ms = round((ended_s - self._last_agent_s) * 1_000)
        return self._ran(code, stdout, stderr, planned, session, trailing_ms)

    async def _command(self, argv: list[str], env: dict[str, str]) -> tuple[int, str, str]:
        done = await trio.run_process(
            argv,
            cwd=self._main.workspace.path,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def _ran(
        self,
        code: int,
        stdout: str,
        stderr: str,
        planned: TurboPlan,
        session: TurboSession | None = None,
        trailing_ms: int = 0,
    ) -> Ran:
        return Ran(
            exit_code=code,
            stdout=stdout,
            stderr=stderr,
            plan=planned,
            outcomes=self.outcomes,
            statuses={**self.statuses},
            where={**self.where},
            logs={task: log.decode() for task, log in self.logs.items()},
            cannot={agent.name: agent.cannot for agent in self._agents},
            handed=self.handed,
            recovered=session.recovered() if session else (),
            not_taken=session.not_taken() if session else (),
            notices=tuple(session.afterwards(self._main.workspace.path)) if session else (),
            trailing_ms=trailing_ms,
        )

    async def _work(self, nursery: trio.Nursery, session: TurboSession) -> None:
        for agent in self._agents:
            agent.cannot = await drift(agent.workspace.path, session.graph, agent.environment)
            nursery.start_soon(self._serve, session, agent, agent.runner)
        here = MainTurboRunner(session, self._main.workspace.path)
        for _ in session.graph.tasks:  # what is bound to the main job takes no slot there
            nursery.start_soon(self._serve, session, self._main, here, True)
        for _ in range(self._main_slots):
            nursery.start_soon(self._serve, session, self._main, here)

    async def _serve(self, session: TurboSession, place: Node, runner: Runner, bound: bool = False) -> None:
        while True:
            async with self._changed:
                while (task := self._ready(session, place, bound)) is None:
                    await self._changed.wait()
                self._busy[task.id] = place
            try:
                outcome = await self._one(session, place, runner, task)
            except LocalError as error:
                place.cannot[task.id] = str(error)
                self.handed.append(f"{place.name}: {error}")
                async with self._changed:
                    del self._busy[task.id]
                    self._changed.notify_all()
                continue
            if place is not self._main:
                self._last_agent_s = trio.current_time()
            await self._decided(session, place, task, outcome)

    def _ready(self, session: TurboSession, place: Node, bound: bool) -> Task | None:
        for task in session.graph.tasks.values():
            if task.id in self._busy or task.id in self.statuses or task.id in place.cannot:
                continue
            if bound != (task.where == MAIN) or not self._goes_to(task, place):
                continue
            if all(self.statuses.get(dep) == "success" for dep in task.deps):
                return task
        return None

    def _goes_to(self, task: Task, place: Node) -> bool:
        return place is not self._main or task.where == MAIN or all(task.id in agent.cannot for agent in self._agents)

    async def _one(self, session: TurboSession, place: Node, runner: Runner, task: Task) -> Outcome:
        for dep in session.graph.closure(task.id):
            outputs = self.outcomes[dep].outputs
            if outputs is not None and dep not in place.present and place is not self._main:
                self._carry(outputs, place)
                await runner.restore(session.graph.tasks[dep], outputs)
                place.present[dep] = None
        said: list[bytes] = []
        outcome = await runner.run(task, said.append)
        self.logs[task.id] = b"".join(said)
        place.present[task.id] = None
        return outcome

    async def _decided(self, session: TurboSession, place: Node, task: Task, outcome: Outcome) -> None:
        if outcome.outputs is not None:
            self._carry(outcome.outputs, self._main)
        session.deliver(task.id, outcome.status, outcome.outputs)
        self.where[task.id] = place.name
        self.outcomes[task.id] = outcome
        async with self._changed:
            self.statuses[task.id] = outcome.status
            if outcome.status == "failure":
                for other in session.graph.tasks.values():
                    if task.id in session.graph.closure(other.id) and other.id not in self.statuses:
                        self.statuses[other.id] = "skipped"
                        session.deliver(other.id, "skipped", None)
            self._changed.notify_all()

    def _carry(self, blob: object, place: Node) -> None:
        for other in (self._main, *self._agents):
            found = other.blobs.find(blob.digest)  # type: ignore[attr-defined]
            if found is not None and other is not place:
                place.blobs.put(found.read_bytes())
                return


async def _let_go_when_cancelled(session: TurboSession) -> None:
    try:
        await trio.sleep_forever()
    finally:
        session.let_go()


def distributed(
    main: Workspace, folder: Path, *arguments: str, agents: int = 2, main_slots: int = 2, **environment: str
) -> Ran:
    """Run the command on `main`, with agents in clones of it; `environment` is the main job's alone."""
    return over(
        main,
        [main.clone(folder / f"agent{number}") for number in range(agents)],
        folder,
        *arguments,
        main_slots=main_slots,
        **environment,
    )


def over(
    main: Workspace, clones: list[Workspace], folder: Path, *arguments: str, main_slots: int = 2, **environment: str
) -> Ran:
    """The same with these clones."""

    async def run() -> Ran:
        return await mesh(main, clones, folder, *arguments, main_slots=main_slots, **environment)

    return trio.run(run)


async def mesh(
    main: Workspace, clones: list[Workspace], folder: Path, *arguments: str, main_slots: int = 2, **environment: str
) -> Ran:
    """The same from within."""
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(node(MAIN, main, folder / "store"))
        places = [
            await stack.enter_async_context(node(f"agent{number}", clone, folder / f"store{number}"))
            for number, clone in enumerate(clones)
        ]
        with trio.fail_after(LIMIT_S):
            return await Mesh(here, places, main_slots).run(*arguments, **environment)
