"""Who gets what: the market's rules, one by one, on the market itself."""

import pytest

from mesh.graph.task import Resources
from mesh.protocol import clearing
from mesh.protocol.bidder import Agent
from mesh.protocol.clearing import (
    COPIES_MAX,
    HELD_MAX,
    SETTLE_MS,
    SOON_MAX_MS,
    SOON_MIN_MS,
    TAKE_BACK_MIN_MS,
    TAKE_BACKS_MAX,
)
from mesh.protocol.estimate import GUESS_MS, MOMENT_MS
from mesh.protocol.market import AWARDS_PER_SLOT, DECIDE_MAX_MS, GIVE_UP_MS, MOMENTS_PER_SLOT, Market
from mesh.protocol.standing import Phase
from mesh.types import Blob, Instant, NodeId, Quantiles, TaskId
from mesh.wire.messages import Bid, Record
from tests.unit.protocol.scripted import blob_of, graph_of, known, task

MAIN = NodeId("main")
WAIT_MS = 5_000


class Stall:
    """A market with a main job of two slots, and a clock that only a test moves."""

    def __init__(self, *tasks, main_slots=0, main_cached=()):
        self.now = Instant(0)
        self.graphs = 0
        self.serial = 0
        self.market = Market(MAIN, main_slots, WAIT_MS, self.now)
        self.market.agents[MAIN] = Agent(MAIN, "main", 2, shares_main=True)
        self.main_cached = main_cached
        if tasks:
            self.add(*tasks)

    def add(self, *tasks):
        self.graphs += 1
        self.bid(MAIN, cached=self.main_cached)
        return self.market.add(graph_of(*tasks), self.graphs, self.now)

    def agent(self, name, slots=1, *, bids=True, graphs=1, cannot=(), cached=(), estimates=(), **about):
        self.market.join(Agent(NodeId(name), name, slots, **about), self.now)
        if bids:
            self.bid(NodeId(name), slots, graphs=graphs, cannot=cannot, cached=cached, estimates=estimates)
        return self.market.agents[NodeId(name)]

    def bid(self, node, slots=2, *, graphs=None, cannot=(), cached=(), estimates=(), takes=True, reason=""):
        self.serial += 1
        agent = self.market.agents[node]
        bid = Bid(
            self.serial, takes, slots, graphs or self.graphs, reason, dict(cannot), tuple(cached), known(estimates)
        )
        self.market.bid(agent, bid)
        self.market.look_again()

    def clear(self):
        """Awards that are made now, as (agent, task)."""
        awards = clearing.clear(self.market, self.now)
        return [(self.market.agents[live.node].name, state.task.id) for state, live in awards]

    def soon(self):
        """Awards of a moment later, when what was given out first will be done soon."""
        self.wait(GUESS_MS)
        return self.clear()

    def wait(self, ms):
        self.now = Instant(self.now + ms)

    def run(self, *names):
        """These are seen to run, on all agents that have them."""
        for name in names:
            state = self.market.tasks[TaskId(name)]
            for live in state.lives.values():
                self.market.begins(state, live, self.now)

    def knows_all(self):
        """Everybody agrees that each task takes the same."""
        self.knows(**dict.fromkeys(self.market.tasks, GUESS_MS))

    def knows(self, **durations_ms):
        """Everybody agrees on what these take."""
        self.market.forecast.bid(MAIN, known(durations_ms))
        self.market.rank()

    def done(self, name, status="success", **record):
        state = self.market.tasks[TaskId(name)]
        if state.task.outputs and status == "success":
            record.setdefault("outputs", Blob(blob_of(name).digest, 0))
        return self.market.done(state, Record(TaskId(name), status, **record), self.now)

    def taken_back(self):
        return [state.task.id for state, _ in clearing.take_back(self.market, self.now)]


# --- order -----------------------------------------------------------------------------------------


def test_only_tasks_whose_dependencies_are_done_are_given_out():
    stall = Stall("a", task("b", "a"), task("c", "a", "b"))
    stall.agent("a1", 4)
    assert stall.clear() == [("a1", "a")]
    assert stall.done("a") == ["b"]
    assert stall.clear() == [("a1", "b")]
    assert stall.done("b") == ["c"]


def test_the_longest_path_to_the_end_goes_first():
    stall = Stall("short", "long", task("middle", "long"), task("last", "middle"))
    stall.agent("a1", 2)
    assert stall.clear() == [("a1", "long"), ("a1", "short")]


def test_of_equal_ranks_the_first_in_the_graph_goes_first():
    stall = Stall("c", "a", "b")
    stall.knows_all()
    stall.agent("a1", 2)
    assert stall.clear() == [("a1", "c"), ("a1", "a")]
    assert stall.soon() == [("a1", "b")]


def test_every_slot_that_will_be_free_soon_holds_one_task_in_advance_and_no_more():
    stall = Stall(*"abcdefgh")
    stall.knows_all()
    stall.agent("a1", 1)
    stall.agent("a2", 2)
    assert len(stall.clear()) == 1 + 2
    assert len(stall.soon()) == 1 + 2
    assert stall.soon() == []


def test_no_ready_task_is_looked_at_while_agents_hold_all_that_they_may():
    stall = Stall("a", "b", "c", "d", "e", "f")
    agent = stall.agent("a1", 2)
    stall.knows(a=5, b=1, c=1, d=1, e=1, f=1)
    for name in "abcd":  # c behind b, and d behind c: nothing is behind a, which will be done soon
        stall.market.award(stall.market.tasks[TaskId(name)], agent, stall.now)
    assert stall.clear() == []
    assert clearing.Reckoning(stall.market, stall.now).open == 0


def test_nothing_is_given_out_in_advance_long_before_it_can_start():
    stall = Stall("long", "next")
    stall.knows(long=60_000, next=1_000)
    stall.agent("a1", 1)
    assert stall.clear() == [("a1", "long")]
    assert stall.market.deadline() == 60_000 - SOON_MAX_MS
    stall.wait(60_000 - SOON_MAX_MS - 1)
    assert stall.clear() == []
    stall.wait(1)
    assert stall.clear() == [("a1", "next")]


def test_nothing_is_given_out_in_advance_behind_a_task_of_which_nobody_knows_how_long_it_takes():
    stall = Stall("a", "b")
    stall.agent("a1")
    assert stall.clear() == [("a1", "a")]
    assert stall.soon() == []
    stall.done("a")
    assert stall.clear() == [("a1", "b")]


def test_behind_a_task_of_a_moment_the_next_one_is_given_out_however_little_is_known_of_its_length():
    stall = Stall("t/1", "t/2")
    for number, took_ms in enumerate((1, 100) * 5):
        stall.market.learn(TaskId(f"t/{number + 3}"), MAIN, took_ms)
    stall.market.rank()
    assert stall.market.tasks[TaskId("t/1")].duration_ms < SOON_MIN_MS
    stall.agent("a1")
    assert stall.clear() == [("a1", "t/1"), ("a1", "t/2")]


def test_a_slot_that_is_late_for_long_will_not_be_free_soon():
    stall = Stall("a", "b")
    stall.knows(a=10_000, b=1_000)
    stall.agent("a1")
    assert stall.clear() == [("a1", "a")]
    stall.wait(10_000 + SOON_MAX_MS + 1)
    assert stall.clear() == []


def test_tasks_of_a_moment_are_given_out_many_together_and_the_next_ones_when_few_of_them_are_left():
    names = [f"t{number:02}" for number in range(MOMENTS_PER_SLOT + 10)]
    stall = Stall(*names)
    stall.knows(**dict.fromkeys(names, 1))
    stall.agent("a1", 1)
    first, rest = names[:MOMENTS_PER_SLOT], names[MOMENTS_PER_SLOT:]
    assert stall.clear() == [("a1", name) for name in first]
    while len(first) > AWARDS_PER_SLOT:
        stall.done(first.pop(0))
        assert not stall.market.changed
        assert stall.clear() == []
    stall.done(first.pop(0))
    assert stall.clear() == [("a1", name) for name in rest[: MOMENTS_PER_SLOT - len(first)]]


def test_no_more_tasks_of_a_moment_are_given_out_than_are_over_soon():
    names = [f"t{number}" for number in range(8)]
    stall = Stall(*names)
    stall.knows(**dict.fromkeys(names, MOMENT_MS))
    stall.agent("a1", 1)
    assert len(stall.clear()) * MOMENT_MS <= SOON_MIN_MS + MOMENT_MS


@pytest.mark.parametrize("shared", [{"mutex": "m"}, {"resources": Resources(memory_bytes=1)}])
def test_what_shares_more_than_processors_is_never_one_of_many_that_are_given_out_together(shared):
    stall = Stall("a", "b", task("c", **shared), "d")
    stall.knows(a=1, b=1, c=1, d=1)
    stall.agent("a1", 1, memory_bytes=1)
    assert stall.clear() == [("a1", "a"), ("a1", "b")]


def test_a_mutex_that_is_free_again_is_given_to_whoever_waits_for_it_though_its_agent_has_enough_to_do():
    names = [f"t{number}" for number in range(MOMENTS_PER_SLOT)]
    stall = Stall(task("m1", mutex="m"), *names, task("m2", mutex="m", runs_on=("special",)))
    stall.knows(**dict.fromkeys(("m1", *names), 1), m2=1_000)
    stall.agent("a1", 1)
    stall.agent("a2", 1, labels=("special",), cannot=dict.fromkeys(names, "not here"))
    stall.market.award(stall.market.tasks[TaskId("m1")], stall.market.agents[NodeId("a1")], stall.now)
    stall.clear()
    stall.done("m1")
    assert ("a2", "m2") in stall.clear()


def test_what_becomes_ready_late_and_is_urgent_comes_before_what_has_waited():
    stall = Stall("gate", "x", "y", task("urgent", "gate"), task("last", "urgent"))
    stall.agent("a1", 1)
    assert stall.clear() == [("a1", "gate")]
    stall.done("gate")
    assert stall.clear() == [("a1", "urgent")]


# --- the best place --------------------------------------------------------------------------------


def speeds(stall, **speeds):
    """Agents of these speeds, as the market knows by now."""
    for name, speed in speeds.items():
        stall.agent(name).runs_at(speed)


def test_a_task_goes_where_it_is_expected_to_be_done_first():
    stall = Stall("p:build")
    speeds(stall, slow=0.5, fast=2)
    assert stall.clear() == [("fast", "p:build")]


def test_a_result_that_an_agent_has_already_costs_it_no_time():
    stall = Stall("p:build")
    speeds(stall, fast=2)
    stall.agent("has-it", cached=("p:build",))
    assert stall.clear() == [("has-it", "p:build")]


def test_a_task_waits_for_a_faster_agent_that_is_busy_where_that_is_quicker():
    stall = Stall("one", "two")
    stall.knows(one=10_000, two=9_000)
    speeds(stall, slow=0.5, fast=2)
    assert stall.clear() == [("fast", "one")]
    assert stall.market.deadline() == 5_000 - SOON_MAX_MS
    stall.wait(5_000)
    stall.done("one")
    assert stall.clear() == [("fast", "two")]


def test_while_an_urgent_task_waits_for_the_fast_agent_the_slow_one_does_another():
    stall = Stall("one", "two", task("behind", "two"), "three")
    stall.knows(one=30_000, two=2_000, behind=30_000, three=2_000)
    speeds(stall, slow=0.25, fast=4)
    assert stall.clear() == [("fast", "two"), ("slow", "three")]


def test_a_slot_is_not_kept_for_ever_for_what_stands_behind_a_task_that_hangs_back():
    """Nothing happens but that time passes: each look is due by itself, and there are few of them."""
    stall = Stall(task("hangs", runs_on=("slow",), cache=False), task("behind", "hangs"), "short")
    stall.knows(hangs=2_000, behind=90_000, short=12_000)
    stall.agent("slow", labels=("slow",))
    speeds(stall, fast=4)
    assert stall.clear() == [("slow", "hangs")]
    stall.run("hangs")
    for _look in range(30):
        stall.now = stall.market.deadline()
        assert stall.now is not None
        if awards := stall.clear():
            break
    assert awards == [("fast", "short")]
    assert 2_000 < stall.now < 10_000


def test_behind_as_many_as_may_wait_for_somebody_faster_the_next_one_goes_to_whoever_is_idle():
    """Whatever the number of ready tasks, no reckoning looks at all of them, and nobody is idle for long."""
    now, later = [f"now{number}" for number in range(100)], [f"later{number}" for number in range(100)]
    stall = Stall(*now)
    fast = stall.agent("fast", 100)
    assert len(stall.clear()) == 100
    stall.run(*now)
    stall.add(*later)
    stall.bid(fast.node, 100)
    slow = stall.agent("slow", graphs=2)
    fast.runs_at(4)
    slow.runs_at(0.25)
    assert stall.clear() == [("slow", later[HELD_MAX])]


def test_what_an_agent_knows_of_tasks_is_kept_once_for_all_agents():
    stall = Stall("p:build")
    agent = stall.agent("a1", estimates={"p:build": 5_000})
    assert agent.bid.estimates == {}
    assert stall.market.forecast.duration_ms(TaskId("p:build")) == 5_000


def test_a_little_faster_is_no_reason_to_wait():
    stall = Stall("one", "two")
    speeds(stall, slow=0.98, fast=1)
    assert sorted(stall.clear()) == [("fast", "one"), ("slow", "two")]


def test_what_should_be_over_by_now_is_not_expected_to_be_over_at_once():
    stall = Stall("one", "two")
    stall.knows(one=10_000, two=10_000)
    stall.agent("fast")
    assert stall.clear() == [("fast", "one")]
    stall.agent("slow")
    stall.market.agents[NodeId("slow")].runs_at(0.85)
    stall.wait(9_999)
    # Done by 20,000 where it waited, if that were true; and by 21,764 on the slow one.
    assert stall.clear() == [("slow", "two")]


def test_nobody_waits_for_an_agent_that_errs_as_much_as_the_others():
    """With equal speeds, waiting for the lowest of many noisy bids would leave agents idle."""
    tasks = [f"t{number}" for number in range(8)]
    stall = Stall(*tasks)
    for agent in range(8):
        stall.agent(
            f"a{agent}", estimates={name: 5_000 if number == agent else 10_000 for number, name in enumerate(tasks)}
        )
    assert len(stall.clear()) == 8


def test_ties_go_to_the_one_with_less_to_do_and_then_by_name():
    stall = Stall("a", "b", "c")
    stall.agent("a2", 2)
    stall.agent("a1", 2)
    assert stall.clear() == [("a1", "a"), ("a2", "b"), ("a1", "c")]


def test_the_first_awards_wait_a_moment_for_agents_that_still_compare():
    stall = Stall("a")
    stall.agent("a1")
    stall.agent("late", bids=False)
    assert stall.clear() == []
    assert stall.market.deadline() == SETTLE_MS
    stall.wait(SETTLE_MS)
    assert stall.clear() == [("a1", "a")]


# --- who may ---------------------------------------------------------------------------------------


def test_labels_must_all_be_there():
    stall = Stall(task("t", runs_on=("gpu", "arm")))
    stall.agent("a1", labels=("gpu",))
    stall.agent("a2", labels=("arm", "big", "gpu"))
    assert stall.clear() == [("a2", "t")]


@pytest.mark.parametrize("resources", [Resources(memory_bytes=100), Resources(gpu=1)], ids=str)
def test_a_task_goes_only_where_its_resources_are(resources):
    stall = Stall(task("t", resources=resources))
    stall.agent("a1", memory_bytes=99)
    stall.agent("a2", memory_bytes=100, gpu=1)
    assert stall.clear() == [("a2", "t")]


@pytest.mark.parametrize("resources", [Resources(memory_bytes=60), Resources(gpu=1)], ids=str)
def test_tasks_at_one_time_share_no_memory_and_no_gpu(resources):
    stall = Stall(*(task(name, resources=resources) for name in "abc"), "d")
    stall.agent("a1", 4, memory_bytes=119, gpu=1)
    assert stall.clear() == [("a1", "a"), ("a1", "d")]
    stall.run("a", "d")
    assert stall.soon() == []
    stall.done("a")
    assert stall.clear() == [("a1", "b")]
    stall.agent("a2", 4, memory_bytes=120, gpu=2)
    assert stall.clear() == [("a2", "c")]


def test_a_wide_task_takes_as_many_slots_as_it_says_and_at_most_all():
    stall = Stall(task("wide", resources=Resources(cpu=3)), "a", "b")
    stall.knows_all()
    agent = stall.agent("a1", 2)
    assert stall.clear() == [("a1", "wide")]
    assert stall.soon() == [("a1", "a"), ("a1", "b")]
    assert agent.load == 2 + 1 + 1
    stall.done("wide")
    assert agent.load == 2


def test_a_wide_task_is_not_kept_waiting_by_narrow_ones_that_would_fill_its_slots():
    stall = Stall("a", task("wide", resources=Resources(cpu=2)), task("behind", "wide"), "b", "c")
    stall.knows(a=5_000, wide=5_000, behind=50_000, b=1_000, c=1_000)
    stall.agent("a1", 2)
    stall.market.tasks[TaskId("wide")].phase = Phase.WAITING
    assert stall.clear() == [("a1", "a"), ("a1", "b")]
    stall.market.requeue(stall.market.tasks[TaskId("wide")], stall.now)
    stall.wait(1_000)
    stall.done("b")
    assert stall.clear() == []
    stall.wait(4_000)
    stall.done("a")
    assert stall.clear() == [("a1", "wide")]


def test_a_task_that_tolerates_no_neighbour_gets_an_agent_alone():
    stall = Stall(task("alone", whole_agent=True), "a", "b")
    stall.agent("a1", 4)
    assert stall.clear() == [("a1", "alone")]
    stall.done("alone")
    assert stall.clear() == [("a1", "a"), ("a1", "b")]


def test_a_task_that_tolerates_no_neighbour_waits_until_an_agent_is_empty():
    stall = Stall("a", task("behind", "a"), task("alone", whole_agent=True))
    stall.agent("a1", 4)
    assert stall.clear() == [("a1", "a")]
    stall.done("a")
    stall.market.tasks[TaskId("alone")].phase = Phase.WAITING
    assert stall.clear() == [("a1", "behind")]
    stall.market.requeue(stall.market.tasks[TaskId("alone")], stall.now)
    assert stall.clear() == []
    stall.done("behind")
    assert stall.clear() == [("a1", "alone")]


def test_two_tasks_with_one_mutex_never_hold_awards_together():
    stall = Stall(task("a", mutex="db"), task("b", mutex="db"), task("c", mutex="other"))
    stall.agent("a1", 4)
    stall.agent("a2", 4)
    assert [name for _, name in stall.clear()] == ["a", "c"]
    stall.done("a")
    assert [name for _, name in stall.clear()] == ["b"]


def test_a_mutex_is_free_again_when_its_task_is_queued_again():
    stall = Stall(task("a", mutex="db"), task("b", mutex="db"))
    stall.agent("a1", 4)
    stall.clear()
    stall.market.requeue(stall.market.tasks[TaskId("a")], stall.now)
    assert stall.market.held_mutexes == {}
    assert stall.clear() == [("a1", "a")]


def test_what_an_agent_cannot_run_it_is_not_given():
    stall = Stall("a")
    stall.agent("a1", cannot={"a": "no compiler"})
    stall.agent("a2")
    assert stall.clear() == [("a2", "a")]


def test_what_has_come_to_nothing_on_an_agent_goes_elsewhere():
    stall = Stall("a")
    stall.agent("a1")
    stall.agent("a2")
    stall.market.tasks[TaskId("a")].not_on[NodeId("a1")] = "it failed there"
    assert stall.clear() == [("a2", "a")]


def test_an_agent_that_takes_nothing_gets_nothing():
    stall = Stall("a")
    stall.agent("a1")
    stall.bid(NodeId("a1"), takes=False, reason="its disk is full")
    assert stall.clear() == []


def test_tasks_of_a_graph_that_an_agent_has_not_compared_yet_wait_for_it():
    stall = Stall("a")
    stall.agent("a1", bids=False)
    stall.wait(WAIT_MS)
    assert stall.clear() == []
    stall.bid(NodeId("a1"), 1)
    assert stall.clear() == [("a1", "a")]


def test_an_agent_that_never_says_what_it_can_do_is_not_waited_for_for_ever():
    stall = Stall("a")
    stall.agent("a1", bids=False)
    assert stall.clear() == []
    stall.wait(SETTLE_MS)
    assert stall.clear() == []
    assert stall.market.deadline() == DECIDE_MAX_MS
    stall.wait(DECIDE_MAX_MS - SETTLE_MS)
    assert stall.clear() == [("main", "a")]


def test_an_agent_without_slots_holds_nothing_up():
    stall = Stall("a")
    stall.agent("a1", 0)
    stall.wait(WAIT_MS)
    assert stall.clear() == [("main", "a")]


def test_an_agent_that_bids_other_slots_than_before_carries_the_load_it_has():
    stall = Stall(task("wide", resources=Resources(cpu=4)), *"abc")
    stall.knows_all()
    agent = stall.agent("a1", 2)
    stall.clear()
    stall.soon()
    stall.market.resize(agent, 8)
    assert agent.load == 4 + 1 + 1
    stall.market.resize(agent, 0)
    assert stall.taken_back() == []
    for name in ("wide", "a", "b"):
        stall.done(name)
    assert agent.load == 0


# --- the main job ----------------------------------------------------------------------------------


def test_the_main_job_takes_at_once_what_is_bound_to_it_and_what_it_has_a_result_for():
    stall = Stall(task("here", where="main"), "known", "other", main_cached=("known",))
    assert stall.clear() == [("main", "here"), ("main", "known")]


def test_what_is_bound_to_the_main_job_goes_to_nobody_else():
    stall = Stall(task("here", where="main"))
    stall.agent("a1")
    assert stall.clear() == [("main", "here")]


def test_behind_what_only_the_main_job_has_it_goes_on_at_once_and_nobody_else_is_asked():
    stall = Stall("a", task("b", "a", outputs=()), task("c", "b"), task("other"))
    stall.agent("a1")
    assert stall.clear() == [("a1", "a")]
    stall.done("a", outputs=None)
    stall.market.tasks[TaskId("a")].settled = True
    assert sorted(stall.clear()) == [("a1", "other"), ("main", "b")]
    stall.done("b")
    stall.market.tasks[TaskId("b")].settled = True
    assert stall.clear() == [("main", "c")]


def test_the_main_job_waits_for_agents_before_it_works_alone():
    stall = Stall("a")
    assert stall.clear() == []
    assert stall.market.deadline() == WAIT_MS
    stall.wait(WAIT_MS - 1)
    assert stall.clear() == []
    stall.wait(1)
    assert stall.clear() == [("main", "a")]


def test_an_agent_that_comes_while_the_main_job_waits_gets_the_work():
    stall = Stall("a")
    assert stall.clear() == []
    stall.wait(1_000)
    stall.agent("late")
    assert stall.clear() == [("late", "a")]


def test_the_main_job_waits_anew_after_each_agent_for_what_no_agent_can_do():
    stall = Stall(task("t", runs_on=("gpu",)))
    stall.market.agents[MAIN].labels = ("gpu",)
    stall.wait(1_000)
    stall.agent("a1")
    assert stall.clear() == []
    stall.wait(WAIT_MS - 1)
    assert stall.clear() == []
    stall.wait(1)
    assert stall.clear() == [("main", "t")]


def test_the_main_job_begins_at_once_when_all_agents_are_gone():
    stall = Stall("a")
    stall.agent("a1", cannot={"a": "no"})
    assert stall.clear() == []
    stall.market.leave(NodeId("a1"))
    assert stall.clear() == [("main", "a")]


def test_with_slots_of_its_own_the_main_job_bids_like_an_agent():
    stall = Stall("a", "b", main_slots=2)
    speeds(stall, z=0.1)
    assert stall.clear() == [("main", "a"), ("main", "b")]


def test_a_task_for_agents_only_never_falls_to_the_main_job():
    stall = Stall(task("a", where="agent"))
    stall.wait(WAIT_MS + GIVE_UP_MS - 1)
    assert stall.clear() == []
    assert stall.market.hopeless(stall.now) == []
    stall.wait(1)
    assert [state.task.id for state in stall.market.hopeless(stall.now)] == ["a"]


def test_what_nobody_can_do_is_given_up_after_a_last_wait_and_the_deadline_says_when():
    stall = Stall(task("t", runs_on=("gpu",)), task("u", where="main"))
    stall.clear()
    assert stall.market.deadline() == WAIT_MS
    stall.wait(WAIT_MS)
    assert stall.market.deadline() == WAIT_MS, "it stays due until it has been looked at"
    stall.clear()
    assert stall.market.deadline() == WAIT_MS + GIVE_UP_MS
    stall.wait(GIVE_UP_MS)
    stall.clear()
    assert stall.market.deadline() is None
    assert [state.task.id for state in stall.market.hopeless(stall.now)] == ["t"]


def test_who_is_gone_may_be_replaced_as_long_as_who_is_late_may_come():
    stall = Stall(task("t", runs_on=("gpu",)))
    stall.agent("a1", labels=("gpu",))
    stall.clear()
    stall.wait(WAIT_MS + GIVE_UP_MS)
    for state in stall.market.leave(NodeId("a1")):
        stall.market.requeue(state, stall.now)
    stall.market.last_leave = stall.now
    stall.clear()
    assert stall.market.deadline() == stall.now + GIVE_UP_MS
    stall.wait(GIVE_UP_MS - 1)
    stall.clear()
    assert stall.market.hopeless(stall.now) == []
    stall.wait(1)
    assert [state.task.id for state in stall.market.hopeless(stall.now)] == ["t"]


def test_an_agent_that_is_given_nothing_for_now_is_no_reason_to_give_up_what_only_it_can_do():
    stall = Stall(task("t", runs_on=("gpu",)))
    stall.agent("a1", labels=("gpu",))
    stall.market.agents[NodeId("a1")].held_back = True
    stall.wait(WAIT_MS)
    stall.clear()
    stall.wait(GIVE_UP_MS)
    assert stall.clear() == []
    assert stall.market.hopeless(stall.now) == []


def test_what_is_made_once_more_goes_where_nothing_runs_that_reads_it():
    stall = Stall("a", task("b", "a"), task("c", "b"))
    stall.agent("a1", slots=2)
    assert stall.clear() == [("a1", "a")]
    stall.done("a")
    stall.clear()
    stall.done("b")
    assert stall.clear() == [("a1", "c")]
    stall.market.requeue(stall.market.tasks[TaskId("a")], stall.now)
    assert stall.clear() == []
    stall.agent("a2")
    assert stall.clear() == [("a2", "a")]


def test_an_agent_that_shares_the_main_jobs_workspace_gets_a_task_only_when_what_it_needs_is_settled():
    stall = Stall("a", task("b", "a"))
    stall.agent("a1", shares_main=True)
    assert stall.clear() == [("a1", "a")]
    stall.done("a")
    assert stall.clear() == []
    stall.market.settle(stall.market.tasks[TaskId("a")])
    assert stall.clear() == [("a1", "b")]


def test_a_main_job_with_slots_of_its_own_looks_again_when_what_a_task_needs_is_settled():
    stall = Stall("a", task("b", "a"), main_slots=1)
    assert stall.clear() == [("main", "a")]
    stall.done("a")
    assert stall.clear() == []
    stall.market.settle(stall.market.tasks[TaskId("a")])
    assert stall.clear() == [("main", "b")]


# --- taking back -----------------------------------------------------------------------------------


def crowded(speed=1, **idle):
    """One agent runs a task for 10 s, and has another one for 10 s in advance; a second agent is idle."""
    stall = Stall("a", "b")
    stall.knows(a=10_000, b=10_000)
    stall.agent("a1")
    stall.clear()
    stall.run("a")
    stall.wait(9_000)
    assert stall.clear() == [("a1", "b")]
    stall.agent("idle", **idle).runs_at(speed)
    return stall


def test_an_award_that_waits_is_taken_back_for_an_idle_agent():
    assert crowded().taken_back() == ["b"]


def test_it_is_taken_back_once_while_the_answer_is_on_its_way():
    stall = crowded()
    stall.taken_back()
    assert stall.taken_back() == []


def test_it_is_not_taken_back_where_the_idle_agent_would_not_be_done_clearly_earlier():
    there = 1_000 + 10_000
    assert crowded(10_000 / (there - TAKE_BACK_MIN_MS)).taken_back() == ["b"]
    assert crowded(10_000 / (there - TAKE_BACK_MIN_MS + 10)).taken_back() == []


def test_it_is_not_taken_back_for_one_who_cannot_run_it():
    assert crowded(cannot={"b": "no"}).taken_back() == []


def test_it_is_not_taken_back_while_there_is_other_work_for_the_idle_agent():
    stall = crowded()
    stall.add("c")
    assert stall.taken_back() == []


@pytest.mark.parametrize(("slots", "stuck"), [(1, ["b"]), (2, [])])
def test_what_waits_behind_an_overdue_task_is_taken_back_unless_another_slot_there_will_be_free(slots, stuck):
    stall = Stall("late", "b", "less")
    stall.knows(late=10_000, b=5_000, less=1_000)
    stall.agent("a1")
    stall.clear()
    stall.run("late")
    stall.wait(9_500)
    assert stall.clear() == [("a1", "b")]
    stall.bid(NodeId("a1"), slots)
    stall.wait(5_000)
    assert (stall.clear(), stall.taken_back()) == ([("a1", "less")] * (slots - 1), [])
    stall.wait(1_000)
    assert (stall.clear(), stall.taken_back()) == ([], stuck)


def test_what_may_have_started_is_not_taken_back():
    stall = Stall("a")
    stall.agent("a1").runs_at(0.01)
    stall.clear()
    stall.agent("idle")
    assert stall.taken_back() == []


def test_a_task_does_not_wander_for_ever():
    stall = crowded()
    stall.market.tasks[TaskId("b")].taken_back = TAKE_BACKS_MAX
    assert stall.taken_back() == []


def test_each_free_slot_takes_back_one_award():
    stall = Stall(*"abcd")
    stall.knows(a=10_000, b=10_000, c=10_000, d=10_000)
    stall.agent("a1", 2)
    stall.clear()
    stall.run("a", "b")
    stall.wait(9_000)
    assert len(stall.clear()) == 2
    stall.agent("idle", 1)
    assert stall.taken_back() == ["c"]


# --- copies ----------------------------------------------------------------------------------------


def straggling(*, late_ms=15_000, takes=10_000, **fields):
    """A task of 10 s has run for `late_ms` on one agent, and another agent is idle."""
    stall = Stall(task("a", **fields))
    stall.knows(a=takes)
    stall.agent("a1")
    stall.clear()
    stall.run("a")
    stall.agent("idle")
    stall.wait(late_ms)
    return stall


def test_a_task_that_takes_half_as_long_again_is_copied_and_not_before():
    stall = straggling()
    assert stall.market.deadline() == 15_000
    assert stall.clear() == [("idle", "a")]
    assert [live.attempt for live in stall.market.tasks[TaskId("a")].lives.values()] == [1, 2]
    assert straggling(late_ms=14_000).clear() == []


@pytest.mark.parametrize("fields", [{"cache": False}, {"mutex": "db"}, {"whole_agent": True}], ids=str)
def test_a_task_whose_second_run_might_do_harm_is_not_copied(fields):
    assert straggling(**fields).clear() == []


def test_a_task_is_not_copied_into_the_workspace_that_it_may_be_writing_in():
    stall = straggling()
    stall.market.agents[NodeId("idle")].shares_main = True
    assert stall.clear() == []
    stall = straggling()
    stall.market.agents[NodeId("a1")].shares_main = True
    assert stall.clear() == []


def test_a_copy_waits_until_what_it_needs_has_been_made_again():
    stall = Stall("before", task("a", "before"))
    stall.knows(before=1_000, a=10_000)
    stall.agent("a1")
    stall.clear()
    stall.done("before")
    stall.clear()
    stall.run("a")
    stall.wait(15_000)
    stall.market.requeue(stall.market.tasks[TaskId("before")], stall.now)
    stall.agent("idle", 2)
    assert stall.clear() == [("idle", "before")]
    stall.done("before")
    assert stall.clear() == [("idle", "a")]


def test_there_are_never_three_of_one_task_and_not_for_ever_a_second_one():
    stall = straggling()
    stall.agent("third")
    assert len(stall.clear()) == 1
    stall.wait(60_000)
    assert stall.clear() == []
    state = stall.market.tasks[TaskId("a")]
    for _ in range(COPIES_MAX - 1):
        stall.market.drop(state, list(state.lives)[-1])
        assert len(stall.clear()) == 1
    stall.market.drop(state, list(state.lives)[-1])
    assert stall.clear() == []


def test_an_overdue_task_is_copied_before_less_urgent_ones_and_behind_more_urgent_ones():
    stall = straggling()
    stall.add("less")
    stall.add("more", task("last", "more"))
    stall.knows(less=1_000, more=20_000, last=20_000)
    stall.bid(NodeId("a1"), 1, takes=False, reason="it is busy")
    stall.bid(NodeId("idle"), 2)
    assert stall.clear() == [("idle", "more"), ("idle", "a")]


def test_where_every_slot_is_busy_a_copy_takes_the_next_one_in_advance_before_a_less_urgent_task_does():
    stall = Stall("a", "b", "less")
    stall.knows(a=10_000, b=15_900, less=1_000)
    stall.agent("a1")
    stall.agent("a2")
    assert stall.clear() == [("a1", "b"), ("a2", "a")]
    stall.run("a", "b")
    stall.wait(15_000)
    assert stall.clear() == [("a1", "a")]


def test_when_one_of_two_comes_to_nothing_the_other_goes_on():
    stall = straggling()
    stall.clear()
    state = stall.market.tasks[TaskId("a")]
    stall.market.drop(state, NodeId("a1"))
    assert (state.phase, list(state.lives)) == (Phase.AWARDED, ["idle"])
    stall.done("a")
    assert (state.lives, stall.market.agents[NodeId("idle")].load) == ({}, 0)


# --- done, and not done after all ------------------------------------------------------------------


def test_a_task_that_stops_what_is_behind_it_makes_nothing_ready():
    stall = Stall("a", task("b", "a"))
    assert stall.done("a", "failure") == []
    assert stall.market.tasks[TaskId("a")].stops
    assert stall.market.left == 1


def test_an_allowed_failure_makes_ready_what_is_behind_it():
    stall = Stall(task("a", allow_failure=True), task("b", "a"))
    assert stall.done("a", "failure") == ["b"]


@pytest.mark.parametrize("status", ["skipped", "cancelled"])
def test_only_a_failure_can_be_allowed(status):
    stall = Stall(task("a", allow_failure=True), task("b", "a"))
    assert stall.done("a", status) == []


def test_what_depends_on_a_task_is_found_through_others_and_without_what_is_done():
    stall = Stall("a", task("b", "a"), task("c", "b"), task("d", "a"), "e")
    stall.done("d")
    assert stall.market.downstream(TaskId("a")) == ["b", "c"]


def test_a_done_task_that_is_run_again_blocks_what_has_not_started():
    stall = Stall("a", task("waiting", "a", "z"), task("ready", "a"), task("running", "a"), "z")
    stall.knows(running=9_000)
    stall.agent("a1", 1)
    stall.clear()
    stall.done("a")
    stall.clear()
    stall.run("running")
    stall.market.requeue(stall.market.tasks[TaskId("a")], stall.now)
    waits = {name: list(stall.market.tasks[TaskId(name)].waits_for) for name in ("waiting", "ready", "running")}
    assert waits["ready"] == ["a"]
    assert "a" in waits["waiting"]
    assert waits["running"] == []
    assert stall.market.tasks[TaskId("a")].phase is Phase.READY


def test_what_a_lost_bidder_had_is_returned_and_it_is_free_of_it():
    stall = Stall("a", "b")
    stall.agent("a1", 2)
    stall.clear()
    states = stall.market.leave(NodeId("a1"))
    assert [state.task.id for state in states] == ["a", "b"]
    for state in states:
        stall.market.requeue(state, stall.now)
    assert stall.market.leave(NodeId("a1")) == []
    stall.agent("a2", 2)
    assert stall.clear() == [("a2", "a"), ("a2", "b")]


def test_attempts_that_were_taken_back_are_not_counted_as_tries():
    stall = Stall("a")
    state = stall.market.tasks[TaskId("a")]
    state.attempt, state.taken_back = 5, 3
    assert state.attempts == 2


# --- what is better left alone ---------------------------------------------------------------------


def test_a_slot_is_left_to_the_urgent_task_that_waits_for_what_runs_there():
    stall = Stall("first", task("urgent", "first"), "other")
    stall.knows(first=10_000, urgent=50_000, other=1_000)
    stall.agent("a1")
    assert stall.clear() == [("a1", "first")]
    stall.wait(9_900)
    assert stall.clear() == []
    stall.done("first")
    assert stall.clear() == [("a1", "urgent")]


def test_a_task_of_unknown_length_is_copied_only_where_nothing_else_is_to_be_done():
    stall = Stall("a", "b")
    stall.agent("a1")
    stall.clear()
    stall.run("a")
    stall.wait(60_000)
    stall.agent("a2")
    assert stall.clear() == [("a2", "b")]
    stall.agent("a3")
    assert stall.clear() == [("a3", "a")]


def test_where_nobody_knew_how_long_tasks_take_those_about_as_urgent_go_in_the_order_in_which_they_became_ready():
    stall = Stall("first:deploy", "root:build", task("then:deploy", "root:build"), task("x:test"), task("y:test"))
    agent = stall.agent("a1", 1)
    for target, duration_ms in (("deploy", 3_000), ("test", 2_500), ("build", 3_500)):
        stall.market.learn(TaskId(f"other:{target}"), agent.node, duration_ms)
    stall.market.rank()
    order = []
    while awards := stall.clear():
        order += [name for _, name in awards]
        stall.done(order[-1])
    assert order == ["root:build", "first:deploy", "x:test", "y:test", "then:deploy"]


def test_a_task_that_many_know_is_copied_sooner_where_a_slot_is_idle_anyway():
    for ready, copied in ((), [("idle", "a")]), (("less",), [("idle", "less")]):
        stall = Stall("a")
        for _ in range(30):
            stall.knows(a=10_000)
        stall.agent("a1")
        stall.clear()
        stall.run("a")
        stall.agent("idle")
        stall.wait(12_000)
        assert stall.clear() == []
        if ready:
            stall.add(*ready)
            stall.bid(NodeId("a1"), 1, takes=False, reason="it is busy")
            stall.bid(NodeId("idle"), 1)
        stall.wait(1_000)
        assert stall.clear() == copied


def test_a_task_that_varies_is_copied_before_less_urgent_ones_only_when_nine_of_ten_times_it_is_over():
    varying = Quantiles(10_000, 40_000)
    for late_ms, copied in (14_000, []), (15_000, [("idle", "a")]):
        assert straggling(late_ms=late_ms, takes=varying).clear() == copied
    for late_ms, first in (39_000, "less"), (40_500, "a"):
        stall = straggling(late_ms=late_ms, takes=varying)
        stall.add("less")
        stall.bid(NodeId("a1"), 1, takes=False, reason="it is busy")
        stall.bid(NodeId("idle"), 1)
        assert stall.clear() == [("idle", first)]


def test_a_copy_in_advance_is_taken_back_from_behind_a_task_that_hangs_itself():
    stall = Stall("a", "b", "less")
    stall.knows(a=10_000, b=15_900, less=1_000)
    stall.agent("a1")
    stall.agent("a2")
    stall.clear()
    stall.run("a", "b")
    stall.wait(15_000)
    assert stall.clear() == [("a1", "a")]
    stall.wait(10_000)
    stall.clear()
    assert stall.taken_back() == ["a"]
    state = stall.market.tasks[TaskId("a")]
    stall.market.hand_back(state, NodeId("a1"), asked=True)
    assert (state.copies, list(state.lives)) == (0, [NodeId("a2")])
