"""The whole promise at once: a graph with outputs over several machines leaves on main what one machine would have made."""

import signal

import pytest

from tests.endtoend.mesh_under_test import MakeSite, Running, Site, completions, dte, tree, until
from tests.endtoend.workspaces import layered, names


def one_machine(site: Site, files: dict[str, str]) -> dict[str, tuple[str, int, bytes]]:
    """What `dte run` leaves behind where nobody helps."""
    alone = site.machine("alone")
    running = site.start(alone, "run", "--slots", "4", *names(files), DTE_RUN_ID="alone")
    assert running.ended() == 0
    return tree(alone.workspace)


def assert_recorded(main: Running, tasks: list[str]) -> None:
    """The ledger verifies, and has every task once as done."""
    verified = dte("verify", str(main.ledger))
    assert (verified.returncode, verified.stdout[:3]) == (0, "ok:"), verified.stdout
    recorded = completions(main.ledger)
    assert sorted(recorded) == sorted(tasks)
    assert all([entry.status for entry in entries] == ["success"] for entries in recorded.values())


def test_outputs_on_main_are_those_of_one_machine_and_most_tasks_ran_on_agents(site_of: MakeSite) -> None:
    files = layered(width=40)
    tasks = names(files)
    assert len(tasks) == 200
    site = site_of(files)
    main = site.main(*tasks)
    agents = site.agents(4)
    assert main.ended() == 0
    assert [agent.ended() for agent in agents] == [0, 0, 0, 0]
    assert tree(site.root / "main" / "workspace") == one_machine(site, files)
    assert_recorded(main, tasks)
    where = [task["where"] for task in main.tasks.values()]
    assert sum(place.startswith("agent-") for place in where) >= 0.8 * len(where)
    assert {f"agent-{number}" for number in range(1, 5)} <= set(where)
    assert {task["status"] for task in main.tasks.values()} == {"success"}
    assert main.json["verdict"] == "success"
    for agent in main.json["agents"]:
        assert agent["tasks"] == where.count(agent["name"])
    site.is_quiet()


def killed_after(site: Site, files: dict[str, str], finished: int) -> None:
    """An agent is killed when so many tasks are done and it runs another; nobody can tell from what is on main."""
    main = site.main(*names(files))
    _, victim = site.agents(2)
    main.happens("task-ended", finished)
    until("agent-2 to run something", lambda: runs_something(main, "agent-2"))
    victim.signal(signal.SIGKILL)
    assert main.ended() == 0
    assert main.json["verdict"] == "success"
    assert_recorded(main, names(files))
    left = [event for event in main.events("agent-left") if event["name"] == "agent-2"]
    assert [event["lost"] for event in left] == [True]
    assert "agent-2 was lost" in main.text
    assert tree(site.root / "main" / "workspace") == one_machine(site, files)
    for running in site.started:
        running.ended()


def runs_something(main: Running, agent: str) -> bool:
    """Whether this agent has a task under way, as far as main has told."""
    under_way = 0
    for event in main.events():
        if event.get("agent") == agent:
            under_way += {"task-started": 1, "task-ended": -1}.get(event["event"], 0)
    return under_way > 0


@pytest.mark.parametrize("finished", [0, 20, 45])
def test_an_agent_may_be_killed_in_the_middle(site_of: MakeSite, finished: int) -> None:
    files = layered(width=12, pause_s=0.1)
    killed_after(site_of(files), files, finished)


@pytest.mark.slow
@pytest.mark.parametrize("finished", [0, 10, 30, 50, 70, 90, 110, 130, 150, 170])
def test_an_agent_may_be_killed_at_any_moment(site_of: MakeSite, finished: int) -> None:
    files = layered(width=40, pause_s=0.05)
    killed_after(site_of(files), files, finished)
