"""One task, as every room sees it: what it is, what it needs, what it leaves behind, and where it may run.

A task comes from an adapter (`tool`), and `payload` is that adapter's own business: the rest of the mesh carries it and does not look.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

from msgspec import Struct

from mesh.errors import RemoteError
from mesh.types import RETRIES_MAX, TaskId
from mesh.wire.canonical import Reader

Where = Literal["any", "main", "agent"]
TASK_ID_CHARS_MAX: Final = 1_024


class Resources(Struct, frozen=True):
    """What a task takes of a machine while it runs. `cpu` is in slots, `memory_bytes` and `gpu` are what must be there."""

    cpu: int = 1
    memory_bytes: int = 0
    gpu: int = 0


@dataclass(frozen=True, slots=True)
class Task:
    """A unit of work.

    `key` names the result before it exists (an input hash; "" where it can only be known later, or not at all). `outputs` are globs relative to
    the workspace, for people and checks; what travels is the archive the adapter makes. `whole_agent` is a task that tolerates no neighbour.
    """

    id: TaskId
    tool: str
    deps: tuple[TaskId, ...] = ()
    key: str = ""
    cache: bool = True
    outputs: tuple[str, ...] = ()
    where: Where = "any"
    runs_on: tuple[str, ...] = ()
    resources: Resources = field(default_factory=Resources)
    mutex: str = ""
    whole_agent: bool = False
    allow_failure: bool = False
    timeout_ms: int = 0
    """0: no time-out."""
    retries: int = 0
    secret_env: tuple[str, ...] = ()
    """Variables that must be set on the machine that runs it; never hashed, never shipped."""
    description: str = ""
    payload: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Not for eyes: it may hold values of the main job's variables."""

    @property
    def leaves_something(self) -> bool:
        """Whether its success leaves something for what is behind it: outputs, or of what turbo and nx cache at least the log, which is in the archive.
        Where that could not be stored, it is nowhere but on the main job.
        """
        return bool(self.outputs) or self.tool == "turbo" or (self.tool == "nx" and self.cache)

    def to_json(self) -> dict[str, Any]:
        """The task as canonical JSON takes it."""
        return {
            "id": self.id,
            "tool": self.tool,
            "deps": list(self.deps),
            "key": self.key,
            "cache": self.cache,
            "outputs": list(self.outputs),
            "where": self.where,
            "runs_on": list(self.runs_on),
            "resources": {
                "cpu": self.resources.cpu,
                "memory_bytes": self.resources.memory_bytes,
                "gpu": self.resources.gpu,
            },
            "mutex": self.mutex,
            "whole_agent": self.whole_agent,
            "allow_failure": self.allow_failure,
            "timeout_ms": self.timeout_ms,
            "retries": self.retries,
            "secret_env": list(self.secret_env),
            "description": self.description,
            "payload": dict(self.payload),
        }

    @classmethod
    def from_json(cls, value: Any) -> "Task":
        """The task that `to_json` wrote. Raises `RemoteError("malformed")`."""
        read = Reader(value, "task")
        where = read.text("where", default="any")
        if where not in ("any", "main", "agent"):
            raise RemoteError("malformed", f"task.where: {where!r} is not any, main or agent")
        resources = Reader(read.table("resources"), "task.resources")
        return cls(
            id=TaskId(read.text("id", max_chars=TASK_ID_CHARS_MAX)),
            tool=read.text("tool"),
            deps=tuple(TaskId(dep) for dep in read.texts("deps")),
            key=read.text("key"),
            cache=read.flag("cache"),
            outputs=read.texts("outputs"),
            where=cast("Where", where),
            runs_on=read.texts("runs_on"),
            resources=Resources(resources.number("cpu"), resources.number("memory_bytes"), resources.number("gpu")),
            mutex=read.text("mutex"),
            whole_agent=read.flag("whole_agent"),
            allow_failure=read.flag("allow_failure"),
            timeout_ms=read.number("timeout_ms"),
            retries=read.number("retries", high=RETRIES_MAX),
            secret_env=read.texts("secret_env"),
            description=read.text("description"),
            payload=read.table("payload"),
        )
