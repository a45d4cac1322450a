"""The main job's side: the user's own turbo runs, and each of its reads of the cache waits until the mesh knows about that task.

    held ──▶ done on an agent: turbo restores the artifact and prints the log
       └───▶ failed, skipped, or this machine's own: turbo runs the task itself, prints, and exits as it would

A task that is this machine's own has succeeded when turbo has put its artifact. What else has become of it is only known when turbo has
ended; until then nobody else's work may depend on knowing, so that a task which turbo does not come to cannot stop those it waits for.
"""

import time
from collections.abc import AsyncIterator, Callable, Container, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Literal, Protocol

import psutil
import trio
from msgspec import Struct

from mesh.adapters.base import LogSink, Outcome
from mesh.adapters.turbo.plan import TurboPlan, turbo_id
from mesh.errors import RemoteError, StorageError
from mesh.exec.edits import Edited
from mesh.exec.process import now_ms
from mesh.graph import Graph, Task
from mesh.types import Blob, TaskId
from mesh.wire import canonical
from mesh.wire.canonical import Reader

PATIENCE_MS: Final = 5_000
"""How long a task may be this machine's own without running, before turbo is let on with what it holds places for."""
FLUSH_MS: Final = 60_000
"""How long the user's own cache may take at the end for what it has not taken yet."""

Status = Literal["success", "failure", "skipped", "cancelled"]


class Visit(Protocol):
    """One turbo process, as the cache sees it."""

    @property
    def name(self) -> str: ...

    @property
    def missed(self) -> Mapping[str, None]: ...

    @property
    def strays(self) -> Mapping[str, None]: ...

    @property
    def news(self) -> trio.Event: ...

    def hold(self, turbo_hash: str) -> None: ...

    def release(self, turbo_hash: str) -> None: ...

    def release_longest_held(self, but: Container[str] = ()) -> str: ...

    def release_all(self) -> None: ...

    def put(self, turbo_hash: str) -> str | None: ...

    async def have(self, hashes: Iterable[str]) -> tuple[str, ...]: ...

    async def fetch(self, turbo_hash: str) -> Blob | None: ...

    def publish(self, turbo_hash: str) -> None: ...

    async def push(self) -> None: ...

    def finish(self) -> None: ...

    async def wait_pushed(self) -> None: ...

    async def aclose(self) -> None: ...


class Artifacts(Protocol):
    """What turbo is served from: the cache on the loopback."""

    def open(
        self, expected: Iterable[str], remote: Mapping[str, str] | None = None, names: Mapping[str, str] | None = None
    ) -> Visit: ...

    def offer(self, turbo_hash: str, artifact: Blob) -> None: ...

    def stored(self, turbo_hash: str) -> Blob | None: ...

    async def adopt(self, turbo_hash: str, archive: Path, duration_ms: int) -> Blob: ...


class Loopback(Struct, frozen=True):
    """Where turbo finds that cache, and the cache itself."""

    url: str
    token: str
    artifacts: Artifacts


class TurboSession:
    """One turbo command of the main job. `graph` is what the mesh is to do; start the command with `url` as its cache."""

    def __init__(self, plan: TurboPlan, loopback: Loopback, visit: Visit, upstream: Iterable[str], prefix: str) -> None:
        self.plan: Final = plan
        self.upstream: Final = tuple(upstream)
        """Tasks whose result is in the user's own cache."""
        self.graph: Final[Graph] = plan.to_graph((*plan.local(), *self.upstream), prefix)
        self.url: Final = f"{loopback.url}/{visit.name}"
        self.failed: Final[dict[TaskId, None]] = {}
        """Tasks that failed on an agent, and which turbo has been left to run itself."""
        self.given: Final[dict[TaskId, None]] = {}
        """Tasks whose result turbo could take from an agent."""
        self.skipped: Final[dict[TaskId, None]] = {}
        """Tasks that the mesh gave up, since what they depend on failed; turbo may see that in another way."""
        self.elsewhere: Callable[[], Iterable[TaskId]] = tuple
        """Tasks that other machines have been given, and which are not done."""
        self._let_on: dict[str, None] = {}
        """Hashes that turbo has been told to be without, so that it gets on."""
        self.visit: Final = visit
        self.artifacts: Final = loopback.artifacts
        self.ended = trio.Event()
        self.exit_code = 0
        self._began_ns = time.time_ns()
        for task in self.graph.tasks.values():
            if turbo_id(task) not in plan.kept:
                visit.hold(task.key)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, nursery: trio.Nursery, plan: TurboPlan, loopback: Loopback, prefix: str = ""
    ) -> "AsyncIterator[TurboSession]":
        """A session for as long as the command runs. `nursery` holds what gives results to the user's own cache, which has some time at the end."""
        tasks = [task for task in plan.dry.tasks.values() if task.exists and task.cache]
        visit = loopback.artifacts.open((task.hash for task in tasks), plan.remote)
        try:
            absent = [task for task in tasks if task.id not in plan.local()]
            have = dict.fromkeys(await visit.have(task.hash for task in absent))
            nursery.start_soon(visit.push)
            yield cls(plan, loopback, visit, [task.id for task in absent if task.hash in have], prefix)
            visit.finish()
            with trio.move_on_after(FLUSH_MS / 1_000):
                await visit.wait_pushed()
        finally:
            await visit.aclose()

    def deliver(self, task_id: TaskId, status: Status, artifact: Blob | None) -> None:
        """A task is decided. `artifact` is in the blob store. Raises `CorruptError` where it is not what turbo could restore."""
        task = self.graph.tasks[task_id]
        if status == "success" and artifact is not None and self.artifacts.stored(task.key) is None:
            self.artifacts.offer(task.key, artifact)
            self.visit.publish(task.key)
            self.given[task_id] = None
        if status == "failure" and not self.ended.is_set():
            self.failed[task_id] = None
        if status == "skipped":
            self.skipped[task_id] = None
        self.visit.release(task.key)

    def all_is_new(self) -> bool:
        """Whether turbo is to print what is new, and all is: what an agent does now is in a cache to turbo, which would not print it."""
        at_hand = bool(self.upstream) or any(task.local for task in self.plan.dry.tasks.values())
        return self.plan.new_only and not at_hand

    def recovered(self) -> tuple[TaskId, ...]:
        """Tasks that failed on an agent, and that turbo then ran here without failing: their results are not to be relied on."""
        return self._put_of(self.failed)

    def not_taken(self) -> tuple[TaskId, ...]:
        """Tasks that an agent has done, and that turbo ran again all the same: it did not like the artifact, or its signature."""
        return self._put_of(task for task in self.given if self.graph.tasks[task].key not in self._let_on)

    def let_on(self, but: Container[str]) -> None:
        """Let turbo be without the result that it has waited for the longest, `but` for those of these hashes."""
        self._let_on[self.visit.release_longest_held(but)] = None

    def ran_all_the_same(self, workspace: Path) -> tuple[TaskId, ...]:
        """Tasks that turbo ran here behind one that had failed, as it does with `--continue`."""
        return tuple(task for task in self.skipped if self.has_run(task, workspace))

    def afterwards(self, workspace: Path) -> Iterator[str]:
        """What a person should know when the command has ended."""
        if self.visit.strays and not self.complete():
            yield (
                f"turbo did {len(self.visit.strays)} task(s) here whose hashes are not those of its own plan, so that it asked for no result of them: "
                "something that it hashes is not the same for `turbo --dry` and for the run; what it is to have done counts as not done"
            )
        for task in self.recovered():
            yield f"{task} failed on an agent and passed on the main job: it is flaky, or the machines differ"
        for task in self.not_taken():
            why = "do both have the same signature key?" if self.plan.signed else "it did not take the result"
            yield f"{task} was done by an agent, and turbo did it again: {why}"
        if went_on := self.ran_all_the_same(workspace):
            yield f"turbo --continue: {', '.join(went_on)} ran on the main job, behind a failure; counted as skipped"

    def has_run(self, task_id: TaskId, workspace: Path) -> bool:
        """Whether turbo has put its result, or written its log, since this session began."""
        task = self.graph.tasks[task_id]
        if self.visit.put(task.key) is not None:
            return True
        try:
            return (workspace / str(task.payload["log"])).stat().st_mtime_ns >= self._began_ns
        except OSError:
            return False

    async def have_ended(self, tasks: Iterable[TaskId], workspace: Path) -> bool:
        """Whether turbo has run all these here, and none of them runs any more."""
        for task in tasks:
            if not self.has_run(task, workspace) or await _runs(self.graph.tasks[task].key):
                return False
        return True

    def came_to_nothing(self, task_id: TaskId, workspace: Path) -> bool:
        """Whether turbo has begun with it here, and has no result of it: it runs still, or it has failed. Of what turbo does not cache nobody can tell."""
        task = self.graph.tasks[task_id]
        nothing = self.artifacts.stored(task.key) is None and self.visit.put(task.key) is None
        return task.cache and nothing and self.has_run(task_id, workspace)

    def failed_by_themselves(self, workspace: Path) -> tuple[TaskId, ...]:
        """Tasks that turbo was let on to, so that nobody was given them, and which it has failed for: where another has failed it may have ended them."""
        if self.exit_code == 0 or self.failed:
            return ()
        let_on = (task.id for task in self.graph.tasks.values() if task.key in self._let_on)
        return tuple(task for task in let_on if self.came_to_nothing(task, workspace))

    def _put_of(self, tasks: Iterable[TaskId]) -> tuple[TaskId, ...]:
        return tuple(task for task in tasks if self.visit.put(self.graph.tasks[task].key) is not None)

    def complete(self) -> bool:
        """Whether turbo has got, or made, everything that it names: one that was told to stop ends without an error as well."""
        return all(
            self.artifacts.stored(task.key) is not None
            or self.visit.put(task.key) is not None
            or self.plan.has(turbo_id(task))
            for task in self.graph.tasks.values()
            if task.cache
        )

    def let_go(self) -> None:
        """Let turbo wait for nothing any more. To be called before it is ended: it heeds no SIGTERM while one of its reads is held."""
        self.visit.release_all()

    def command_ended(self, exit_code: int) -> None:
        """The user's command is over."""
        self.exit_code = exit_code
        self.ended.set()
        self.let_go()


class MainTurboRunner:
    """A `Runner` for what stays on the main job, where turbo itself restores and runs."""

    def __init__(self, session: TurboSession, workspace: Path) -> None:
        self._session = session
        self._workspace = workspace
        self._edited = Edited(workspace)

    async def restore(self, task: Task, outputs: Blob) -> None:
        """Nothing: turbo restores what it needs before it needs it."""

    async def run(self, task: Task, log: LogSink) -> Outcome:
        """Let turbo do it, and see what comes of it. Where that cannot be known, the call does not return, and is to be cancelled."""
        del log  # turbo prints it
        started_ms = now_ms()
        mark = await self._edited.mark() if task.where == "any" else None
        artifact, problem = await self._at_hand(task)
        self._session.visit.release(task.key)
        if artifact is not None or self._session.plan.has(turbo_id(task)):
            return Outcome("success", 0, started_ms, now_ms(), artifact, problem=problem, key=task.key)
        status, problem = await self._watch(task)
        outputs = self._session.artifacts.stored(task.key) if status == "success" and task.cache else None
        if outputs is not None and mark is not None and await self._edited.since(mark, task.outputs):
            outputs = None  # it does not have what was changed
        return Outcome(
            status=status,
            exit_code=0 if status == "success" else self._session.exit_code,
            started_ms=started_ms,
            ended_ms=now_ms(),
            outputs=outputs,
            problem=problem,
            key=task.key,
        )

    async def aclose(self) -> None:
        """Nothing is kept running."""

    async def _at_hand(self, task: Task) -> tuple[Blob | None, str]:
        """A result that this machine need only take: from turbo's own cache here, or the user's elsewhere. Where turbo has it, which asks nobody
        then, and it cannot be taken, why.
        """
        plan = self._session.plan
        if turbo_id(task) in self._session.upstream:
            return await self._session.visit.fetch(task.key), ""
        if not plan.has(turbo_id(task)):
            return None, ""
        if plan.signed:
            return None, _in_vain("it is not signed there")
        try:
            duration_ms = _duration_ms(plan.cache_dir / f"{task.key}-meta.json")
            archive = plan.cache_dir / f"{task.key}.tar.zst"
            return await self._session.artifacts.adopt(task.key, archive, duration_ms), ""
        except StorageError as error:
            return None, _in_vain(str(error))

    async def _watch(self, task: Task) -> tuple[Literal["success", "failure"], str]:
        """How the task ended, and what a person should know of it."""
        session = self._session
        while True:
            news = session.visit.news
            if (problem := session.visit.put(task.key)) is not None:
                return "success", f"its result cannot be passed on: {problem}" if problem else ""
            if session.ended.is_set():
                return await self._judge(task)
            with trio.move_on_after(PATIENCE_MS / 1_000):
                await news.wait()
            if not news.is_set() and not await _runs(task.key):
                self._let_on(task)

    def _let_on(self, task: Task) -> None:
        """Turbo does not come to `task`: it may be waiting for others first. What other machines are at is not done here as well."""
        session = self._session
        elsewhere = frozenset(session.graph.tasks[other].key for other in session.elsewhere())
        if (elsewhere or task.where == "main") and self._came_to_nothing(task):
            # It did, and that has failed, which only turbo's end will tell; until then it gets on with what the others bring, if it goes on at all.
            if not session.plan.goes_on:
                session.let_go()
        elif task.where == "any":
            session.let_on(elsewhere)

    async def _judge(self, task: Task) -> tuple[Literal["success", "failure"], str]:
        """Turbo has ended without having put the task."""
        session = self._session
        if session.exit_code == 0 and session.complete():
            return "success", ""
        if session.exit_code != 0 and not session.failed and self._has_failed(task):
            return "failure", ""
        return await trio.sleep_forever()

    def _has_failed(self, task: Task) -> bool:
        """Whether it is what turbo has failed for: it has begun, and came to nothing. Of what it does not cache turbo leaves no trace, so
        that this is to blame where nothing else is.
        """
        return self._came_to_nothing(task) or not (
            task.cache or any(self._came_to_nothing(other) for other in self._session.graph.tasks.values())
        )

    def _came_to_nothing(self, task: Task) -> bool:
        return self._session.came_to_nothing(task.id, self._workspace)


def _in_vain(reason: str) -> str:
    return f"turbo has its result in its cache on the main job, and no agent can get it: {reason}"


def _duration_ms(meta: Path) -> int:
    """How long a task took, as turbo's own cache says beside its result."""
    try:
        return Reader(canonical.decode(meta.read_bytes()), "meta").number("duration", default=0)
    except (OSError, RemoteError):
        return 0


async def _runs(turbo_hash: str) -> bool:
    """Whether a process of that task is there: turbo tells each one its hash."""
    return await trio.to_thread.run_sync(lambda: any(_of_task(each, turbo_hash) for each in psutil.process_iter()))


def _of_task(process: psutil.Process, turbo_hash: str) -> bool:
    try:
        return process.environ().get("TURBO_HASH") == turbo_hash
    except (psutil.Error, OSError):
        return False  # gone, or another user's
