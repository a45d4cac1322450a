"""When is a failure the task's own, and when that of the machine? Told to a real main job by scripted agents that share nothing with it."""

import pytest

from mesh.ledger import Completion, verify
from mesh.ledger.statements import open_leaf
from mesh.protocol import effects as fx
from mesh.protocol import news
from mesh.protocol.doubts import QUICK_MAX_MS, STRIKES_MAX
from mesh.protocol.events import Stop
from mesh.types import TaskId, UnixMs
from mesh.wire import messages as msg
from tests.unit.protocol.scripted import BEGAN_MS, Main, blob_of, task


def entries_of(run, name):
    ledger = run.node.leader.recorder.ledger
    leaves = [open_leaf(ledger.entry(index)).leaf for index in range(ledger.size)]
    return [(leaf.name, leaf.status) for leaf in leaves if isinstance(leaf, Completion) and leaf.task == name]


def where(run, name):
    return [agent for agent, one, _ in run.awards if one == name]


def two_agents(*tasks, **config):
    run = Main(*tasks, **config)
    run.agent("a1", estimates={"": 10}, proven=False)
    run.agent("a2", estimates={"": 1_000}, proven=False)
    return run


def test_a_failure_on_an_agent_that_has_completed_something_counts_at_once():
    run = two_agents("good", task("bad", "good"))
    run.finish("a1", "good")
    assert where(run, "bad") == ["a1"]
    run.finish("a1", "bad", "failure")
    assert run.ended["bad"] == "failure"


def test_a_failure_on_an_agent_that_has_completed_nothing_is_tried_on_another_and_that_result_counts():
    for status, verdict in (("success", "success"), ("failure", "failure")):
        run = two_agents("one")
        run.finish("a1", "one", "failure")
        assert run.ended == {}
        assert where(run, "one") == ["a1", "a2"]
        run.finish("a2", "one", status, attempt=2)
        assert run.end.verdict == verdict
        assert entries_of(run, "one") == [("a1", "failure"), ("a2", status)]
        assert verify(run.ledger_files()).ok


def test_who_passes_after_a_doubtful_failure_is_told_as_flaky_and_both_logs_are_fetched():
    run = two_agents("one")
    run.finish("a1", "one", "failure")
    assert [(want.attempt, want.log) for want in run.wanted(fx.FetchLog)] == [(1, blob_of("log of one"))]
    run.finish("a2", "one", attempt=2)
    assert [(one.attempts, one.flaky) for one in run.told(news.TaskEnded)] == [(2, True)]
    assert [(one.agent, one.exit_code, one.log) for one in run.told(news.TaskRequeued)] == [
        ("a1", 1, blob_of("log of one"))
    ]
    assert "one is flaky: it failed on a1 and passed on a2" in run.notices


def test_a_doubtful_failure_counts_as_soon_as_its_agent_completes_anything():
    run = Main("one", "two")
    run.agent("a1", slots=2, proven=False)
    run.agent("a2", proven=False)
    run.finish("a1", "one", "failure")
    assert run.ended == {}
    assert where(run, "one") == ["a1", "a2"]
    run.started("a2", "one", attempt=2)
    run.finish("a1", "two")
    assert run.ended == {"one": "failure", "two": "success"}
    assert run.sent("a2", msg.Withdraw)[-1].kill, "the second try is not needed any more"
    assert entries_of(run, "one") == [("a1", "failure")]
    assert verify(run.ledger_files()).ok


def test_where_nobody_else_can_try_a_failure_counts_at_once():
    run = Main(task("one", where="agent"))
    run.agent("a1", proven=False)
    run.agent("a2", cannot={TaskId("one"): "other files"}, proven=False)
    run.finish("a1", "one", "failure")
    assert run.ended == {"one": "failure"}


def test_who_has_worked_on_it_for_a_minute_is_not_doubted():
    for minutes, ended in ((1, {"one": "failure"}), (0, {})):
        run = two_agents("one")
        run.finish("a1", "one", "failure", ended_ms=UnixMs(BEGAN_MS + minutes * QUICK_MAX_MS + 1_000))
        assert run.ended == ended


def test_a_failure_that_is_allowed_is_not_doubted():
    run = two_agents(task("one", allow_failure=True))
    run.finish("a1", "one", "failure", allowed_to_fail=True)
    assert run.ended == {"one": "failure"}


def test_who_works_in_the_main_jobs_own_workspace_is_not_doubted():
    run = Main("one")
    run.agent("a1", workspace="main", proven=False)
    run.agent("a2", workspace="main", proven=False)
    run.finish(run.awards[-1][0], "one", "failure")
    assert run.ended == {"one": "failure"}


def broken_agent(**config):
    """a1 is quick to fail, and a2 slow; returns the run and what has failed on a1."""
    run = two_agents(*(f"t{number}" for number in range(8)), **config)
    failed = []
    while mine := [name for agent, name, _ in run.awards if agent == "a1" and name not in failed]:
        run.finish("a1", mine[0], "failure")
        failed.append(mine[0])
    return run, failed


def test_an_agent_on_which_everything_fails_gets_no_more_until_others_have_tried():
    run, failed = broken_agent()
    assert len(failed) >= STRIKES_MAX
    assert len(failed) <= STRIKES_MAX + 1, "one may have been given in advance"
    assert run.ended == {}


def finish_all(run, *agents, bad=()):
    """These do all that they are given, as long as there is anything."""
    done = []
    while mine := [one for one in run.awards if one[0] in agents and one not in done and one[1] not in run.ended]:
        agent, name, attempt = mine[0]
        status = "failure" if name in bad else "success"
        if agent == "main":
            run.run_here(name, status, attempt)
        else:
            run.finish(agent, name, status, attempt=attempt)
        done.append(mine[0])


def test_an_agent_on_which_everything_fails_is_out_when_it_has_passed_elsewhere_and_the_run_is_green():
    run, failed = broken_agent()
    finish_all(run, "a2", "main")
    assert run.end.verdict == "success"
    assert run.sent("a1", msg.Refused)
    told = next(text for text in run.notices if text.startswith("agent a1 gets no more tasks"))
    assert all(name in told for name in failed[:STRIKES_MAX])
    assert verify(run.ledger_files()).ok


def test_it_stays_out_when_it_comes_again():
    run, _ = broken_agent(close=False)
    finish_all(run, "a2", "main")
    before = len(run.sent("a1", msg.Refused))
    run.link("a1", slots=1)
    assert len(run.sent("a1", msg.Refused)) == before + 1


def test_tasks_that_fail_everywhere_stay_failed_and_throw_nobody_out():
    run, failed = broken_agent()
    finish_all(run, "a2", "main", bad=failed)
    finish_all(run, "a1", "a2", "main")
    assert run.end.verdict == "failure"
    assert {name for name, status in run.ended.items() if status == "failure"} == set(failed)
    assert not run.sent("a1", msg.Refused)


def test_an_agent_that_can_start_nothing_is_out_and_one_crash_of_a_tool_is_not_nothing():
    run = Main(*(f"t{number}" for number in range(4)))
    run.agent("a1", slots=4, proven=False)
    for attempt in (1, 2):
        assert not run.sent("a1", msg.Refused)
        for _, name, _ in [one for one in run.awards if one[2] == attempt]:
            run.decline("a1", name, attempt, reason="nx cannot be loaded")
    assert run.sent("a1", msg.Refused)


def test_where_all_others_are_busy_the_main_job_tries_at_once():
    run = Main(close=False)
    run.agent("a1", proven=False)
    run.agent("a2", proven=False)
    run.plan("one", "two")
    busy = {name: agent for agent, name, _ in run.awards}
    run.finish(busy["one"], "one", "failure")
    assert where(run, "one") == [busy["one"], "main"]


@pytest.mark.parametrize("status", ["success", "failure"])
def test_without_another_agent_the_main_job_tries_at_once(status):
    run = Main("one")
    run.agent("a1", proven=False)
    run.finish("a1", "one", "failure")
    assert where(run, "one") == ["a1", "main"]
    run.run_here("one", status, attempt=2)
    assert run.ended == {"one": status}


def test_when_the_others_leave_a_doubtful_failure_is_tried_on_the_main_job():
    run = two_agents("one")
    run.finish("a1", "one", "failure")
    run.say("a2", msg.Leave("stopped"))
    assert where(run, "one") == ["a1", "a2", "main"]


def test_where_nobody_wants_the_rest_what_was_in_doubt_and_what_a_tool_failed_for_by_itself_has_failed():
    run, failed = broken_agent()
    others = [name for number in range(8) if (name := f"t{number}") not in failed]
    run.step(Stop("the end of the command", unwanted=True, failed=(others[0],)))
    assert run.end.verdict == "failure"
    assert [run.ended[name] for name in (*failed, others[0])] == ["failure"] * (len(failed) + 1)
    assert {run.ended[name] for name in others[1:]} <= {"cancelled"}
    assert verify(run.ledger_files()).ok


def test_a_stopped_run_records_what_was_in_doubt():
    run, failed = broken_agent()
    run.step(Stop("SIGINT"))
    assert run.end.verdict == "cancelled"
    assert entries_of(run, failed[0]) == [("a1", "failure"), ("main", "cancelled")]
    assert verify(run.ledger_files()).ok
