"""An agent is told what its awards need and which of its results have come, once, and nothing of what others need."""

import pytest

from mesh.protocol.bulletin import Bulletin
from mesh.types import Epoch, NodeId, TaskId
from mesh.wire.messages import Record

ONE, TWO = NodeId("1" * 64), NodeId("2" * 64)
DEPS = {"a": (), "b": ("a",), "c": ("b",), "d": ("b", "a"), "x": ()}


def record(task: str, key: str = "") -> Record:
    return Record(TaskId(task), "success", key)


def told(bulletin: Bulletin, agent: NodeId) -> tuple[Record, ...]:
    effects = bulletin.tell(agent, Epoch(1))
    assert len(effects) <= 1
    assert all(effect.peer == agent and effect.message.records for effect in effects), "an empty message says nothing"
    return effects[0].message.records if effects else ()


def needs(bulletin: Bulletin, agent: NodeId, task: str) -> list[str]:
    bulletin.need(agent, DEPS[task], DEPS.__getitem__)
    return sorted(one.task for one in told(bulletin, agent))


@pytest.fixture
def bulletin() -> Bulletin:
    bulletin = Bulletin()
    for agent in (ONE, TWO):
        bulletin.begin(agent)
    for task in ("a", "b", "x"):
        bulletin.record(record(task))
    return bulletin


def test_before_an_award_all_that_it_needs_is_told_and_nothing_else(bulletin):
    assert needs(bulletin, ONE, "c") == ["a", "b"]


def test_what_an_agent_knows_is_not_told_again(bulletin):
    needs(bulletin, ONE, "c")
    assert needs(bulletin, ONE, "d") == []
    assert needs(bulletin, TWO, "d") == ["a", "b"]


def test_a_walk_ends_at_what_is_known(bulletin):
    needs(bulletin, ONE, "b")
    asked = []
    bulletin.need(ONE, ("b",), lambda task: asked.append(task) or DEPS[task])
    assert asked == ["b"]


def test_a_record_that_changes_is_told_to_those_who_knew_it_only(bulletin):
    needs(bulletin, ONE, "c")
    bulletin.record(record("a", "anew"))
    assert told(bulletin, ONE) == (record("a", "anew"),)
    assert told(bulletin, TWO) == ()


def test_one_that_changes_twice_is_told_as_it_is_now(bulletin):
    needs(bulletin, ONE, "c")
    bulletin.record(record("a", "anew"))
    bulletin.record(record("a", "and again"))
    assert told(bulletin, ONE) == (record("a", "and again"),)


def test_a_result_that_has_come_is_acknowledged_but_teaches_nothing_of_what_is_before_it(bulletin):
    bulletin.acknowledge(ONE, TaskId("b"))
    assert told(bulletin, ONE) == (record("b"),)
    assert needs(bulletin, ONE, "c") == ["a", "b"]


def test_over_a_new_link_an_agent_knows_nothing(bulletin):
    needs(bulletin, ONE, "c")
    bulletin.acknowledge(ONE, TaskId("x"))
    bulletin.forget(ONE)
    bulletin.begin(ONE)
    assert told(bulletin, ONE) == ()
    assert needs(bulletin, ONE, "c") == ["a", "b"]


def test_who_has_left_is_told_nothing(bulletin):
    bulletin.leave(ONE)
    bulletin.acknowledge(ONE, TaskId("a"))
    assert needs(bulletin, ONE, "c") == []
    assert bulletin.agents == [TWO]
