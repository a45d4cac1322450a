"""How long what is left should take, by what the leader knows of tasks and agents."""

import pytest

from mesh.protocol.eta import remaining_ms
from mesh.types import NodeId, TaskId
from tests.unit.protocol.scripted import task
from tests.unit.protocol.test_market import WAIT_MS, Stall


def left_ms(stall):
    return remaining_ms(stall.market, stall.now)


def test_where_nothing_is_known_or_nobody_is_here_nothing_is_foreseen():
    stall = Stall("build")
    stall.agent("a1")
    assert left_ms(stall) is None
    alone = Stall("build")
    alone.knows(build=5_000)
    assert left_ms(alone) is None


def test_what_is_left_is_shared_by_all_slots():
    stall = Stall(*(f"t{number}" for number in range(6)))
    stall.knows_all()
    stall.agent("a1", 2)
    stall.agent("a2", 1)
    assert left_ms(stall) == 2_000


def test_a_chain_takes_as_long_as_its_tasks_together_however_many_slots_there_are():
    stall = Stall("a", task("b", "a"), task("c", "b"))
    stall.knows(a=1_000, b=2_000, c=3_000)
    stall.agent("a1", 8)
    assert left_ms(stall) == 6_000


def test_work_that_must_wait_for_one_task_does_not_fill_slots_before():
    """The critical path takes 3 s, and all the work on four slots 3.5 s."""
    stall = Stall("first", *(task(f"t{number}", "first") for number in range(12)))
    stall.knows(first=2_000, **{f"t{number}": 1_000 for number in range(12)})
    stall.agent("a1", 4)
    assert left_ms(stall) == 2_000 + 3 * 1_000


def test_a_faster_agent_takes_less_time_for_it():
    stall = Stall("build")
    stall.agent("fast")
    stall.knows(build=6_000)
    stall.market.agents[NodeId("fast")].runs_at(2)
    assert left_ms(stall) == pytest.approx(3_000, rel=0.01)


@pytest.mark.parametrize(("has_run_ms", "rest_ms"), [(4_000, 1_000), (8_000, 3_000)])
def test_what_runs_has_only_its_rest_left_or_is_as_late_again_and_what_waits_for_it_begins_then(has_run_ms, rest_ms):
    stall = Stall("a", task("b", "a"))
    stall.knows(a=5_000, b=2_000)
    stall.agent("a1", 2)
    stall.clear()
    stall.run("a")
    stall.wait(has_run_ms)
    assert left_ms(stall) == rest_ms + 2_000


def test_what_was_given_out_in_advance_begins_when_it_is_seen_to_and_not_when_it_was_given_out():
    stall = Stall("a", "b")
    stall.knows(a=2_000, b=2_000)
    stall.agent("a1")
    stall.clear()
    stall.run("a")
    stall.wait(1_600)
    assert stall.clear() == [("a1", "b")]
    stall.wait(400)
    stall.done("a")
    assert left_ms(stall) == 2_000


def test_what_the_main_job_must_do_itself_and_is_at_is_not_done_once_more_by_agents():
    stall = Stall(task("a", where="main"))
    stall.knows(a=5_000)
    stall.agent("a1")
    assert stall.clear() == [("main", "a")]
    stall.run("a")
    stall.wait(4_000)
    assert left_ms(stall) == 1_000


def test_what_is_left_takes_longer_where_everything_has_taken_longer_today():
    names = [f"t{number}" for number in range(101)]
    stall = Stall(*names)
    agent = stall.agent("a1")
    stall.knows(**dict.fromkeys(names, 1_000))
    for name in names[:-1]:
        stall.market.learn(TaskId(name), agent.node, 1_600)
        stall.done(name)
    assert left_ms(stall) == pytest.approx(1_600, rel=0.1)


def test_of_what_nobody_knew_others_of_its_kind_tell():
    stall = Stall("p1:x", "p2:x", "p3:x")
    agent = stall.agent("a1")
    for name in ("p1:x", "p2:x"):
        stall.market.learn(TaskId(name), agent.node, 8_000)
        stall.done(name)
    assert 5_000 < left_ms(stall) < 12_000


def test_where_nobody_has_come_the_main_job_does_it_all():
    stall = Stall("a", "b", "c")
    stall.knows_all()
    stall.wait(WAIT_MS)
    assert left_ms(stall) == 2_000


def test_when_all_is_done_nothing_is_left():
    stall = Stall("a")
    stall.knows_all()
    stall.agent("a1")
    stall.clear()
    stall.done("a")
    assert left_ms(stall) == 0
