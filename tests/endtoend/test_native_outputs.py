"""The whole promise at once: a graph with outputs over several machines leaves on main what one machine would have made."""

import signal
from collections.abc import Callable
from functools import cache

import pytest

from tests.endtoend.mesh_under_test import MakeSite, Running, Site, Tree, completions, dte, tree, until
from tests.endtoend.workspaces import layered, names, toml

Alone = Callable[[dict[str, str]], Tree]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Alone:
    """What `dte run` leaves behind in a workspace of these files where nobody helps."""

    @cache
    def one_machine(files: tuple[tuple[str, str], ...]) -> Tree:
        site = Site(tmp_path_factory.mktemp("alone") / "site", dict(files))
        try:
            machine = site.machine("alone")
            assert site.start(machine, "run", "--slots", "4", *names(dict(files))).ended() == 0
            return tree(machine.workspace)
        finally:
            site.close()

    return lambda files: one_machine(tuple(files.items()))


def test_a_tracked_file_that_a_task_changes_elsewhere_is_told(site_of: MakeSite) -> None:
    # It takes long enough for git to be asked behind it.
    files = {"made.txt": "as it was\n", **toml(gen='command = "echo anew > made.txt; sleep 2"\nwhere = "agent"')}
    site = site_of(files)
    site.agent("a1")
    main = site.main("gen", "--agent-wait", "60s")
    assert main.ended() == 0
    (told,) = [notice for notice in main.json["notices"] if "made.txt" in notice]
    assert told.startswith("gen on a1: it changed made.txt, which git tracks")
    assert told.endswith("the main job does not have that")


def assert_recorded(main: Running, tasks: list[str]) -> None:
    """The ledger verifies, and has every task as done: more than once where the outputs were lost with who had made them."""
    verified = dte("verify", str(main.ledger))
    assert (verified.returncode, verified.stdout[:3]) == (0, "ok:"), verified.stdout
    recorded = completions(main.ledger)
    assert sorted(recorded) == sorted(tasks)
    assert {entry.status for entries in recorded.values() for entry in entries} == {"success"}


def test_outputs_on_main_are_those_of_one_machine_and_most_tasks_ran_on_agents(site_of: MakeSite, alone: Alone) -> None:
    files = layered(width=40)
    tasks = names(files)
    assert len(tasks) == 200
    site = site_of(files)
    main = site.main(*tasks, "--agent-wait", "60s")
    agents = site.agents(4)
    assert main.ended() == 0
    assert [agent.ended() for agent in agents] == [0, 0, 0, 0]
    assert tree(site.root / "main" / "workspace") == alone(files)
    assert_recorded(main, tasks)
    assert all(len(entries) == 1 for entries in completions(main.ledger).values())
    where = [task["where"] for task in main.tasks.values()]
    assert sum(place.startswith("agent-") for place in where) >= 0.8 * len(where)
    assert {f"agent-{number}" for number in range(1, 5)} <= set(where)
    assert {task["status"] for task in main.tasks.values()} == {"success"}
    assert main.json["verdict"] == "success"
    for agent in main.json["agents"]:
        assert agent["tasks"] == where.count(agent["name"])
    site.is_quiet()


def killed_after(site: Site, files: dict[str, str], finished: int, alone: Alone) -> None:
    """An agent is killed when so many tasks are done and it runs another; nobody can tell from what is on main."""
    main = site.main(*names(files), "--agent-wait", "60s")
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
    assert tree(site.root / "main" / "workspace") == alone(files)
    for running in site.started:
        running.ended()


def runs_something(main: Running, agent: str) -> bool:
    """Whether this agent has a task under way, as far as main has told."""
    under_way = 0
    for event in main.events():
        if event.get("agent") == agent:
            under_way += {"task-started": 1, "task-ended": -1}.get(event["event"], 0)
    return under_way > 0


@pytest.mark.parametrize("finished", [20])
def test_an_agent_may_be_killed_in_the_middle(site_of: MakeSite, alone: Alone, finished: int) -> None:
    files = layered(width=12, pause_s=0.1)
    killed_after(site_of(files), files, finished, alone)


@pytest.mark.slow
@pytest.mark.parametrize("finished", [0, 10, 30, 50, 70, 90, 110, 130, 150, 170])
def test_an_agent_may_be_killed_at_any_moment(site_of: MakeSite, alone: Alone, finished: int) -> None:
    files = layered(width=40, pause_s=0.05)
    killed_after(site_of(files), files, finished, alone)
