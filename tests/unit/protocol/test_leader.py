"""The leader's rules, told to a real main job by scripted agents: what is awarded to whom, who comes and goes, and what is awarded again."""

import pytest

from mesh.ledger import verify
from mesh.protocol import events as ev
from mesh.protocol import news
from mesh.protocol.market import ALL_SAY_MAX, SAMPLE_TASKS
from mesh.protocol.standing import ATTEMPTS_MAX
from mesh.types import Epoch, TaskId
from mesh.wire import messages as msg
from tests.unit.protocol.scripted import FACTS, Main, blob_of, key_of, task


def ended_well(run):
    return run.end is not None and run.end.verdict == "success" and verify(run.ledger_files()).ok


# --- the ordinary way ------------------------------------------------------------------------------


def test_a_task_is_awarded_run_recorded_delivered_and_then_the_run_is_over():
    run = Main("build")
    run.agent("a1")
    assert run.awards == [("a1", "build", 1)]
    run.started("a1", "build")
    run.finish("a1", "build")
    assert run.ended == {"build": "success"}
    assert ended_well(run)
    assert run.sent("a1", msg.Ended) == [msg.Ended(Epoch(1), "success")]


def test_an_empty_run_is_a_success_at_once():
    assert ended_well(Main())


def test_there_is_no_verdict_before_the_graphs_are_closed():
    run = Main("build", close=False)
    run.agent("a1")
    run.finish("a1", "build")
    assert run.end is None
    run.step(ev.GraphsClosed())
    assert ended_well(run)


def test_there_is_no_verdict_before_every_output_is_on_the_main_job():
    run = Main("build", deliver=False)
    run.agent("a1")
    run.finish("a1", "build")
    assert run.ended == {"build": "success"}
    assert run.end is None
    run.step(ev.Delivered(TaskId("build"), 1))
    assert ended_well(run)


def test_a_dependent_is_awarded_after_its_dependency_and_its_agent_is_told_the_record_first():
    run = Main("build", task("test", "build"))
    run.agent("a1")
    run.agent("a2")
    assert run.awards == [("a1", "build", 1)]
    run.finish("a1", "build")
    agent, name, _ = run.awards[1]
    assert name == "test"
    before_award = run.sent(agent)[: run.sent(agent).index(run.sent(agent, msg.Award)[-1])]
    told = [record for message in before_award if isinstance(message, msg.Records) for record in message.records]
    assert [(record.task, record.outputs) for record in told][:1] == [("build", blob_of("outputs of build"))]


def test_awards_are_numbered_without_a_gap_backwards():
    run = Main(*"abcd")
    run.agent("a1", slots=2)
    run.agent("a2", slots=2)
    run.link("a1", slots=2)  # told again: with numbers of their own
    seqs = [award.seq for name in ("a1", "a2") for award in run.sent(name, msg.Award)]
    assert len(seqs) == len(dict.fromkeys(seqs))
    assert [award.epoch for award in run.sent("a1", msg.Award)] == [1] * len(run.sent("a1", msg.Award))


def test_a_task_of_a_second_graph_waits_for_one_of_the_first_and_known_tasks_are_not_added_again():
    run = Main("build", close=False)
    run.agent("a1", graphs=1)
    run.plan("build", task("test", "build"))
    run.bid("a1", graphs=2)
    assert [added.tasks for added in run.told(news.GraphAdded)] == [(("build", ()),), (("test", ("build",)),)]
    run.finish("a1", "build")
    assert run.awards[-1] == ("a1", "test", 1)


def test_a_task_of_a_later_graph_behind_a_failed_one_is_skipped_with_all_behind_it():
    run = Main("build", close=False)
    run.agent("a1")
    run.finish("a1", "build", "failure")
    run.plan("build", task("test", "build"), task("report", "test"), "lint")
    run.bid("a1", graphs=2)
    assert run.ended == {"build": "failure", "test": "skipped", "report": "skipped"}
    assert run.awards[-1] == ("a1", "lint", 1)


# --- agents come and go ----------------------------------------------------------------------------


NODE_FACTS = {
    "lock-file": "package-lock.json 1f0c",
    "node": "24.1.0",
    "package-manager": "npm 11.0.0",
    "nx": "24.0.6",
    "turbo": "2.11.0",
}


@pytest.mark.parametrize("fact", [*FACTS, *NODE_FACTS])
def test_an_agent_with_another_fact_gets_no_tasks_and_both_sides_say_why(fact):
    facts = FACTS | NODE_FACTS
    run = Main("build", facts=facts)
    run.link("a1", facts={**facts, fact: "other"})
    run.bid("a1")
    assert run.awards == []
    (refused,) = run.sent("a1", msg.Refused)
    assert refused.reason == f"its {fact.replace('-', ' ')} is other, the main job's is {facts[fact]}"
    assert any("a1 gets no tasks" in notice for notice in run.notices)


def test_an_agent_that_lacks_what_the_main_job_has_gets_no_tasks():
    run = Main("build", facts=FACTS | NODE_FACTS)
    run.link("a1", facts=FACTS)
    run.bid("a1")
    assert run.awards == []
    assert "its nx is unknown, the main job's is 24.0.6" in run.sent("a1", msg.Refused)[0].reason


def test_what_the_main_job_does_not_say_is_not_compared():
    run = Main("build", facts=FACTS)
    run.agent("a1", facts=FACTS | NODE_FACTS)
    assert run.awards == [("a1", "build", 1)]


def test_a_refused_agent_hears_the_end_too():
    run = Main("build", wait_ms=0)
    run.link("a1", facts={})
    run.wait(1)
    run.run_here("build")
    assert run.sent("a1", msg.Ended) == [msg.Ended(Epoch(1), "success")]


def test_an_agent_that_comes_after_the_verdict_is_told_it():
    run = Main("build", wait_ms=0)
    run.wait(1)
    run.run_here("build")
    run.link("late")
    assert run.sent("late", msg.Ended) == [msg.Ended(Epoch(1), "success")]


def test_what_an_agent_remarks_of_a_task_that_succeeded_is_told_once():
    run = Main("build", "test")
    run.agent("a1", slots=2)
    run.finish("a1", "build", problem="it left tmp/")
    run.finish("a1", "test")
    assert [notice for notice in run.notices if "tmp/" in notice] == ["build on a1: it left tmp/"]


@pytest.mark.parametrize("memory", ["²", "-1", "1.5", "", "9" * 30])
def test_a_memory_size_that_is_none_is_taken_for_nothing(memory):
    run = Main("build")
    run.agent("a1", facts={**FACTS, "memory_bytes": memory})
    assert run.awards == [("a1", "build", 1)]
    assert run.node.leader.market.agents[key_of("a1").node_id].memory_bytes == 0


def test_over_a_new_link_an_agent_is_told_everything_again_with_the_awards_it_has():
    run = Main("build", task("test", "build"))
    run.agent("a1")
    run.finish("a1", "build")
    run.unlink("a1")
    before = len(run.sent("a1"))
    run.link("a1")
    again = run.sent("a1")[before:]
    assert [message.graphs for message in again if isinstance(message, msg.Announce)] != []
    told = [record.task for message in again if isinstance(message, msg.Records) for record in message.records]
    assert told == ["build"]
    assert [(one.task, one.attempt) for one in again if isinstance(one, msg.Award)] == [("test", 1)]


def test_agents_beyond_those_that_say_what_they_expect_of_all_tasks_are_asked_for_a_sample_also_of_later_graphs():
    run = Main("build", close=False, keep_agents=True)
    names = [f"a{number}" for number in range(ALL_SAY_MAX + 2)]
    for name in names:
        run.link(name)
    run.plan("lint")
    asked = [[announce.estimates_max for announce in run.sent(name, msg.Announce)] for name in names]
    assert asked == [[0, 0]] * ALL_SAY_MAX + [[SAMPLE_TASKS, SAMPLE_TASKS]] * 2


def test_what_was_told_over_a_broken_link_is_told_again_before_the_next_award_also_before_the_hello():
    run = Main("build", "lint", task("test", "build", "lint"))
    run.agent("a1")
    run.bid("a1", cannot={"lint": "not here"})
    run.agent("a2")
    run.bid("a2", cannot={"build": "not here", "test": "not here"})
    run.finish("a1", "build")
    before = len(run.sent("a1"))
    run.unlink("a1")
    run.step(ev.LinkUp(key_of("a1").node_id, "10.0.0.1", b"certificate"))
    run.finish("a2", "lint")
    again = run.sent("a1")[before:]
    assert run.awards[-1] == ("a1", "test", 1)
    records = [record.task for message in again if isinstance(message, msg.Records) for record in message.records]
    assert set(records) == {"build", "lint"}
    assert isinstance(again[-1], msg.Award)


def test_the_tasks_of_a_lost_agent_go_back_once():
    run = Main("build", "lint")
    run.agent("a1", slots=2)
    assert len(run.awards) == 2
    run.agent("a2", slots=2)
    run.unlink("a1")
    run.wait(10_000)
    assert sorted(run.awards[2:]) == [("a2", "build", 2), ("a2", "lint", 2)]
    assert [(left.name, left.lost) for left in run.told(news.AgentLeft)] == [("a1", True)]


def test_an_agent_that_says_goodbye_is_not_waited_for():
    run = Main("build")
    run.agent("a1")
    run.agent("a2")
    run.say("a1", msg.Leave("stopped by SIGTERM"))
    assert run.awards == [("a1", "build", 1), ("a2", "build", 2)]
    assert [(left.name, left.lost) for left in run.told(news.AgentLeft)] == [("a1", False)]


def test_when_the_last_agent_is_gone_the_main_job_says_so_and_goes_on_at_once():
    run = Main("build")
    run.agent("a1")
    run.say("a1", msg.Leave("stopped"))
    assert any("goes on alone" in notice for notice in run.notices)
    assert run.awards[-1] == ("main", "build", 2)


def test_the_result_of_a_lost_agent_counts_when_it_is_back():
    run = Main("build")
    run.agent("a1")
    run.agent("a2")
    run.unlink("a1")
    run.wait(5_000)
    assert run.awards[-1] == ("a2", "build", 2)
    run.link("a1")
    run.finish("a1", "build", attempt=1)
    assert ended_well(run)
    assert [w.kill for w in run.sent("a2", msg.Withdraw)] == [True]


def test_a_bid_with_an_old_serial_changes_nothing():
    run = Main("build", task("gpu", runs_on=("gpu",)))
    run.agent("a1", slots=1)
    run.bid("a1", slots=4, serial=1)
    run.bid("a1", slots=4, serial=0)
    assert run.node.leader.market.agents[key_of("a1").node_id].slots == 1


def test_a_bid_that_takes_nothing_more_is_told_with_its_reason():
    run = Main("build")
    run.link("a1")
    run.bid("a1", takes=False, reason="its disk is full")
    assert run.awards == []
    assert any("a1 takes no tasks: its disk is full" in notice for notice in run.notices)


def test_what_an_agent_cannot_run_is_told_once_with_how_much_more_there_is():
    run = Main("build", "lint", "test")
    run.agent("a1", cannot={"build": "no compiler", "lint": "no compiler"})
    run.bid("a1", cannot={"build": "no compiler", "lint": "no compiler"})
    assert [n for n in run.notices if "no compiler" in n] == ["agent a1 does not take build (and 1 more): no compiler"]
    assert run.awards == [("a1", "test", 1)]


# --- awards that come to nothing -------------------------------------------------------------------


def test_a_declined_task_is_awarded_again():
    run = Main("build")
    run.agent("a1")
    run.decline("a1", "build")
    assert run.awards == [("a1", "build", 1), ("a1", "build", 2)]


def test_a_stale_decline_is_ignored():
    run = Main("build")
    run.agent("a1")
    run.decline("a1", "build", attempt=1)
    run.decline("a1", "build", attempt=1)
    assert run.awards == [("a1", "build", 1), ("a1", "build", 2)]


def test_a_decline_of_what_another_agent_has_is_ignored():
    run = Main("build")
    run.agent("a1")
    run.agent("a2")
    run.decline("a2", "build")
    assert run.awards == [("a1", "build", 1)]


def test_a_task_that_is_declined_for_good_is_not_offered_there_again():
    run = Main("build")
    run.agent("a1")
    run.agent("a2")
    run.decline("a1", "build", never=True, reason="no docker here")
    run.decline("a2", "build", attempt=2, never=True)
    assert run.awards == [("a1", "build", 1), ("a2", "build", 2), ("main", "build", 3)]


def test_what_nobody_who_is_here_can_run_fails_at_once_with_their_reasons():
    run = Main("build", task("behind", "build"))
    run.agent("a1")
    run.decline("a1", "build", never=True, reason="no docker here")
    run.step(ev.Handed(TaskId("build"), 2, "the disk is full", never=True))
    assert run.ended == {"build": "failure", "behind": "skipped"}
    problem = next(one.problem for one in run.told(news.TaskEnded))
    assert problem == "nobody here can run it: no docker here; the disk is full"
    assert run.end.verdict == "failure"


def test_what_only_the_main_job_may_do_and_cannot_fails_at_once():
    run = Main(task("deploy", where="main"))
    run.agent("a1")
    run.step(ev.Handed(TaskId("deploy"), 1, "its outputs cannot be packed", never=True))
    assert run.ended == {"deploy": "failure"}


def test_what_the_main_job_cannot_run_waits_for_an_agent_that_may_yet_turn_out_to_be_able():
    run = Main("build")
    run.wait(5_000)
    assert run.awards == [("main", "build", 1)]
    run.link("a1")
    run.step(ev.Handed(TaskId("build"), 1, "the disk is full", never=True))
    assert run.ended == {}
    run.bid("a1")
    assert run.awards[-1] == ("a1", "build", 2)


def test_a_task_that_is_handed_back_twice_for_a_passing_trouble_is_not_offered_there_again():
    run = Main("build")
    run.agent("a1")
    run.decline("a1", "build")
    run.decline("a1", "build", attempt=2, reason="nx has crashed")
    assert run.awards == [("a1", "build", 1), ("a1", "build", 2), ("main", "build", 3)]


def test_a_task_whose_awards_always_come_to_nothing_is_failed_in_the_end():
    run = Main("build", task("test", "build"))
    run.agent("bystander", cannot={TaskId("build"): "other files"})
    for attempt in range(1, ATTEMPTS_MAX + 1):
        run.agent(f"a{attempt}")
        assert run.awards[-1] == (f"a{attempt}", "build", attempt)
        run.say(f"a{attempt}", msg.Leave("out of memory"))
    assert run.ended == {"build": "failure", "test": "skipped"}
    assert run.end.verdict == "failure"
    assert "given up after 10 attempts" in run.told(news.TaskEnded)[0].problem


def test_when_a_lost_agent_takes_the_last_attempt_with_it_what_it_had_behind_is_skipped_and_not_queued():
    run = Main("build", task("test", "build"), deliver=False)
    run.agent("a1")
    run.agent("bystander", cannot={TaskId("build"): "other files", TaskId("test"): "other files"})
    run.say("a1", msg.Leave("out of memory"))
    for attempt in range(2, ATTEMPTS_MAX):
        run.agent(f"a{attempt}")
        run.say(f"a{attempt}", msg.Leave("out of memory"))
    run.agent("last")
    run.finish("last", "build", attempt=ATTEMPTS_MAX)
    assert run.awards[-1] == ("last", "test", 1)
    run.step(ev.Undelivered(TaskId("build"), ATTEMPTS_MAX, "gone", local=False))
    run.say("bystander", msg.Leave("stopped"))
    run.say("last", msg.Leave("stopped"))
    assert run.awards[-1] == ("main", "test", 2)


@pytest.mark.parametrize(("ran_ms", "began"), [(0, 100), (20, 80), (10_000, 0)])
def test_a_task_that_has_been_running_for_a_while_began_then_but_not_before_it_was_awarded(ran_ms, began):
    run = Main("build")
    run.agent("a1")
    (live,) = run.state("build").lives.values()
    run.wait(100)
    run.say("a1", msg.Started(TaskId("build"), 1, ran_ms))
    assert live.started_at - live.awarded_at == began


def test_a_result_of_what_nobody_told_the_start_of_tells_it():
    run = Main("build", "lint")
    run.agent("a1", 2)
    run.finish("a1", "build")
    run.started("a1", "lint")
    run.finish("a1", "lint")
    assert [one.task for one in run.told(news.TaskStarted)] == ["build", "lint"]


def test_started_from_somebody_else_or_of_an_older_attempt_is_ignored():
    run = Main("build")
    run.agent("a1")
    run.agent("a2")
    run.started("a2", "build")
    run.started("a1", "build", attempt=7)
    run.started("a1", "nothing")
    assert run.told(news.TaskStarted) == []
    run.started("a1", "build")
    run.started("a1", "build")
    assert [(one.task, one.agent) for one in run.told(news.TaskStarted)] == [("build", "a1")]


def test_a_graph_that_is_planned_twice_counts_once():
    run = Main("a", close=False)
    run.plan("a")
    run.plan("b")
    run.step(ev.GraphsClosed())
    run.agent("a1", graphs=2)
    run.finish("a1", "a")
    run.finish("a1", "b")
    assert run.end.verdict == "success"


def test_a_command_that_ends_before_its_graph_has_been_compared_ends_the_run():
    run = Main(close=False)
    run.step(ev.Stop("the end of the command", broken=True, failed=(TaskId("a"),)))
    assert run.end.verdict == "error"
