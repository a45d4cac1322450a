"""An nx that could pass nothing on through dte's cache runs everything itself, and no task of it ever goes to an agent."""

import json
from pathlib import Path

import pytest

from tests.endtoend.mesh_under_test import Machine, Site, dte
from tests.endtoend.test_nx import LIMIT_S, QUIET
from tests.nx_workspace import make_workspace

pytestmark = [pytest.mark.nx, pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.mark.parametrize(
    ("version", "settings", "reason"),
    [
        ("20.4.0", {}, "which needs nx 20.8 or later"),
        ("20.8.4", {"useLegacyCache": True}, "is told to use its legacy cache"),
    ],
)
def test_nx_without_a_cache_on_the_network_does_all_by_itself(
    tmp_path: Path, version: str, settings: dict, reason: str
):
    workspace = make_workspace(tmp_path / "ws", 2, ("build",), version=version)
    kept = workspace.path / "nx.json"
    kept.write_text(json.dumps({**json.loads(kept.read_text()), **settings}))
    site = Site(tmp_path / "site", {})
    machine = Machine("main", workspace.path, workspace.home, tmp_path / "data")
    try:
        command = ("npx", "nx", "run-many", "-t", "build")
        main = site.main("--agent-wait", "500ms", "--", *command, on=machine, **QUIET)
        assert main.ended(LIMIT_S) == 0
        assert reason in main.err.read_text()
        assert {task: (told["status"], told["where"], told["cache"]) for task, told in main.tasks.items()} == {
            "p0:build": ("success", "main", "none"),
            "p1:build": ("success", "main", "none"),
        }
        assert (workspace.path / "packages/p1/dist/index.js").is_file()
        told = dte("doctor", cwd=workspace.path, env=site.environ(machine, **QUIET))
        assert reason in told.stdout
        site.is_quiet()
    finally:
        site.close()
