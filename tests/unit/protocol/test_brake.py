"""`--fail-after`: what a real main job does when enough tasks have failed, told by scripted agents."""

from mesh.ledger import verify
from mesh.protocol import events as ev
from mesh.protocol import news
from mesh.types import TaskId
from mesh.wire import messages as msg
from tests.unit.protocol.scripted import Main, task


def problem_of(run, name):
    return next(one.problem for one in run.told(news.TaskEnded) if one.task == name)


def test_after_so_many_failures_nothing_new_is_started_and_what_runs_finishes():
    run = Main("bad", "slow", "queued", task("behind", "slow"), "late", fail_after=1)
    run.agent("a1", slots=2)
    run.started("a1", "slow")
    run.finish("a1", "bad", "failure")
    assert run.ended == {"bad": "failure", "queued": "skipped", "behind": "skipped", "late": "skipped"}
    assert run.end is None
    run.finish("a1", "slow")
    assert run.ended["slow"] == "success"
    assert run.end.verdict == "failure"
    assert "1 task has failed, and --fail-after is 1" in problem_of(run, "late")
    assert [text for text in run.notices if "nothing new is started" in text] == [
        "nothing new is started: 1 task has failed, and --fail-after is 1"
    ]
    assert verify(run.ledger_files()).ok


def test_with_kill_what_runs_is_ended_too():
    run = Main("bad", "slow", fail_after=1, kill=True)
    run.agent("a1", slots=2)
    run.started("a1", "slow")
    run.finish("a1", "bad", "failure")
    assert run.ended == {"bad": "failure", "slow": "cancelled"}
    assert run.sent("a1", msg.Withdraw)[-1].kill
    assert run.end.verdict == "failure"
    assert verify(run.ledger_files()).ok


def test_fewer_failures_stop_nothing():
    run = Main("bad", "good", fail_after=2)
    run.agent("a1")
    run.finish("a1", "bad", "failure")
    run.finish("a1", "good")
    assert run.ended == {"bad": "failure", "good": "success"}


def test_what_was_skipped_behind_a_failure_is_no_failure_of_its_own():
    run = Main("bad", task("behind", "bad"), "good", fail_after=2)
    run.agent("a1")
    run.finish("a1", "bad", "failure")
    run.finish("a1", "good")
    assert run.ended["good"] == "success"


def test_a_failure_that_is_allowed_does_not_count():
    run = Main(task("may", allow_failure=True), "good", fail_after=1)
    run.agent("a1")
    run.finish("a1", "may", "failure", allowed_to_fail=True)
    run.finish("a1", "good")
    assert run.end.verdict == "success"


def test_an_attempt_with_retries_left_does_not_count_and_none_is_given_afterwards():
    run = Main(task("flaky", retries=1), task("bad", retries=1), fail_after=1)
    run.agent("a1", slots=2)
    run.started("a1", "flaky")
    run.started("a1", "bad")
    run.finish("a1", "bad", "failure")
    assert run.ended == {}
    run.finish("a1", "bad", "failure", attempt=2)
    run.finish("a1", "flaky", "failure")
    assert run.ended == {"bad": "failure", "flaky": "failure"}
    assert run.state("flaky").attempt == 1


def test_what_comes_with_a_later_graph_is_not_started_either():
    run = Main("bad", close=False, fail_after=1)
    run.agent("a1", graphs=2)
    run.finish("a1", "bad", "failure")
    run.plan("later")
    assert run.ended == {"bad": "failure", "later": "skipped"}
    assert [award for award in run.awards if award[1] == TaskId("later")] == []


def test_a_task_that_was_running_on_a_lost_agent_is_not_started_again():
    run = Main("first", task("bad", "first"), task("slow", "first"), fail_after=1)
    run.agent("a1", slots=2)
    run.finish("a1", "first")
    run.started("a1", "slow")
    run.finish("a1", "bad", "failure")
    run.say("a1", msg.Leave("stopped"))
    assert run.ended == {"first": "success", "bad": "failure", "slow": "skipped"}
    assert run.end.verdict == "failure"


def test_a_graph_may_end_with_its_first_failure_and_no_other_with_it():
    run = Main("other", close=False)
    run.plan("bad", "slow", task("behind", "slow"), "late", bail="nx was told to stop then (--nxBail)")
    run.step(ev.GraphsClosed())
    run.agent("a1", slots=3, graphs=2)
    run.started("a1", "slow")
    run.finish("a1", "bad", "failure")
    assert run.ended == {"bad": "failure", "behind": "skipped", "late": "skipped"}
    assert "--nxBail" in problem_of(run, "late")
    run.finish("a1", "slow")
    run.finish("a1", "other")
    assert run.ended["slow"] == run.ended["other"] == "success"


# --- what is left once it is pulled ------------------------------------------------------------------


def pulled(*tasks, **config):
    """A run with hundreds of tasks, of which one has failed and `slow` runs."""
    run = Main("bad", "slow", *tasks, *(f"late-{number}" for number in range(300)), fail_after=1, **config)
    run.agent("a1", slots=2)
    run.started("a1", "slow")
    run.finish("a1", "bad", "failure")
    return run


def test_only_what_still_runs_is_looked_at_again():
    run = pulled()
    (brake,) = run.node.leader.brakes.all
    assert list(brake.left) == ["slow"]
    run.finish("a1", "slow")
    assert not brake.left


def test_what_ran_on_an_agent_that_is_gone_is_not_started_again():
    run = pulled()
    run.say("a1", msg.Leave("stopped"))
    assert run.ended["slow"] == "skipped"
    assert run.end.verdict == "failure"


def test_outputs_that_are_lost_are_not_made_again():
    run = pulled(deliver=False)
    run.finish("a1", "slow")
    assert run.ended["slow"] == "success"
    run.step(ev.Undelivered(TaskId("slow"), 1, "nobody has them", local=False))
    assert run.ended["slow"] == "skipped"


def test_a_graph_that_comes_later_is_not_begun():
    run = pulled(close=False)
    run.plan("new")
    assert run.ended["new"] == "skipped"


def test_what_stands_in_a_later_graph_behind_what_is_not_started_is_not_started_either():
    run = Main(close=False)
    run.plan("bad", "late", bail="nx was told to stop then (--nxBail)")
    run.plan("late", task("behind", "late"), "other")
    run.step(ev.GraphsClosed())
    run.agent("a1", graphs=2, cannot={TaskId("late"): "other files"})
    run.finish("a1", "bad", "failure")
    run.finish("a1", "other")
    assert run.ended == {"bad": "failure", "late": "skipped", "behind": "skipped", "other": "success"}
    assert run.end.verdict == "failure"
