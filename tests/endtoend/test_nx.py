"""Nx over a real mesh: a main job and two agents, three clones with three HOMEs, against plain nx in a fourth."""

import json
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.endtoend.mesh_under_test import Machine, Running, Site, completions, dte, until
from tests.nx_workspace import Workspace, make_workspace

pytestmark = [pytest.mark.nx, pytest.mark.timeout(300)]

COMMAND = ("run-many", "-t", "build", "test", "lint", "--output-style=static")
LIMIT_S = 120


class NxSite(Site):
    """Machines that are clones of one nx workspace."""

    def __init__(self, root: Path, projects: int = 12) -> None:
        super().__init__(root, {})
        self.workspace = make_workspace(root / "ws", projects)

    def clone(self, name: str) -> Workspace:
        return self.workspace.clone(self.root / name / "workspace")

    def machine(self, name: str) -> Machine:
        workspace = self.clone(name)
        return Machine(name, workspace.path, workspace.home, self.root / name / "data")

    def nx(self, *arguments: str, **more: str) -> Running:
        """The user's command, unmodified, behind `dte run --`."""
        return self.main("--agent-wait", "60s", "--", "npx", "nx", *arguments, **QUIET, **more)


QUIET = {"CI": "1", "NX_NO_CLOUD": "true", "NX_DAEMON": "false"}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[NxSite]:
    site = NxSite(tmp_path / "site")
    try:
        yield site
    finally:
        site.close()


def alone(site: NxSite) -> "tuple[subprocess.CompletedProcess[str], Workspace]":
    workspace = site.clone("alone")
    return workspace.nx(*COMMAND), workspace


def shown(text: str) -> list[str]:
    """What a person reads of the tasks; the order and the durations differ between two runs of nx alone, too."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text.replace("\r", ""))
    lines = (line.strip() for line in plain.splitlines())
    return sorted(
        line for line in lines if line and not re.match(r"(Run duration|Critical path|Recoverable time):", line)
    )


def files(site: NxSite, machine: str) -> dict[str, bytes]:
    return Workspace(site.root / machine / "workspace").files()


@pytest.mark.parametrize("first", ["main", pytest.param("agents", marks=pytest.mark.slow)])
def test_the_main_job_looks_as_if_nx_had_run_there(site: NxSite, first: str):
    expected, plain = alone(site)
    if first == "agents":
        agents = [site.agent(name, "--slots", "2") for name in ("a1", "a2")]
        for agent in agents:
            agent.says("looks for run")
        main = site.nx(*COMMAND)
    else:
        main = site.nx(*COMMAND)
        until("the main job to listen", main.files["events"].exists)
        agents = [site.agent(name, "--slots", "2") for name in ("a1", "a2")]
    assert main.ended(LIMIT_S) == expected.returncode == 0
    assert [agent.ended(LIMIT_S) for agent in agents] == [0, 0]
    assert shown(main.out.read_text()) == shown(expected.stdout)
    assert files(site, "main") == plain.files() != {}

    told = main.json
    assert told["verdict"] == "success"
    where = Counter(task["where"] for task in told["tasks"])
    assert sum(where.values()) == 36
    assert where["a1"] + where["a2"] >= 0.8 * 36
    assert set(completions(main.ledger)) == set(main.tasks)
    assert dte("verify", str(main.ledger)).returncode == 0


def test_a_failing_test_has_nx_own_code_its_log_here_and_its_dependents_skipped(tmp_path: Path):
    site = NxSite(tmp_path / "site")
    try:
        (site.workspace.path / "packages/p1/src/FAIL").touch()
        tool = site.workspace.path / "tools/task.js"
        tool.write_text(
            f"if (process.argv[2] === 'build' && process.argv[3] === 'p1') {{ console.log('p1 is broken'); process.exit(7); }}\n{tool.read_text()}"
        )
        for command in (["add", "-A"], ["-c", "user.email=a@b.c", "-c", "user.name=n", "commit", "-qm", "broken"]):
            subprocess.run(["git", *command], cwd=site.workspace.path, check=True)
        expected, plain = alone(site)
        agents = [site.agent(name) for name in ("a1", "a2")]
        main = site.nx(*COMMAND)
        assert main.ended(LIMIT_S) == expected.returncode != 0
        assert [agent.ended(LIMIT_S) for agent in agents] == [0, 0]
        assert "p1 is broken" in main.out.read_text()
        assert shown(main.out.read_text()) == shown(expected.stdout)
        assert files(site, "main") == plain.files()
        statuses = {task: told["status"] for task, told in main.tasks.items()}
        assert statuses["p1:build"] == "failure"
        assert statuses["p3:build"] == statuses["p1:test"] == "skipped"
        assert statuses["p2:test"] == "success"
        assert main.json["verdict"] == "failure"
        assert dte("verify", str(main.ledger)).returncode == 0
    finally:
        site.close()


@pytest.mark.slow
def test_a_task_on_an_agent_has_the_variables_that_nx_on_main_works_by_and_those_that_were_passed(site: NxSite):
    tool = site.workspace.path / "tools/task.js"
    tool.write_text(
        f"if (process.argv[2] === 'lint') {{ console.log(JSON.stringify(process.env)); process.exit(0); }}\n{tool.read_text()}"
    )
    for command in (["add", "-A"], ["-c", "user.email=a@b.c", "-c", "user.name=n", "commit", "-qm", "tells"]):
        subprocess.run(["git", *command], cwd=site.workspace.path, check=True)
    site.agent("a1", NX_OF_OURS="false", API_URL="of the agent", NX_BRANCH="of the agent")
    told = {"NX_OF_OURS": "true", "API_URL": "of main", "NX_BRANCH": "of main", "GITHUB_SHA": "of main"}
    main = site.nx("run", "p0:lint", **told, DTE_PASS_ENV="API_URL")
    assert main.ended(LIMIT_S) == 0
    assert main.tasks["p0:lint"]["where"] == "a1"
    line = next(line for line in main.out.read_text().splitlines() if line.lstrip().startswith('{"'))
    seen = json.loads(line)
    assert (seen["NX_OF_OURS"], seen["API_URL"]) == ("true", "of main")
    assert seen.get("NX_BRANCH") == "of the agent"
    assert "GITHUB_SHA" not in seen
    assert not [name for name in seen if name.startswith("DTE_SECRET")]


@pytest.mark.slow
def test_after_enough_failures_nx_ends_without_doing_the_rest_here(tmp_path: Path):
    site = NxSite(tmp_path / "site")
    try:
        tool = site.workspace.path / "tools/task.js"
        tool.write_text(
            f"if (process.argv[2] === 'build' && process.argv[3] === 'p1') {{ console.log('p1 is broken'); process.exit(7); }}\n{tool.read_text()}"
        )
        for command in (["add", "-A"], ["-c", "user.email=a@b.c", "-c", "user.name=n", "commit", "-qm", "broken"]):
            subprocess.run(["git", *command], cwd=site.workspace.path, check=True)
        site.agent("a1")
        main = site.nx(*COMMAND, DTE_FAIL_AFTER="1")
        assert main.ended(LIMIT_S) != 0
        assert "p1 is broken" in main.out.read_text()
        assert main.json["verdict"] == "failure"
        skipped = [name for name, task in main.tasks.items() if task["status"] == "skipped"]
        assert "p3:build" in skipped
        assert "nothing new is started: 1 task has failed, and --fail-after is 1" in main.text
        assert dte("verify", str(main.ledger)).returncode == 0
    finally:
        site.close()


@pytest.mark.slow
def test_without_agents_the_main_job_does_it_all_and_says_so(site: NxSite):
    main = site.main("--agent-wait", "1s", "--", "npx", "nx", *COMMAND, **QUIET)
    assert main.ended(LIMIT_S) == 0
    assert "no agent came within 1 s: the main job works alone" in main.err.read_text()
    assert {task["where"] for task in main.json["tasks"]} == {"main"}


@pytest.mark.slow
def test_an_agent_killed_in_the_middle_costs_time_and_nothing_else(site: NxSite):
    expected, plain = alone(site)
    agents = [site.agent(name) for name in ("a1", "a2")]
    main = site.nx(*COMMAND)
    main.happens("task-ended", 5)
    agents[0].signal(signal.SIGKILL)
    assert main.ended(LIMIT_S) == expected.returncode == 0
    assert files(site, "main") == plain.files()
    assert set(completions(main.ledger)) == set(main.tasks)
    assert dte("verify", str(main.ledger)).returncode == 0


@pytest.mark.slow
def test_an_agent_with_another_commit_gets_no_task_and_both_sides_say_so(site: NxSite):
    other = site.machine("other")
    other.write("packages/p0/src/index.js", "module.exports = () => 'changed';\n")
    other.git("-c", "user.email=a@b.c", "-c", "user.name=n", "commit", "-qam", "changed")
    agents = [site.agent("a1"), site.agent("drifted", on=other)]
    main = site.nx(*COMMAND)
    assert main.ended(LIMIT_S) == 0
    assert agents[1].ended(LIMIT_S) == 0
    for text in (main.err.read_text(), agents[1].text):
        assert "its commit is" in text
    assert {task["where"] for task in main.json["tasks"]} == {"a1"}
