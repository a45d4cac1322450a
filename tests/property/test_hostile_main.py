"""An agent whose main job says anything at all: it may be sent away or kept busy, but no message makes the core raise, run what it does not know, or hang at its end."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesh.graph import Graph, Task
from mesh.protocol import effects as fx
from mesh.protocol import events as ev
from mesh.protocol.node import Config, Node
from mesh.types import Instant, TaskId, UnixMs
from mesh.wire import messages as msg
from tests.property.strategies import ATTEMPTS, MESSAGES, NUMBERS
from tests.property.world import AUTHORITY, CHAINS, FACTS, KEYS, RUN, blob_of

GRAPH = Graph.of(
    [
        Task(TaskId("a"), "test", outputs=("out",)),
        Task(TaskId("b"), "test", deps=(TaskId("a"),)),
        Task(TaskId("c"), "test"),
    ]
)
BLOB = blob_of(GRAPH.encode())
MAIN = KEYS["main"].node_id
OURS = st.sampled_from([TaskId(name) for name in (*"abc", "nobody's")])
ABOUT_OURS = st.one_of(
    st.builds(msg.Award, NUMBERS, NUMBERS, OURS, ATTEMPTS),
    st.builds(msg.Award, st.just(1), NUMBERS, OURS, st.integers(1, 3)),
    st.builds(msg.Withdraw, st.just(1), OURS, st.integers(1, 3), st.booleans()),
    st.just(msg.Announce(1, (BLOB,), closed=False)),
    st.just(msg.Hello(RUN, "main", "main", 2, 1, facts=FACTS)),
    st.just(msg.Hello(RUN, "main", "agent", 2, 1, facts=FACTS)),
)


class Agent:
    """An agent with the simplest of shells: every effect is answered at once or, where the test says so, later."""

    def __init__(self):
        config = Config(
            RUN,
            KEYS["a1"],
            CHAINS["a1"],
            AUTHORITY.root_public,
            name="a1",
            role="agent",
            slots=2,
            incarnation=1,
            facts=FACTS,
        )
        self.now = Instant(0)
        self.node = Node(config, self.now)
        self.open = []
        self.end = None
        self.happen(ev.LinkUp(MAIN, "10.0.0.1", CHAINS["main"][0]))
        self.happen(ev.Received(MAIN, msg.Hello(RUN, "main", "main", 2, 1, facts=FACTS)))

    def happen(self, event):
        if self.end is not None:
            return
        for effect in self.node.step(event, self.now):
            match effect:
                case fx.FetchGraph(blob):
                    self.happen(ev.GraphFetched(blob, GRAPH.encode()))
                case fx.Check(digest):
                    self.happen(ev.Checked(digest))
                case fx.Prepare(task, attempt):
                    self.open.append(ev.Prepared(task, attempt))
                case fx.Execute(task, attempt):
                    assert task in GRAPH.tasks
                    run = ev.Execution("success", 0, UnixMs(0), UnixMs(1), log=blob_of(b""))
                    self.open += [ev.TaskRunning(task, attempt), ev.TaskFinished(task, attempt, run)]
                case fx.Kill(task, attempt):
                    self.open = [one for one in self.open if one.task != task]
                    self.open.append(ev.TaskKilled(task, attempt))
                case fx.End():
                    self.end = effect
                case _:
                    pass

    def answer(self):
        if self.open:
            self.happen(self.open.pop(0))


STEPS = st.lists(MESSAGES | ABOUT_OURS | ABOUT_OURS | st.integers(0, 50_000) | st.none(), max_size=40)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_nothing_that_a_main_job_says_makes_an_agent_raise_or_stay_for_ever(steps):
    agent = Agent()
    for step in steps:
        match step:
            case None:
                agent.answer()
            case int():
                agent.now = Instant(agent.now + step)
                agent.happen(ev.Tick())
            case _:
                agent.happen(ev.Received(MAIN, step))
    agent.happen(ev.Stop("SIGTERM"))
    while agent.open:
        agent.answer()
    assert agent.end is not None
    assert agent.node.worker.jobs == {}
