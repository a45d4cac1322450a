"""Tasks of `dte.toml` in one workspace: outputs cleared, command run, outputs packed; and a finished task's outputs brought in."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Final

import trio
from msgspec import Struct

from mesh.adapters.base import LogSink, Outcome
from mesh.errors import MeshError, StorageError, UsageError
from mesh.exec.archive import pack, restore
from mesh.exec.ending import end_everything
from mesh.exec.environment import Identity, Surroundings
from mesh.exec.globs import Globs
from mesh.exec.passing import taken
from mesh.exec.process import Exited, Spec, now_ms, run
from mesh.exec.tree import clear, fingerprint, reaching
from mesh.graph import Task
from mesh.store.blobs import BlobStore
from mesh.types import Blob, Digest, TaskId
from mesh.wire.canonical import Reader

COMMAND_CHARS_MAX: Final = 128 * 1024
"""What Linux takes as one argument."""

_FAILED: Final = 1
"""The exit code of a task whose command succeeded, or never ran, and which failed all the same."""


class _Present(Struct, frozen=True):
    """Outputs that are in the workspace: of which archive they are, and how they looked then."""

    digest: Digest
    fingerprint: bytes


class NativeRunner:
    """A `Runner` (mesh.adapters.base). `cookie` marks the node's tasks."""

    def __init__(
        self,
        workspace: Path,
        blobs: BlobStore,
        *,
        run_id: str,
        cookie: str,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._workspace = workspace
        self._blobs = blobs
        self._run_id = run_id
        self._cookie = cookie
        self._environ = environ
        self._surroundings = Surroundings.of(environ)
        self._present: dict[TaskId, _Present] = {}
        self._ran = False

    async def restore(self, task: Task, outputs: Blob) -> None:
        """Bring in what `task` left behind; nothing happens where that is there already and untouched."""
        if not task.outputs:
            return
        present = await trio.to_thread.run_sync(self._restore, task, outputs.digest, self._present.pop(task.id, None))
        self._present[task.id] = present

    async def run(self, task: Task, log: LogSink) -> Outcome:
        """Run `task`. Whatever stands in its way is a failure that says so, but for `StorageError`: another machine may have room."""
        started_ms = now_ms()
        self._present.pop(task.id, None)
        try:
            return await self._run(task, log)
        except StorageError:
            raise
        except MeshError as error:
            return Outcome("failure", _FAILED, started_ms, now_ms(), problem=str(error))

    async def aclose(self) -> None:
        """End what tasks left running in sessions of their own. To look for it takes a while, and who ran nothing left nothing."""
        if self._ran:
            await end_everything(self._cookie)

    async def _run(self, task: Task, log: LogSink) -> Outcome:
        spec = self._spec(task)
        self._ran = True
        if task.outputs:
            await trio.to_thread.run_sync(self._clear, task, spec.cwd)
        exited = await run(spec, log)
        if exited.timed_out or exited.exit_code != 0:
            return _outcome(exited, exit_code=exited.exit_code or _FAILED, outputs=await self._remains(task))
        if not task.outputs:
            return _outcome(exited)
        blob, missing, present = await trio.to_thread.run_sync(self._pack, task)
        if missing:
            return _outcome(
                exited, exit_code=_FAILED, problem=f"succeeded without making its output {', '.join(missing)}"
            )
        self._present[task.id] = present
        return _outcome(exited, outputs=blob)

    async def _remains(self, task: Task) -> Blob | None:
        """What a task has made of its outputs when it failed: reports above all, for those who look for why."""
        if task.outputs:
            with suppress(MeshError):  # that it failed is what counts
                blob, _, self._present[task.id] = await trio.to_thread.run_sync(self._pack, task)
                return blob
        return None

    def _spec(self, task: Task) -> Spec:
        if missing := [name for name in task.secret_env if not self._environ.get(name)]:
            raise UsageError(
                f"needs {', '.join(missing)} (secret_env), not set on this machine; set it there, or keep the task away"
            )
        read = Reader(dict(task.payload), f"{task.id}.payload")
        identity = Identity(
            task=task.id,
            run_id=self._run_id,
            cookie=self._cookie,
            shard=read.number("shard", default=0),
            shards=read.number("shards", default=0),
        )
        values, unset = taken(task.payload)
        cwd = read.text("cwd", default="")
        return Spec(
            argv=_argv(task, read),
            cwd=self._workspace / _inside(cwd) if cwd else self._workspace,
            env=self._surroundings.environment(
                identity,
                pass_env={**values, **(read.string_table("pass_env") if read.has("pass_env") else {})},
                env=read.string_table("env") if read.has("env") else {},
                unset=(*unset, *read.texts("unset_env", default=())),
            ),
            timeout_ms=task.timeout_ms,
        )

    # What follows reads and writes many files, and so runs in a thread: the node must answer its peers meanwhile.

    def _clear(self, task: Task, cwd: Path) -> None:
        was_there = cwd.is_dir()
        clear(self._workspace, Globs(task.outputs))
        if was_there:  # outputs may be all that its directory held
            with reaching(cwd, "write"):
                cwd.mkdir(parents=True, exist_ok=True)

    def _pack(self, task: Task) -> tuple[Blob, tuple[str, ...], _Present]:
        with self._blobs.writer() as writer:
            packed = pack(self._workspace, task.outputs, writer)
            blob = writer.finish()
        return blob, packed.missing, self._seen(task, blob.digest)

    def _restore(self, task: Task, digest: Digest, present: _Present | None) -> _Present:
        if present is not None and present == self._seen(task, digest):
            return present
        archive = self._blobs.find(digest)
        if archive is None:
            raise StorageError(
                f"outputs of {task.id} are gone from {self._blobs.path(digest)}; was the store emptied during the run?"
            )
        restore(archive, self._workspace, task.outputs)
        return self._seen(task, digest)

    def _seen(self, task: Task, digest: Digest) -> _Present:
        return _Present(digest, fingerprint(self._workspace, Globs(task.outputs)))


def _argv(task: Task, read: Reader) -> tuple[str, ...]:
    if read.flag("shell", default=False):
        return ("/bin/sh", "-c", read.text("command", max_chars=COMMAND_CHARS_MAX))
    if not (argv := read.texts("command")):
        raise UsageError(f"{task.id} has no command")
    return argv


def _inside(cwd: str) -> PurePosixPath:
    path = PurePosixPath(cwd)
    if path.is_absolute() or ".." in path.parts:
        raise UsageError(f"cwd {cwd!r} is not inside the workspace")
    return path


def _outcome(exited: Exited, *, exit_code: int = 0, outputs: Blob | None = None, problem: str = "") -> Outcome:
    return Outcome(
        status="failure" if exit_code else "success",
        exit_code=exit_code,
        started_ms=exited.started_ms,
        ended_ms=exited.ended_ms,
        outputs=outputs,
        max_rss_bytes=exited.max_rss_bytes,
        problem=problem or exited.problem,
    )
