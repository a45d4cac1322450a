"""What no schedule is below, however much its maker knows: closer than the critical path and all the work on all slots."""

import math

from msgspec.structs import replace

from mesh.sim import Scenario
from mesh.types import TaskId
from tests.benchmarks import schedulers


def least_ms(scenario: Scenario) -> int:
    """Tasks that none can begin before some time, and behind all of which a way of some length follows, take their work ÷ all slots in between (heads and tails; Carlier 1987). The most that comes of any two such times.

    What a straggler takes is not in it: its second execution could begin at once.
    """
    fastest = max(agent.speed for agent in scenario.agents)
    capacity = sum(agent.slots * agent.speed for agent in scenario.agents)
    takes_ms = {task.id: task.duration_ms / fastest for task in scenario.tasks}
    ways = schedulers.ranks(scenario, takes_ms)
    tails = {name: ways[name] - takes_ms[name] for name in ways}
    heads: dict[TaskId, float] = {}
    for name, task in scenario.graph.tasks.items():
        heads[name] = max((heads[dep] + takes_ms[dep] for dep in task.deps), default=0.0)
    least = max(ways.values(), default=0.0)
    by_tail = sorted(ways, key=lambda name: -tails[name])
    for head in dict.fromkeys(heads.values()):
        work_ms = 0.0
        for name in by_tail:
            if heads[name] >= head:
                work_ms += takes_ms[name] * fastest
                least = max(least, head + work_ms / capacity + tails[name])
    return math.ceil(least - 1e-6)


def found_late(scenario: Scenario) -> Scenario:
    """The same where every straggler takes twice what it should. Nobody is faster who begins a task anew no sooner than when it should have been done: until then a straggler is like any other."""
    tasks = tuple(
        task if task.actual_ms is None else replace(task, duration_ms=min(task.actual_ms, 2 * task.duration_ms))
        for task in scenario.tasks
    )
    return replace(scenario, tasks=tasks)
