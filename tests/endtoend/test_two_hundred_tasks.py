"""The whole promise at once: a graph with outputs over several machines leaves on main what one machine would have made."""

import signal
from collections.abc import Callable, Mapping

import pytest

from tests.endtoend.mesh_under_test import Running, Site, completions, dte, tree
from tests.endtoend.workspaces import names, two_hundred

MakeSite = Callable[[Mapping[str, str]], Site]


def one_machine(site: Site) -> dict[str, tuple[str, int, bytes]]:
    """What `dte run` leaves behind where nobody helps."""
    alone = site.machine("alone")
    running = site.start(alone, "run", "--slots", "4", *names(two_hundred()), DTE_RUN_ID="alone")
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
    files = two_hundred()
    site = site_of(files)
    main = site.main(*names(files))
    machine_outputs = site.root / "main" / "workspace"
    site.agents(4)
    assert main.ended() == 0
    there = [agent.ended() for agent in site.started[1:]]
    assert there == [0, 0, 0, 0]
    assert tree(machine_outputs) == one_machine(site)
    assert_recorded(main, names(files))
    where = [task["where"] for task in main.tasks.values()]
    assert sum(place.startswith("agent-") for place in where) >= 0.8 * len(where)
    assert len(set(where)) >= 4
    assert {task["status"] for task in main.tasks.values()} == {"success"}
    assert main.json["verdict"] == "success"
    for agent in main.json["agents"]:
        assert agent["tasks"] == where.count(agent["name"])
    site.is_quiet()


def killed_after(site: Site, finished: int) -> None:
    """An agent is killed when so many tasks are done; nobody can tell from what is on main."""
    main = site.main(*names(two_hundred()))
    _, victim, _ = site.agents(3)
    main.happens("task-ended", finished)
    victim.signal(signal.SIGKILL)
    assert main.ended() == 0
    assert main.json["verdict"] == "success"
    assert_recorded(main, names(two_hundred()))
    left = [event for event in main.events("agent-left") if event["name"] == "agent-2"]
    assert [event["lost"] for event in left] == [True]
    assert "agent-2 was lost" in main.text
    assert tree(site.root / "main" / "workspace") == one_machine(site)
    for agent in site.started:
        agent.ended()
    site.is_quiet()


@pytest.mark.parametrize("finished", [1, 60, 140])
def test_an_agent_may_be_killed_in_the_middle(site_of: MakeSite, finished: int) -> None:
    killed_after(site_of({**two_hundred(), "slow": "0.02"}), finished)


@pytest.mark.slow
@pytest.mark.parametrize("finished", [5, 20, 40, 80, 100, 120, 160])
def test_an_agent_may_be_killed_at_any_moment(site_of: MakeSite, finished: int) -> None:
    killed_after(site_of({**two_hundred(), "slow": "0.02"}), finished)
