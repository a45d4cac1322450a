"""What a link took with it when it broke: what runs where the leader has given it up, and orders that never arrived."""

import pytest

from mesh.protocol import effects as fx
from mesh.protocol import events as ev
from mesh.protocol import news
from mesh.protocol.membership import LINK_GRACE_MS
from mesh.protocol.worker import TELL_START_MS
from mesh.types import TaskId
from mesh.wire import messages as msg
from tests.unit.protocol.scripted import AgentNode, Main, task

AWAY_MS = LINK_GRACE_MS + 500


def ended(run, agent):
    return [(one.task, one.attempt) for one in run.sent(agent, msg.Withdraw) if one.kill]


def lives(run, name):
    leader = run.node.leader
    return [(leader.market.agents[live.node].name, live.attempt) for live in run.state(name).lives.values()]


def away(*tasks, others=("a2",)):
    """`long` runs on a1, which is out of reach for so long that it is taken for dead, and comes back."""
    run = Main(*tasks, keep_agents=True)
    run.agent("a1")
    run.started("a1", "long")
    for name in others:
        run.agent(name)
    run.unlink("a1")
    run.wait(AWAY_MS)
    assert [left.name for left in run.told(news.AgentLeft)] == ["a1"]
    run.agent("a1")
    return run


def test_what_still_runs_on_an_agent_that_is_back_counts_again_beside_the_new_attempt():
    run = away("long")
    assert lives(run, "long") == [("a2", 2)]
    run.say("a1", msg.Started(TaskId("long"), 1, 60_000))
    assert lives(run, "long") == [("a2", 2), ("a1", 1)]
    assert ended(run, "a1") == []
    run.finish("a1", "long", attempt=1)
    assert ended(run, "a2") == [("long", 2)]
    assert run.end.verdict == "success"


def test_it_counts_from_when_it_began_and_takes_a_slot_before_what_was_given_since():
    run = away("long", "x", "y", others=())
    run.say("a1", msg.Started(TaskId("long"), 1, 2_000))
    (live,) = [live for live in run.state("long").lives.values() if live.attempt == 1]
    assert run.now - live.started_at == 2_000
    agent = run.node.leader.market.agents[live.node]
    assert next(iter(agent.jobs)) == "long"
    assert agent.load == len(agent.jobs)


def test_nobody_else_is_given_what_is_found_to_run_before_it_was_given_out_again():
    run = Main(task("long", where="agent"))
    run.agent("a1")
    run.started("a1", "long")
    run.unlink("a1")
    run.wait(AWAY_MS)
    run.link("a1")
    assert lives(run, "long") == []
    run.say("a1", msg.Started(TaskId("long"), 1, 0))
    run.agent("other")
    assert lives(run, "long") == [("a1", 1)]


def test_what_has_been_decided_meanwhile_is_ended_where_it_still_runs():
    run = away("long", "x")
    run.finish("a2", "long", attempt=2)
    run.say("a1", msg.Started(TaskId("long"), 1, 60_000))
    assert ended(run, "a1")[-1] == ("long", 1)
    assert run.ended == {"long": "success"}


@pytest.mark.parametrize("alone", [{"mutex": "db"}, {"whole_agent": True}, {"cache": False}])
def test_what_must_not_run_twice_is_ended_where_it_was_given_up(alone):
    run = away(task("long", **alone))
    assert lives(run, "long") == [("a2", 2)]
    run.say("a1", msg.Started(TaskId("long"), 1, 60_000))
    assert ended(run, "a1") == [("long", 1)]
    assert lives(run, "long") == [("a2", 2)]


def test_what_stands_beside_another_task_of_its_mutex_is_ended():
    run = Main(task("long", mutex="db"), task("other", mutex="db"))
    run.agent("a1")
    run.agent("a2", cannot={TaskId("long"): "other files"})
    run.started("a1", "long")
    run.unlink("a1")
    run.wait(AWAY_MS)
    assert lives(run, "other") == [("a2", 1)]
    run.agent("a1")
    run.say("a1", msg.Started(TaskId("long"), 1, 60_000))
    assert ended(run, "a1") == [("long", 1)]


def test_an_end_that_was_lost_with_a_link_is_told_again_when_the_copy_turns_out_to_run_still():
    run = Main("slow", "x")
    run.agent("a1", cannot={TaskId("x"): "other files"})
    run.started("a1", "slow")
    run.agent("a2", 2)
    run.wait(10_000)
    run.finish("a2", "slow", attempt=2)
    assert ended(run, "a1") == [("slow", 1)]
    run.link("a1")
    run.started("a1", "slow")
    assert ended(run, "a1") == [("slow", 1)] * 2


def test_an_award_that_was_asked_back_over_a_link_that_broke_is_asked_back_again():
    estimates = {"long": 5_000, "b": 1_000}
    run = Main("long", "b", close=False)
    run.agent("a1", estimates=estimates)
    run.wait(200)
    run.started("a1", "long")
    run.wait(4_500)
    run.agent("a2", estimates=estimates)
    asked = [("b", 1)]
    assert [(one.task, one.attempt) for one in run.sent("a1", msg.Withdraw)] == asked
    run.unlink("a1")
    run.agent("a1", estimates=estimates)
    assert [(one.task, one.attempt) for one in run.sent("a1", msg.Withdraw)] == asked * 2


# --- the agent's side --------------------------------------------------------------------------------


def test_what_runs_is_told_with_how_long_it_has_been_running():
    agent = AgentNode("a")
    agent.award("a")
    agent.running("a")
    agent.wait(TELL_START_MS)
    agent.unlink("main")
    agent.wait(1_000)
    agent.meet()
    assert [one.ran_ms for one in agent.sent("main", msg.Started)] == [TELL_START_MS, TELL_START_MS + 1_000]


def test_what_is_being_ended_is_not_told_of_as_running():
    agent = AgentNode("a")
    agent.award("a")
    agent.running("a")
    agent.wait(TELL_START_MS)
    agent.withdraw("a", kill=True)
    agent.unlink("main")
    agent.meet()
    assert len(agent.sent("main", msg.Started)) == 1
    agent.step(ev.TaskKilled(TaskId("a"), 1))
    assert [one.task for one in agent.wanted(fx.Kill)] == ["a"]
