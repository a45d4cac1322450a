"""Real nodes under every interleaving that Hypothesis thinks of: links that break, agents that die or lie, work that fails, and a clock that jumps.

After each step the promises of mesh/sim/checkers.py hold; and when the faults are over the run comes to its verdict, every task is accounted for, and the
ledger verifies.
"""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mesh.graph import Graph, Resources, Task
from mesh.protocol import events as ev
from mesh.types import TaskId
from tests.property.strategies import MESSAGES
from tests.property.world import World, union

TASKS_MAX = 6
PAUSES_MS = st.sampled_from([1, 250, 1_000, 3_000, 6_000, 45_000])


@st.composite
def graphs(draw):
    """One graph or two, of which the second repeats the first."""
    tasks = []
    for number in range(draw(st.integers(1, TASKS_MAX))):
        deps = draw(st.lists(st.sampled_from(tasks), max_size=2, unique_by=lambda task: task.id)) if tasks else []
        tasks.append(
            Task(
                id=TaskId(f"t{number}"),
                tool="test",
                deps=tuple(dep.id for dep in deps),
                key=str(number),
                outputs=draw(st.sampled_from([(), ("out",)])),
                where=draw(st.sampled_from(["any", "any", "any", "main", "agent"])),
                resources=Resources(cpu=draw(st.sampled_from([1, 1, 2]))),
                mutex=draw(st.sampled_from(["", "", "db"])),
                whole_agent=draw(st.sampled_from([False, False, True])),
                allow_failure=draw(st.sampled_from([False, False, True])),
                retries=draw(st.sampled_from([0, 0, 1, 2])),
            )
        )
    first = draw(st.integers(1, len(tasks)))
    whole = Graph.of(tasks)
    return [whole] if first == len(tasks) else [Graph.of(tasks[:first]), union(Graph.of(tasks[:first]), whole)]


class Mesh(RuleBasedStateMachine):
    """A main job and two agents, none of which means ill."""

    liar = False

    @initialize(graphs=graphs(), shared=st.sampled_from([(), ("a1",)]), main_slots=st.sampled_from([0, 0, 2]))
    def begin(self, graphs, shared, main_slots):
        self.world = World(graphs, shared=shared, main_slots=main_slots)
        self.world.plan()
        for name in ("a1", "a2"):
            self.world.connect("main", name)
        if self.liar:
            self.world.connect("main", "liar")

    def machines(self, *, working=False):
        return [one for one in self.world.machines.values() if one.up and (one.work or not working)]

    # --- the ordinary way ----------------------------------------------------------------------------

    @rule(data=st.data(), count=st.integers(1, 12))
    def messages_arrive(self, data, count):
        for _ in range(count):
            queues = self.world.waiting()
            if queues:
                self.world.deliver(*data.draw(st.sampled_from(queues)))

    @rule(data=st.data())
    def everything_arrives(self, data):
        queues = self.world.waiting()
        if queues:
            to, sender = data.draw(st.sampled_from(queues))
            while self.world.machines[to].up and self.world.machines[to].inboxes[sender]:
                self.world.deliver(to, sender)

    @rule(data=st.data(), good=st.sampled_from([True, True, True, False]), fails=st.booleans(), never=st.booleans())
    def work_is_done(self, data, good, fails, never):
        busy = self.machines(working=True)
        if busy:
            machine = data.draw(st.sampled_from(busy))
            index = data.draw(st.integers(0, len(machine.work) - 1))
            self.world.serve(machine, index, good=good, task_fails=fails, never=never)

    @rule(data=st.data())
    def a_process_is_seen_to_run(self, data):
        running = [(one, task) for one in self.machines() for task in one.running]
        if running:
            self.world.start(*data.draw(st.sampled_from(running)))

    @rule(ms=PAUSES_MS)
    def time_goes_by(self, ms):
        self.world.wait(ms)

    @rule()
    def the_next_graph_is_planned(self):
        self.world.plan()

    # --- what may go wrong ---------------------------------------------------------------------------

    @rule(agent=st.sampled_from(["a1", "a2"]), arrives=st.integers(0, 3))
    def a_link_breaks(self, agent, arrives):
        self.world.cut("main", agent, arrives=arrives)

    @rule(agent=st.sampled_from(["a1", "a2"]))
    def a_link_is_made_or_made_anew(self, agent):
        if self.world.machines[agent].up and self.world.main.up:
            self.world.connect("main", agent)

    @rule(agent=st.sampled_from(["a1", "a2"]), kill=st.booleans())
    def an_agent_goes(self, agent, kill):
        if kill:
            self.world.kill(agent)
        else:
            self.world.happen(self.world.machines[agent], ev.Stop("SIGTERM"))

    @precondition(lambda self: not self.world.graphs)
    @rule(really=st.sampled_from([False, False, False, True]))
    def somebody_stops_the_run(self, really):
        if really and self.world.main.up:
            self.world.stopped = True
            self.world.happen(self.world.main, ev.Stop("SIGINT"))

    # --- what must hold ------------------------------------------------------------------------------

    @invariant()
    def no_promise_is_broken(self):
        if hasattr(self, "world"):
            assert self.world.checkers.problems == []

    def teardown(self):
        if hasattr(self, "world") and not self.world.checkers.problems:
            self.world.calm_down()
            assert self.world.checkers.problems == []


class MeshWithLiar(Mesh):
    """The same with a member of the run that says whatever it likes to the main job. It may fail tasks; it must not break the run."""

    liar = True

    @rule(message=MESSAGES)
    def the_liar_says_anything(self, message):
        self.world.inject("main", "liar", message)

    @rule()
    def the_liar_comes_as_an_agent_and_bids(self):
        from mesh.wire import messages as msg
        from tests.property.world import FACTS, RUN

        self.world.connect("main", "liar")
        self.world.inject("main", "liar", msg.Hello(RUN, "liar", "agent", 2, 1, facts=FACTS))
        self.world.inject("main", "liar", msg.Bid(2**50, open=True, slots=2, graphs=2))

    @rule(data=st.data(), attempt=st.integers(0, 4), number=st.integers(0, TASKS_MAX))
    def the_liar_speaks_of_a_real_task(self, data, attempt, number):
        from mesh.wire import messages as msg

        task = TaskId(f"t{number}")
        status = data.draw(st.sampled_from(["success", "failure", "skipped", "cancelled"]))
        deps = data.draw(st.sampled_from([None, (), ("t0",), ("nothing",)]))
        others = tuple(TaskId(f"t{other}") for other in range(number))
        said = data.draw(
            st.sampled_from(
                [
                    msg.Started(task, max(1, attempt)),
                    msg.Declined(task, max(1, attempt), "no", missing=others),
                    msg.Declined(task, max(1, attempt), "never", never=True),
                    self.world.lie_about(task, status, attempt, deps=deps),
                    self.world.lie_about(task, status, attempt, allowed_to_fail=True),
                    self.world.lie_about(task, status, attempt, log=None),
                    self.world.lie_about(task, status, attempt, epoch=9),
                    self.world.lie_about(task, status, attempt, name="a1"),
                    msg.Bid(2**51, open=True, slots=0, graphs=1_000),
                    msg.Leave("no"),
                ]
            )
        )
        self.world.inject("main", "liar", said)

    def teardown(self):
        if hasattr(self, "world"):
            # What it has been given must come back in the end: it goes.
            self.world.cut("main", "liar", arrives=1_000)
        super().teardown()


QUICK = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)
LONG = settings(QUICK, max_examples=3_000, stateful_step_count=60)


@pytest.mark.parametrize("machine", [Mesh, MeshWithLiar])
def test_no_order_of_events_breaks_a_promise(machine):
    run_state_machine_as_test(machine, settings=QUICK)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("machine", [Mesh, MeshWithLiar])
def test_no_order_of_events_breaks_a_promise_in_a_long_search(machine):
    run_state_machine_as_test(machine, settings=LONG)
