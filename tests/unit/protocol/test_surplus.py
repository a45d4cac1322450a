"""Agents that can no longer help are told so; who may still be needed stays."""

import math

import pytest

from mesh.graph.task import Resources
from mesh.protocol import effects as fx
from mesh.protocol import events as ev
from mesh.protocol import news
from mesh.types import TaskId
from mesh.wire import messages as msg
from tests.unit.protocol.scripted import BEGAN_MS, AgentNode, Main, key_of, task

CHAIN = (task("a", cache=False), task("b", "a", cache=False), task("c", "b", cache=False))
"""Tasks that are never copied, so that nobody stays for that."""


def gone(run):
    return [one.name for one in run.told(news.AgentLeft)]


def main_with(*agents, tasks=CHAIN, **config):
    """Agents of one slot that have come before the first task began."""
    run = Main(**config, close=False)
    for agent in agents:
        run.agent(agent)
    run.plan(*tasks)
    run.step(ev.GraphsClosed())
    return run


# --- who goes -----------------------------------------------------------------------------------------


def test_of_three_agents_for_one_chain_two_are_told_to_go():
    run = main_with("a1", "a2", "a3")
    run.started("a1", "a")
    run.wait(2_000)
    assert gone(run) == ["a2", "a3"]
    assert run.sent("a2", msg.Released) == [msg.Released("3 tasks are left for 2 agents")]
    assert run.sent("a3", msg.Released) == [msg.Released("3 tasks are left for 1 agent")]
    assert run.told(news.AgentLeft)[0].reason == "it is not needed any more: 3 tasks are left for 2 agents"
    assert not run.told(news.AgentLeft)[0].lost
    for name in "abc":
        run.finish("a1", name)
    assert run.end.verdict == "success"


def test_nobody_goes_where_agents_are_to_be_kept():
    run = main_with("a1", "a2", "a3", keep_agents=True)
    run.started("a1", "a")
    run.wait(30_000)
    assert gone(run) == []


def test_nobody_goes_while_there_is_one_task_for_each():
    run = main_with("a1", "a2", tasks=("x", "y"))
    run.started("a1", "x")
    run.started("a2", "y")
    run.wait(30_000)
    assert gone(run) == []


def test_nobody_goes_while_more_graphs_may_come():
    run = Main(*CHAIN, close=False)
    run.agent("a1")
    run.agent("a2")
    run.wait(30_000)
    assert gone(run) == []


def test_where_the_command_does_everything_itself_nobody_waits_for_its_end():
    run = Main(close=False)
    run.agent("a1", graphs=0)
    run.step(ev.NothingToGive())
    run.wait(2_000)
    run.agent("a2", graphs=0)
    run.wait(2_000)
    assert gone(run) == ["a1", "a2"]
    assert run.sent("a1", msg.Released) == [msg.Released("the main job does everything itself")]
    assert run.end is None
    run.step(ev.GraphsClosed())
    assert run.end.verdict == "success"


def test_a_graph_that_comes_all_the_same_is_for_who_is_left():
    run = Main(close=False)
    run.step(ev.NothingToGive())
    run.agent("a1", graphs=0)
    run.plan(*CHAIN)
    run.bid("a1", graphs=1)
    run.wait(30_000)
    assert gone(run) == []
    assert run.awards == [("a1", "a", 1)]


def test_of_a_command_that_has_one_graph_agents_go_before_it_has_ended():
    run = Main(close=False)
    run.agent("a1")
    run.agent("a2")
    run.plan("x", last=True)
    run.wait(2_000)
    assert gone(run) == ["a2"]
    run.finish("a1", "x")
    assert run.end is None


def test_of_a_command_that_has_a_second_graph_after_all_no_more_agents_go():
    run = Main(close=False)
    run.plan("x", last=True)
    run.plan("y")
    for agent in ("a1", "a2", "a3"):
        run.agent(agent, graphs=2)
    run.wait(2_000)
    assert gone(run) == []


def test_the_slowest_go_also_where_they_have_the_work():
    run = main_with("slow", tasks=CHAIN)
    run.started("slow", "a")
    run.agent("fast")
    for name, speed in (("slow", 1), ("fast", 2)):
        run.node.leader.market.forecast.speeds.add(key_of(name).node_id, math.log(speed), 0.001)
    run.node.leader.market.rank()
    run.wait(3_000)
    assert gone(run) == []
    run.finish("slow", "a")
    run.started("fast", "b")
    run.wait(3_000)
    assert gone(run) == ["slow"]


def test_an_agent_that_comes_too_late_to_help_is_told_at_once():
    run = main_with("a1")
    run.started("a1", "a")
    run.finish("a1", "a")
    run.agent("late")
    run.started("a1", "b")
    run.wait(2_000)
    assert gone(run) == ["late"]


# --- who stays ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("needs", "can"),
    [
        ({"runs_on": ("gpu",)}, {"labels": ("gpu",)}),
        ({"resources": Resources(memory_bytes=10)}, {"facts": {"memory_bytes": "10"}}),
        ({"resources": Resources(gpu=1)}, {"facts": {"gpu": "1"}}),
    ],
)
def test_who_alone_can_do_something_that_is_left_stays(needs, can):
    run = Main(task("a"), task("b", "a", **needs))
    facts = {"commit": "c0ffee", "os": "linux", "arch": "x86_64", **can.get("facts", {})}
    run.agent("plain")
    run.agent("other")
    run.agent("able", facts=facts, labels=can.get("labels", ()))
    run.started("plain", "a")
    run.wait(5_000)
    assert gone(run) == ["other"]


def test_who_alone_has_what_a_task_needs_of_its_checkout_stays():
    run = Main(*CHAIN)
    run.agent("a1", cannot={"c": "its source differs"})
    run.agent("a2", cannot={"c": "its source differs"})
    run.agent("a3")
    run.started("a1", "a")
    run.wait(5_000)
    assert gone(run) == ["a2"]


def test_a_second_one_stays_for_what_the_main_job_could_not_do():
    run = main_with("a1", "a2", "a3", tasks=(task("a"), task("b", "a", where="agent")))
    run.started("a1", "a")
    run.wait(5_000)
    assert gone(run) == ["a3"]


def test_a_second_one_stays_for_what_is_tried_again_elsewhere():
    run = main_with("a1", "a2", "a3", tasks=(task("a"), task("b", "a", retries=1)))
    run.started("a1", "a")
    run.wait(5_000)
    assert gone(run) == ["a3"]


def test_one_that_had_work_when_a_task_began_stays_for_its_copy_and_one_that_came_later_does_not():
    run = main_with("a1", "a2", tasks=("slow", "quick"))
    where = {one: agent for agent, one, _ in run.awards}
    run.started(where["slow"], "slow")
    run.started(where["quick"], "quick")
    run.wait(500)
    run.finish(where["quick"], "quick")
    run.agent("late")
    run.wait(2_000)
    assert gone(run) == ["late"]
    run.wait(10_000)
    assert run.awards[-1][:2] == (where["quick"], "slow")


def test_in_a_run_where_a_copy_came_first_one_stays_for_each_task_that_runs():
    run = Main("slow", task("a", "slow"), task("b", "a"))
    run.agent("a1")
    run.started("a1", "slow")
    run.agent("a2")
    run.wait(10_000)
    run.started("a2", "slow", 2)
    run.finish("a2", "slow", attempt=2)
    worker = run.awards[-1][0]
    run.started(worker, "a")
    run.wait(500)
    run.agent("a3")
    run.wait(5_000)
    assert len(gone(run)) == 1


def test_who_failed_stays_until_it_is_known_whether_that_counts():
    run = Main(task("x", cache=False))
    run.agent("a1", proven=False)
    run.started("a1", "x")
    run.agent("a2")
    run.finish("a1", "x", "failure")
    assert run.awards[-1] == ("a2", "x", 2)
    run.started("a2", "x", 2)
    run.wait(5_000)
    assert gone(run) == []


def test_who_has_the_result_of_something_that_is_left_stays():
    run = Main(*CHAIN)
    run.agent("a1")
    run.agent("a2")
    run.agent("had", cached=("c",))
    run.started("a1", "a")
    run.wait(5_000)
    assert gone(run) == ["a2"]


def test_who_has_what_the_main_job_has_not_got_yet_stays_until_it_has():
    run = main_with("a1", "a2", tasks=(task("x"), task("y"), task("z", "y", cache=False)), deliver=False)
    first, second = (agent for agent, _, _ in run.awards)
    run.finish(first, "x")
    run.started(second, "y")
    run.finish(second, "y")
    worker = run.awards[-1][0]
    run.started(worker, "z")
    run.wait(5_000)
    assert gone(run) == []
    run.step(ev.Delivered(TaskId("x"), 1))
    run.step(ev.Delivered(TaskId("y"), 1))
    run.wait(5_000)
    assert gone(run) == [agent for agent in ("a1", "a2") if agent != worker]


def test_the_last_agent_stays_as_long_as_anything_is_left_that_it_could_run():
    run = main_with("a1", tasks=(task("m", where="main"), task("x", "m")))
    run.wait(10_000)
    assert gone(run) == []
    run.run_here("m")
    run.finish("a1", "x")
    assert run.end.verdict == "success"


def test_where_only_the_main_job_has_tasks_left_all_go():
    run = main_with("a1", "a2", tasks=(task("x"), task("m", "x", where="main")))
    run.finish(run.awards[0][0], "x")
    run.wait(2_000)
    assert sorted(gone(run)) == ["a1", "a2"]
    assert {one.reason for one in run.sent("a1", msg.Released)} == {"only the main job has tasks left"}
    run.run_here("m")
    assert run.end.verdict == "success"


def test_an_agent_that_takes_none_of_the_tasks_goes_and_leaves_the_others_alone():
    run = Main("x", "y", "z")
    run.agent("a1")
    run.agent("other", cannot=dict.fromkeys("xyz", "its targets are others"))
    run.wait(2_000)
    assert gone(run) == ["other"]
    assert run.sent("other", msg.Released) == [msg.Released("it takes none of the tasks of this run")]


def test_when_the_only_agent_goes_that_takes_nothing_the_main_job_begins_at_once():
    run = Main("x", wait_ms=60_000)
    run.agent("other", cannot={"x": "its variables are others"})
    while not gone(run):
        run.wait(100)
    # Not when something else happens: a main job that is alone hears of nothing.
    assert run.awards == [("main", "x", 1)]
    run.run_here("x")
    assert run.end.verdict == "success"


def test_agents_that_take_nothing_of_what_is_not_the_main_jobs_own_go_and_it_begins_at_once():
    run = Main(task("x"), task("own", "x", where="main"), wait_ms=60_000)
    for agent in ("a1", "a2"):
        run.agent(agent, cannot={"x": "its files are others"})
    while not run.awards:
        run.wait(100)
    assert run.now < 10_000
    assert run.awards == [("main", "x", 1)]


def test_for_the_copy_of_what_will_soon_be_overdue_one_stays_a_few_seconds_and_no_longer():
    run = main_with("a1", "a2", tasks=(task("x"), task("long", "x")))
    worker = run.awards[0][0]
    run.started(worker, "x")
    run.finish(worker, "x", ended_ms=BEGAN_MS + 60_000)
    worker = run.awards[-1][0]
    run.started(worker, "long")
    run.wait(2_000)
    assert len(gone(run)) == 1
    run = main_with("a1", "a2", tasks=("short",))
    run.started(run.awards[0][0], "short")
    run.wait(2_000)
    assert gone(run) == []
    run.wait(2_000)
    assert len(run.awards) == 2


# --- what becomes of it -------------------------------------------------------------------------------


def test_one_that_did_not_hear_it_is_told_again_over_its_next_link():
    run = main_with("a1", "a2")
    run.unlink("a2")
    run.wait(2_000)
    assert gone(run) == ["a2"]
    run.link("a2")
    assert len(run.sent("a2", msg.Released)) == 2
    assert gone(run) == ["a2"]
    run.wait(10_000)
    assert all(agent == "a1" for agent, _, _ in run.awards)


def test_an_agent_that_is_told_to_go_says_goodbye_and_ends_well():
    agent = AgentNode("x")
    agent.say("main", msg.Released("3 tasks are left for 2 agents"))
    assert agent.sent("main", msg.Leave)
    assert agent.end == fx.End(None, "this agent is not needed any more: 3 tasks are left for 2 agents", released=True)


def test_nobody_but_the_main_job_tells_an_agent_to_go():
    agent = AgentNode("x")
    agent.link("other")
    agent.say("other", msg.Released("go"))
    assert agent.end is None


def test_what_is_lost_after_an_agent_went_is_made_again_by_those_that_stayed():
    run = main_with("a1", "a2", tasks=(task("x"), task("y"), task("z", "x", "y")))
    first, second = (agent for agent, _, _ in run.awards)
    run.finish(first, "x")
    run.finish(second, "y")
    (third,) = {agent for agent, one, _ in run.awards if one == "z"}
    run.started(third, "z")
    run.wait(5_000)
    (left,) = gone(run)
    assert left != third
    run.step(ev.LinkDown(key_of(third).node_id, "reset"))
    run.wait(5_000, silent=(third,))
    assert run.notices[-1] == "no agent is left: the main job goes on alone"
    run.run_here("z", attempt=2)
    assert run.end.verdict == "success"
