"""Machines that are clones of one turbo workspace, and what a person sees of a run on them."""

import re
from pathlib import Path

from tests.endtoend.mesh_under_test import Machine, Running, Site
from tests.turbo_workspace import Workspace

QUIET = {"CI": "1", "TURBO_TELEMETRY_DISABLED": "1", "NO_COLOR": "1"}
LIMIT_S = 120


class TurboSite(Site):
    """A site whose repository is `workspace`."""

    def __init__(self, root: Path, workspace: Workspace) -> None:
        super().__init__(root, {})
        self.workspace = workspace
        self.places: dict[str, Workspace] = {}

    def clone(self, name: str) -> Workspace:
        """The workspace of a machine, which is cloned when it is first asked for."""
        if name not in self.places:
            self.places[name] = self.workspace.clone(self.root / name / "workspace")
        return self.places[name]

    def machine(self, name: str) -> Machine:
        workspace = self.clone(name)
        return Machine(name, workspace.path, workspace.home, self.root / name / "data")

    def turbo(self, *arguments: str, agent_wait: str = "60s", **more: str) -> Running:
        """The user's command behind `dte run --`."""
        return self.main("--agent-wait", agent_wait, "--", "npx", "turbo", *arguments, **QUIET, **more)


def shown(output: str) -> list[str]:
    """What a person reads, less what differs between two runs of turbo alone, and whether a result came from a cache."""
    return sorted(
        re.sub(
            r"/\S*/workspace",
            "WORKSPACE",
            re.sub(r"cache (miss, executing|hit, replaying logs) ", "cache ", line.rstrip()),
        )
        for line in output.replace("\r", "").splitlines()
        if not re.match(r"\s*(Time|Cached|Summary):|\s*• Remote caching", line)
    )
