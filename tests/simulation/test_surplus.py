"""What it is worth that agents leave when they can no longer help, and that it costs nothing: no run ends later, none is left without an agent."""

import random

import pytest

from mesh.graph import Graph, Task
from mesh.protocol import news
from mesh.sim import Cluster, Faults, Scenario, SimAgent, SimTask, simulate
from mesh.types import TaskId
from tests.benchmarks import graphs


def left_early(schedule):
    return [item for _, item in schedule.told if isinstance(item, news.AgentLeft)]


def paid_ms(schedule):
    """Agents' time, from joining to leaving."""
    joined = {item.node: t_ms for t_ms, item in schedule.told if isinstance(item, news.AgentJoined)}
    left = {item.node: t_ms for t_ms, item in schedule.told if isinstance(item, news.AgentLeft)}
    return sum(left.get(node, schedule.makespan_ms) - t_ms for node, t_ms in joined.items())


@pytest.mark.parametrize("condition", ["equal", "mixed", "stragglers", "cold"])
@pytest.mark.parametrize(("tasks", "slots"), [(80, 4), (80, 16), (300, 32)])
def test_no_run_ends_later_because_agents_leave(condition, tasks, slots):
    scenario = dict(graphs.cases(0, graphs.monorepo(random.Random(f"0 {tasks}"), tasks), slots))[condition]
    released, kept = simulate(scenario), simulate(scenario, keep_agents=True)
    assert released.makespan_ms <= kept.makespan_ms
    assert paid_ms(released) <= paid_ms(kept)
    assert left_early(kept) == []
    assert slots < 16 or paid_ms(released) < 0.9 * paid_ms(kept)


def test_an_agent_that_comes_late_to_a_wide_graph_works_and_one_that_comes_late_to_a_chain_leaves():
    wide = tuple(SimTask(TaskId(f"w{number}"), (), 10_000) for number in range(8))
    narrow = tuple(SimTask(TaskId(f"n{n}"), (TaskId(f"n{n - 1}"),) if n else (), 10_000) for n in range(8))
    agents = (SimAgent("a1"), SimAgent("a2"), SimAgent("late", joins_ms=15_000))
    worked = {tasks: {one.agent for one in simulate(Scenario(tasks, agents)).executions} for tasks in (wide, narrow)}
    assert "late" in worked[wide]
    assert "late" not in worked[narrow]
    assert "late" in [item.name for item in left_early(simulate(Scenario(narrow, agents)))]


class Fated(Cluster):
    """A mesh in which, once agents have left, one that stayed dies."""

    def tell(self, at, item):
        super().tell(at, item)
        if isinstance(item, news.AgentLeft) and not item.lost and at == self.main:
            self.left = [*getattr(self, "left", []), item.name]
            here = [one for one in self.agents if self.machines[one].here and one != item.node]
            if here and len(self.left) == 1:
                self.shell.at(self.shell.now + self.dice.randint(0, 2_000), lambda: self._kill(self.dice.choice(here)))


@pytest.mark.parametrize("seed", range(20))
def test_where_one_of_those_that_stayed_dies_the_run_goes_on_to_its_end(seed):
    fan = [Task(id=TaskId(f"w{number}"), tool="sim", outputs=("**",)) for number in range(9)]
    chain = [Task(id=TaskId("c0"), tool="sim", deps=tuple(task.id for task in fan), outputs=("**",))]
    for number in range(1, 12):
        chain.append(Task(id=TaskId(f"c{number}"), tool="sim", deps=(chain[-1].id,), outputs=("**",)))
    cluster = Fated(seed, agents=4, graph=Graph.of([*fan, *chain]), faults=Faults(cuts=seed % 3))
    life = cluster.run()
    assert (life.problems, life.verdict) == ((), "success")
    assert cluster.left
