"""One nx workspace with targets of a test's own, in three clones: nx alone, a main job, and its agents."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.endtoend.mesh_under_test import Machine, Running, Site, git, write_files
from tests.endtoend.test_nx_matrix import QUIET
from tests.nx_workspace import NX_VERSION, make_workspace

LIMIT_S = 120
END = "sleep 0.3"
"""As the last part of a command: nx on a busy machine loses what a task wrote just before its end."""


class NxSite(Site):
    """Projects by name, each with its targets; and any other files."""

    def __init__(
        self,
        root: Path,
        projects: Mapping[str, Mapping[str, Any]],
        files: Mapping[str, str] | None = None,
        version: str = NX_VERSION,
    ) -> None:
        super().__init__(root, {})
        origin = make_workspace(root / "ws", 0, version=version)
        for name, targets in projects.items():
            told = {"name": name, "targets": targets}
            write_files(origin.path, {f"packages/{name}/project.json": json.dumps(told)})
            write_files(origin.path, {f"packages/{name}/package.json": json.dumps({"name": name, "version": "0.0.0"})})
        write_files(origin.path, {"nx.json": json.dumps({"analytics": False}), **(files or {})})
        git(origin.path, "add", "-A")
        git(origin.path, "commit", "--quiet", "--allow-empty", "--message=projects")
        self.plain, self.here, self.there = (
            origin.clone(root / name / "workspace") for name in ("plain", "main", "a0")
        )

    def alone(self, *command: str, **environ: str) -> tuple[int, str]:
        """Exit code and words of `command` without dte."""
        done = self.plain.run(*command, **environ)
        return done.returncode, done.stdout

    def under_dte(self, *command: str, agents: int = 1, **environ: str) -> Running:
        """The same behind `dte run --`, at its end."""
        for number in range(agents):
            agent = Machine(f"a{number}", self.there.path, self.there.home, self.root / f"a{number}-data")
            self.agent(agent.name, "--slots", "2", on=agent, **QUIET)
        here = Machine("main", self.here.path, self.here.home, self.root / "main-data")
        wait = "10s" if agents else "500ms"
        main = self.main("--agent-wait", wait, "--", *command, on=here, **QUIET, **environ)
        main.ended(LIMIT_S)
        return main


def cacheable(command: str, *outputs: str, **more: Any) -> dict[str, Any]:
    """A target that nx caches."""
    return {"command": f"{command}; {END}", "cache": True, "outputs": list(outputs), **more}


def main_only(command: str, *outputs: str, **more: Any) -> dict[str, Any]:
    """A target that it does not cache."""
    return {**cacheable(command, *outputs, **more), "cache": False}


def places(main: Running) -> dict[str, str]:
    """Where each task ran."""
    return {task: told["where"] for task, told in main.tasks.items()}
