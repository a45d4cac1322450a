"""What there is to tell about a run, as it happens: the one stream from which the live display, `--events`, `--json` and the report are made.

The core emits news as an effect and never looks back; whoever wants a summary folds the stream. Names of agents and of tasks are as a person
knows them. Instants are the teller's own monotonic clock; the shell stamps each item with `t_ms` since the run began.
"""

from typing import Literal

from msgspec import Struct

from mesh.ledger.completion import Completion
from mesh.types import Blob, Digest, Epoch, NodeId, Seq, TaskId

TaskStatus = Literal["success", "failure", "skipped", "cancelled"]
Verdict = Literal["success", "failure", "error", "cancelled"]
CacheUse = Literal["none", "hit"]
Trust = Literal["run", "pr", "protected"]
"""Whose word a result is: `run` is that of this run's own secret."""


class AgentJoined(Struct, frozen=True):
    """A node that can run tasks is here (the main job's own slots are told of as an agent named `main`)."""

    node: NodeId
    name: str
    slots: int


class AgentLeft(Struct, frozen=True):
    """It is gone: `reason` is for a person. `lost` is false where it said goodbye."""

    node: NodeId
    name: str
    reason: str
    lost: bool


class GraphAdded(Struct, frozen=True):
    """Tasks to be done, in topological order, each with what it depends on."""

    digest: Digest
    tasks: tuple[tuple[TaskId, tuple[TaskId, ...]], ...]


class TaskReady(Struct, frozen=True):
    """All its dependencies are done."""

    task: TaskId


class TaskAwarded(Struct, frozen=True):
    """It has been given to an agent; the same task again means that the earlier award came to nothing."""

    task: TaskId
    node: NodeId
    agent: str
    attempt: int
    epoch: Epoch
    seq: Seq


class TaskStarted(Struct, frozen=True):
    """Its process is running."""

    task: TaskId
    node: NodeId
    agent: str
    attempt: int


class TaskRequeued(Struct, frozen=True):
    """An attempt came to nothing and the task will run again: a lost agent, a failed attempt with retries left, lost outputs."""

    task: TaskId
    agent: str
    attempt: int
    reason: str
    exit_code: int | None = None
    """Of an attempt that failed; None where there was no result."""
    log: Blob | None = None


class TaskEnded(Struct, frozen=True):
    """It is done for good, and recorded at `ledger_index`; at None where a wrapped tool did it without the mesh. `agent` is "main" for the main job and ""
    where nobody ran it.
    """

    task: TaskId
    status: TaskStatus
    agent: str
    attempts: int
    cache: CacheUse
    exit_code: int
    duration_ms: int
    outputs: Blob | None
    log: Blob | None
    ledger_index: int | None
    max_rss_bytes: int
    problem: str
    """One line for a person where the log does not say it; "" otherwise."""
    allowed_to_fail: bool = False
    trust: Trust = "run"
    flaky: bool = False
    """It failed in this run before it succeeded."""
    left: tuple[str, ...] = ()
    """Files that it made among other tasks' outputs: here only if these make them, too."""
    attempt: int = 1
    """The one that counts; others of it that had not ended by then came too late."""

    @classmethod
    def of(cls, done: Completion, agent: str, attempts: int, ledger_index: int, *, flaky: bool) -> "TaskEnded":
        """What people are told of a completion."""
        return cls(
            task=done.task,
            status=done.status,
            agent=agent,
            attempts=attempts,
            cache=done.cache,
            exit_code=done.exit_code,
            duration_ms=done.ended_ms - done.started_ms,
            outputs=done.outputs,
            log=done.log,
            ledger_index=ledger_index,
            max_rss_bytes=done.max_rss_bytes,
            problem=done.problem,
            allowed_to_fail=done.status == "failure" and done.allowed_to_fail,
            flaky=done.status == "success" and flaky,
            left=done.left,
            attempt=done.attempt,
        )


class TaskDelivered(Struct, frozen=True):
    """Its log and its outputs are on the main job."""

    task: TaskId


class CheckpointMade(Struct, frozen=True):
    """The leader has signed the ledger at this size."""

    size: int
    root: str
    cosignatures: int


class Notice(Struct, frozen=True):
    """Something that a person should know and that is no task's own affair."""

    text: str
    alike: str = ""
    """What many tasks may have to be told of alike, as one says it of several: "left ..."; "" for what is told of once."""

    @classmethod
    def of(cls, task: TaskId, agent: str, remark: str) -> "Notice":
        """What is to be said of a task that went well."""
        return cls(f"{task} on {agent}: {remark}", alike="left or changed more than is declared")


class RunEnded(Struct, frozen=True):
    """Every task is accounted for."""

    verdict: Verdict


News = (
    AgentJoined
    | AgentLeft
    | GraphAdded
    | TaskReady
    | TaskAwarded
    | TaskStarted
    | TaskRequeued
    | TaskEnded
    | TaskDelivered
    | CheckpointMade
    | Notice
    | RunEnded
)
