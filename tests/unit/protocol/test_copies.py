"""Two live attempts of one task, as the leader deals with them: the first result counts, and nothing is recorded twice."""

from mesh.protocol import news
from mesh.types import TaskId
from mesh.wire import messages as msg
from tests.unit.protocol.scripted import Main, task


def copied(**fields):
    """`slow` runs on a1 and, since it takes far too long, on a2."""
    run = Main(task("slow", **fields))
    run.agent("a1", slots=1)
    run.started("a1", "slow")
    run.agent("a2", slots=1)
    run.wait(10_000)
    assert [(one.agent, one.attempt) for one in run.told(news.TaskAwarded)] == [("a1", 1), ("a2", 2)]
    run.started("a2", "slow", 2)
    return run


def killed(run, agent):
    return [(one.task, one.attempt) for one in run.sent(agent, msg.Withdraw) if one.kill]


def test_the_first_result_counts_whoever_it_is_from_and_the_other_process_is_ended():
    run = copied()
    run.finish("a2", "slow", attempt=2)
    assert (killed(run, "a1"), killed(run, "a2")) == ([("slow", 1)], [])
    assert run.end.verdict == "success"
    run = copied()
    run.finish("a1", "slow", attempt=1)
    assert (killed(run, "a1"), killed(run, "a2")) == ([], [("slow", 2)])
    assert run.end.verdict == "success"


def test_a_second_result_that_was_on_its_way_is_not_recorded():
    run = Main(task("slow"), "other")
    run.agent("a1", slots=1)
    run.started("a1", "slow")
    run.agent("a2", slots=2)
    run.wait(10_000)
    size = run.node.leader.recorder.ledger.size
    run.finish("a2", "slow", attempt=2)
    assert run.node.leader.recorder.ledger.size == size + 1
    run.finish("a1", "slow", attempt=1)
    assert run.node.leader.recorder.ledger.size == size + 1
    assert len([one for one in run.told(news.TaskEnded) if one.task == "slow"]) == 1


def test_when_the_first_agent_is_lost_the_copy_goes_on_and_nothing_is_awarded_again():
    run = copied()
    run.say("a1", msg.Leave("stopped by SIGTERM"))
    assert len(run.told(news.TaskAwarded)) == 2
    assert run.told(news.TaskRequeued) == []
    run.finish("a2", "slow", attempt=2)
    assert run.end.verdict == "success"


def test_which_attempt_came_to_nothing_and_which_one_counts_is_told_by_its_own_number():
    run = copied()
    for agent in ("a2", "a1"):
        run.say(agent, msg.Leave("stopped by SIGTERM"))
    assert [(one.agent, one.attempt) for one in run.told(news.TaskRequeued)] == [("a1", 1)]
    run = copied()
    run.finish("a1", "slow", attempt=1)
    assert [(one.agent, one.attempt) for one in run.told(news.TaskEnded)] == [("a1", 1)]


def test_a_failure_with_a_retry_left_leaves_the_other_attempt_as_that_retry():
    run = copied(retries=1)
    run.finish("a1", "slow", "failure", attempt=1)
    assert [one.attempt for one in run.told(news.TaskRequeued)] == [1]
    assert len(run.told(news.TaskAwarded)) == 2
    run.finish("a2", "slow", attempt=2)
    assert run.end.verdict == "success"


def test_a_copy_that_is_handed_back_leaves_the_first_attempt_alone():
    run = copied()
    run.decline("a2", "slow", 2, never=True, reason="its disk is full")
    assert run.told(news.TaskRequeued) == []
    run.finish("a1", "slow", attempt=1)
    assert run.end.verdict == "success"


def test_an_agent_whose_connection_is_gone_when_the_run_ends_is_told_as_lost():
    for back, told in (False, [("a1", True)]), (True, []):
        run = copied()
        run.unlink("a1")
        if back:
            run.link("a1", slots=1)
        run.finish("a2", "slow", attempt=2)
        assert run.end.verdict == "success"
        assert [(one.name, one.lost) for one in run.told(news.AgentLeft)] == told
        order = [type(one) for one in run.told((news.AgentLeft, news.RunEnded))]
        assert order == [*[news.AgentLeft] * len(told), news.RunEnded]


def test_a_start_that_is_told_late_hides_no_straggler():
    run = Main("long", "quick", keep_agents=True)
    run.agent("a1", slots=2, estimates={"long": 1_000, "quick": 10})
    run.wait(200)
    run.started("a1", "long")
    run.wait(200)
    run.say("a1", msg.Started(TaskId("quick"), 1, 200))
    run.agent("a2", slots=2)
    run.wait(20_000)
    copied = [one.task for one in run.told(news.TaskAwarded) if one.attempt == 2]
    assert sorted(copied) == ["long", "quick"]
