"""Who finds whom, in which order, and what both sides say where they do not."""

import socket
from contextlib import suppress

import pytest

from tests.endtoend.mesh_under_test import MakeSite, Site, free_port, until, write_files
from tests.endtoend.workspaces import toml, wait_for

FEW = toml(**{f"t{number}": f'command = "sleep 0.2; echo t{number}"\ncache = false' for number in range(6)})
HELD = toml(
    hold=f'where = "main"\ncommand = "{wait_for("go")}"',
    alone='command = "true"\ncache = false',
    later=f'where = "agent"\ncommand = "{wait_for("go")}; echo done"',
)
"""`hold` keeps main busy, and `later` waits for an agent, until the test says `go`."""


def where(running) -> list[str]:
    return [task["where"] for task in running.tasks.values()]


def test_the_agent_may_come_first(site_of: MakeSite) -> None:
    site = site_of(FEW)
    agent = site.agent("agent-1")
    agent.says("looks for run")
    main = site.main("t0", "t1", "t2", "t3", "t4", "t5", "--agent-wait", "60s")
    assert (main.ended(), agent.ended()) == (0, 0)
    assert where(main) == ["agent-1"] * 6
    assert "joined the run of main" in agent.text
    assert "the run is over: success" in agent.text


def test_main_may_come_first(site_of: MakeSite) -> None:
    site = site_of(FEW)
    main = site.main("t0", "t1", "t2", "t3", "t4", "t5", "--agent-wait", "60s")
    main.happens("graph-added")
    agent = site.agent("agent-1")
    assert (main.ended(), agent.ended()) == (0, 0)
    assert where(main) == ["agent-1"] * 6


def late(site: Site, wait: str) -> None:
    """Main has begun alone before the agent starts, which then still gets its share."""
    main = site.main("hold", "alone", "later", "--agent-wait", wait, "--main-slots", "0", "--slots", "2")
    main.happens("task-ended")
    assert [event["task"] for event in main.events("task-ended")] == ["alone"]
    agent = site.agent("late")
    main.says("late joined")
    site.tell("go")
    assert (main.ended(), agent.ended()) == (0, 0)
    assert {name: task["where"] for name, task in main.tasks.items()} == {
        "hold": "main",
        "alone": "main",
        "later": "late",
    }


def test_an_agent_that_comes_late_gets_what_is_left(site_of: MakeSite) -> None:
    late(site_of(HELD), "1s")


@pytest.mark.slow
def test_an_agent_may_come_half_a_minute_late(site_of: MakeSite) -> None:
    late(site_of(HELD), "30s")


def test_a_wrong_secret_is_told_on_both_sides_and_nobody_waits_for_it(site_of: MakeSite) -> None:
    site = site_of(HELD)
    main = site.main("hold", "alone", "--agent-wait", "1s", "--slots", "2")
    agent = site.agent("stranger", DTE_SECRET="not the secret of this run")
    refusal = "does not share this run's secret and run id: check that DTE_SECRET, the run id"
    agent.says(refusal)
    main.says(refusal)
    impatient = site.agent("impatient", "--wait", "1s", DTE_SECRET="nor is this the secret")
    assert impatient.ended(20) == 2
    assert refusal in impatient.text.splitlines()[-1]
    site.tell("go")
    assert main.ended() == 0
    assert where(main) == ["main", "main"]
    assert [agent["name"] for agent in main.json["agents"]] == ["main"]
    assert any(refusal in notice for notice in main.json["notices"])
    assert agent.ended(40) == 2
    assert "gave up after" in agent.text


def test_an_agent_with_another_commit_gets_no_tasks_and_both_sides_name_the_commits(site_of: MakeSite) -> None:
    site = site_of(FEW)
    other = site.machine("other")
    other.write("more", "more")
    other.git("add", "more")
    other.git("commit", "--quiet", "--message=more")
    main = site.main("t0", "t1", "--agent-wait", "60s")
    agent = site.agent("other", "--exit-with-run", on=other)
    good = site.agent("good")
    assert (main.ended(), agent.ended(), good.ended()) == (0, 1, 0)
    assert where(main) == ["good", "good"]
    assert "agent other gets no tasks: its commit is" in main.text
    assert "the main job gives this agent no tasks: its commit is" in agent.text
    assert ", the main job's is" in agent.text


def test_an_agent_whose_files_differ_leaves_those_tasks_to_others_and_names_the_files(site_of: MakeSite) -> None:
    t = 'command = "cat source"\ninputs = ["source"]\ndeps = ["u"]'
    files = toml(t=t, u='command = "true"\ninputs = ["other"]\nwhere = "agent"')
    site = site_of({**files, "source": "as committed\n", "other": ""})
    other = site.machine("edited")
    other.write("source", "edited\n")
    main = site.main("t", "u", "--agent-wait", "3s")
    agent = site.agent("edited", on=other)
    assert (main.ended(), agent.ended()) == (0, 0)
    assert {name: task["where"] for name, task in main.tasks.items()} == {"t": "main", "u": "edited"}
    assert "agent edited does not take t: its inputs are not main's: source (another content)" in main.text
    assert "as committed" in main.text


@pytest.mark.parametrize("verb", ["run", "join"])
def test_a_port_in_use_is_told_at_once(site_of: MakeSite, verb: str) -> None:
    site = site_of(FEW)
    with socket.create_server(("127.0.0.1", site.port)):
        running = site.main("t0") if verb == "run" else site.agent("a", "--listen", site.address, "--peer", "[::1]:1")
        assert running.ended() == 2
    assert f"cannot listen on {site.address}: another process does; choose another port" in running.text
    if verb == "run":
        assert (running.json["verdict"], running.json["exit_code"]) == ("error", 2)
        assert [notice for notice in running.json["notices"] if "another process does" in notice] != []


def test_a_peer_that_is_not_there_is_told_and_waited_for_only_so_long(site_of: MakeSite) -> None:
    agent = site_of(FEW).agent("agent-1", "--wait", "5s")
    assert agent.ended() == 0
    assert "refused the connection: nothing listens there" in agent.text
    assert "still trying" in agent.text
    assert "no main job came within 5 s" in agent.text


def test_of_several_addresses_one_is_enough(site_of: MakeSite) -> None:
    site = site_of(FEW)
    dead = f"127.0.0.1:{free_port()}"
    main = site.main("t0", "t1", "t2", "--agent-wait", "60s")
    one = site.agent("one", "--peer", dead, "--peer", f"localhost:{site.port}")
    assert (main.ended(), one.ended()) == (0, 0)
    assert where(main) == ["one"] * 3


def test_addresses_come_from_a_variable_too(site_of: MakeSite) -> None:
    site = site_of(FEW)
    dead = f"127.0.0.1:{free_port()}"
    main = site.main("t0", "--agent-wait", "60s")
    machine = site.machine("one")
    one = site.start(machine, "join", DTE_PEER=f"{dead},{site.address}", DTE_LISTEN="127.0.0.1:0", DTE_NAME="one")
    assert (main.ended(), one.ended()) == (0, 0)
    assert where(main) == ["one"]


def has_ipv6() -> bool:
    with suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


@pytest.mark.parametrize("listen", [":0", "0.0.0.0:0,[::]:0", "[::1]:0"])
def test_agents_on_this_machine_find_it_wherever_it_listens(site_of: MakeSite, listen: str) -> None:
    if "[" in listen and not has_ipv6():
        pytest.skip("this machine has no IPv6")  # as in many containers: nothing could listen there
    main = site_of(FEW).main("t0", "--agents", "1", "--agent-wait", "60s", "--listen", listen, listen=False)
    assert main.ended() == 0
    assert where(main) == ["agent-1"]


def test_a_peer_without_a_port_is_a_usage_error(site_of: MakeSite) -> None:
    agent = site_of(FEW).agent("agent-1", "--peer", "main.local")
    assert agent.ended() == 2
    assert "'main.local' is no address: HOST:PORT is expected" in agent.text


def test_peers_meet_in_a_directory_and_runs_with_one_secret_do_not_mix(site_of: MakeSite) -> None:
    """Two runs, one of them with two main jobs that `--env` keeps apart, in one directory."""
    site = site_of(toml(t=f'command = "{wait_for("go")}; echo $PLACE"\ncache = false'))
    meeting = ("--rendezvous", str(site.root / "meeting"))
    runs = {"one": ("one", ""), "two-a": ("two", "a"), "two-b": ("two", "b")}
    mains, agents = {}, {}
    for place, (run_id, env) in runs.items():
        agents[place] = site.agent(place, *meeting, PLACE=place, DTE_RUN_ID=run_id, DTE_ENV=env)
        main = site.machine(f"main-{place}")
        arguments = ("t", *meeting, "--listen", "127.0.0.1:0", "--agent-wait", "60s")
        mains[place] = site.main(*arguments, on=main, listen=False, DTE_RUN_ID=run_id, DTE_ENV=env)
    for main in mains.values():
        main.happens("task-started")
    site.tell("go")
    for place, main in mains.items():
        assert (main.ended(), agents[place].ended()) == (0, 0)
        assert [agent["name"] for agent in main.json["agents"]] == [place]
        assert where(main) == [place]
        assert place in main.out.read_text().splitlines()
    left = until("the adverts to be taken away", lambda: not list((site.root / "meeting").rglob("*.json")))
    assert left


def test_an_agent_that_comes_when_the_run_is_over_leaves_at_once_with_its_result(site_of: MakeSite) -> None:
    site = site_of(toml(bad='command = "exit 3"'))
    meeting = ("--rendezvous", str(site.root / "meeting"))
    assert site.main("bad", *meeting, "--agent-wait", "100ms", listen=False).ended() == 1
    late = site.agent("late", *meeting, "--wait", "10m", "--exit-with-run")
    assert late.ended(30) == 1
    assert "the run is over: failure" in late.text


def test_an_agent_goes_on_that_cannot_see_the_directory_any_more(site_of: MakeSite) -> None:
    site = site_of(HELD)
    place = site.root / "meeting"
    meeting = ("--rendezvous", str(place), "--listen", "127.0.0.1:0")
    main = site.main("later", *meeting, "--agent-wait", "60s", listen=False)
    agent = site.agent("agent-1", *meeting)
    main.happens("task-started")
    place.rename(site.root / "elsewhere")
    place.write_text("this is no directory")
    agent.says(f"the rendezvous directory {place} cannot be read")
    site.tell("go")
    assert (main.ended(), agent.ended()) == (0, 0)
    assert where(main) == ["agent-1"]


def test_an_agent_that_dials_the_main_job_of_another_run_is_refused(site_of: MakeSite) -> None:
    site = site_of(HELD)
    main = site.main("hold", "--slots", "1", "--agent-wait", "1s")
    agent = site.agent("lost", DTE_RUN_ID="another")
    agent.says("does not share this run's secret and run id")
    main.says("does not share this run's secret and run id")
    site.tell("go")
    assert main.ended() == 0
    assert "lost" not in [agent["name"] for agent in main.json["agents"]]


def test_two_main_jobs_of_one_name_are_told_to_take_an_env_each(site_of: MakeSite) -> None:
    site = site_of(HELD)
    first = site.main("hold", "--slots", "1", "--agent-wait", "1s")
    first.happens("task-started")
    arguments = ("hold", "--slots", "1", "--agent-wait", "1s", "--listen", "127.0.0.1:0", "--peer", site.address)
    second = site.main(*arguments, on=site.machine("second"), listen=False)
    second.says("give each its own --env")
    site.tell("go")
    assert (first.ended(), second.ended()) == (0, 0)


@pytest.mark.parametrize("may_differ", [False, True], ids=["compared", "allowed"])
def test_an_agent_with_another_node_gets_no_task_unless_it_may_have_one(site_of: MakeSite, may_differ: bool) -> None:
    site = site_of({**FEW, "package.json": '{"name": "ws"}'})
    machines = {name: site.machine(name) for name in ("main", "agent-1")}
    for version, machine in zip(("20.1.2", "22.3.4"), machines.values(), strict=True):
        write_files(machine.home, {"node": f"#!/bin/sh\necho v{version}\n"})
    path = {name: f"{machine.home}:{site.environ(machine)['PATH']}" for name, machine in machines.items()}
    allowed = {"DTE_MAY_DIFFER": "node"} if may_differ else {}
    agent = site.agent("agent-1", on=machines["agent-1"], PATH=path["agent-1"])
    main = site.main("t0", "t1", "--agent-wait", "5s", on=machines["main"], PATH=path["main"], **allowed)
    assert (main.ended(), agent.ended()) == (0, 0)
    said = "its node is 22.3.4, the main job's is 20.1.2"
    assert (said in main.text, said in agent.text) == (not may_differ, not may_differ)
    assert where(main) == (["agent-1"] if may_differ else ["main"]) * 2
