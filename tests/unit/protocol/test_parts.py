"""Whatever there is to say, each message fits into a frame and is taken by the other side, and together they say all of it."""

import pytest

from mesh.protocol import events as ev
from mesh.protocol import parts
from mesh.protocol.bulletin import Bulletin
from mesh.types import Blob, Digest, Epoch, NodeId, TaskId
from mesh.wire import codec
from mesh.wire import messages as msg
from mesh.wire.frames import FRAME_BYTES_MAX, encode_frame
from tests.unit.protocol.scripted import AgentNode, Main, key_of, known

AGENT, MAIN = key_of("agent").node_id, key_of("main").node_id
ODD = "\x01"
"""One character, six bytes in JSON."""


def carried(messages):
    """As they arrive."""
    frames = [codec.encode(message) for message in messages]
    for frame in frames:
        encode_frame(frame)
    return [codec.decode(frame) for frame in frames]


def bids_of(*, cannot=(), cached=(), estimates=()):
    """What an agent sends that has so much to say of the one graph, behind its bid for none."""
    agent = AgentNode("build", meet=False)
    agent.answer = lambda effect: None
    agent.meet()
    agent.announce()
    agent.step(ev.GraphFetched(agent.blob, agent.graph.encode()))
    agent.step(ev.Checked(agent.blob.digest, dict(cannot), tuple(cached), known(estimates)))
    return carried(agent.sent("main", msg.Bid)[1:])


@pytest.mark.parametrize(
    "make",
    [
        lambda: {"estimates": {TaskId(f"packages/some-library-{number}:test"): number for number in range(120_000)}},
        lambda: {
            "cannot": {
                TaskId(f"lib-{number}:test"): "it has other inputs here: " + "x" * 65_000 for number in range(10_000)
            }
        },
        lambda: {"cached": [TaskId(f"packages/some-library-{number}:test") for number in range(120_000)]},
        lambda: {"cannot": {TaskId(f"{number}{ODD * 1_000}"): ODD * 65_536 for number in range(700)}},
    ],
    ids=["estimates", "long-reasons", "cached", "escapes"],
)
def test_a_bid_of_any_size_arrives_whole(make):
    said = make()
    run = Main("build")
    run.link("agent")
    for bid in bids_of(**said):
        run.say("agent", bid)
    agent = run.node.leader.market.agents[AGENT]
    assert set(agent.cannot) == set(said.get("cannot", ()))
    assert set(agent.cached) == set(said.get("cached", ()))
    assert set(run.node.leader.market.forecast.tasks) == set(said.get("estimates", ()))
    assert agent.bid.graphs == 1


def test_nothing_is_awarded_before_the_last_part_of_a_bid_has_come():
    cannot = {TaskId(f"lib-{number}:test"): "x" * 1_000 for number in range(10_000)}
    *first, last = bids_of(cannot={**cannot, TaskId("build"): "no compiler"}, estimates={TaskId("build"): 7})
    assert len(first) > 3
    run = Main("build", "test")
    run.link("agent", slots=2)
    for bid in first:
        run.say("agent", bid)
        assert run.awards == []
    run.say("agent", last)
    assert [task for _, task, _ in run.awards] == ["test"]


def test_a_bid_that_fits_is_one_message():
    assert len(bids_of(cannot={TaskId("build"): "no compiler"}, estimates={TaskId("test"): 7})) == 1


def test_an_amendment_says_what_is_new_and_takes_nothing_back():
    agent = AgentNode("build", cannot={TaskId("build"): "no compiler"})
    agent.cannot = {TaskId("test"): "no browser"}
    agent.graph = type(agent.graph)({TaskId("test"): agent.graph.tasks[TaskId("build")]})
    more = Blob(Digest("sha256:" + "1" * 64), 1)
    agent.say("main", msg.Announce(Epoch(1), (agent.blob, more), closed=True))
    first, amendment = agent.sent("main", msg.Bid)[-2:]
    assert (list(first.cannot), list(amendment.cannot)) == (["build"], ["test"])
    run = Main("build")
    run.plan("test")
    run.link("agent")
    for bid in (first, amendment):
        run.say("agent", bid)
    assert run.awards == []
    assert list(run.node.leader.market.agents[AGENT].cannot) == ["build", "test"]


def test_a_late_joiner_is_told_of_any_number_of_records():
    bulletin = Bulletin()
    bulletin.begin(AGENT)
    tasks = [TaskId(f"{number}{ODD * 1_000}") for number in range(11_000)]
    for task in tasks:
        outputs = Blob(Digest("sha256:" + "1" * 64), 2**53)
        bulletin.record(msg.Record(task, "success", ODD * 1_024, outputs, (AGENT, MAIN)))
    bulletin.need(AGENT, tasks, lambda task: ())
    told = carried([effect.message for effect in bulletin.tell(AGENT, Epoch(1))])
    assert {record.task for message in told for record in message.records} == set(tasks)
    assert sum(len(message.records) for message in told) == len(tasks)


def test_a_newcomer_is_told_of_any_number_of_members():
    run = Main("build")
    addresses = tuple(f"203.0.113.{number}:40000" for number in range(60))
    for first in range(0, 10_500, 500):
        ids = [NodeId(f"{first + number:064x}") for number in range(500)]
        run.link(f"teller-{first}")
        rumour = [msg.Member(node, ODD * 200, "agent", 1, "alive", addresses) for node in ids]
        run.say(f"teller-{first}", msg.Members(tuple(rumour)))
    run.link("late")
    told = carried(run.sent("late", msg.Members))
    assert sum(len(message.members) for message in told) > msg.MEMBERS_MAX


def test_who_misses_everything_names_as_much_as_one_message_takes():
    agent = AgentNode("build")
    agent.record("lib")
    agent.award("build")
    missing = tuple(TaskId(f"{number}{ODD * 1_000}") for number in range(2_000))
    agent.step(ev.Handed(TaskId("build"), 1, "nobody has them", missing))
    (answer,) = carried(agent.sent("main", msg.Declined))
    assert 100 < len(answer.missing) < len(missing)
    assert answer.missing == missing[: len(answer.missing)]


def test_a_part_is_never_larger_than_a_frame():
    task = TaskId(ODD * 1_024)
    largest = msg.Bid(2**53, open=False, slots=4_096, reason=ODD * 65_536, cannot={task: ODD * 65_536})
    assert parts.PART_BYTES + len(codec.encode(largest)) < FRAME_BYTES_MAX


def test_a_reason_of_any_length_is_cut_to_what_may_be_said():
    agent = AgentNode("build")
    agent.award("build")
    agent.step(ev.Handed(TaskId("build"), 1, ODD * 1_000_000))
    (answer,) = carried(agent.sent("main", msg.Declined))
    assert answer.reason == ODD * parts.REASON_CHARS_MAX


def test_a_newcomer_is_told_of_members_that_say_all_they_may_of_where_they_are():
    run = Main("build")
    addresses = tuple(f"{number:02}" + '"' * (msg.ADDRESS_CHARS_MAX - 2) for number in range(msg.ADDRESSES_MAX))
    for first in range(3):
        members = [
            msg.Member(NodeId(f"{first:02}{n:062x}"), ODD * 200, "agent", 1, "alive", addresses) for n in range(150)
        ]
        run.link(f"teller-{first}", addresses=addresses)
        run.say(f"teller-{first}", msg.Members(tuple(members)))
    run.link("late")
    told = carried(run.sent("late", msg.Members))
    assert sum(len(message.members) for message in told) > 450
