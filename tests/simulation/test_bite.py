"""Do the checkers bite? One rule of the core is broken at a time, and the simulator must notice within a few seeds.

A simulator finds only what its checkers look for: a rule that can be taken out unnoticed is a rule that nobody holds.
"""

import pytest

from mesh.protocol import membership
from mesh.protocol.leader import Leader
from mesh.protocol.market import Market
from mesh.protocol.standing import Phase, TaskState
from mesh.protocol.worker import Worker
from mesh.sim import cluster, live


def found(seeds):
    """The first problem in the lives of `seeds`; "" where there is none."""
    return next((life.problems[0] for life in map(live, seeds) if life.problems), "")


@pytest.fixture(autouse=True)
def short_lives(monkeypatch):
    """A mesh that turns in circles is known for that after this many steps."""
    monkeypatch.setattr(cluster, "STEPS_MAX", 40_000)


def test_nothing_is_found_where_nothing_is_broken():
    assert found(range(5)) == ""


def test_awards_without_numbers_are_noticed(monkeypatch):
    monkeypatch.setattr(Leader, "_next_seq", lambda leader: leader.seq)
    assert "came after award" in found(range(5))


def test_slots_that_are_never_released_are_noticed(monkeypatch):
    drop = Market.drop

    def leaky(market, state, node):
        agent = market.agents.get(node)
        load = 0 if agent is None else agent.load
        drop(market, state, node)
        if agent is not None:
            agent.load = load

    monkeypatch.setattr(Market, "drop", leaky)
    assert "the run ended with None" in found(range(10))


def test_a_verdict_while_deliveries_are_open_is_noticed(monkeypatch):
    end_if_done = Leader._end_if_done

    def hasty(leader, now):
        open_ones, leader.outstanding.due = leader.outstanding.due, {}
        try:
            return end_if_done(leader, now)
        finally:
            leader.outstanding.due = open_ones

    monkeypatch.setattr(Leader, "_end_if_done", hasty)
    assert "the verdict came before these were on the main job" in found(range(10))


def test_a_failure_that_is_taken_for_an_allowed_one_is_noticed(monkeypatch):
    monkeypatch.setattr(TaskState, "stops", property(lambda _: False))
    said = found(range(20))
    assert "is failure" in said or "which must have ended well" in said


def test_a_false_green_is_noticed(monkeypatch):
    end = Leader._end
    always = {"failure": "success"}
    monkeypatch.setattr(
        Leader, "_end", lambda leader, verdict, reason, now: end(leader, always.get(verdict, verdict), reason, now)
    )
    assert "false green" in found(range(20))


def test_skipping_only_the_next_tasks_is_noticed(monkeypatch):
    monkeypatch.setattr(
        Market,
        "downstream",
        lambda one, task: [other for other in one.dependents[task] if one.tasks[other].phase is not Phase.DONE],
    )
    assert "the run ended with None" in found(range(20))


def test_a_result_that_is_accepted_twice_is_noticed(monkeypatch):
    result = Leader.result

    def forgetful(leader, node, message, now):
        for state in leader.market.tasks.values():
            state.phase = Phase.RUNNING if state.phase is Phase.DONE else state.phase
        return result(leader, node, message, now)

    monkeypatch.setattr(Leader, "result", forgetful)
    assert "ended twice" in found(range(10))


def test_the_tasks_of_a_lost_agent_that_nobody_takes_up_are_noticed(monkeypatch):
    leave = Market.leave
    monkeypatch.setattr(Market, "leave", lambda one, node: leave(one, node) and [])
    assert "the run ended with None" in found(range(10))


def test_a_loss_that_is_never_found_out_is_noticed(monkeypatch):
    monkeypatch.setattr(membership, "LINK_GRACE_MS", 10**9)
    problem = found(range(10))
    assert (
        "never ended" in problem or "the run ended with None" in problem
    )  # who waits for the lost one, or the run that does


def test_an_award_before_the_records_it_needs_is_noticed(monkeypatch):
    monkeypatch.setattr(Leader, "_tell_needed", lambda *_: [])
    assert "without the outputs of" in found(range(10))


def test_a_retry_that_is_forgotten_is_noticed(monkeypatch):
    monkeypatch.setattr(Leader, "_failed_once", lambda *_: [])
    assert "the run ended with None" in found([24, 83, 90, *range(20)])  # where it can be, the task is copied instead


def test_more_tasks_than_slots_are_noticed(monkeypatch):
    monkeypatch.setattr(Worker, "_cpu", lambda _worker, _task: 0)
    assert "slots and runs" in found(range(10))
