"""The one door: how a whole node answers links, strangers, graphs, time and its own end."""

import pytest

from mesh.protocol import effects as fx
from mesh.protocol import events as ev
from mesh.protocol import news
from mesh.protocol.membership import BEAT_MS, LINK_GRACE_MS, SILENCE_MAX_MS
from mesh.protocol.node import AFTER_LOSS_MS, GRAPH_RETRY_MS
from mesh.types import Epoch, TaskId
from mesh.wire import messages as msg
from tests.unit.protocol.scripted import RUN, AgentNode, Main, blob_of, key_of, task


def cut_off(node, word):
    """The peers that were disconnected for `word`."""
    return [
        node.peers.get(effect.peer, effect.peer)
        for effect in node.wanted(fx.Disconnect)
        if effect.reason.split(":")[0] == word
    ]


# --- links -----------------------------------------------------------------------------------------


def test_the_first_word_on_a_link_is_a_hello():
    agent = AgentNode("build", meet=False, labels=("gpu",))
    (send,) = agent.step(ev.LinkUp(key_of("main").node_id, "10.0.0.1", b"certificate"))
    assert isinstance(send.message, msg.Hello)
    assert (send.message.run_id, send.message.role, send.message.labels) == (RUN, "agent", ("gpu",))


@pytest.mark.parametrize(
    "message",
    [msg.Beat(Epoch(1)), msg.Members(()), msg.Leave("bye"), msg.Bid(1, open=True, slots=4)],
    ids=lambda message: type(message).__name__,
)
def test_who_says_anything_before_a_hello_is_cut_off(message):
    run = Main("build")
    stranger = key_of("stranger").node_id
    run.step(ev.LinkUp(stranger, "10.0.0.1", b"certificate"))
    run.step(ev.Received(stranger, message))
    assert cut_off(run, "unexpected") == [stranger]


def test_a_hello_for_another_run_is_cut_off():
    run = Main("build")
    node = key_of("lost").node_id
    run.step(ev.LinkUp(node, "10.0.0.1", b"certificate"))
    hello = msg.Hello("another/1", "lost", "agent", 1, 1)
    run.step(ev.Received(node, hello))
    assert cut_off(run, "unexpected") == [node]
    assert run.awards == []


def test_a_second_main_job_is_cut_off_and_told_why():
    run = Main("build")
    run.link("other-main", role="main")
    assert cut_off(run, "second-main") == ["other-main"]
    assert any("other-main was cut off: second-main" in notice for notice in run.notices)


def test_a_peer_that_breaks_the_protocol_harms_nobody_else():
    run = Main("build")
    run.agent("a1")
    run.agent("a2")
    run.say("a2", msg.Result("not an envelope"))
    assert cut_off(run, "malformed") == ["a2"]
    run.finish("a1", "build")
    assert run.end.verdict == "success"


def test_beats_go_over_every_link_and_come_as_often_as_is_said():
    run = Main("build")
    run.agent("a1")
    run.wait(10 * BEAT_MS)
    assert len(run.sent("a1", msg.Beat)) in (10, 11)
    run.unlink("a1")
    before = len(run.sent("a1", msg.Beat))
    run.wait(2 * BEAT_MS)
    assert len(run.sent("a1", msg.Beat)) == before


def test_an_agent_that_is_silent_on_an_open_link_is_lost_only_after_long():
    run = Main("build")
    run.agent("a1")
    run.wait(SILENCE_MAX_MS - BEAT_MS, silent=("a1",))
    assert run.told(news.AgentLeft) == []
    run.wait(BEAT_MS, silent=("a1",))
    assert [left.name for left in run.told(news.AgentLeft)] == ["a1"]


def test_an_agent_that_speaks_again_after_it_was_taken_for_dead_begins_anew():
    run = Main(task("a", where="agent"))
    run.agent("a1")
    run.wait(SILENCE_MAX_MS, silent=("a1",))
    assert "a1" not in {agent.name for agent in run.node.leader.market.others()}
    run.effects.clear()
    run.say("a1", msg.Beat(Epoch(1)))
    assert run.sent("a1", msg.Hello), "it has to bid again, and is asked to by a hello"
    assert "a1" in {agent.name for agent in run.node.leader.market.others()}
    run.bid("a1")
    assert [award.task for award in run.sent("a1", msg.Award)] == ["a"]


def test_who_says_another_name_than_its_certificate_has_is_cut_off():
    run = Main("build")
    run.link("a1")
    run.say("a1", msg.Hello(RUN, "somebody else", "agent", 1, 2))
    assert cut_off(run, "bad-certificate") == ["a1"]


# --- rumours ---------------------------------------------------------------------------------------


def rumour(name, role, standing="alive"):
    return msg.Members((msg.Member(key_of(name).node_id, name, role, 1, standing, ("10.0.0.9:7946",)),))


def test_a_newcomer_is_told_who_is_here_and_the_others_are_told_of_it():
    run = Main("build")
    run.agent("a1")
    run.agent("a2")
    assert "a1" in [member.name for message in run.sent("a2", msg.Members) for member in message.members]
    assert "a2" in [member.name for message in run.sent("a1", msg.Members) for member in message.members]


def test_an_agent_looks_for_the_main_job_it_hears_of_and_for_no_other_agent():
    agent = AgentNode("build", meet=False)
    agent.link("other")
    agent.say("other", rumour("third", "agent"))
    agent.say("other", rumour("main", "main"))
    assert [connect.peer for connect in agent.wanted(fx.Connect)] == [key_of("main").node_id]


def test_the_main_job_looks_for_every_agent_it_hears_of_that_is_alive():
    run = Main("build")
    run.agent("a1")
    run.say("a1", rumour("a2", "agent"))
    run.say("a1", rumour("a3", "agent", standing="left"))
    assert [connect.peer for connect in run.wanted(fx.Connect)] == [key_of("a2").node_id]


def test_a_rumour_is_passed_on_to_the_others_and_only_once():
    run = Main("build")
    run.agent("a1")
    run.agent("a2")
    before = len(run.sent("a2", msg.Members))
    for _ in range(2):
        run.say("a1", rumour("a3", "agent"))
    assert len(run.sent("a2", msg.Members)) == before + 1
    assert key_of("a3").node_id not in [
        member.node for message in run.sent("a1", msg.Members) for member in message.members
    ]


# --- graphs ----------------------------------------------------------------------------------------


def test_an_announced_graph_is_fetched_once_from_the_main_job_first_and_compared():
    agent = AgentNode("build")
    agent.announce()
    (fetch,) = agent.wanted(fx.FetchGraph)
    assert fetch.holders[0] == key_of("main").node_id
    assert [check.digest for check in agent.wanted(fx.Check)] == [agent.blob.digest]


def test_the_bid_after_the_comparison_names_what_this_agent_cannot_run():
    agent = AgentNode("build", "docker", cannot={TaskId("docker"): "no docker here"})
    bid = agent.sent("main", msg.Bid)[-1]
    assert (bid.open, bid.slots, bid.graphs, bid.cannot) == (True, 2, 1, {"docker": "no docker here"})


def test_an_agent_says_what_it_expects_of_no_more_tasks_than_are_asked_for_and_no_more_over_a_new_link():
    tasks = [f"t{number}" for number in range(100)]
    agent = AgentNode(*tasks, estimates=dict.fromkeys(tasks, 5_000), meet=False)
    agent.meet()
    agent.announce(estimates_max=30)
    (first,) = [bid.estimates for bid in agent.sent("main", msg.Bid) if bid.graphs]
    assert 20 < len(first) <= 30
    agent.unlink("main")
    agent.meet()
    assert agent.sent("main", msg.Bid)[-1].estimates == first


def test_every_bid_has_a_higher_serial():
    agent = AgentNode("build")
    agent.unlink("main")
    agent.meet()
    serials = [bid.serial for bid in agent.sent("main", msg.Bid)]
    assert serials == sorted(dict.fromkeys(serials))
    assert len(serials) >= 3


def test_a_graph_that_nobody_could_give_is_asked_for_again_after_a_while():
    agent = AgentNode("build", meet=False)
    agent.answer = lambda effect: None
    agent.meet()
    agent.announce()
    agent.step(ev.GraphUnfetched(agent.blob, "nobody has it"))
    agent.wait(GRAPH_RETRY_MS - 1)
    assert len(agent.wanted(fx.FetchGraph)) == 1
    agent.wait(1)
    assert len(agent.wanted(fx.FetchGraph)) == 2


def test_an_agent_that_cannot_read_the_graph_leaves_and_says_so():
    agent = AgentNode("build", meet=False)
    agent.answer = lambda effect: None
    agent.meet()
    agent.announce()
    agent.step(ev.GraphFetched(agent.blob, b'{"version":2,"tasks":[]}'))
    assert agent.end.verdict is None
    assert "graph format 2" in agent.end.reason


def test_a_graph_that_was_not_announced_is_passed_over():
    agent = AgentNode("build")
    agent.step(ev.GraphFetched(blob_of("another"), b"nonsense"))
    assert agent.end is None


def test_an_announcement_from_anybody_but_the_main_job_is_nothing():
    agent = AgentNode("build")
    agent.link("other")
    agent.say("other", msg.Announce(Epoch(9), (blob_of("a trap"),), closed=True))
    assert len(agent.wanted(fx.FetchGraph)) == 1


def test_the_run_is_not_closed_before_every_graph_has_been_compared():
    run = Main(close=False, wait_ms=0)
    checks = []
    run.answer = checks.append
    run.plan("build")
    run.step(ev.GraphsClosed())
    assert run.end is None
    run.step(ev.Checked(next(check.digest for check in checks if isinstance(check, fx.Check))))
    run.wait(1)
    assert run.awards == [("main", "build", 1)]


# --- the main job works too ------------------------------------------------------------------------


def test_without_agents_the_main_job_does_everything_itself():
    run = Main("build", task("test", "build"))
    run.wait(5_000)
    run.run_here("build")
    run.run_here("test")
    assert run.end.verdict == "success"
    assert [(one.task, one.agent) for one in run.told(news.TaskEnded)] == [("build", "main"), ("test", "main")]
    assert [one.name for one in run.told(news.AgentJoined)] == ["main"]


def test_what_the_main_job_has_run_is_delivered_in_place():
    run = Main("build", wait_ms=0)
    run.wait(1)
    run.run_here("build")
    assert [deliver.in_place for deliver in run.wanted(fx.Deliver)] == [True]


def test_what_an_agent_has_run_is_delivered_from_where_it_is():
    run = Main("build")
    run.agent("a1")
    run.finish("a1", "build")
    (deliver,) = run.wanted(fx.Deliver)
    assert (deliver.in_place, deliver.holders) == (False, (key_of("a1").node_id,))


def test_what_an_agent_in_the_same_workspace_has_run_is_there_already():
    run = Main("build")
    run.agent("a1", workspace="main")
    run.finish("a1", "build")
    assert [deliver.in_place for deliver in run.wanted(fx.Deliver)] == [True]


# --- an agent's end --------------------------------------------------------------------------------


def test_an_agent_leaves_when_no_main_job_comes():
    agent = AgentNode("build", meet=False, wait_ms=20_000)
    agent.wait(19_999)
    assert agent.end is None
    agent.wait(1)
    assert (agent.end.verdict, agent.end.reason) == (None, "no main job came within 20 s")


def test_an_agent_that_comes_too_late_leaves_at_once_with_the_runs_verdict():
    agent = AgentNode("build", meet=False)
    agent.step(ev.Over("failure"))
    assert (agent.end.verdict, agent.end.reason) == ("failure", "the run is over: failure")


def test_who_has_met_its_main_job_believes_nobody_else_that_the_run_is_over():
    agent = AgentNode("build")
    agent.step(ev.Over("failure"))
    assert agent.end is None


def test_an_agent_that_has_lost_its_main_job_finishes_what_runs_and_then_waits_for_it():
    agent = AgentNode("a", "b", slots=1, wait_ms=20_000)
    agent.award("a")
    agent.running("a")
    agent.award("b")
    agent.unlink("main")
    agent.wait(10 * 60_000)
    assert agent.end is None
    assert any("finishes 1 running task," in notice for notice in agent.notices)
    agent.finished("a")
    agent.wait(1)
    assert agent.executed == [("a", 1)]
    assert agent.end.reason == "the main job did not come back"


def test_an_agent_waits_no_longer_for_a_lost_main_job_than_is_said():
    agent = AgentNode("a", wait_ms=10 * AFTER_LOSS_MS)
    agent.unlink("main")
    agent.wait(LINK_GRACE_MS + AFTER_LOSS_MS - 1)
    assert agent.end is None
    agent.wait(1)
    assert agent.end is not None


def test_a_main_job_that_comes_back_finds_its_agent_at_work():
    agent = AgentNode("a")
    agent.unlink("main")
    agent.wait(LINK_GRACE_MS + 1_000)
    agent.meet()
    agent.wait(60_000)
    assert agent.end is None
    agent.award("a")
    assert agent.executed == [("a", 1)]


def test_when_the_run_is_over_an_agent_ends_what_runs_and_then_itself():
    agent = AgentNode("a", "b", slots=1)
    agent.award("a")
    agent.award("b")
    agent.say("main", msg.Ended(Epoch(1), "failure"))
    assert agent.killed == [("a", 1)]
    assert agent.end is None
    agent.step(ev.TaskKilled(TaskId("a"), 1))
    assert agent.end.verdict == "failure"


def test_an_agent_that_has_nothing_to_do_ends_with_the_run_at_once():
    agent = AgentNode("a")
    agent.say("main", msg.Ended(Epoch(1), "success"))
    assert agent.end.verdict == "success"
    assert agent.node.deadline(agent.now) is None


def test_the_end_of_the_run_is_only_for_the_main_job_to_say():
    agent = AgentNode("a")
    agent.link("other")
    agent.say("other", msg.Ended(Epoch(1), "success"))
    agent.say("other", msg.Refused("go away"))
    assert agent.end is None


def test_a_refused_agent_leaves_with_the_reason():
    agent = AgentNode("a", meet=False)
    agent.meet()
    agent.say("main", msg.Refused("its commit is 1, the main job's is 2"))
    assert "its commit is 1" in agent.end.reason


def test_an_agent_that_is_stopped_says_goodbye_and_ends_what_runs():
    agent = AgentNode("a")
    agent.award("a")
    agent.running("a")
    agent.step(ev.Stop("SIGTERM"))
    assert agent.sent("main", msg.Leave) == [msg.Leave("stopped by SIGTERM")]
    assert agent.killed == [("a", 1)]
    agent.award("a", attempt=2)
    agent.step(ev.TaskKilled(TaskId("a"), 1))
    assert agent.end.reason == "stopped by SIGTERM"


def test_who_has_ended_wants_no_more_time():
    run = Main()
    assert run.end is not None
    assert run.node.deadline(run.now) is None


# --- what nobody can do ----------------------------------------------------------------------------


def test_a_task_that_no_agent_and_not_the_main_job_can_run_is_failed_with_what_it_needs():
    run = Main(task("train", runs_on=("gpu",)), task("test", "train"))
    run.agent("a1")
    run.wait(10 * 60_000)
    assert run.ended == {"train": "failure", "test": "skipped"}
    assert "no agent that can run it has come (gpu)" in run.told(news.TaskEnded)[0].problem
    assert run.end.verdict == "failure"
