"""Agents leave when they can no longer help, and only then; and those that are there for some targets take no others."""

import signal
import time
from pathlib import Path

import pytest

from tests.endtoend.mesh_under_test import MakeSite, Running, Site, until
from tests.endtoend.test_nx import QUIET, NxSite
from tests.endtoend.turbo_site import TurboSite
from tests.endtoend.workspaces import toml, wait_for
from tests.nx_workspace import make_workspace
from tests.turbo_workspace import make_workspace as make_turbo_workspace

WIDE = [f"w{number}" for number in range(3)]
DEPS = ", ".join(f'"{name}"' for name in WIDE)
FUNNEL = toml(
    **{name: f'command = "{wait_for("wide")}"\ncache = false' for name in WIDE},
    narrow=f'command = "{wait_for("narrow")}; echo through"\ncache = false\ndeps = [{DEPS}]',
)
"""Three tasks at a time, then one, which ends when the test says so."""


def test_of_three_agents_two_leave_when_one_task_is_left_and_a_late_one_too(site_of: MakeSite) -> None:
    site = site_of(FUNNEL)
    main = site.main("narrow", "--agent-wait", "60s")
    agents = site.agents(3, "--exit-with-run")
    main.happens("task-started", 3)
    site.tell("wide")
    until("two agents to leave", lambda: sum(agent.process.poll() is not None for agent in agents) == 2)
    late = site.agent("late")
    assert late.ended() == 0
    assert "this agent is not needed any more: 1 task is left for 1 agent" in late.text
    site.tell("narrow")
    assert (main.ended(), [agent.ended() for agent in agents]) == (0, [0, 0, 0])
    assert sum("this agent is not needed any more" in agent.text for agent in agents) == 2
    left = {agent["name"]: agent["left_ms"] for agent in main.json["agents"]}
    assert len([name for name, at_ms in left.items() if at_ms is not None]) == 3
    assert main.tasks["narrow"]["where"] not in [event["name"] for event in main.events("agent-left")]
    assert "left: it is not needed any more: 1 task is left for 2 agents" in main.text


def test_agents_that_are_to_be_kept_stay_to_the_end(site_of: MakeSite) -> None:
    site = site_of(toml(**dict.fromkeys(WIDE, 'command = "true"'), narrow=f'command = "sleep 4"\ndeps = [{DEPS}]'))
    main = site.main("narrow", "--agent-wait", "60s", DTE_KEEP_AGENTS="1")
    agents = site.agents(3)
    assert (main.ended(), [agent.ended() for agent in agents]) == (0, [0, 0, 0])
    assert all("the run is over: success" in agent.text for agent in agents)
    assert main.events("agent-left") == []


def test_an_agent_that_is_there_for_some_targets_takes_no_others(site_of: MakeSite) -> None:
    held = f'command = "{wait_for("go")}"'
    site = site_of(toml(build=held, test='command = "true"\ndeps = ["build"]', lint=held))
    main = site.main("test", "lint", "--agent-wait", "60s")
    builds = site.agent("builds", "--targets", "b*")
    others = site.agent("others", "--targets", "test,lint")
    nothing = site.agent("nothing", "--targets", "e2e*", "--targets", "deploy")
    assert nothing.ended() == 0
    assert "none of the 3 tasks of the main job is meant by --targets e2e*,deploy" in nothing.text
    assert "this agent is not needed any more: it takes none of the tasks of this run" in nothing.text
    main.happens("task-started", 2)
    site.tell("go")
    assert (main.ended(), builds.ended(), others.ended()) == (0, 0, 0)
    where = {name: task["where"] for name, task in main.tasks.items()}
    assert where == {"build": "builds", "test": "others", "lint": "others"}
    assert "agent builds does not take lint (and 1 more): it is there for b* only" in main.text


def test_when_the_only_agent_takes_nothing_the_main_job_does_not_wait_for_another(site_of: MakeSite) -> None:
    site = site_of(toml(lint='command = "true"'))
    main = site.main("lint", "--agent-wait", "600s")
    assert (site.agent("nothing", "--targets", "e2e").ended(), main.ended()) == (0, 0)
    assert main.tasks["lint"]["where"] == "main"


def test_each_task_goes_where_what_it_asks_for_is(site_of: MakeSite) -> None:
    anywhere = 'command = "true"\ncache = false'
    site = site_of(
        toml(
            gpu=f"{anywhere}\nresources = {{ gpu = 2 }}",
            label=f'{anywhere}\nruns_on = ["signing"]',
            plain=f'{anywhere}\nwhere = "agent"',
        )
    )
    main = site.main("gpu", "label", "plain", "--agent-wait", "60s")
    agents = [site.agent("gpus", "--gpu", "2"), site.agent("signer", "--label", "signing", "--gpu", "1")]
    assert (main.ended(), [agent.ended() for agent in agents]) == (0, [0, 0])
    where = {name: task["where"] for name, task in main.tasks.items()}
    assert (where["gpu"], where["label"]) == ("gpus", "signer")
    assert where["plain"] in ("gpus", "signer")


class OneTask(NxSite):
    """An nx workspace with one task, which sleeps."""

    def __init__(self, root: Path) -> None:
        Site.__init__(self, root, {})
        self.workspace = make_workspace(root / "ws", 1, ("sleep",))


@pytest.mark.slow
@pytest.mark.nx
@pytest.mark.timeout(300)
@pytest.mark.parametrize("script", [False, True])
def test_agents_leave_while_the_one_nx_command_still_waits_and_of_a_script_they_stay(
    tmp_path: Path, script: bool
) -> None:
    site = OneTask(tmp_path / "site")
    try:
        command = (
            ("bash", "-c", "npx nx run-many -t sleep; true") if script else ("npx", "nx", "run-many", "-t", "sleep")
        )
        main = site.main("--agent-wait", "60s", "--", *command, **QUIET)
        agents = site.agents(3)
        main.happens("agent-joined", 3)
        main.happens("task-started")
        if script:
            # Nothing happens, and that is the point: who may leave is gone within half of this (the other case waits for it).
            time.sleep(12)
        else:
            until("an agent to leave", lambda: any(agent.process.poll() == 0 for agent in agents))
        assert any("not needed any more" in agent.text for agent in agents) is not script
        assert not main.events("run-ended")
        main.signal(signal.SIGINT)
        assert main.ended() == 130
        assert {agent.ended() for agent in agents} == {0}
    finally:
        site.close()


def run_of(tool: str, root: Path) -> tuple[Site, Running]:
    """A main job that builds, tests and lints two packages with `tool`."""
    if tool == "nx":
        nx = NxSite(root, 2)
        return nx, nx.nx("run-many", "-t", "build", "test", "lint")
    turbo = TurboSite(root, make_turbo_workspace(root / "ws", packages=2))
    return turbo, turbo.turbo("run", "build", "test", "lint")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "tool", [pytest.param("nx", marks=pytest.mark.nx), pytest.param("turbo", marks=pytest.mark.turbo)]
)
def test_targets_are_those_of_the_tool(tmp_path: Path, tool: str) -> None:
    site, main = run_of(tool, tmp_path / "site")
    try:
        agents = [
            site.agent("lints", "--targets", "lint"),
            site.agent("rest", "--targets", "build", "--targets", "*test"),
        ]
        assert (main.ended(120), [agent.ended() for agent in agents]) == (0, [0, 0])
        assert len(main.tasks) == 6
        assert all(task["where"] == ("lints" if "lint" in name else "rest") for name, task in main.tasks.items())
    finally:
        site.close()
