"""A failure that lacks what only another machine has: told to a real main job by scripted agents."""

import pytest

from mesh.ledger import Completion, verify
from mesh.ledger.statements import open_leaf
from mesh.protocol import news
from mesh.wire import messages as msg
from tests.unit.protocol.scripted import Main, key_of, task

LEFT = "it left made/, which no task declares as outputs, so that other machines do not get it"


def where(run, name):
    return [agent for agent, one, _ in run.awards if one == name]


@pytest.fixture
def run():
    """Two agents; `link` was done on a1 and left something there, `use1` and `use2` wait behind it, `use2` by way of `between`."""
    run = Main("link", task("use1", "link"), task("between", "link"), task("use2", "between"))
    run.agent("a1")
    run.agent("a2")
    assert where(run, "link") == ["a1"]
    run.finish("a1", "link", problem=LEFT)
    return run


def failed_on_a2(run):
    """The one of the tasks behind `link` that a2 was given has failed."""
    (name,) = {one for agent, one, _ in run.awards if agent == "a2"}
    run.finish("a2", name, "failure")
    return name


def test_what_fails_behind_such_a_task_on_another_machine_is_tried_once_more_where_that_was_left(run):
    name = failed_on_a2(run)
    assert name not in run.ended
    (other,) = {"use1", "between"} - {name}
    run.finish("a1", other)
    assert where(run, name) == ["a2", "a1"]
    run.finish("a1", name, attempt=2)
    assert run.ended[name] == "success"
    (told,) = [one for one in run.told(news.TaskEnded) if one.task == name]
    assert (told.attempts, told.flaky) == (2, False), "it is no matter of luck"
    assert f"{name} lacks what link left and does not declare: it failed on a2 and passed on a1" in run.notices
    run.finish(where(run, "use2")[-1], "use2")
    assert run.end.verdict == "success"
    assert verify(run.ledger_files()).ok
    leaves = [open_leaf(run.node.leader.recorder.ledger.entry(index)).leaf for index in range(run.ledger_size())]
    assert [leaf.status for leaf in leaves if isinstance(leaf, Completion) and leaf.task == name] == [
        "failure",
        "success",
    ]


def test_what_fails_there_too_has_failed(run):
    name = failed_on_a2(run)
    (other,) = {"use1", "between"} - {name}
    run.finish("a1", other)
    run.finish("a1", name, "failure", attempt=2)
    assert run.ended[name] == "failure"


def test_the_machine_on_which_it_failed_is_not_blamed(run):
    run.node.leader.doubts.proven.clear()
    name = failed_on_a2(run)
    (other,) = {"use1", "between"} - {name}
    run.finish("a1", other)
    run.finish("a1", name, attempt=2)
    assert run.node.leader.doubts.struck(key_of("a2").node_id) == ()


def test_what_fails_where_that_was_left_counts_at_once(run):
    (name,) = {one for agent, one, _ in run.awards if agent == "a1"} - {"link"}
    run.finish("a1", name, "failure")
    assert run.ended[name] == "failure"


def test_when_that_machine_is_gone_a_failure_counts_at_once(run):
    run.say("a1", msg.Leave("stopped"))
    name = failed_on_a2(run)
    assert run.ended[name] == "failure"


def test_when_it_goes_before_the_second_try_the_main_job_tries(run):
    name = failed_on_a2(run)
    run.say("a1", msg.Leave("stopped"))
    for _, other, attempt in run.awards[-1:]:
        run.finish("a2", other, attempt=attempt)
    run.wait(60_000)
    assert where(run, name)[-1] == "main"
    run.run_here(name, attempt=run.state(name).attempt)
    assert run.ended[name] == "success"


def test_a_task_that_left_nothing_sends_nobody_back():
    run = Main("link", task("use1", "link"), task("use2", "link"))
    run.agent("a1")
    run.agent("a2")
    run.finish("a1", "link")
    assert failed_on_a2(run) in run.ended


def test_what_the_main_job_left_is_tried_on_the_main_job():
    run = Main(task("made", where="main"), task("use", "made"))
    run.agent("a1")
    run.run_here("made")
    run.node.leader.strays.left["made"] = run.node.me
    run.finish("a1", "use", "failure")
    assert where(run, "use") == ["a1", "main"]
    run.run_here("use", attempt=2)
    assert run.ended["use"] == "success"
    assert run.sent("a1", msg.Ended)[-1].verdict == "success"
