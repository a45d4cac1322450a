"""`dte plan`: what is predicted is what a run then takes; and nothing is run for it."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.endtoend.mesh_under_test import MakeSite, dte
from tests.endtoend.workspaces import toml
from tests.nx_workspace import make_workspace
from tests.turbo_workspace import make_workspace as make_turbo_workspace

# Long enough that what a busy machine adds to each start is a small part.
WIDE = toml(
    **{f"w{number}": f'command = "sleep {1 + 0.3 * (number % 4):g}"\ncache = false' for number in range(16)},
    last=f'command = "sleep 2"\ncache = false\ndeps = [{", ".join(f"{chr(34)}w{n}{chr(34)}" for n in range(0, 16, 4))}]',
)
ALL = [*(f"w{number}" for number in range(16)), "last"]


def plan(*arguments: str, cwd: Path, env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    done = dte("plan", *arguments, cwd=cwd, env=env)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
def test_after_three_runs_the_prediction_is_within_fifteen_per_cent_of_the_fourth(site_of: MakeSite) -> None:
    site = site_of(WIDE)
    machine = site.machine("main")
    others = [site.machine(f"agent-{number}") for number in range(4)]
    took_ms = []
    for _ in range(4):
        told = json.loads(
            plan(
                *ALL, "--agents", "4", "--slots", "1", "--json", "-", cwd=machine.workspace, env=site.environ(machine)
            ).stdout
        )
        main = site.main(*ALL, "--agent-wait", "60s", on=machine)
        agents = [site.agent(other.name, on=other) for other in others]
        assert [main.ended(), *(agent.ended() for agent in agents)] == [0] * 5
        first_ms = min(task["awarded_ms"] for task in main.json["tasks"])
        took_ms.append(main.json["makespan_ms"] - first_ms)
    assert told["never_timed"] == 0
    assert told["predictions"][3]["makespan_ms"] == pytest.approx(took_ms[3], rel=0.15)


def test_without_a_history_a_plan_says_so_and_runs_nothing(site_of: MakeSite) -> None:
    site = site_of(toml(a='command = "touch $SITE/ran"', b='command = "true"\ndeps = ["a"]'))
    machine = site.machine("main")
    said = plan("b", "--agents", "2", "--slots", "1", cwd=machine.workspace, env=site.environ(machine)).stdout
    assert "2 tasks" in said
    assert "none has ever been timed here" in said
    assert "critical path, 2.0 s" in said
    assert not (site.root / "ran").exists()


@pytest.mark.parametrize("kind", ["svg", "png"])
@pytest.mark.slow
def test_a_plan_can_be_drawn(site_of: MakeSite, kind: str) -> None:
    site = site_of(toml(a='command = "true"', b='command = "true"\ndeps = ["a"]'))
    machine = site.machine("main")
    picture = site.root / f"plan.{kind}"
    plan("b", "--agents", "2", "--plot", str(picture), cwd=machine.workspace, env=site.environ(machine))
    assert picture.read_bytes().startswith({"svg": b"<?xml", "png": b"\x89PNG"}[kind])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "nothing to plan"),
        (["a", "--agents", "0"], "1 to 256"),
        (["a", "--plot", "x.gif"], ".svg or .png"),
        (["--", "true"], "no nx or turbo under `true`"),
        (["--", "no-such-command"], "No such file"),
    ],
)
def test_what_cannot_be_planned_is_said_with_what_was_expected(
    site_of: MakeSite, arguments: list[str], words: str
) -> None:
    site = site_of(toml(a='command = "true"'))
    machine = site.machine("main")
    done = dte("plan", *arguments, cwd=machine.workspace, env=site.environ(machine))
    assert done.returncode == 2
    assert words in done.stderr


@pytest.mark.nx
@pytest.mark.slow
def test_nx_plans_its_own_command_and_runs_nothing(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "workspace", 3)
    command = ["--", "npx", "nx", "run-many", "-t", "build", "test"]
    env = {**workspace.environment(), "DTE_DATA_DIR": str(tmp_path / "data")}
    told = json.loads(plan("--agents", "2", "--json", "-", *command, cwd=workspace.path, env=env).stdout)
    assert (told["tasks"], told["cached"]) == (6, 0)
    assert told["critical_path"][0].endswith(":build")
    assert workspace.files() == {}
    assert workspace.nx(*command[3:]).returncode == 0
    assert json.loads(plan("--agents", "2", "--json", "-", *command, cwd=workspace.path, env=env).stdout)["cached"] == 6


@pytest.mark.turbo
@pytest.mark.slow
def test_turbo_plans_its_own_command_and_runs_nothing(tmp_path: Path) -> None:
    workspace = make_turbo_workspace(tmp_path / "workspace")
    env = {**workspace.environment(), "DTE_DATA_DIR": str(tmp_path / "data")}
    command = ["--", "npx", "turbo", "run", "build"]
    told = json.loads(plan("--agents", "2", "--json", "-", *command, cwd=workspace.path, env=env).stdout)
    assert told["tasks"] > 1
    assert workspace.files() == {}
