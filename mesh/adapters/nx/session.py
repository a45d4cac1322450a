"""The main job's side: an nx process under `dte run` hands over its plan, and shows each result as dte delivers it.

    plan read ──▶ declined: that nx runs everything itself, as if dte were not there ──▶ over: what became of the tasks
        └───────▶ accepted ──▶ begun: shown what its own cache has ──▶ delivered, one by one ──▶ finished: nx prints its summary and exits

Where this side stops in between, the connection closes, and nx ends with an error: never with a success that nobody saw.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, Literal, Protocol

import trio
from msgspec import Struct

from mesh.adapters.base import LogSink, Outcome
from mesh.adapters.nx.beside import Beside, ended
from mesh.adapters.nx.errors import NotKeptError, RestoreError, WorkerError
from mesh.adapters.nx.ground import Ground, Present
from mesh.adapters.nx.link import LineReader, listen
from mesh.adapters.nx.plan import Plan, nx_caches, nx_id
from mesh.errors import RemoteError
from mesh.exec.process import now_ms
from mesh.graph import Graph, Resources, Task
from mesh.types import Blob, TaskId, UnixMs
from mesh.wire import canonical
from mesh.wire.canonical import Reader

PLAN_WAIT_MS: Final = 60_000

_log = logging.getLogger(__name__)

__all__ = ["Archives", "Delivery", "Loopback", "MainRunner", "NxSession", "Status", "listen", "serve"]

Status = Literal["success", "failure", "skipped", "cancelled"]


class Archives(Protocol):
    """What nx is served from: the cache on the loopback."""

    def offer(self, nx_hash: str, archive: Blob) -> None: ...

    def stored(self, nx_hash: str) -> Blob | None: ...

    def not_kept(self, nx_hash: str) -> str: ...

    async def check(self, archive: Blob) -> None: ...


class Loopback(Struct, frozen=True):
    """Where nx finds that cache, and the cache itself."""

    url: str
    token: str
    archives: Archives


class Delivery(Struct, frozen=True):
    """How one task ended, for nx to show. `hash` is nx's own; `archive` is what nx has to restore from, None where nothing is to be restored:
    the task failed, has no outputs, ran in this very workspace, or its outputs have been put in place by other means.
    """

    task: TaskId
    status: Status
    exit_code: int = 0
    terminal_output: bytes = b""
    started_ms: UnixMs = UnixMs(0)
    ended_ms: UnixMs = UnixMs(0)
    hash: str = ""
    archive: Blob | None = None
    cached: bool = False
    """It did not run now: an earlier run's result was used."""
    ended: tuple[Beside, ...] = ()
    """Continuous tasks that ran beside it, and ended by themselves."""


class ByItself(Struct, frozen=True):
    """How one task ended that nx did without dte. `cached`: it did not run, its result was there."""

    task: TaskId
    status: Status
    cached: bool
    took_ms: int

    @classmethod
    def of(cls, prefix: str, name: str, told: Any) -> "ByItself":
        """From what main.cjs says. nx calls a result that was there by where that was, as in `local-cache`, and `stopped` what it did not get to."""
        read = Reader(told, name)
        said = read.text("status")
        status: Status = _STATUSES.get(said, "success" if "cache" in said else "cancelled")
        return cls(TaskId(prefix + name), status, "cache" in said, read.number("ms"))


_STATUSES: Final[Mapping[str, Status]] = {"success": "success", "failure": "failure", "skipped": "skipped"}


class NxSession:
    """One nx process that has handed over its plan. Answer with `accept` or `decline`."""

    def __init__(self, stream: trio.abc.Stream, lines: LineReader, plan: Plan, archives: Archives, prefix: str) -> None:
        self.plan: Final = plan
        self.prefix: Final = prefix
        self.graph = plan.to_graph(prefix)
        self.at_hand: dict[str, None] = {}
        """Hashes whose archive the main job has without anybody running the task."""
        self._stream = stream
        self._lines = lines
        self._archives = archives
        self._turn = trio.Lock()
        self._shown: dict[TaskId, trio.Event] = {}
        self._present = Present()
        self._local: set[TaskId] = set()
        """Those which nx has shown as results of its own cache."""

    async def accept(self) -> None:
        """Take the run over: nx shows what needs nobody else, and waits for what is delivered from here on. Raises `WorkerError`."""
        await self._send({"do": "accept"})
        await self._receive()
        for task in self.graph.tasks.values():
            if nx_id(task) in self.plan.settled:
                self._of_this_machine(task.id)
        for task in self.plan.shown(self.prefix):
            self._present.add(task)

    async def decline(self, reason: str) -> None:
        """Have nx do all by itself; `reason` is printed for the user."""
        await self._send({"do": "decline", "reason": reason})

    async def hear_out(self, tell: Callable[[ByItself], None]) -> None:
        """Tell what became of each task of an nx that was declined, when it has done them all. Raises `WorkerError` where it ends without a word."""
        tasks = Reader(await self._receive(), "nx").table("tasks")
        # nx waits for no more than this word; what ends with it must not end what is to be told.
        with trio.CancelScope(shield=True), suppress(WorkerError):
            await self._send({"do": "noted"})
        for name, told in tasks.items():
            tell(ByItself.of(self.prefix, name, told))

    def tell_shown(self, tell: Callable[[ByItself], None]) -> None:
        """Tell of each task that nx has shown from its own cache and that is none of the graph's, since nothing that is left to do waits for it."""
        for task in self.plan.shown(self.prefix):
            tell(ByItself(task.id, "success", cached=True, took_ms=0))

    async def leave(self) -> None:
        """Have nx exit without a word: its plan was all that was wanted."""
        await self._send({"do": "leave"})

    def take(self, hashes: Iterable[str]) -> None:
        """The archives of these `hashes` are in the cache on the loopback: their tasks are the main job's own, and done at once."""
        self.at_hand = dict.fromkeys(hashes)
        if self.at_hand:
            here = Resources(cpu=0)
            tasks = self.graph.tasks.values()
            self.graph = Graph.of(
                replace(task, where="main", resources=here) if task.key in self.at_hand else task for task in tasks
            )

    def archive_at_hand(self, task: Task) -> Blob | None:
        """The archive of `task`, where it is one of these."""
        return self._archives.stored(task.key) if task.key in self.at_hand else None

    async def deliver(self, delivery: Delivery) -> None:
        """Have nx bring the outputs into the workspace and print what the task printed. Raises `RestoreError` where it could not, and may be
        called again for the same task then; `WorkerError` where nx is gone.
        """
        if delivery.task in self._local:
            return
        task = self.graph.tasks[delivery.task]
        if delivery.archive is not None:
            await self._archives.check(delivery.archive)
            self._archives.offer(delivery.hash, delivery.archive)
        async with self._turn:
            await self._send(
                {
                    "do": "result",
                    "id": nx_id(task),
                    # As nx tells of what a stopped run did not get to: it fails the run, and blames no task.
                    "status": "skipped" if delivery.status == "cancelled" else delivery.status,
                    "code": delivery.exit_code,
                    "output": delivery.terminal_output.decode(errors="replace"),
                    "started_ms": delivery.started_ms,
                    "ended_ms": delivery.ended_ms,
                    "hash": delivery.hash,
                    "cached": delivery.cached,
                    "restore": delivery.archive is not None,
                    "ended": [[one.id, one.code, one.output] for one in delivery.ended],
                    "others": self._present.to_put_back(task, self.graph),
                }
            )
            answer = await self._receive()
            if answer.get("do") != "shown":
                raise RestoreError(f"{delivery.task}: nx did not restore the outputs on the main job")
        if delivery.status == "success":
            self._present.add(task)
        self._event(delivery.task).set()

    def is_local(self, task: Task) -> bool:
        """Whether nx's cache on this machine has the result of `task`."""
        return nx_id(task) in self.plan.local

    async def show_local(self, task: Task) -> None:
        """Have nx take the result of `task` from its cache on this machine. Raises `RestoreError` where it has gone from there."""
        if task.id in self._local:
            return
        async with self._turn:
            await self._send({"do": "local", "id": nx_id(task), "others": self._present.to_put_back(task, self.graph)})
            answer = await self._receive()
        if answer.get("do") != "shown":
            raise RestoreError(f"{task.id}: its result has gone from nx's cache on this machine")
        self._of_this_machine(task.id)

    async def keep(self, task: Task, nx_hash: str, output: bytes) -> None:
        """Have nx put what `task` has left in the workspace into its cache on this machine, as it does with what it runs itself. Raises `WorkerError`."""
        said = output.decode(errors="replace")
        # An answer that nobody waits for would be taken for that of the next message.
        with trio.CancelScope(shield=True):
            async with self._turn:
                await self._send({"do": "keep", "id": nx_id(task), "hash": nx_hash, "output": said})
                await self._receive()

    def _of_this_machine(self, task: TaskId) -> None:
        self._local.add(task)
        self._present.add(self.graph.tasks[task])
        self._event(task).set()

    async def wait_delivered(self, task: TaskId) -> None:
        """Until nx has the outputs of `task` in place on the main job."""
        await self._event(task).wait()

    async def finish(self) -> None:
        """All results have been delivered: let nx sum up and exit. Returns when it has let go."""
        async with self._turn:
            await self._send({"do": "finish"})
            with suppress(WorkerError):
                await self._receive()

    def _event(self, task: TaskId) -> trio.Event:
        return self._shown.setdefault(task, trio.Event())

    async def _send(self, message: Mapping[str, Any]) -> None:
        try:
            await self._stream.send_all(canonical.encode(message) + b"\n")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise _gone() from None

    async def _receive(self) -> dict[str, Any]:
        try:
            message = await self._lines.next()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            message = None
        if message is None:
            raise _gone()
        return message


class Workspace(Protocol):
    """The main job's own workspace, and the nx that is kept running there."""

    @property
    def ground(self) -> Ground: ...

    async def run(self, task: Task, log: LogSink, *, planned_here: bool = False) -> Outcome: ...

    async def pack(self, task: Task) -> Blob | None: ...

    async def aclose(self) -> None: ...


class MainRunner:
    """Runs tasks in the main job's own workspace, where nx itself restores what others made: two at once would disturb each other."""

    def __init__(self, workspace: Workspace, session: NxSession) -> None:
        self._workspace = workspace
        self._session = session
        self._needed = session.plan.needed()

    async def restore(self, task: Task, outputs: Blob) -> None:
        """Wait until nx has restored it."""
        del outputs
        await self._session.wait_delivered(task.id)

    async def run(self, task: Task, log: LogSink) -> Outcome:
        """Take it from nx's cache here, or run it here. What it leaves is where it belongs, also where it could not be stored for others."""
        if self._session.is_local(task):
            with suppress(RestoreError):
                return await self._take(task)
        started_ms = now_ms()
        if (archive := self._session.archive_at_hand(task)) is not None:
            return Outcome("success", 0, started_ms, now_ms(), archive, key=task.key, cached=True)
        said: list[bytes] = []

        def heard(data: bytes) -> None:
            said.append(data)
            log(data)

        try:
            outcome = await self._workspace.run(task, heard, planned_here=True)
            if outcome.status == "success" and outcome.key and nx_caches(task):
                # At once: what runs next may write there.
                whole = b"".join(said) if outcome.log is None else outcome.log
                await self._session.keep(task, outcome.key, ended(task, outcome.problem, whole)[1])
            return outcome
        except NotKeptError as error:
            problem = "; ".join(filter(None, (str(error), error.problem)))
            return Outcome("success", 0, started_ms, now_ms(), problem=problem, key=task.key, log=error.log)

    async def _take(self, task: Task) -> Outcome:
        started_ms = now_ms()
        async with self._workspace.ground.restoring(task):
            await self._session.show_local(task)
        outputs, problem = None, ""
        if nx_id(task) in self._needed:
            try:
                outputs = await self._workspace.pack(task)
            except NotKeptError as error:
                problem = str(error)
        return Outcome("success", 0, started_ms, now_ms(), outputs, problem=problem, key=task.key, cached=True)

    async def aclose(self) -> None:
        """End what was kept running."""
        await self._workspace.aclose()


async def serve(
    listener: trio.SocketListener,
    archives: Archives,
    handle: Callable[[NxSession], Awaitable[None]],
    objected: Callable[[NxSession], Awaitable[None]] | None = None,
) -> None:
    """Have `handle` answer each nx that connects, until cancelled, and `objected` those whose plan is not for the mesh; by default they are declined.

    The tasks of a second nx and of later ones are prefixed with its number in the run, as in `2/p1:build`.
    """
    count = 0

    async def connected(stream: trio.SocketStream) -> None:
        nonlocal count
        lines = LineReader(stream)
        with trio.move_on_after(PLAN_WAIT_MS / 1_000):
            try:
                plan = Plan.from_json((await lines.next() or {}).get("plan"))
            except (RemoteError, trio.BrokenResourceError) as error:
                _log.warning("a process under the command is not the nx it was taken for: %s", error)
                return
            count += 1
            session = NxSession(stream, lines, plan, archives, f"{count}/" if count > 1 else "")
        await (handle if not plan.objection else objected or _declined)(session)

    await trio.serve_listeners(connected, [listener])


async def _declined(session: NxSession) -> None:
    await session.decline(session.plan.objection)


def _gone() -> WorkerError:
    return WorkerError("nx on the main job ended before it had shown every result")
