"""A task of which nothing is heard is told of once: by a real main job, to which the test answers what its log shows."""

import pytest

from mesh.protocol import effects as fx
from mesh.protocol.estimate import usual
from mesh.protocol.events import Heard
from mesh.types import TaskId
from tests.unit.protocol.scripted import Main

AFTER_MS = 10_000


def a_run(**config):
    run = Main("one", stall_after_ms=AFTER_MS, **config)
    run.agent("a1")
    run.started("a1", "one")
    return run


def looks(run):
    return len(run.wanted(fx.LookAtLog))


def stalls(run):
    return [text for text in run.notices if "nothing was heard" in text]


def heard(run, quiet_ms, line="", attempt=1):
    run.step(Heard(TaskId("one"), attempt, quiet_ms, line))


def test_a_task_that_was_quiet_for_long_is_told_with_its_agent_and_its_last_line_and_only_once():
    run = a_run()
    run.wait(AFTER_MS - 1)
    assert looks(run) == 0
    run.wait(1)
    assert looks(run) == 1
    heard(run, AFTER_MS, "waiting for the database")
    run.wait(10 * AFTER_MS)
    assert stalls(run) == ["nothing was heard of one on a1 for 10 s; its last line: waiting for the database"]


def test_a_task_that_has_never_said_anything_counts_from_its_start():
    run = a_run()
    run.wait(AFTER_MS)
    heard(run, None)
    assert stalls(run) == ["nothing was heard of one on a1 for 10 s since it started"]


def test_one_that_has_spoken_is_looked_at_again_when_it_may_have_stalled_since():
    run = a_run()
    run.wait(AFTER_MS)
    heard(run, 4_000, "still at it")
    run.wait(AFTER_MS - 4_001)
    assert looks(run) == 1
    run.wait(1)
    assert looks(run) == 2
    assert stalls(run) == []


@pytest.mark.parametrize("status", ["success", "failure"])
def test_what_is_over_is_not_looked_at(status):
    run = a_run()
    run.finish("a1", "one", status)
    run.wait(2 * AFTER_MS)
    assert looks(run) == 0
    heard(run, AFTER_MS)
    assert stalls(run) == []


def test_an_answer_about_an_earlier_attempt_says_nothing():
    run = a_run()
    run.wait(AFTER_MS)
    run.unlink("a1")
    run.wait(5_000)
    heard(run, AFTER_MS)
    assert stalls(run) == []


def test_a_task_that_usually_takes_longer_may_be_quiet_for_longer():
    run = Main("usual", "one", stall_after_ms=AFTER_MS)
    run.node.leader.market.forecast.bid(run.node.me, {TaskId("one"): usual(3 * AFTER_MS)})
    run.agent("a1", slots=2)
    run.started("a1", "one")
    run.wait(3 * AFTER_MS - 1)
    assert looks(run) == 0
    run.wait(1)
    assert looks(run) == 1


def test_nobody_is_watched_where_that_is_not_wanted():
    run = Main("one", stall_after_ms=0)
    run.agent("a1")
    run.started("a1", "one")
    run.wait(20 * AFTER_MS)
    assert looks(run) == 0
