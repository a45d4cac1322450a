"""Runs and restores nx's tasks in one workspace, through the nx that is kept running there.

A cacheable task has succeeded only when nx says so *and* nx has put its archive into the loopback cache: that archive is the task's outputs.
nx caches nothing for a task with `cache: false`; its outputs travel in dte's own archive (carried.py).
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import trio
from msgspec import Struct

from mesh.adapters.base import LogSink, Outcome
from mesh.adapters.nx.beside import for_log, from_json, problem_of
from mesh.adapters.nx.carried import Carried, Edits, changed
from mesh.adapters.nx.environment import worker_environment
from mesh.adapters.nx.errors import DriftError, NotKeptError, RestoreError, WorkerError
from mesh.adapters.nx.ground import Ground, Present
from mesh.adapters.nx.node_options import here as options_here
from mesh.adapters.nx.node_options import with_pnp
from mesh.adapters.nx.node_path import here, likely_node_path
from mesh.adapters.nx.plan import nx_caches, nx_graph, nx_id
from mesh.adapters.nx.session import Loopback
from mesh.adapters.nx.worker import NxWorker
from mesh.errors import MeshError, UsageError
from mesh.exec.cookie import COOKIE_VARIABLE, new_cookie
from mesh.exec.edits import Edited, only_on_main
from mesh.exec.ending import end_processes
from mesh.exec.globs import Globs
from mesh.exec.passing import taken
from mesh.exec.process import now_ms
from mesh.graph import Graph, Task
from mesh.store.blobs import BlobStore
from mesh.types import Blob, TaskId, UnixMs
from mesh.wire.canonical import Reader

STOP_MS: Final = 10_000
"""How long a task may take to end before the nx that runs it is ended with it."""
GRACE_MS: Final = 5_000
TIMED_OUT: Final = 124
"""The exit code of a task that was ended for its time, as of the command `timeout`."""

NODE_OPTIONS: Final = "NODE_OPTIONS"

_NO_SESSION: Final = -1
_ANSWER_MS: Final = 100
_FROM_CACHE: Final = ("local-cache", "local-cache-kept-existing", "remote-cache")
_SUCCESSES: Final = ("success", *_FROM_CACHE)


class _Kept(Struct, frozen=True):
    """An nx that is kept running, what was started with which NODE_PATH, and its own cache."""

    worker: NxWorker
    node_path: tuple[str, ...]
    private: Path

    async def end(self) -> None:
        await self.worker.end()
        await trio.to_thread.run_sync(lambda: shutil.rmtree(self.private, ignore_errors=True))


class _Plan(Struct):
    """One nx command's tasks, and the nx that was started for them: it has read the workspace once, and what tasks and scripts change later it does not see."""

    graph: Graph
    kept: _Kept
    variables: tuple[dict[str, str], tuple[str, ...]]
    told: int = 0
    """Which start of that nx has been told of it."""
    users: int = 0

    @contextmanager
    def in_use(self) -> Iterator[None]:
        self.users += 1
        try:
            yield
        finally:
            self.users -= 1


class NxRunner:
    """A `Runner`. `load` each graph before its tasks; `start` may be called early, to have nx loaded by then."""

    def __init__(
        self,
        nursery: trio.Nursery,
        workspace: Path,
        blobs: BlobStore,
        loopback: Loopback,
        environment: Mapping[str, str],
    ) -> None:
        self._nursery = nursery
        self._workspace = workspace
        self._environment = environment
        self._loopback = loopback
        self._archives = loopback.archives
        # nx's own cache here is empty at first and gone afterwards: a result that only it holds could not be passed on.
        self._private = Path(tempfile.mkdtemp(prefix="dte-nx-"))
        self._early: _Kept | None = None
        """Started before there was a plan, for the first one."""
        self.ground: Final = Ground()
        self._carried = Carried(workspace, blobs)
        self._edited = Edited(workspace)
        self._awaited: set[TaskId] = set()
        """Tasks that others wait for."""
        self._plans: list[_Plan] = []
        self._plan_of: dict[TaskId, _Plan] = {}
        self._telling = trio.Lock()
        self._present = Present()
        self._archives_of: dict[TaskId, Blob] = {}
        """The outputs of those."""

    async def start(self) -> None:
        """Have nx load the workspace. Raises `WorkerError` where it cannot."""
        if not self._plans:
            node_path = _real(await likely_node_path(self._environment, self._workspace))
            if not self._plans:
                self._early = self._started_with(node_path)
                await self._early.worker.start()
                return
        plan = self._plans[-1]
        with plan.in_use():
            await plan.kept.worker.start()

    def load(self, graph: Graph, environment: Mapping[str, str] | None = None) -> None:
        """Tell of tasks to come: nx needs to see a task's whole graph to compute its hash. What was kept running for earlier ones is ended where nothing uses it.
        `environment`: what the nx of this workspace that has planned them was started with.
        """
        for earlier in self._plans:
            if not earlier.users:
                self._nursery.start_soon(earlier.kept.end)
        self._awaited.update(dep for task in graph.tasks.values() for dep in task.deps)
        payload = next((task.payload for task in graph.tasks.values()), {})
        variables = self._variables_of(payload)
        node_path = _real(here(Reader(payload, "payload").texts("node_path", default=()), self._workspace))
        kept, self._early = self._early, None
        if kept is not None and kept.node_path != node_path:
            self._nursery.start_soon(kept.end)
            kept = None
        plan = _Plan(graph, kept or self._started_with(node_path, environment, variables), variables)
        self._plans.append(plan)
        self._plan_of.update(dict.fromkeys(graph.tasks, plan))

    def _variables_of(self, payload: Mapping[str, Any]) -> tuple[dict[str, str], tuple[str, ...]]:
        """What nx's tasks get beside what it was started with, and what they must not have. A script on the main job may have set NODE_OPTIONS for its nx,
        and the next one not.
        """
        values, unset = taken(payload)
        if NODE_OPTIONS in values or NODE_OPTIONS in unset:
            return values, unset
        own = with_pnp(self._environment.get(NODE_OPTIONS, ""), self._workspace)
        told = Reader(payload, "payload").text("node_options", default=own)
        options = options_here(told, self._workspace)
        return ({**values, NODE_OPTIONS: options}, unset) if options else (values, (*unset, NODE_OPTIONS))

    async def restore(self, task: Task, outputs: Blob) -> None:
        """Put the outputs of `task` in place. Raises `CorruptError`, and `RestoreError` where nx did not do it."""
        async with self.ground.restoring(task):
            await self._put_in_place(task, outputs)
            for narrower in [] if task.cache else self._present.within(task):
                await self._put_in_place(narrower, self._archives_of[narrower.id])
        self._is_here(task, outputs)

    async def run(self, task: Task, log: LogSink, *, planned_here: bool = False) -> Outcome:
        """Run `task`; where it was planned in this very workspace, it goes by the hash of the plan, whatever has become of its inputs. Raises `DriftError` where this workspace is not the one it was planned in, `NotKeptError` where it succeeded in vain,
        `WorkerError` where nx itself broke: none of these says anything about the task.
        """
        plan = self._plan_of[task.id]
        # What nx caches and runs elsewhere leaves nothing but its outputs on the main job.
        mark = await self._edited.mark() if nx_caches(task) and not planned_here else None
        async with self.ground.running(task, plan.graph):
            before = await self._edits(task)
            began_ms = now_ms()
            words = _Words(log)
            with plan.in_use():
                worker = await self._told(plan)
                reply = await (run := _Run(worker, task, words.piece, compare=not planned_here)).finish()
            edited = changed(before, await self._edits(task))
        if "drift" in reply:
            raise DriftError(task.id, tuple(reply["drift"]))
        success = reply["status"] in _SUCCESSES and not run.timed_out
        whole = reply["output"].encode()
        beside = from_json(reply["beside"])
        said = words.end(whole + for_log(task, beside, failed=not success))
        problem = (
            f"timed out after {task.timeout_ms / 1_000:g} s and was ended" if run.timed_out else problem_of(beside)
        )
        try:
            if success:
                outputs = await self._outputs(task, reply["hash"], edited)
            else:
                outputs = None if planned_here else await self._remains(task)
        except NotKeptError as error:
            error.log, error.problem = said, problem
            raise
        if success and outputs is not None:
            self._is_here(task, outputs)
        if success and mark is not None and (edited := _beside(task, await self._edited.since(mark))):
            outputs, problem = None, only_on_main(edited)
        return Outcome(
            status="success" if success else "failure",
            exit_code=0 if success else TIMED_OUT if run.timed_out else reply["code"] or 1,
            started_ms=UnixMs(reply["started_ms"] or began_ms),
            ended_ms=UnixMs(reply["ended_ms"] or now_ms()),
            outputs=outputs,
            problem=problem,
            key=reply["hash"],
            cached=reply["status"] in _FROM_CACHE,
            log=said,
        )

    async def show_remains(self, task: Task, remains: Blob) -> None:
        """Put what `task` left when it failed beside what is here, as far as that can be: the failure itself is what counts."""
        with suppress(MeshError):
            async with self.ground.restoring(task):
                await self._carried.restore(task, remains, beside=True)

    async def aclose(self) -> None:
        """End nx and what is left of its tasks, and remove its private cache."""
        with trio.CancelScope(shield=True):
            for kept in [*(plan.kept for plan in self._plans), *([self._early] if self._early else [])]:
                await kept.worker.end()
            await trio.to_thread.run_sync(lambda: shutil.rmtree(self._private, ignore_errors=True))

    async def _put_in_place(self, task: Task, outputs: Blob) -> None:
        if not task.cache:
            await self._carried.restore(task, outputs)
            return
        await self._archives.check(outputs)
        # Any name will do for restoring, and the archive's own holds where the hash is not known here.
        name = str(int(outputs.digest.removeprefix("sha256:")[:16], 16))
        self._archives.offer(name, outputs)
        others = self._present.to_put_back(task, self._plan_of[task.id].graph)
        with (plan := self._plans[-1]).in_use():  # any nx will do, and the latest one is the likeliest to be running
            worker = await self._told(plan)
            request = {"do": "restore", "task": task.payload["tasks"][0]["task"], "name": name, "others": others}
            reply = await worker.request(request)
        if not reply["restored"]:
            raise RestoreError(f"{task.id}: nx did not restore the outputs, although they are here")

    def _is_here(self, task: Task, outputs: Blob) -> None:
        self._present.add(task)
        self._archives_of[task.id] = outputs

    async def _outputs(self, task: Task, nx_hash: str, edited: tuple[str, ...]) -> Blob | None:
        if not task.cache:
            return await self.pack(task, edited)
        kept = self._archives.stored(nx_hash)
        if kept is None:
            reason = self._archives.not_kept(nx_hash) or "nx sent no archive of them to dte's cache"
            raise NotKeptError(task.id, reason)
        return kept

    async def _remains(self, task: Task) -> Blob | None:
        """What `task` left where its outputs belong when it failed, reports of tests above all: of a failure nx keeps nothing."""
        with suppress(MeshError):
            return await self._carried.pack(task)
        return None

    async def pack(self, task: Task, edited: tuple[str, ...] = ()) -> Blob | None:
        """The outputs of `task` as they are in this workspace, and the files `edited`, in dte's own archive; None where there is nothing of the kind. Raises
        `NotKeptError` for what no archive can hold, as a link to a place outside the workspace.
        """
        try:
            return await self._carried.pack(task, edited)
        except MeshError as error:
            raise NotKeptError(task.id, str(error)) from None

    async def _edits(self, task: Task) -> Edits:
        """The files that are changed, where `task` may change some that others read."""
        if nx_caches(task) or task.id not in self._awaited:
            return {}
        graph = self._plan_of[task.id].graph
        return await self._carried.edits(graph.tasks[dep] for dep in graph.closure(task.id))

    def _started_with(
        self,
        node_path: tuple[str, ...],
        environment: Mapping[str, str] | None = None,
        variables: tuple[Mapping[str, str], tuple[str, ...]] = ({}, ()),
    ) -> _Kept:
        """One that is started when it is first needed, with a cache of its own: what another one has put there, it may have put under a stale hash."""
        private = Path(tempfile.mkdtemp(dir=self._private))
        base = self._environment if environment is None else environment
        values, unset = variables
        changed = {name: value for name, value in {**base, **values}.items() if name not in unset}
        changed.pop(NODE_OPTIONS, None)
        if NODE_OPTIONS in base:  # what its tasks have in it is for them
            changed[NODE_OPTIONS] = base[NODE_OPTIONS]
        url, token = self._loopback.url, self._loopback.token
        started_with = worker_environment(changed, self._workspace, node_path, private, url, token)
        return _Kept(NxWorker(self._nursery, self._workspace, started_with), node_path, private)

    async def _told(self, plan: _Plan) -> NxWorker:
        """The nx for `plan`, running and told of it."""
        worker = plan.kept.worker
        await worker.start()
        async with self._telling:
            if plan.told != worker.generation:
                generation = worker.generation
                values, unset = plan.variables
                about = {"graph": nx_graph(plan.graph), "values": values, "unset": list(unset)}
                await worker.request({"do": "plan", **about})
                plan.told = generation
        return worker


def _beside(task: Task, edited: tuple[str, ...]) -> tuple[str, ...]:
    """Those that are no outputs of it, as far as dte understands these."""
    try:
        outputs = Globs(task.outputs)
    except UsageError:
        return ()
    return tuple(path for path in edited if not outputs.match(path))


def _real(node_path: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(os.path.realpath, node_path))


class _Words:
    """What a task prints: pieces as they come, and at the end the whole, in which nx may have put them in another order and between other lines."""

    def __init__(self, log: LogSink) -> None:
        self._log = log
        self._pieces = bytearray()

    def piece(self, text: str) -> None:
        self._pieces += text.encode()
        self._log(text.encode())

    def end(self, whole: bytes) -> bytes | None:
        """What is to be told as `Outcome.log`."""
        if not whole.startswith(self._pieces):
            return whole
        self._log(whole[len(self._pieces) :])
        return None


class _Run:
    """One task on its way through the worker, which is brought to its end whatever happens to who waits for it."""

    def __init__(self, worker: NxWorker, task: Task, said: Callable[[str], None], *, compare: bool) -> None:
        self._compare = compare
        self._worker = worker
        self._said = said
        self._task = task
        self._cookie = new_cookie({COOKIE_VARIABLE: worker.cookie})
        self._done = trio.Event()
        self._reply: Mapping[str, Any] | WorkerError = WorkerError(
            "nx was ended, since a task did not let itself be ended"
        )
        self.timed_out = False

    async def finish(self) -> Mapping[str, Any]:
        """Nx's reply. Raises `WorkerError`."""
        timeout_ms = self._task.timeout_ms
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._ask)
            try:
                with trio.move_on_after(timeout_ms / 1_000 if timeout_ms else float("inf")) as limit:
                    await self._done.wait()
                self.timed_out = limit.cancelled_caught
            finally:
                if not self._done.is_set():
                    with trio.CancelScope(shield=True):
                        await self._stop()
        if isinstance(self._reply, WorkerError):
            raise self._reply
        return self._reply

    async def _ask(self) -> None:
        with trio.CancelScope(shield=True):
            try:
                self._reply = await self._worker.request(
                    {
                        "do": "run",
                        "id": nx_id(self._task),
                        "hash": self._task.key,
                        "inputs": self._task.payload["inputs"],
                        "compare": self._compare,
                        "cookie": self._cookie,
                    },
                    self._said,
                )
            except WorkerError as error:
                self._reply = error
        self._done.set()

    async def _stop(self) -> None:
        with trio.move_on_after(STOP_MS / 1_000):
            with suppress(WorkerError):
                await self._worker.request({"do": "cancel", "id": nx_id(self._task)})
            while not self._done.is_set():
                # Again and again: nx may start the next of a task's commands when one has ended.
                await end_processes(self._cookie, _NO_SESSION, GRACE_MS)
                with trio.move_on_after(_ANSWER_MS / 1_000):
                    await self._done.wait()
        if not self._done.is_set():
            await self._worker.end()
            await self._done.wait()
