"""The leader's rules, told to a real main job by scripted agents: what is awarded again, what counts as a result, and when there is a verdict."""

import pytest

from mesh.ledger import verify
from mesh.protocol import effects as fx
from mesh.protocol import events as ev
from mesh.protocol import news
from mesh.protocol.leader import ATTEMPTS_MAX
from mesh.types import Epoch, TaskId
from mesh.wire import messages as msg
from tests.unit.protocol.scripted import FACTS, RUN, Main, blob_of, key_of, task


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
    run.step(ev.Delivered(TaskId("build")))
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


@pytest.mark.parametrize("fact", ["commit", "os", "arch"])
def test_an_agent_with_another_fact_gets_no_tasks_and_both_sides_say_why(fact):
    run = Main("build")
    run.link("a1", facts={**FACTS, fact: "other"})
    run.bid("a1")
    assert run.awards == []
    (refused,) = run.sent("a1", msg.Refused)
    assert f"its {fact} is other" in refused.reason
    assert any("a1 gets no tasks" in notice for notice in run.notices)


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
    # Twice: as it was recorded, and then with the main job as another holder.
    told = [record.task for message in again if isinstance(message, msg.Records) for record in message.records]
    assert told == ["build", "build"]
    assert [(one.task, one.attempt) for one in again if isinstance(one, msg.Award)] == [("test", 1)]


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
    run.bid("a1", open=False, reason="its disk is full")
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
    assert [agent for agent, _, _ in run.awards] == ["a1", "a2"]
    run.wait(5_000)
    assert run.awards[-1] == ("main", "build", 3)


def test_a_task_whose_awards_always_come_to_nothing_is_failed_in_the_end():
    run = Main("build", task("test", "build"))
    run.agent("a1")
    for attempt in range(1, ATTEMPTS_MAX + 1):
        assert run.awards[-1] == ("a1", "build", attempt)
        run.decline("a1", "build", attempt)
    assert run.ended == {"build": "failure", "test": "skipped"}
    assert run.end.verdict == "failure"
    assert "given up after 10 attempts" in run.told(news.TaskEnded)[0].problem


def test_when_a_lost_agent_takes_the_last_attempt_with_it_what_it_had_behind_is_skipped_and_not_queued():
    run = Main("build", task("test", "build"), deliver=False)
    run.agent("a1")
    for attempt in range(1, ATTEMPTS_MAX):
        run.decline("a1", "build", attempt)
    run.finish("a1", "build", attempt=ATTEMPTS_MAX)
    assert run.awards[-1] == ("a1", "test", 1)
    run.step(ev.Undelivered(TaskId("build"), "gone", local=False))
    run.say("a1", msg.Leave("stopped"))
    assert run.awards[-1] == ("main", "test", 2)


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


# --- failures --------------------------------------------------------------------------------------


def test_a_failure_skips_everything_behind_it_and_nothing_else():
    run = Main("build", task("test", "build"), task("report", "test"), "lint")
    run.agent("a1", slots=4)
    run.finish("a1", "build", "failure")
    run.finish("a1", "lint")
    assert run.ended == {"build": "failure", "test": "skipped", "report": "skipped", "lint": "success"}
    assert run.end.verdict == "failure"
    assert all("build" in one.problem for one in run.told(news.TaskEnded) if one.status == "skipped")
    assert verify(run.ledger_files()).ok


def test_a_failed_task_with_retries_is_tried_again_elsewhere():
    run = Main(task("flaky", retries=1))
    run.agent("a1")
    run.agent("a2")
    run.finish("a1", "flaky", "failure")
    assert run.awards == [("a1", "flaky", 1), ("a2", "flaky", 2)]
    run.finish("a2", "flaky", attempt=2)
    assert ended_well(run)


def test_a_failed_task_with_retries_is_tried_again_in_the_same_place_where_there_is_no_other():
    run = Main(task("flaky", retries=1))
    run.agent("a1")
    run.finish("a1", "flaky", "failure")
    assert run.awards == [("a1", "flaky", 1), ("a1", "flaky", 2)]
    run.finish("a1", "flaky", "failure", attempt=2)
    assert run.ended == {"flaky": "failure"}


def test_an_agent_may_forget_a_failure_that_is_to_be_tried_again_before_it_gets_the_next_award():
    run = Main(task("flaky", retries=1))
    run.agent("a1")
    run.finish("a1", "flaky", "failure")
    kinds = [type(message) for message in run.sent("a1") if isinstance(message, (msg.Records, msg.Award))]
    assert kinds == [msg.Award, msg.Records, msg.Award]


def test_a_failure_that_is_told_twice_uses_up_one_retry():
    run = Main(task("flaky", retries=1))
    run.agent("a1")
    run.finish("a1", "flaky", "failure")
    run.finish("a1", "flaky", "failure")
    assert run.ended == {}
    # It answered the second award with the old result: it may forget that, and has the award once more.
    assert run.sent("a1", msg.Records)[-1].records == (msg.Record(TaskId("flaky"), "failure"),)
    assert [award.attempt for award in run.sent("a1", msg.Award)] == [1, 2, 2]
    run.finish("a1", "flaky", attempt=2)
    assert ended_well(run)


def test_the_late_failure_of_an_older_award_does_not_end_the_newer_one():
    run = Main(task("flaky", retries=2))
    run.agent("a1")
    run.agent("a2")
    run.unlink("a1")
    run.wait(5_000)
    run.started("a2", "flaky", attempt=2)
    run.link("a1")
    run.finish("a1", "flaky", "failure", attempt=1)
    assert run.awards == [("a1", "flaky", 1), ("a2", "flaky", 2)]
    run.finish("a2", "flaky", attempt=2)
    assert ended_well(run)


def test_an_allowed_failure_lets_what_is_behind_it_run_and_the_run_be_green():
    run = Main(task("lint", allow_failure=True), task("build", "lint"))
    run.agent("a1")
    run.finish("a1", "lint", "failure", allowed_to_fail=True)
    assert run.awards[-1] == ("a1", "build", 1)
    run.finish("a1", "build")
    assert run.told(news.TaskEnded)[0].allowed_to_fail
    assert ended_well(run)


def test_a_task_behind_a_real_failure_is_no_success_though_its_own_would_be_allowed():
    run = Main("build", task("lint", "build", allow_failure=True))
    run.agent("a1")
    run.finish("a1", "build", "failure")
    assert run.ended == {"build": "failure", "lint": "skipped"}
    assert run.end.verdict == "failure"


# --- results ---------------------------------------------------------------------------------------


def test_the_first_result_counts_and_the_second_is_only_answered():
    run = Main("build", "lint")
    run.agent("a1", slots=2)
    run.finish("a1", "build")
    run.finish("a1", "build", "failure")
    assert run.ended == {"build": "success"}


def test_a_result_that_its_sender_has_not_signed_cuts_the_sender_off():
    run = Main("build")
    run.agent("a1")
    run.agent("a2")
    envelope = run.completion("a1", "build").seal(key_of("a1"))
    effects = run.say("a2", msg.Result(envelope.decode()))
    (cut,) = [effect for effect in effects if isinstance(effect, fx.Disconnect)]
    assert (cut.peer, cut.reason.split(":")[0]) == (key_of("a2").node_id, "bad-signature")
    assert run.ended == {}


@pytest.mark.parametrize(
    "fields", [{"status": "skipped"}, {"status": "cancelled"}, {"attempt": 0}, {"attempt": 2}], ids=str
)
def test_a_result_that_no_award_has_asked_for_cuts_its_sender_off(fields):
    run = Main("build", task("test", "build"))
    run.agent("a1")
    effects = run.finish("a1", "build", **fields)
    assert [effect.reason.split(":")[0] for effect in effects if isinstance(effect, fx.Disconnect)] == ["unexpected"]
    assert run.ended == {}


def test_a_result_of_a_task_that_was_never_awarded_is_not_taken():
    run = Main("build", task("test", "build"))
    run.agent("a1")
    run.finish("a1", "test")
    assert run.ended == {}
    assert run.state("test").attempt == 0


def test_results_of_another_run_of_unknown_tasks_and_of_strangers_are_passed_over():
    run = Main("build")
    run.agent("a1")
    other = run.completion("a1", "build")
    for field, value in (("run_id", "another/1"), ("task", TaskId("nobody's"))):
        fields = {name: getattr(other, name) for name in other.__slots__} | {field: value}
        run.say("a1", msg.Result(type(other)(**fields).seal(key_of("a1")).decode()))
    run.link("refused", facts={})
    run.finish("refused", "build")
    assert run.ended == {}
    assert run.wanted(fx.Disconnect) == []


# --- outputs that are lost -------------------------------------------------------------------------


def test_lost_outputs_are_made_again_and_dependents_wait_for_them_again():
    run = Main("build", task("test", "build"), task("report", "test"), deliver=False)
    run.agent("a1")
    run.agent("a2")
    run.finish("a1", "build")
    agent = run.awards[-1][0]
    run.decline(agent, "test", missing=(TaskId("build"),), reason="its holder is gone")
    assert run.awards[-1][1:] == ("build", 2)
    assert run.state("test").waits_for == {"build": None}
    run.finish(run.awards[-1][0], "build", attempt=2)
    assert run.awards[-1][1:] == ("test", 2)


def test_outputs_that_the_main_job_has_are_not_lost():
    run = Main("build", task("test", "build"))
    run.agent("a1")
    run.finish("a1", "build")
    run.decline("a1", "test", missing=(TaskId("build"),))
    assert [name for _, name, _ in run.awards] == ["build", "test", "test"]


@pytest.mark.parametrize("status", ["success", "failure"])
def test_a_task_that_has_left_no_outputs_has_none_to_lose(status):
    run = Main("build", "lint", deliver=False)
    run.agent("a1", slots=2)
    run.finish("a1", "build", status, outputs=None)
    run.decline("a1", "lint", missing=(TaskId("build"), TaskId("lint"), TaskId("nothing")))
    assert [name for _, name, _ in run.awards] == ["build", "lint", "lint"]
    assert run.ended == {"build": status}


def test_outputs_that_cannot_be_delivered_are_made_again():
    run = Main("build", deliver=False)
    run.agent("a1")
    run.finish("a1", "build")
    run.step(ev.Undelivered(TaskId("build"), "its holder is gone", local=False))
    assert run.awards[-1] == ("a1", "build", 2)
    run.finish("a1", "build", attempt=2)
    run.step(ev.Delivered(TaskId("build")))
    assert ended_well(run)


def test_a_delivery_that_this_machine_cannot_take_is_an_error_in_the_end_and_the_rest_goes_on():
    run = Main("build", task("test", "build"), deliver=False)
    run.agent("a1")
    run.finish("a1", "build")
    run.step(ev.Undelivered(TaskId("build"), "the disk is full", local=True))
    assert run.awards[-1] == ("a1", "test", 1)
    run.finish("a1", "test")
    run.step(ev.Delivered(TaskId("test")))
    assert run.end.verdict == "error"
    assert "the disk is full" in run.end.reason
    assert run.ended == {"build": "success", "test": "success"}


def test_outputs_that_can_never_be_delivered_are_an_error_and_no_green_run():
    run = Main("build", deliver=False)
    run.agent("a1")
    for attempt in range(1, ATTEMPTS_MAX + 1):
        run.finish("a1", "build", attempt=attempt)
        run.step(ev.Undelivered(TaskId("build"), "its holder is gone", local=False))
    assert run.end.verdict == "error"
    assert run.state("build").attempts == ATTEMPTS_MAX


def test_a_failed_task_is_not_run_again_because_its_log_is_lost():
    run = Main("build", task("test", "build"), deliver=False)
    run.agent("a1")
    run.finish("a1", "build", "failure")
    run.step(ev.Undelivered(TaskId("build"), "its holder is gone", local=False))
    run.step(ev.Delivered(TaskId("test")))
    assert run.awards == [("a1", "build", 1)]
    assert run.end.verdict == "failure"
    assert any("build are not on the main job" in notice for notice in run.notices)


def test_a_delivery_that_nobody_waits_for_is_passed_over():
    run = Main("build", "lint", deliver=False)
    run.agent("a1", slots=2)
    run.finish("a1", "build")
    run.step(ev.Delivered(TaskId("lint")))
    run.step(ev.Undelivered(TaskId("lint"), "gone", local=True))
    run.step(ev.Delivered(TaskId("build")))
    run.step(ev.Undelivered(TaskId("build"), "gone", local=True))
    run.finish("a1", "lint")
    run.step(ev.Delivered(TaskId("lint")))
    assert ended_well(run)


def test_running_dependents_of_a_task_that_fails_the_second_time_are_ended():
    run = Main("build", task("test", "build"), task("lint", "build"), deliver=False)
    run.agent("a1")
    run.agent("a2")
    run.finish("a1", "build")
    holder = {name: agent for agent, name, _ in run.awards}
    run.started(holder["test"], "test")
    run.decline(holder["lint"], "lint", missing=(TaskId("build"),))
    run.finish(run.awards[-1][0], "build", "failure", attempt=2)
    assert run.ended == {"build": "failure", "test": "skipped", "lint": "skipped"}
    assert [(w.task, w.kill) for w in run.sent(holder["test"], msg.Withdraw)] == [("test", True)]


# --- the end ---------------------------------------------------------------------------------------


def test_a_stopped_run_accounts_for_every_task():
    run = Main("build", task("test", "build"), "lint")
    run.agent("a1")
    run.finish("a1", "build")
    run.step(ev.Stop("SIGINT"))
    assert run.ended == {"build": "success", "test": "cancelled", "lint": "cancelled"}
    assert (run.end.verdict, run.end.reason) == ("cancelled", "stopped by SIGINT")
    assert run.sent("a1", msg.Ended) == [msg.Ended(Epoch(1), "cancelled")]
    found = verify(run.ledger_files())
    assert (found.ok, found.verdict) == (True, "cancelled")


def test_a_run_that_is_stopped_ends_what_runs_on_the_main_job_itself():
    run = Main("build", wait_ms=0)
    run.wait(1)
    run.step(ev.TaskRunning(TaskId("build"), 1))
    run.step(ev.Stop("SIGTERM"))
    assert [(kill.task, kill.attempt) for kill in run.wanted(fx.Kill)] == [("build", 1)]


def test_a_run_that_is_stopped_before_its_graph_was_compared_is_cancelled_without_tasks():
    run = Main(close=False)
    run.step(ev.Stop("SIGINT"))
    assert run.end.verdict == "cancelled"
    assert verify(run.ledger_files()).ok


def test_a_second_stop_and_a_late_result_change_nothing():
    run = Main("build")
    run.agent("a1")
    run.step(ev.Stop("SIGINT"))
    run.step(ev.Stop("SIGTERM"))
    run.finish("a1", "build")
    assert run.ended == {"build": "cancelled"}
    assert run.end.reason == "stopped by SIGINT"


def test_the_run_is_over_exactly_once_and_the_ledger_ends_with_the_verdict():
    run = Main("build")
    run.agent("a1")
    run.finish("a1", "build")
    assert [one.verdict for one in run.told(news.RunEnded)] == ["success"]
    found = verify(run.ledger_files())
    assert (found.ok, found.verdict, found.run_id) == (True, "success", RUN)


def test_agents_hear_of_each_new_graph_and_that_there_will_be_no_more():
    run = Main("build", close=False)
    run.agent("a1")
    run.plan("lint")
    assert [len(one.graphs) for one in run.sent("a1", msg.Announce)] == [1, 2]
    run.step(ev.GraphsClosed())
    run.link("a2")
    assert run.sent("a2", msg.Announce)[0].closed
