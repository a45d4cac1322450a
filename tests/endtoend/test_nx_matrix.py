"""Every supported nx under dte against that nx alone: the same exit code, the same words, the same record of each task, the same files.

For each version there is one set of clones of one small workspace, brought back to a fresh checkout between scenarios: `just matrix`.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.endtoend.mesh_under_test import Machine, Running, Site, free_port, git, write_files
from tests.nx_workspace import Workspace, latest_version, make_workspace

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(240)]

VERSIONS = ("20.8.4", "21.6.11", "22.7.12", "23.3.2", "latest")
LIMIT_S = 90
QUIET = {"CI": "1", "NX_NO_CLOUD": "true", "NX_DAEMON": "false"}
TARGETS = ("build", "beside", "test", "lint", "generate", "use", "slow", "late", "serve", "e2e")

Record = dict[str, tuple[str, str, int]]
"""What nx itself noted of its last run: each task's hash, where its result came from, and how it ended."""


@dataclass(frozen=True)
class Clones:
    """One version's machines."""

    version: str
    plain: Workspace
    main: Workspace
    agents: tuple[Workspace, ...]

    def reset(self, branch: str) -> None:
        for each in (self.plain, self.main, *self.agents):
            each.reset(branch)


@dataclass
class Ran:
    """What came of one command, alone or under dte."""

    code: int
    shown: list[str]
    record: Record
    files: dict[str, bytes]


@dataclass
class Both:
    """The plain nx of a version and the one under dte, command by command."""

    clones: Clones
    root: Path
    sites: list[Site] = field(default_factory=list)

    def alike(self, *command: str, agents: int = 1, slots: int = 2, beside: str = "", **environ: str) -> Running:
        """Run `command` in both, and find no difference. Returns what dte told. What the continuous task `beside` prints is on the agent."""
        plain = self.alone(*command, **environ)
        main, under = self.under_dte(agents, slots, *command, **environ)
        assert under.code == plain.code
        assert under.record == plain.record
        assert under.shown == [line for line in plain.shown if not (beside and re.search(beside, line))]
        assert under.files == plain.files
        # nx counts continuous tasks, which run beside others and are none of their own.
        assert all(task.endswith(":serve") for task in under.record if task not in main.tasks)
        told = {task: told["exit_code"] == 0 for task, told in main.tasks.items() if told["status"] != "skipped"}
        noted = {task: code == 0 for task, (_, _, code) in under.record.items() if task in main.tasks}
        assert told == noted
        self.sites[-1].is_quiet()
        return main

    def alone(self, *command: str, **environ: str) -> Ran:
        workspace = self.clones.plain
        done = workspace.nx(*command, environment={**workspace.environment(), **environ})
        return Ran(done.returncode, shown(done.stdout), record(workspace), workspace.files())

    def under_dte(self, agents: int, slots: int, *command: str, **environ: str) -> tuple[Running, Ran]:
        site = Site(self.root / f"site-{len(self.sites)}", {})
        self.sites.append(site)
        wait = "60s" if agents else "500ms"
        joined = [
            site.agent(f"a{number}", "--slots", str(slots), on=self._machine(f"a{number}", workspace), **environ)
            for number, workspace in enumerate(self.clones.agents[:agents])
        ]
        machine = self._machine("main", self.clones.main)
        main = site.main("--agent-wait", wait, "--", "npx", "nx", *command, on=machine, **QUIET, **environ)
        code = main.ended(LIMIT_S)
        for agent in joined:
            assert agent.ended(LIMIT_S) == 0
        workspace = self.clones.main
        return main, Ran(code, shown(main.out.read_text()), record(workspace), workspace.files())

    def _machine(self, name: str, workspace: Workspace) -> Machine:
        return Machine(name, workspace.path, workspace.home, self.root / f"data-{len(self.sites)}-{name}")


def shown(text: str) -> list[str]:
    """What a person reads of the tasks; the order and the durations differ between two runs of nx alone, too."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text.replace("\r", ""))
    lines = (line.strip() for line in plain.splitlines())
    return sorted(
        line for line in lines if line and not re.match(r"(Run duration|Critical path|Recoverable time):", line)
    )


def record(workspace: Workspace) -> Record:
    """From the file that nx leaves for its own tools."""
    places = [*workspace.path.glob(".nx/cache/run.json"), *workspace.home.rglob("run.json")]
    newest = max(places, key=lambda path: path.stat().st_mtime_ns)
    tasks = json.loads(newest.read_text())["tasks"]
    return {task["taskId"]: (task.get("hash", ""), task["cacheStatus"], task["status"]) for task in tasks}


@pytest.fixture(
    scope="module", params=[pytest.param(version, marks=pytest.mark.xdist_group(version)) for version in VERSIONS]
)
def clones(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Clones:
    version = latest_version() if request.param == "latest" else request.param
    root = tmp_path_factory.mktemp(f"nx-{version}")
    origin = make_workspace(root / "origin", projects=3, targets=TARGETS, port=free_port(), version=version)
    git(origin.path, "checkout", "-qb", "changed")
    write_files(origin.path, {"packages/p1/src/index.js": "module.exports = () => 'another';\n"})
    git(origin.path, "commit", "-qam", "changed")
    git(origin.path, "checkout", "-qb", "broken", "main")
    write_files(origin.path, {"packages/p1/BROKEN": "", "packages/p2/FAIL": ""})
    git(origin.path, "add", "-A")
    git(origin.path, "commit", "-qm", "broken")
    plain, main, *agents = (origin.clone(root / name / "workspace") for name in ("plain", "main", "a0", "a1"))
    return Clones(version, plain, main, tuple(agents))


@pytest.fixture
def both(clones: Clones, tmp_path: Path) -> Iterator[Both]:
    both = Both(clones, tmp_path)
    clones.reset("main")
    try:
        yield both
    finally:
        for site in both.sites:
            site.close()


def where(main: Running) -> dict[str, str]:
    return {task: told["where"] for task, told in main.tasks.items()}


def test_all_green(both: Both):
    main = both.alike("run-many", "-t", "build", "test", "lint", agents=2, slots=1)
    assert len(main.tasks) == 9
    assert set(where(main).values()) == {"a0", "a1"}


def test_one_failing_and_the_rest_goes_on(both: Both):
    both.clones.reset("broken")
    main = both.alike("run-many", "-t", "build", "test", "lint")
    assert {task: main.tasks[task]["status"] for task in ("p1:build", "p1:test", "p2:test", "p2:lint")} == {
        "p1:build": "failure",
        "p1:test": "skipped",
        "p2:test": "failure",
        "p2:lint": "success",
    }


def test_one_failing_where_nx_is_told_to_stop_at_the_first_failure(both: Both):
    both.clones.reset("broken")
    command = ("run-many", "-t", "build", "late", "-p", "p0", "p1", "--nxBail")
    if both.clones.version.startswith(
        ("22.", "23.")
    ):  # they end what runs; dte lets it finish, as nx does before and after
        plain = both.alone(*command)
        main, under = both.under_dte(1, 4, *command)
        assert under.code == plain.code
        assert under.record.keys() == plain.record.keys()
    else:
        main = both.alike(*command, slots=4)
    assert main.tasks["p0:late"]["status"] == main.tasks["p1:late"]["status"] == "skipped"
    assert main.tasks["p0:slow"]["status"] == "success"


def test_a_second_run_is_cached(both: Both):
    command = ("run-many", "-t", "build", "test", "lint")
    both.alike(*command)
    again = both.alike(*command)
    assert len(again.tasks) == 9
    assert {task["cache"] for task in again.tasks.values()} == {"hit"}


def test_affected_after_a_change(both: Both):
    both.alike("run-many", "-t", "build", "test")
    for workspace in (both.clones.plain, both.clones.main, *both.clones.agents):
        git(workspace.path, "checkout", "-q", "changed")
    main = both.alike("affected", "-t", "build", "test", "--base=main", "--head=HEAD")
    assert {task for task, place in where(main).items() if place == "a0"} == {"p1:build", "p1:test"}


def test_a_producer_that_is_not_cached(both: Both):
    main = both.alike("run-many", "-t", "use")
    assert {task: place for task, place in where(main).items() if task.startswith("p0")} == {
        "p0:generate": "main",
        "p0:use": "a0",
    }


def test_a_continuous_dependency(both: Both):
    """nx 20 knows none: there it is a task like any other, and here it ends by itself, before its consumer begins."""
    old = both.clones.version.startswith("20.")
    main = both.alike("e2e", "p0", **({"TRIES": "20"} if old else {"beside": r"p0:serve|task\.js serve|^up$"}))
    assert main.tasks["p0:e2e"]["status"] == ("failure" if old else "success")
    assert where(main)["p0:e2e"] == "a0"


def test_a_hash_that_depends_on_outputs(both: Both):
    main = both.alike("run-many", "-t", "test")
    assert set(where(main).values()) == {"a0"}


def test_an_agent_with_another_input_gets_none_of_the_tasks_that_it_is_an_input_of(both: Both):
    write_files(both.clones.agents[1].path, {"packages/p1/src/index.js": "module.exports = () => 'drifted';\n"})
    main = both.alike("run-many", "-t", "build", "test", "lint", agents=2)
    assert "a1" not in {place for task, place in where(main).items() if task.startswith("p1:")}


def test_tasks_that_declare_the_same_directory_wipe_nothing_of_each_other(both: Both):
    main = both.alike("run-many", "-t", "build", "beside", agents=2, slots=1)
    assert set(where(main).values()) == {"a0", "a1"}
    assert {"packages/p1/dist/index.js", "packages/p1/dist/beside.js"} <= both.clones.main.files().keys()


def test_no_agents(both: Both):
    main = both.alike("run-many", "-t", "build", "test", "lint", agents=0)
    assert set(where(main).values()) == {"main"}
