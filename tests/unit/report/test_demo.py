"""Rules of the sample workspace of `dte demo`."""

import shutil
import subprocess
from pathlib import Path

import mesh.cli
from mesh.adapters.native.plan import plan
from mesh.types import TaskId

DEMO = Path(mesh.cli.__file__).parent / "demo_workspace"


def test_a_fresh_copy_of_the_demo_plans_without_a_word_of_warning(tmp_path):
    workspace = tmp_path / "demo"
    shutil.copytree(DEMO, workspace)
    subprocess.run(["git", "init", "-q"], cwd=workspace, check=True)
    subprocess.run(["git", "add", "-A"], cwd=workspace, check=True)
    found = plan(workspace, ["publish"], environ={})
    assert found.notices == ()
    assert len(found.graph.tasks) == 32
    assert found.graph.tasks[TaskId("publish")].where == "main"
    assert set(found.graph.closure(TaskId("publish"))) == found.graph.tasks.keys() - {"publish"}


def test_the_demo_is_small_and_holds_sources_only():
    files = [path for path in DEMO.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) < 60_000
    assert not any(path.name in ("dist", "build", "gen") for path in DEMO.rglob("*"))
