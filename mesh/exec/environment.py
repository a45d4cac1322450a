"""What a task sees of its surroundings: the machine's own variables, what was shipped with it, and who it is; never the mesh's secrets."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from mesh.exec.cookie import COOKIE_VARIABLE
from mesh.types import TaskId

OWN_PREFIX: Final = "DTE_"


def without_ours(environ: Mapping[str, str], *, cookie: bool = False) -> dict[str, str]:
    """What the user's own programs are started with: neither the run's secret nor how the run was set up. With `cookie` what they start is found again."""
    kept = (COOKIE_VARIABLE,) if cookie else ()
    return {name: value for name, value in environ.items() if not name.startswith(OWN_PREFIX) or name in kept}


def without_value(environ: Mapping[str, str], value: str) -> dict[str, str]:
    """`environ` without any variable that holds `value`: the run's secret may stand under other names too."""
    return {name: own for name, own in environ.items() if value not in own}


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a task is, as its variables tell it. A shard is one of `shards` tasks that share one command, counted from 1."""

    task: TaskId
    run_id: str
    cookie: str
    shard: int = 0
    """0: not sharded."""
    shards: int = 0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every task of one node begins with. Build with `of`."""

    kept: Mapping[str, str]

    @classmethod
    def of(cls, own: Mapping[str, str]) -> "Surroundings":
        """The node's `own` variables, as they are now. Out go the mesh's (`DTE_…`), so that a task's own `dte` does not take itself for this one."""
        return cls(without_ours(own))

    def environment(
        self,
        identity: Identity,
        *,
        pass_env: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        unset: Collection[str] = (),
    ) -> dict[str, str]:
        """The variables of a task.

        Out goes `unset`, what the main job was to pass and does not have. In come `pass_env`, the values of the main job, and over them `env`,
        those of the configuration.
        """
        variables = dict(self.kept)
        for name in unset:
            variables.pop(name, None)
        return {**variables, **(pass_env or {}), **(env or {}), **_told(identity)}


def _told(identity: Identity) -> dict[str, str]:
    told = {"DTE_TASK": identity.task, "DTE_RUN_ID": identity.run_id, COOKIE_VARIABLE: identity.cookie}
    if identity.shards:
        told |= {
            "DTE_SHARD": str(identity.shard),
            "DTE_SHARDS": str(identity.shards),
            # GitLab's names, also counted from 1, which many test splitters read.
            "CI_NODE_INDEX": str(identity.shard),
            "CI_NODE_TOTAL": str(identity.shards),
        }
    return told
