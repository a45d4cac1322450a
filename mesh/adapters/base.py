"""What every tool's adapter offers the rest of the mesh: a way to bring a result into a workspace, and a way to run a task there."""

from collections.abc import Callable
from typing import Literal, Protocol

from msgspec import Struct

from mesh.graph import Task
from mesh.types import Blob, UnixMs

LogSink = Callable[[bytes], None]
"""Takes the next bytes of a task's output, stdout and stderr in the order in which they were written. Never blocks, never raises."""


class Outcome(Struct, frozen=True):
    """How one execution ended. `problem` is one line for a person where the log alone does not say it (a time-out, a missing output)."""

    status: Literal["success", "failure"]
    exit_code: int
    started_ms: UnixMs
    ended_ms: UnixMs
    outputs: Blob | None = None
    """The archive of all declared outputs, already in the blob store; None where there are none. Of a failed task whatever its tool brings back: reports of tests, for those who look for why."""
    max_rss_bytes: int = 0
    problem: str = ""
    key: str = ""
    """The task's key where it could only be known now; "" otherwise."""
    log: bytes | None = None
    """All that it printed, where what the log sink took was but a glimpse of it for those who watch; None where that was all."""
    cached: bool = False
    """The tool did not run it: it found an earlier result."""


class Runner(Protocol):
    """One tool in one workspace. Several `run` may be under way at once; calls of `restore` are never concurrent with each other."""

    async def restore(self, task: Task, outputs: Blob) -> None:
        """Bring the finished `task`'s outputs into the workspace, from the blob store, replacing what its declared outputs match.

        Raises `CorruptError` where the archive is not what it must be, `StorageError` where this machine cannot hold it.
        """

    async def run(self, task: Task, log: LogSink) -> Outcome:
        """Run `task`, whose dependencies are in the workspace. Cancelling the call ends every process of the task before it returns."""

    async def aclose(self) -> None:
        """End whatever was kept running for the tool."""
