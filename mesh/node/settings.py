"""What a person asked for, checked once: the settings of one node."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mesh.adapters.native.affected import Range
    from mesh.wire.messages import Role

LISTEN_DEFAULT: Final = "0.0.0.0:0"
MAIN_WAIT_MS: Final = 15_000


@dataclass(frozen=True, slots=True)
class Settings:
    """One node. `secret` is None for a run that nobody else is to join: then one is made."""

    role: "Role"
    run_id: str
    secret: bytes | None
    name: str
    slots: int
    workspace: Path
    data_dir: Path
    environ: Mapping[str, str] = field(repr=False)
    """What the node was started with, but for what holds the secret; tasks and commands get it without the mesh's own variables."""
    listen: tuple[str, ...] = (LISTEN_DEFAULT,)
    peers: tuple[str, ...] = ()
    rendezvous: Path | None = None
    labels: tuple[str, ...] = ()
    gpu: int | None = None
    """How many there are for tasks; None for those that the machine shows."""
    targets: tuple[str, ...] = ()
    """Of an agent: globs of what it takes; () for everything."""
    wait_ms: int = MAIN_WAIT_MS
    main_slots: int = 0
    fail_after: int = 0
    kill: bool = False
    stall_after_ms: int = 0
    keep_agents: bool = False
    may_differ: tuple[str, ...] = ()
    """Of the main job: facts that its agents need not have in common with it."""
    trace: Path | None = None
    """Where every step of the core is written, for finding out why."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be run: names of native tasks, or a command of the user's."""

    tasks: tuple[str, ...] = ()
    affected: "Range | None" = None
    command: tuple[str, ...] = ()
    agents: int = 0
    agent_slots: int = 1
    agent_workspaces: tuple[Path, ...] = ()
    """Where local agents work; () for this very workspace."""
    ledger: Path | None = None
    retries: int | None = None
    task_timeout_ms: int | None = None
    pass_env: tuple[str, ...] = ()
