"""Turborepo over a real mesh: a main job and two agents in three clones with three HOMEs, against plain turbo in a fourth."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.endtoend.mesh_under_test import Running, dte
from tests.endtoend.turbo_site import LIMIT_S, QUIET, TurboSite, shown
from tests.turbo_workspace import Workspace, commit, linked_worktree, make_workspace

pytestmark = [pytest.mark.turbo, pytest.mark.timeout(300)]

COMMAND = ("run", "build", "test", "lint")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[TurboSite]:
    site = TurboSite(tmp_path / "site", make_workspace(tmp_path / "site/ws", packages=4))
    try:
        yield site
    finally:
        site.close()


def test_the_main_job_looks_as_if_turbo_had_run_there(site: TurboSite):
    plain = site.clone("alone")
    expected = plain.turbo(*COMMAND)
    agents = [site.agent(name) for name in ("a1", "a2")]
    main = site.turbo(*COMMAND)
    assert main.ended(LIMIT_S) == expected.returncode == 0
    assert [agent.ended(LIMIT_S) for agent in agents] == [0, 0]
    assert shown(main.out.read_text()) == shown(expected.stdout)
    assert Workspace(site.root / "main/workspace").files() == plain.files() != {}
    told = main.json
    assert told["verdict"] == "success"
    assert {task["where"] for task in told["tasks"]} == {"a1", "a2"}
    assert len(told["tasks"]) == 12
    assert dte("verify", str(main.ledger)).returncode == 0


def test_variables_that_the_launcher_of_turbo_sets_are_those_of_the_plan(site: TurboSite):
    rules = site.workspace.path / "turbo.json"
    told = json.loads(rules.read_text())
    told["tasks"]["build"]["env"] = ["npm_config_user_agent", "npm_command"]
    rules.write_text(json.dumps(told))
    commit(site.workspace.path)
    site.agent("a1")
    main = site.turbo("run", "build")
    assert main.ended(LIMIT_S) == 0
    assert {task["where"] for task in main.json["tasks"]} == {"a1"}
    assert "4 cached, 4 total" in main.out.read_text()


def test_a_failing_task_ends_turbo_with_its_own_code_and_its_log(site: TurboSite):
    tool = site.workspace.path / "tools/task.mjs"
    tool.write_text(
        "if (process.cwd().endsWith('p1') && process.argv[2] === 'test') { console.log('p1 is broken'); process.exit(7); }\n"
        + tool.read_text()
    )
    commit(site.workspace.path)
    plain = site.clone("alone")
    expected = plain.turbo(*COMMAND, "--continue")
    agents = [site.agent(name) for name in ("a1", "a2")]
    main = site.turbo(*COMMAND, "--continue")
    assert main.ended(LIMIT_S) == expected.returncode == 7
    assert [agent.ended(LIMIT_S) for agent in agents] == [0, 0]
    assert "p1 is broken" in main.out.read_text()
    assert Workspace(site.root / "main/workspace").files() == plain.files()
    assert main.json["verdict"] == "failure"
    assert main.tasks["p1#test"]["status"] == "failure"


@pytest.mark.parametrize(
    ("launcher", "option"),
    [(("npx", "turbo"), ("--output-logs=new-only",)), (("./node_modules/.bin/turbo",), ())],
)
def test_where_turbo_prints_what_is_new_what_agents_do_is_new(
    site: TurboSite, launcher: tuple[str, ...], option: tuple[str, ...]
):
    if not option:
        rules = site.workspace.path / "turbo.json"
        told = json.loads(rules.read_text())
        for task in told["tasks"].values():
            task["outputLogs"] = "new-only"
        rules.write_text(json.dumps(told))
        commit(site.workspace.path)
    command = ("run", "build", *option, "--", "--loudly")
    expected = site.clone("alone").turbo(*command)
    site.agent("a1")
    main = site.main("--agent-wait", "60s", "--", *launcher, *command, **QUIET)
    assert main.ended(LIMIT_S) == expected.returncode == 0
    assert {task["where"] for task in main.json["tasks"]} == {"a1"}
    assert "built p3 --loudly" in expected.stdout
    assert shown(main.out.read_text()) == shown(expected.stdout)


def test_what_failed_on_an_agent_only_is_shown_at_the_end(site: TurboSite):
    tool = site.workspace.path / "tools/task.mjs"
    tool.write_text(
        "const here = process.cwd().includes('/a1/') && process.cwd().endsWith('p1') && process.argv[2] === 'test';\n"
        "if (here) { console.log('this machine has no browser'); process.exit(7); }\n" + tool.read_text()
    )
    commit(site.workspace.path)
    site.agent("a1")
    main = site.turbo("run", "test", "--filter=p1")
    assert main.ended(LIMIT_S) == 1
    assert "p1#test failed on an agent and passed on the main job" in main.text
    shown = main.err.read_text().splitlines()
    at = shown.index("this machine has no browser")
    assert shown.index("dte: failed: p1#test") > at
    assert any(line.startswith("✗ p1#test") and "failed (exit code 7)" in line for line in shown[:at])


def test_turbo_ends_at_its_first_failure_and_waits_for_nothing_that_agents_are_at(site: TurboSite):
    tool = site.workspace.path / "tools/task.mjs"
    tool.write_text(
        "const at = (name) => process.cwd().endsWith(name) && process.argv[2] === 'test';\n"
        "if (at('p1')) { console.log('p1 is broken'); process.exit(7); }\n"
        "if (at('p2')) { await new Promise((done) => setTimeout(done, 120_000)); }\n" + tool.read_text()
    )
    commit(site.workspace.path)
    command = ("run", "test", "--filter=p1", "--filter=p2")
    expected = site.clone("alone").turbo(*command)
    agents = [site.agent(name) for name in ("a1", "a2")]
    main = site.turbo(*command)
    assert main.ended(100) == expected.returncode == 7
    assert [agent.ended(LIMIT_S) for agent in agents] == [0, 0]
    assert "p1 is broken" in main.out.read_text()
    assert main.json["verdict"] == "failure"
    assert main.tasks["p1#test"]["status"] == "failure"
    assert main.tasks["p2#test"]["status"] == "cancelled"


@pytest.mark.slow
def test_after_enough_failures_turbo_ends_without_doing_the_rest_here(site: TurboSite):
    (site.workspace.path / "packages/p1/BROKEN").touch()
    commit(site.workspace.path)
    site.agent("a1")
    main = site.turbo(*COMMAND, "--continue", DTE_FAIL_AFTER="1")
    assert main.ended(LIMIT_S) == 1
    assert "p1 is broken" in main.out.read_text()
    assert main.json["verdict"] == "failure"
    skipped = [name for name, task in main.tasks.items() if task["status"] == "skipped"]
    assert "p3#build" in skipped
    assert not (site.root / "main/workspace/packages/p3/dist").exists()
    assert "nothing new is started: 1 task has failed, and --fail-after is 1" in main.text
    assert dte("verify", str(main.ledger)).returncode == 0


@pytest.mark.parametrize("declared", [True, False])
def test_a_link_in_node_modules_travels_where_it_is_declared_and_is_gone_back_for_where_it_is_not(
    tmp_path: Path, declared: bool
):
    tasks = {"link": {"outputs": ["node_modules/p0"] if declared else []}, "linked": {"dependsOn": ["p0#link"]}}
    scripts = {"p0": ("link",), "p1": ("linked",), "p2": ("linked",)}
    site = TurboSite(tmp_path / "site", make_workspace(tmp_path / "site/ws", 3, only=scripts, tasks=tasks))
    try:
        expected = site.clone("alone").turbo("run", "linked")
        # The other agent may not take the link, or a copy of it would be there as well on a busy machine.
        agents = [site.agent("a1"), site.agent("a2", "--targets", "linked")]
        main = site.turbo("run", "linked")
        assert main.ended(LIMIT_S) == expected.returncode == 0
        assert [agent.ended(LIMIT_S) for agent in agents] == [0, 0]
    finally:
        site.close()
    left = "p0#link on a1: it left packages/p0/node_modules/p0, which no task declares as outputs"
    assert any(left in notice for notice in main.json["notices"]) is not declared
    attempts = [main.tasks[f"{name}#linked"]["attempts"] for name in ("p1", "p2")]
    if declared:
        assert attempts == [1, 1]
    else:
        assert {main.tasks[f"{name}#linked"]["where"] for name in ("p1", "p2")} == {"a1"}
        assert sorted(attempts) == [1, 2]
        assert any("lacks what p0#link left and does not declare" in notice for notice in main.json["notices"])


def test_a_file_that_git_tracks_and_a_task_rewrites_is_rewritten_here_too(tmp_path: Path):
    tasks = {"regenerate": {}, "reuse": {"dependsOn": ["regenerate"]}, "lint": {}}
    scripts = {"p0": ("regenerate", "reuse"), "p1": ("lint",)}
    site = TurboSite(tmp_path / "site", make_workspace(tmp_path / "site/ws", 2, only=scripts, tasks=tasks))
    try:
        (site.workspace.path / "packages/p0/src/made.js").write_text("// as it was")
        commit(site.workspace.path)
        gate = "npx turbo run regenerate reuse lint && git diff --exit-code"
        site.agent("a1", "--slots", "1")
        main = site.main("--agent-wait", "5s", "--", "sh", "-c", gate, **QUIET)
        assert main.ended(LIMIT_S) == 1
    finally:
        site.close()
    assert "p0:reuse: // made anew for p0" in main.out.read_text()
    assert "+// made anew for p0" in main.out.read_text()
    where = {name: task["where"] for name, task in main.tasks.items()}
    assert (where["p0#regenerate"], where["p0#reuse"]) == ("a1", "main")
    told = "p0#regenerate on a1: packages/p0/src/made.js, which git tracks, changed while it ran"
    assert any(told in notice for notice in main.json["notices"])


@pytest.mark.parametrize(("declared", "outputs"), [(True, "dist/**"), (False, "dist/**"), (False, "**/dist/**")])
def test_a_file_among_the_outputs_of_another_task_is_here_where_it_is_declared_and_is_told_of_where_it_is_not(
    tmp_path: Path, declared: bool, outputs: str
):
    tasks = {"build": {"outputs": [outputs]}, "scatter": {"outputs": ["dist/scattered.js"] if declared else []}}
    site = TurboSite(
        tmp_path / "site", make_workspace(tmp_path / "site/ws", 1, only={"p0": ("build", "scatter")}, tasks=tasks)
    )
    try:
        alone = site.clone("alone")
        assert alone.turbo("run", "build", "scatter").returncode == 0
        assert (alone.path / "packages/p0/dist/scattered.js").exists()
        agents = [site.agent("a1", "--targets", "build"), site.agent("a2", "--targets", "scatter")]
        main = site.turbo("run", "build", "scatter")
        assert main.ended(LIMIT_S) == 0
        assert [agent.ended(LIMIT_S) for agent in agents] == [0, 0]
        place = site.clone("main").path
    finally:
        site.close()
    assert (place / "packages/p0/dist/index.js").exists()
    assert (place / "packages/p0/dist/scattered.js").exists() is declared
    told = "p0#scatter on a2: it left packages/p0/dist/scattered.js, which only other tasks declare as outputs"
    assert any(told in notice for notice in main.json["notices"]) is not declared


def test_what_turbo_has_where_dte_cannot_read_it_is_a_success_and_keeps_what_is_behind_it_here(site: TurboSite):
    # A linked worktree has no cache of its own, and turbo does not tell which one it reads.
    first = site.clone("first")
    assert first.turbo("run", "build").returncode == 0
    site.places["main"] = linked_worktree(first, site.root / "main/workspace")
    site.agent("a1")
    main = site.turbo("run", "build", "test", "lint", agent_wait="5s")
    assert main.ended(LIMIT_S) == 0
    assert {task["status"] for task in main.tasks.values()} == {"success"}
    where = {name: task["where"] for name, task in main.tasks.items()}
    assert {where[f"p{number}#{task}"] for number in range(4) for task in ("build", "test")} == {"main"}
    assert any("turbo has its result in its cache on the main job" in notice for notice in main.json["notices"])


def test_without_agents_turbo_runs_everything_here(site: TurboSite):
    main = site.main("--agent-wait", "1s", "--", "npx", "turbo", *COMMAND, **QUIET)
    assert main.ended(LIMIT_S) == 0
    assert "no agent came within 1 s: the main job works alone" in main.err.read_text()
    assert {task["where"] for task in main.json["tasks"]} == {"main"}
    assert main.json["verdict"] == "success"


@pytest.mark.slow
def test_an_agent_killed_in_the_middle_costs_time_and_nothing_else(site: TurboSite):
    plain = site.clone("alone")
    assert plain.turbo(*COMMAND).returncode == 0
    agents = [site.agent(name) for name in ("a1", "a2")]
    main = site.turbo(*COMMAND)
    main.happens("task-ended", 2)
    agents[0].signal(signal.SIGKILL)
    assert main.ended(LIMIT_S) == 0
    assert Workspace(site.root / "main/workspace").files() == plain.files()
    assert dte("verify", str(main.ledger)).returncode == 0


def test_a_run_that_is_stopped_leaves_nothing_behind(site: TurboSite):
    site.agent("a1")
    main = site.turbo(*COMMAND)
    main.happens("task-started", 1)
    main.signal(signal.SIGTERM)
    assert main.ended(LIMIT_S) == 143
    assert main.json["verdict"] == "cancelled"
    site.is_quiet()


@pytest.mark.slow
def test_a_command_that_must_not_be_distributed_runs_plainly_and_says_why(site: TurboSite):
    main = site.turbo(*COMMAND, "--force")
    assert main.ended(LIMIT_S) == 0
    assert "turbo runs everything on this machine:" in main.err.read_text()


def script(site: TurboSite, name: str) -> "tuple[Running, subprocess.CompletedProcess[str]]":
    """A script of the workspace's, under dte and in another clone alone."""
    alone = site.clone("alone")
    plain = subprocess.run(
        ["npm", "run", name],
        cwd=alone.path,
        env=alone.environment(),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    main = site.main("--agent-wait", "60s", "--", "npm", "run", name, **QUIET)
    agents = [site.agent(each, "--slots", "2") for each in ("a1", "a2")]
    assert main.ended(LIMIT_S) == plain.returncode
    assert [agent.ended(LIMIT_S) for agent in agents] == [0, 0]
    assert shown(main.out.read_text()) == shown(plain.stdout)
    assert site.clone("main").files() == alone.files()
    return main, plain


@pytest.mark.slow
def test_every_turbo_of_a_script_is_distributed(site: TurboSite):
    main, _ = script(site, "ci")
    assert main.json["verdict"] == "success"
    first = {name for name in main.tasks if "/" not in name}
    assert first == {f"p{number}#build" for number in range(4)}
    assert set(main.tasks) - first == {f"2/p{number}#{what}" for number in range(4) for what in ("build", "test")}
    assert {task["where"] for task in main.tasks.values()} <= {"a1", "a2"}
    assert dte("verify", str(main.ledger)).returncode == 0


@pytest.mark.slow
def test_a_script_that_goes_on_after_a_failure_shows_what_turbo_shows_and_is_red(site: TurboSite):
    (site.workspace.path / "packages/p0/BROKEN").touch()
    commit(site.workspace.path)
    alone = site.clone("alone")
    main = site.main("--agent-wait", "60s", "--", "npm", "run", "stop", **QUIET)
    agent = site.agent("a1", "--slots", "2")
    assert (main.ended(LIMIT_S), agent.ended(LIMIT_S)) == (1, 0)
    assert alone.turbo("run", "build", "test").returncode == 3
    assert main.tasks["p0#build"]["status"] == "failure"
    assert {task["status"] for name, task in main.tasks.items() if name.startswith("2/")} == {"success"}


@pytest.mark.slow
def test_a_turbo_that_starts_elsewhere_is_plain_and_that_is_said(site: TurboSite):
    main = site.main("--agent-wait", "1s", "--", "npm", "run", "inside", **QUIET)
    assert main.ended(LIMIT_S) == 0
    assert "turbo runs everything on this machine: it was started in" in main.err.read_text()
    assert "lint ok p0" in main.out.read_text()
    assert main.json["tasks"] == []


@pytest.mark.slow
def test_a_script_that_is_stopped_leaves_no_turbo_behind(site: TurboSite):
    site.agent("a1")
    main = site.main("--agent-wait", "60s", "--", "npm", "run", "ci", **QUIET)
    main.happens("task-started", 1)
    main.signal(signal.SIGTERM)
    assert main.ended(LIMIT_S) == 143
    site.is_quiet()
