"""What counts as a result, what becomes of failures and of lost outputs, and when there is a verdict: told to a real main job by scripted agents."""

import pytest

from mesh.ledger import verify
from mesh.ledger.statements import open_leaf
from mesh.protocol import effects as fx
from mesh.protocol import events as ev
from mesh.protocol import news
from mesh.protocol.leader import FETCHES_MAX
from mesh.protocol.standing import ATTEMPTS_MAX
from mesh.types import Epoch, TaskId
from mesh.wire import messages as msg
from tests.unit.protocol.scripted import RUN, Main, key_of, task


def ended_well(run):
    return run.end is not None and run.end.verdict == "success" and verify(run.ledger_files()).ok


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
    "fields",
    [
        {"status": "skipped"},
        {"status": "cancelled"},
        {"attempt": 0},
        {"attempt": 2},
        {"epoch": Epoch(2)},
        {"deps": (TaskId("test"),)},
        {"allowed_to_fail": True},
        {"log": None},
        {"name": "a2"},
    ],
    ids=str,
)
def test_a_result_that_no_award_has_asked_for_cuts_its_sender_off(fields):
    run = Main("build", task("test", "build"))
    run.agent("a1")
    envelope = run.completion("a1", "build", **fields).seal(key_of("a1"))
    effects = run.say("a1", msg.Result(envelope.decode()))
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


def test_a_task_waits_for_outputs_that_are_made_again_however_far_before_it_they_stand():
    run = Main("gen", task("build", "gen"), task("test", "build"), deliver=False)
    run.agent("a1", slots=1)
    run.finish("a1", "gen")
    run.finish("a1", "build")
    run.decline("a1", "test", missing=(TaskId("gen"),), reason="its holder is gone")
    assert [name for _, name, _ in run.awards] == ["gen", "build", "test", "gen"]
    run.finish("a1", "gen", attempt=2)
    assert run.awards[-1] == ("a1", "test", 2)


def test_a_second_one_who_misses_what_is_made_again_already_waits_for_it_too():
    run = Main("gen", task("t", "gen"), task("u", "gen"), deliver=False)
    run.agent("a1", slots=1)
    run.agent("a2", slots=1)
    run.finish("a1", "gen")
    holder = {name: agent for agent, name, _ in run.awards}
    for name in "tu":
        run.started(holder[name], name)
        run.decline(holder[name], name, missing=(TaskId("gen"),))
    assert [name for _, name, _ in run.awards] == ["gen", "t", "u", "gen"]


def test_a_task_that_ran_when_outputs_before_it_were_lost_waits_for_them_when_it_goes_back():
    run = Main("gen", task("t", "gen"), task("u", "gen"), deliver=False)
    run.agent("a1", slots=1)
    run.agent("a2", slots=1)
    run.finish("a1", "gen")
    holder = {name: agent for agent, name, _ in run.awards}
    run.started(holder["t"], "t")
    run.decline(holder["u"], "u", missing=(TaskId("gen"),))
    run.decline(holder["t"], "t")
    assert run.state("t").waits_for == {"gen": None}


def test_what_a_task_does_not_stand_behind_it_cannot_miss():
    run = Main("gen", task("build", "gen"), task("test", "build"), "other", deliver=False)
    run.agent("a1", slots=2)
    run.finish("a1", "gen")
    run.finish("a1", "other")
    run.decline("a1", "build", missing=(TaskId("test"), TaskId("other"), TaskId("build"), TaskId("nobody's")))
    assert run.state("build").waits_for == {}
    assert run.ended == {"gen": "success", "other": "success"}
    assert run.awards[-1] == ("a1", "build", 2)


def test_outputs_that_the_main_job_has_are_not_lost():
    run = Main("build", task("test", "build"))
    run.agent("a1")
    run.finish("a1", "build")
    run.decline("a1", "test", missing=(TaskId("build"),))
    assert [name for _, name, _ in run.awards] == ["build", "test", "test"]


def test_outputs_that_the_main_job_should_have_are_asked_of_it_so_often_and_no_more():
    run = Main("build", task("test", "build"))
    run.agent("a1")
    run.finish("a1", "build")
    for attempt in range(1, FETCHES_MAX + 1):
        assert run.awards[-1] == ("a1", "test", attempt)
        run.decline("a1", "test", attempt=attempt, missing=(TaskId("build"),))
    run.wait(6_000)
    assert run.awards[-1] == ("main", "test", FETCHES_MAX + 1)


def test_what_was_made_here_again_can_be_got_here_by_nobody():
    run = Main("build", task("test", "build"), deliver=False)
    run.agent("a1")
    run.finish("a1", "build")
    run.step(ev.Delivered(TaskId("build"), 1, "the disk is full"))
    assert run.state("build").record.holders == (key_of("a1").node_id,)
    assert "build was run again on the main job: the disk is full" in run.notices


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
    run.step(ev.Undelivered(TaskId("build"), 1, "its holder is gone", local=False))
    assert run.awards[-1] == ("a1", "build", 2)
    run.finish("a1", "build", attempt=2)
    run.step(ev.Delivered(TaskId("build"), 1))
    assert run.end is None, "that was the delivery of what is lost"
    run.step(ev.Undelivered(TaskId("build"), 1, "its holder is gone", local=True))
    run.step(ev.Delivered(TaskId("build"), 2))
    assert ended_well(run)


def test_a_delivery_that_this_machine_cannot_take_is_an_error_in_the_end_and_the_rest_goes_on():
    run = Main("build", task("test", "build"), deliver=False)
    run.agent("a1")
    run.finish("a1", "build")
    run.step(ev.Undelivered(TaskId("build"), 1, "the disk is full", local=True))
    assert run.awards[-1] == ("a1", "test", 1)
    run.finish("a1", "test")
    run.step(ev.Delivered(TaskId("test"), 1))
    assert run.end.verdict == "error"
    assert "the disk is full" in run.end.reason
    assert run.ended == {"build": "success", "test": "success"}


def test_outputs_that_can_never_be_delivered_are_an_error_and_no_green_run():
    run = Main("build", deliver=False)
    run.agent("a1")
    for attempt in range(1, ATTEMPTS_MAX + 1):
        run.finish("a1", "build", attempt=attempt)
        run.step(ev.Undelivered(TaskId("build"), attempt, "its holder is gone", local=False))
    assert run.end.verdict == "error"
    assert run.state("build").attempts == ATTEMPTS_MAX


def test_a_failed_task_is_not_run_again_because_its_log_is_lost():
    run = Main("build", task("test", "build"), deliver=False)
    run.agent("a1")
    run.finish("a1", "build", "failure")
    run.step(ev.Undelivered(TaskId("build"), 1, "its holder is gone", local=False))
    run.step(ev.Delivered(TaskId("test"), 1))
    assert run.awards == [("a1", "build", 1)]
    assert run.end.verdict == "failure"
    assert any("build are not on the main job" in notice for notice in run.notices)


def test_a_delivery_that_nobody_waits_for_is_passed_over():
    run = Main("build", "lint", deliver=False)
    run.agent("a1", slots=2)
    run.finish("a1", "build")
    run.step(ev.Delivered(TaskId("lint"), 1))
    run.step(ev.Undelivered(TaskId("lint"), 1, "gone", local=True))
    run.step(ev.Delivered(TaskId("build"), 1))
    run.step(ev.Undelivered(TaskId("build"), 1, "gone", local=True))
    run.finish("a1", "lint")
    run.step(ev.Delivered(TaskId("lint"), 1))
    assert ended_well(run)


def test_running_dependents_of_a_task_that_fails_the_second_time_are_ended():
    run = Main("build", "proof", task("test", "build"), task("lint", "build"), deliver=False)
    run.agent("a1")
    run.agent("a2")
    run.finish("a1", "build")
    run.finish("a2", "proof")
    holder = {name: agent for agent, name, _ in run.awards}
    run.started(holder["test"], "test")
    run.decline(holder["lint"], "lint", missing=(TaskId("build"),))
    run.finish(run.awards[-1][0], "build", "failure", attempt=2)
    assert run.ended == {"proof": "success", "build": "failure", "test": "skipped", "lint": "skipped"}
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


def ending(run):
    """The verdict that agents hear, that of the ledger, and its exit code."""
    last = open_leaf(run.node.leader.recorder.ledger.entry(-1)).leaf
    found = verify(run.ledger_files())
    assert found.ok
    return run.sent("a1", msg.Ended)[-1].verdict, found.verdict, last.exit_code


def test_a_command_that_fails_though_its_tasks_went_well_makes_the_run_a_failure_with_that_exit_code():
    run = Main("build", close=False)
    run.agent("a1")
    run.finish("a1", "build")
    run.step(ev.GraphsClosed(7))
    assert ending(run) == ("failure", "failure", 7)


def test_and_so_it_does_where_nobody_wants_the_rest_of_them():
    run = Main("build", "test", close=False)
    run.agent("a1")
    run.finish("a1", "build")
    run.step(ev.GraphsClosed(7))
    run.step(ev.Stop("the end of the command", unwanted=True))
    assert run.ended == {"build": "success", "test": "cancelled"}
    assert ending(run) == ("failure", "failure", 7)


def test_tasks_that_nobody_wants_any_more_make_no_failure_of_a_command_that_went_well():
    run = Main("build", "test", close=False)
    run.agent("a1")
    run.step(ev.GraphsClosed())
    run.step(ev.Stop("the end of the command", unwanted=True))
    assert ending(run) == ("cancelled", "cancelled", 130)


def test_agents_hear_of_each_new_graph_and_that_there_will_be_no_more():
    run = Main("build", close=False)
    run.agent("a1")
    run.plan("lint")
    assert [len(one.graphs) for one in run.sent("a1", msg.Announce)] == [1, 2]
    run.step(ev.GraphsClosed())
    run.link("a2")
    assert run.sent("a2", msg.Announce)[0].closed


def test_outputs_of_what_was_done_before_the_last_graph_came_can_be_lost_as_well():
    run = Main("a", close=False, deliver=False)
    run.agent("a1", 2, graphs=2)
    run.finish("a1", "a")
    run.plan("b", last=True)
    run.step(ev.GraphsClosed())
    assert run.node.leader.market.width.chains == 1
    run.step(ev.Undelivered(TaskId("a"), 1, "its holder is gone", local=False))
    assert run.awards[-1] == ("a1", "a", 2)
    assert run.node.leader.market.width.chains == 2
