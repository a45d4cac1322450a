"""Where inputs are is a cost in the choice of an agent, in proportion to what is missing and to how fast it would come, and never a rule."""

import pytest

from mesh.protocol.locality import USUAL_BYTES_PER_MS, WORTH_BYTES
from mesh.sim import Scenario, SimAgent, SimTask, simulate
from mesh.types import Blob, Digest, Instant, NodeId, TaskId
from tests.unit.protocol.scripted import task
from tests.unit.protocol.test_market import Stall

SECOND = 1_000 * USUAL_BYTES_PER_MS
"""What takes a second to bring, on a network of which nothing is known."""


def built(size, *, user_ms=10_000):
    """`lib` was built on a2 and left `size` bytes; `app` needs it. Both agents are idle, and a1 would be asked first."""
    stall = Stall("lib", task("app", "lib"), "other")
    stall.knows(lib=1_000, app=user_ms, other=2 * user_ms)
    stall.agent("a2")
    assert stall.clear() == [("a2", "other")]
    stall.done("other")
    assert stall.clear() == [("a2", "lib")]
    stall.run("lib")
    stall.agent("a1")
    stall.done("lib", outputs=Blob(Digest("sha256:" + 64 * "0"), size), holders=(NodeId("a2"),))
    return stall


def test_a_task_goes_to_the_agent_that_has_what_it_needs():
    assert built(SECOND).clear() == [("a2", "app")]


@pytest.mark.parametrize("size", [0, WORTH_BYTES - 1])
def test_what_is_there_in_a_moment_does_not_count(size):
    assert built(size).clear() == [("a1", "app")]


@pytest.mark.parametrize(("size", "expected"), [(SECOND, [("a1", "app")]), (60 * SECOND, [])])
def test_it_waits_for_that_agent_only_where_this_is_quicker_than_to_bring_it_elsewhere(size, expected):
    stall = built(size)
    stall.add("long")
    stall.knows(long=20_000)
    stall.bid(NodeId("a1"), 0, graphs=2)
    stall.bid(NodeId("a2"), graphs=2, slots=1)
    stall.market.tasks[TaskId("app")].not_on[NodeId("a2")] = "for now"
    assert stall.clear() == [("a2", "long")]
    stall.run("long")
    del stall.market.tasks[TaskId("app")].not_on[NodeId("a2")]
    stall.bid(NodeId("a1"), 1, graphs=2)
    assert stall.clear() == expected


def test_what_a_network_gave_before_is_what_it_is_expected_to_give():
    stall = Stall("lib", task("app", "lib"))
    locality = stall.market.locality
    locality.made(TaskId("lib"), SECOND, (NodeId("a2"),))
    app = stall.market.tasks[TaskId("app")].task
    assert locality.missing_bytes(app, NodeId("a2")) == 0
    size = locality.missing_bytes(app, NodeId("a1"))
    assert locality.fetch_ms(size, NodeId("a1")) == 1_000
    for _ in range(20):
        locality.fetched(NodeId("a1"), SECOND, 10_000)
    assert locality.fetch_ms(size, NodeId("a1")) == pytest.approx(10_000, rel=0.1)
    # What was seen of one says something of the others.
    assert 1_000 < locality.fetch_ms(size, NodeId("a3")) < 10_000


def test_the_leader_measures_from_the_award_to_the_start_and_knows_what_is_there_from_then_on():
    stall = built(60 * SECOND, user_ms=600_000)
    app = stall.market.tasks[TaskId("app")]
    stall.bid(NodeId("a2"), takes=False, reason="it leaves")
    assert stall.clear() == [("a1", "app")]
    assert stall.market.locality.fetch_ms(SECOND, NodeId("a1")) == 1_000
    stall.wait(240_000)
    stall.run("app")
    assert stall.market.locality.fetch_ms(SECOND, NodeId("a1")) == pytest.approx(4_000, rel=0.1)
    assert stall.market.locality.missing_bytes(app.task, NodeId("a1")) == 0


def test_who_is_gone_has_nothing_and_what_is_lost_nobody_has():
    stall = built(SECOND)
    app = stall.market.tasks[TaskId("app")]
    stall.market.leave(NodeId("a2"))
    assert list(stall.market.locality.holders(app.task)) == []
    stall.market.requeue(stall.market.tasks[TaskId("lib")], Instant(0))
    assert stall.market.locality.missing_bytes(app.task, NodeId("a1")) == 0


def test_chains_of_tasks_with_large_outputs_stay_on_their_agents():
    chains = [
        SimTask(TaskId(f"{chain}{link}"), (TaskId(f"{chain}{link - 1}"),) if link else (), 10_000, None, 5 * SECOND)
        for chain in "abcd"
        for link in range(5)
    ]
    schedule = simulate(Scenario(tuple(chains), tuple(SimAgent(f"a{number}") for number in range(4))))
    assert schedule.makespan_ms == 50_000
