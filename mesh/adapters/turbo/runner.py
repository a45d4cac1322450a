"""Runs turbo's tasks in an agent's workspace, each by its id: what it depends on is read from the loopback cache, the task itself runs.

turbo writes what it restores in place, so that two at once could tear each other's files. Hence what was delivered since is brought in first,
by one turbo alone, which also fills turbo's private cache; with that, the turbo which runs the task finds everything in place and writes nothing.

A task has succeeded when turbo says so *and* has put an artifact under the planned hash: a turbo that is told to stop says so too. One that has
changed files which git tracks has no result to be passed on, since an artifact does not have these.
"""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import trio

from mesh.adapters.base import LogSink, Outcome
from mesh.adapters.turbo.command import program
from mesh.adapters.turbo.drift import compare, run_arguments
from mesh.adapters.turbo.environment import worker_environment
from mesh.adapters.turbo.errors import DriftError, NotKeptError, RestoreError, TurboError
from mesh.adapters.turbo.plan import turbo_id
from mesh.adapters.turbo.session import Loopback, Visit
from mesh.errors import StorageError
from mesh.exec.edits import Edited, only_on_main
from mesh.exec.passing import applied
from mesh.exec.process import Exited, Spec, run
from mesh.graph import Task
from mesh.types import Blob, TaskId

TIMED_OUT: Final = 124
"""The exit code of a task that was ended for its time, as of the command `timeout`."""
_LIVE: Final = ("--output-logs=new-only", "--log-prefix=none", "--log-order=stream")
_QUIET: Final = ("--output-logs=none",)


class TurboRunner:
    """A `Runner` (mesh.adapters.base) for agents. Results of an earlier run are not looked for: turbo's cache is private, and gone afterwards."""

    def __init__(self, workspace: Path, loopback: Loopback, environment: Mapping[str, str]) -> None:
        self._workspace = workspace
        self._loopback = loopback
        self._environment = environment
        self._private = Path(tempfile.mkdtemp(prefix="dte-turbo-"))
        self._restoring = trio.Lock()
        self._edited = Edited(workspace)
        self._pending: dict[TaskId, Task] = {}
        self._bare: dict[str, str] = {}
        """What turbo calls a task's result where nothing is passed to its command, and what it is called here."""

    async def restore(self, task: Task, outputs: Blob) -> None:
        """Have the result of `task` at hand: it is brought into the workspace before the next task starts. Raises `CorruptError`."""
        self._loopback.artifacts.offer(task.key, outputs)
        self._learn_name(task)
        self._pending[task.id] = task

    async def run(self, task: Task, log: LogSink) -> Outcome:
        """Run `task`. Raises `DriftError` where this is not the checkout it was planned in, `NotKeptError` where it succeeded in vain,
        `RestoreError` where turbo ran others' tasks too, `TurboError` where it is not here: none of these says anything about the task.
        """
        await self._bring_in(task, log)
        self._pending.pop(task.id, None)
        spare = bool(task.payload["spared"])
        self._learn_name(task)
        mark = await self._edited.mark()
        visit = self._loopback.artifacts.open((task.key,), names=self._bare if spare else {})
        try:
            exited = await run(self._spec([task], visit, _LIVE, task.timeout_ms, spare=spare), log)
        finally:
            await visit.aclose()
        if exited.timed_out or exited.exit_code != 0:
            return self._failure(task, exited, visit)
        artifact = await self._artifact(task, visit, exited)
        edited = await self._edited.since(mark, task.outputs)
        return Outcome(
            "success",
            0,
            exited.started_ms,
            exited.ended_ms,
            None if edited else artifact,
            exited.max_rss_bytes,
            only_on_main(edited) if edited else exited.problem,
            task.key,
        )

    async def aclose(self) -> None:
        """Remove turbo's private cache."""
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(lambda: shutil.rmtree(self._private, ignore_errors=True))

    def _learn_name(self, task: Task) -> None:
        if bare := task.payload["bare"]:
            self._bare[bare] = task.key

    async def _bring_in(self, task: Task, log: LogSink) -> None:
        """Restore everything of the same turbo command that has been delivered and is not here yet, in one go."""
        async with self._restoring:
            tasks = [other for other in self._pending.values() if _command(other) == _command(task)]
            if not tasks:
                return
            visit = self._loopback.artifacts.open(())
            said: list[bytes] = []
            try:
                exited = await run(self._spec(tasks, visit, _QUIET), said.append)
            finally:
                await visit.aclose()
            for other in tasks:
                self._pending.pop(other.id, None)
            if exited.exit_code != 0 or visit.missed:
                for line in said:
                    log(line)
                raise RestoreError(
                    f"turbo could not bring in the results of {_told(tasks, visit)}, and ran tasks again"
                )

    def _spec(
        self, tasks: list[Task], visit: Visit, options: tuple[str, ...], timeout_ms: int = 0, *, spare: bool = False
    ) -> Spec:
        turbo = program(self._workspace, self._environment)
        if turbo is None:
            raise TurboError(f"turbo is not in {self._workspace}/node_modules; install the workspace's packages there")
        task = tasks[0]
        url = f"{self._loopback.url}/{visit.name}"
        return Spec(
            argv=(str(turbo), *run_arguments(map(turbo_id, tasks), task.payload, *options, spare=spare)),
            cwd=self._workspace,
            env=worker_environment(
                applied(self._environment, task.payload),
                task.payload["environment"],
                self._private,
                url,
                self._loopback.token,
            ),
            timeout_ms=timeout_ms,
        )

    def _failure(self, task: Task, exited: Exited, visit: Visit) -> Outcome:
        if not exited.timed_out and (others := [missed for missed in visit.missed if missed != task.key]):
            # It may have been one of those that failed.
            raise RestoreError(
                f"turbo ran {len(others)} other task(s) again for {task.id}, since it did not find their results"
            )
        return Outcome(
            "failure",
            TIMED_OUT if exited.timed_out else exited.exit_code,
            exited.started_ms,
            exited.ended_ms,
            max_rss_bytes=exited.max_rss_bytes,
            problem=exited.problem,
            key=task.key,
        )

    async def _artifact(self, task: Task, visit: Visit, exited: Exited) -> Blob:
        artifact = self._loopback.artifacts.stored(task.key)
        if artifact is not None:
            return artifact
        name = task.payload["bare"] if task.payload["spared"] else task.key
        if (kept := self._private / f"{name}.tar.zst").is_file():
            # Done here before, and its artifact was lost: turbo has only replayed it from its own cache.
            try:
                return await self._loopback.artifacts.adopt(task.key, kept, exited.ended_ms - exited.started_ms)
            except StorageError as error:
                raise NotKeptError(task.id, str(error)) from None
        if reason := visit.put(task.key):
            raise NotKeptError(task.id, reason)
        differences = await compare(self._workspace, [task], self._environment)
        if task.id in differences:
            raise DriftError(task.id, differences[task.id])
        if visit.strays:
            raise DriftError(task.id, "what turbo found in the workspace when it started")
        raise NotKeptError(task.id, "turbo put nothing into the cache; was it told to stop?")


def _command(task: Task) -> tuple[object, ...]:
    """What makes two tasks those of one turbo command: their hashes hold only under it."""
    return task.payload["passed"], task.payload["flags"], task.payload["environment"]


def _told(tasks: list[Task], visit: Visit) -> str:
    missed = [task.id for task in tasks if task.key in visit.missed] or [task.id for task in tasks]
    return ", ".join(missed[:3]) + (f" and {len(missed) - 3} more" if len(missed) > 3 else "")
