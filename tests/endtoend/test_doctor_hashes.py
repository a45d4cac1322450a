"""`dte doctor --save` and `--compare`: why a task has another hash, on a real workspace of each tool."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests import nx_workspace, turbo_workspace
from tests.endtoend.mesh_under_test import MakeSite, dte
from tests.endtoend.workspaces import toml

pytestmark = pytest.mark.slow


def doctor(workspace: Path, environ: Mapping[str, str], *arguments: str) -> tuple[int, str]:
    """The exit code, and what it said."""
    done = dte("doctor", *arguments, cwd=workspace, env=environ)
    return done.returncode, done.stdout + done.stderr


def test_a_task_of_dte_toml_with_another_input_is_told_with_it(site_of: MakeSite) -> None:
    site = site_of(toml(build='command = "true"\ninputs = ["a"]\npass_env = ["TOKEN"]') | {"a": "1"})
    machine = site.machine("here")
    environ = site.environ(machine, TOKEN="hush")
    code, said = doctor(machine.workspace, environ, "--save", "hashes.json")
    assert (code, said) == (0, "ok: hashes.json says what the hashes of 1 tasks are made of here\n")
    assert "hush" not in (machine.workspace / "hashes.json").read_text()
    assert doctor(machine.workspace, environ, "--compare", "hashes.json") == (
        0,
        "ok: dte.toml: 1 tasks have the same hash\n",
    )
    machine.write("a", "2")
    code, said = doctor(machine.workspace, environ, "--compare", "hashes.json")
    assert code == 1
    assert "bad: build has another hash here; what differs: its inputs are not main's: a (another content)" in said


def test_what_is_not_such_a_file_and_what_cannot_be_compared_is_told(site_of: MakeSite) -> None:
    site = site_of(toml(build='command = "true"'))
    machine = site.machine("here")
    environ = site.environ(machine)
    for content, words in (
        ("{}", "not written by"),
        ("nonsense", "not written by"),
        ('{"version": 7}', "another version of dte"),
    ):
        machine.write("hashes.json", content)
        code, said = doctor(machine.workspace, environ, "--compare", "hashes.json")
        assert (code, words in said) == (2, True), said
    code, said = doctor(machine.workspace, environ, "--compare", "missing.json")
    assert (code, "missing.json cannot be read" in said) == (2, True)
    code, said = doctor(machine.workspace, environ, "--compare", "hashes.json", "build")
    assert (code, "--compare FILE goes alone" in said) == (2, True)


@pytest.mark.nx
def test_an_nx_task_with_another_input_is_told_with_it_and_nothing_is_run(tmp_path: Path) -> None:
    workspace = nx_workspace.make_workspace(tmp_path / "nx", 3, ("build", "lint"))
    environ = workspace.environment(DTE_DATA_DIR=str(tmp_path / "data"))
    file = str(tmp_path / "hashes.json")
    code, said = doctor(workspace.path, environ, "--save", file, "build", "lint")
    assert (code, "the hashes of 6 tasks" in said) == (0, True), said
    (workspace.path / "packages/p1/src/index.js").write_text("module.exports = 1;\n")
    code, said = doctor(workspace.path, environ, "--compare", file)
    assert code == 1
    differ = [line.split(" — ")[0] for line in said.splitlines() if line.startswith("bad")]
    assert sorted(differ) == [
        f"bad: p1:{target} has another hash here; what differs: p1:packages/p1/**/*{but}"
        for target, but in (("build", ",!packages/p1/**/*.test.js"), ("lint", ""))
    ]
    assert "ok: nx: 4 tasks have the same hash" in said
    assert not workspace.files()


@pytest.mark.turbo
def test_a_turbo_task_with_another_variable_or_file_is_told_with_it(tmp_path: Path) -> None:
    workspace = turbo_workspace.make_workspace(tmp_path / "turbo", 2, ("build", "lint"))
    environ = workspace.environment(DTE_DATA_DIR=str(tmp_path / "data"))
    file = tmp_path / "hashes.json"
    code, said = doctor(workspace.path, {**environ, "BUILD_MODE": "hush"}, "--save", str(file), "build", "lint")
    assert (code, "the hashes of 4 tasks" in said) == (0, True), said
    assert "hush" not in file.read_text()
    (workspace.path / "packages/p1/src/index.js").write_text("module.exports = 1;\n")
    code, said = doctor(workspace.path, environ, "--compare", str(file))
    assert code == 1
    lines = {line.split()[1]: line for line in said.splitlines() if line.startswith("bad")}
    assert lines.keys() == {"p0#build", "p1#build", "p1#lint"}
    assert "variables: BUILD_MODE" in lines["p0#build"]
    assert "src/index.js" in lines["p1#lint"]
