"""Whoever goes away, and however: no hang, no false green, and nothing left running."""

import secrets
import signal
import socket
import time
from contextlib import suppress

import psutil
import pytest

from tests.endtoend.mesh_under_test import MakeSite, completions, dte, processes_with, until
from tests.endtoend.workspaces import toml, wait_for

PAUSES = toml(**{f"t{number}": 'command = "sleep 0.3"\ncache = false' for number in range(12)})
ALL = [f"t{number}" for number in range(12)]

STUBBORN = """
sleep 1001 &
setsid sh -c "sleep 1002 & sleep 1003" &
(trap "" TERM; sleep 1004; sleep 1005) &
wait"""
"""A task that leaves for a session of its own, and does not listen to SIGTERM: five processes and more."""


def test_without_agents_main_does_it_all_and_says_so(site_of: MakeSite) -> None:
    main = site_of(PAUSES).main(*ALL, "--slots", "4", "--agent-wait", "500ms")
    assert main.ended() == 0
    assert {task["where"] for task in main.tasks.values()} == {"main"}
    assert "no agent" in main.text
    assert "the main job" in main.text
    assert any("no agent" in notice for notice in main.json["notices"])


def test_a_run_for_this_machine_alone_waits_for_nobody(site_of: MakeSite) -> None:
    main = site_of(PAUSES).main("t0", listen=False)
    assert main.ended() == 0
    assert "no agent" not in main.text


def test_an_agent_hears_of_a_command_that_failed_by_itself(site_of: MakeSite) -> None:
    site = site_of(PAUSES)
    agent = site.agent("a1", "--exit-with-run")
    main = site.main("--agent-wait", "60s", "--", "sh", "-c", f"{wait_for('go')}; exit 7")
    main.happens("agent-joined")
    site.tell("go")
    assert (main.ended(), agent.ended()) == (7, 1)
    assert "the run is over: failure" in agent.text
    assert (main.json["verdict"], main.json["exit_code"]) == ("failure", 7)
    checked = dte("verify", str(main.ledger))
    assert checked.returncode == 0
    assert "failure" in checked.stdout


def test_when_all_agents_are_gone_main_goes_on_alone_and_says_so(site_of: MakeSite) -> None:
    site = site_of(PAUSES)
    main = site.main(*ALL, "--agent-wait", "60s")
    agents = site.agents(2)
    main.happens("task-ended", 3)
    for agent in agents:
        agent.signal(signal.SIGKILL)
    assert main.ended() == 0
    assert "no agent is left: the main job goes on alone" in main.text
    assert "agent-1 was lost" in main.text
    assert "agent-2 was lost" in main.text
    assert sorted(completions(main.ledger)) == sorted(ALL)
    assert dte("verify", str(main.ledger)).returncode == 0


def test_what_a_killed_agent_of_this_machine_ran_has_ended_before_it_runs_again(site_of: MakeSite) -> None:
    command = f"mkdir $SITE/first && sleep 1008; touch $SITE/again; {wait_for('go')}"
    site = site_of(toml(gen=f'command = "{command}"'))
    main = site.main("gen", "--agents", "1", listen=False)

    def orphans() -> list[psutil.Process]:
        found = []
        for process in site.processes():
            with suppress(psutil.Error):  # gone in the meantime
                found += [process] if process.cmdline() == ["sleep", "1008"] else []
        return found

    (sleeps,) = until("the first try", orphans)
    agent = next(parent for parent in sleeps.parents() if "join" in parent.cmdline())
    agent.kill()
    until("the second try", (site.root / "again").exists)
    assert orphans() == []
    site.tell("go")
    assert main.ended() == 0
    assert main.tasks["gen"]["where"] == "main"
    site.is_quiet()


def test_when_main_is_killed_agents_finish_what_runs_and_leave(site_of: MakeSite) -> None:
    task = f'command = "touch $SITE/begun-$DTE_TASK; {wait_for("go")}; touch $SITE/ended-$DTE_TASK"\ncache = false'
    site = site_of(toml(a=task, b=task, c=task, d=task))
    main = site.main("a", "b", "c", "d", "--agent-wait", "60s")
    agents = [site.agent(name, "--wait", "2s") for name in ("agent-1", "agent-2")]
    until("both agents to run a task", lambda: len(list(site.root.glob("begun-*"))) == 2)
    main.signal(signal.SIGKILL)
    main.ended()
    for agent in agents:
        agent.says("the main job is gone")
        assert "1 running task" in agent.text
    site.tell("go")
    assert [agent.ended() for agent in agents] == [0, 0]
    assert len(list(site.root.glob("ended-*"))) == len(list(site.root.glob("begun-*"))) == 2
    assert all("the main job did not come back" in agent.text for agent in agents)
    site.is_quiet()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_main_ends_every_task_on_every_agent(site_of: MakeSite, number: signal.Signals, code: int) -> None:
    mark = secrets.token_hex(8)
    tasks = dict.fromkeys(("a", "b", "c", "d"), f"command = '''{STUBBORN}'''")
    site = site_of(toml(defaults=f'env = {{ TASK_MARK = "{mark}" }}', **tasks))
    main = site.main("a", "b", "c", "d", "--agent-wait", "60s")
    agents = site.agents(2)
    main.happens("task-started", 2)
    until("tasks that run", lambda: len(processes_with("TASK_MARK", mark)) >= 10)
    main.signal(number)
    assert main.ended() == code
    assert [agent.ended() for agent in agents] == [0, 0]
    assert processes_with("TASK_MARK", mark) == []
    site.is_quiet()
    assert (main.json["verdict"], main.json["exit_code"]) == ("cancelled", code)
    assert {task["status"] for task in main.tasks.values()} == {"cancelled"}
    assert f"{number.name}: ending every task" in main.text
    assert f"stopped by a signal (exit code {code})" in main.text
    assert all("the run is over: cancelled" in agent.text for agent in agents)
    assert not any("is gone" in agent.text for agent in agents)
    assert dte("verify", str(main.ledger)).returncode == 0


def test_what_was_told_to_outlive_its_terminal_does(site_of: MakeSite) -> None:
    site = site_of(toml(t=f'command = "touch $SITE/begun; {wait_for("go")}"'))
    main = site.main("t", "--slots", "1", listen=False, first="trap '' HUP")
    until("the task to run", (site.root / "begun").exists)
    main.signal(signal.SIGHUP)
    site.tell("go")
    assert main.ended() == 0


def test_an_agent_that_gets_sigterm_says_goodbye_and_its_tasks_run_elsewhere(site_of: MakeSite) -> None:
    site = site_of(PAUSES)
    main = site.main(*ALL, "--agent-wait", "60s")
    leaves, stays = site.agents(2)
    main.happens("task-ended", 3)
    leaves.signal(signal.SIGTERM)
    assert leaves.ended() == 143
    assert "stopped by SIGTERM" in leaves.text
    assert (main.ended(), stays.ended()) == (0, 0)
    assert [(event["name"], event["lost"]) for event in main.events("agent-left")] == [("agent-1", False)]
    assert "agent-1 left: stopped by SIGTERM" in main.text
    assert "main" not in [task["where"] for task in main.tasks.values()]
    assert sorted(completions(main.ledger)) == sorted(ALL)


@pytest.mark.parametrize("closed", ["exec >/dev/full", "exec > >(true)"], ids=["a full disk", "a reader that is gone"])
def test_an_agent_that_nobody_can_hear_goes_on(site_of: MakeSite, closed: str) -> None:
    site = site_of(PAUSES)
    main = site.main("t0", "t1", "--agent-wait", "60s")
    agent = site.agent("agent-1", first=closed)
    assert (main.ended(), agent.ended()) == (0, 0)
    assert {task["where"] for task in main.tasks.values()} == {"agent-1"}
    assert agent.text == ""


def test_an_agent_is_not_ended_by_what_its_output_has_no_signs_for(site_of: MakeSite) -> None:
    agent = site_of(PAUSES).agent("café", "--wait", "1s", PYTHONIOENCODING="ascii:strict")
    assert agent.ended() == 0
    assert "agent caf? (1 slot) looks for run" in agent.text


def test_a_second_signal_does_not_wait(site_of: MakeSite) -> None:
    task = """command = '''trap "" TERM; touch $SITE/begun; while true; do sleep 1; done'''"""
    site = site_of(toml(t=task))
    main = site.main("t", "--slots", "1", listen=False)
    until("the task to run", (site.root / "begun").exists)
    main.signal(signal.SIGINT)
    main.says("once more to not wait for them")
    main.signal(signal.SIGINT)
    assert main.ended() == 130
    site.is_quiet()
    assert main.json["verdict"] == "cancelled"


def test_a_command_that_was_started_before_the_mesh_turned_out_not_to_work_is_ended(site_of: MakeSite) -> None:
    site = site_of(PAUSES)
    with socket.create_server(("127.0.0.1", int(site.address.rpartition(":")[2]))):
        main = site.main("--", "sleep", "1006")
        assert main.ended() == 2
    assert "cannot listen on" in main.text
    site.is_quiet()


@pytest.mark.slow
@pytest.mark.parametrize("after_ms", [100, 150, 200, 250, 300, 400, 500, 700])
def test_a_signal_while_dte_is_still_being_loaded_ends_the_command_too(site_of: MakeSite, after_ms: int) -> None:
    site = site_of(PAUSES)
    main = site.main("--", "sleep", "1007")
    time.sleep(after_ms / 1000)
    main.signal(signal.SIGTERM)
    assert main.ended() in (143, -signal.SIGTERM)  # the latter before anything of ours was loaded
    site.is_quiet()


@pytest.mark.parametrize("what", [["--", "sh", "-c", "exit 3"], ["bad", "--slots", "1"]], ids=["a command", "a task"])
def test_a_failure_is_one_though_whoever_started_dte_ignores_what_becomes_of_children(
    site_of: MakeSite, what: list[str]
) -> None:
    main = site_of(toml(bad='command = "exit 3"')).main(*what, listen=False, first="trap '' CHLD")
    assert main.ended() == (3 if "--" in what else 1)
    assert main.json["verdict"] == "failure"
