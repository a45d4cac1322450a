"""Schedulers to compare the market with, each in a few lines. All know of durations what agents believe on the average, and start nothing that is not ready."""

import heapq
import itertools
import math
import random
from collections.abc import Callable

from msgspec.structs import replace

from mesh.sim import Scenario, SimAgent, SimTask
from mesh.types import TaskId

Order = Callable[[SimTask], float]


def believed_ms(scenario: Scenario) -> dict[TaskId, float]:
    """What a task should take at speed 1: the mean of what all agents think, each in its own speed; one second where nobody knows."""
    speeds = {agent.name: agent.speed for agent in scenario.agents}
    known = {name: scenario.known(name) for name in speeds}
    found: dict[TaskId, float] = {}
    for task in scenario.tasks:
        opinions = [(known[name][task.id].p50_ms, speed) for name, speed in speeds.items() if task.id in known[name]]
        logs = [math.log(max(1, p50_ms) * speed) for p50_ms, speed in opinions]
        found[task.id] = math.exp(sum(logs) / len(logs)) if logs else 1_000.0
    return found


def ranks(scenario: Scenario, duration_ms: dict[TaskId, float]) -> dict[TaskId, float]:
    """The longest path from each task to the end of the graph."""
    below: dict[TaskId, float] = {}
    for task in reversed(list(scenario.graph.tasks.values())):
        below[task.id] = below.get(task.id, 0) + duration_ms[task.id]
        for dep in task.deps:
            below[dep] = max(below.get(dep, 0), below[task.id])
    return below


def greedy(
    scenario: Scenario, order: Order, allowed: Callable[[SimTask, SimAgent], bool] = lambda _task, _agent: True
) -> int:
    """Whoever is idle gets the first ready task by `order` that it is allowed to run. Returns the makespan in ms."""
    tasks = {task.id: task for task in scenario.tasks}
    missing = {task.id: len(dict.fromkeys(task.deps)) for task in scenario.tasks}
    behind = scenario.graph.dependents()
    arrival = itertools.count()
    ready = [(order(task), next(arrival), task.id) for task in scenario.tasks if not task.deps]
    idle = [agent for agent in scenario.agents for _ in range(agent.slots)]
    running: list[tuple[int, int, TaskId, SimAgent]] = []
    now = 0
    ready.sort()
    while ready or running:
        for agent in list(idle):
            found = next((item for item in ready if allowed(tasks[item[2]], agent)), None)
            if found is not None:
                ready.remove(found)
                idle.remove(agent)
                task = tasks[found[2]]
                took = task.duration_ms if task.actual_ms is None else task.actual_ms
                heapq.heappush(running, (now + round(took / agent.speed), next(arrival), task.id, agent))
        now, _, done, agent = heapq.heappop(running)
        idle.append(agent)
        for task_id in dict.fromkeys(behind[done]):
            missing[task_id] -= 1
            if missing[task_id] == 0:
                ready.append((order(tasks[task_id]), next(arrival), task_id))
        ready.sort()
    return now


def fifo(scenario: Scenario) -> int:
    """In the order in which tasks become ready."""
    return greedy(scenario, lambda _task: 0)


def shuffled(scenario: Scenario) -> int:
    """FIFO where what becomes ready at one time comes in another order: what differs by no more from FIFO may do so by chance."""
    tasks = list(scenario.tasks)
    random.Random(0).shuffle(tasks)
    return fifo(replace(scenario, tasks=tuple(tasks)))


def longest_first(scenario: Scenario) -> int:
    """The longest ready task first."""
    duration_ms = believed_ms(scenario)
    return greedy(scenario, lambda task: -duration_ms[task.id])


def binned(scenario: Scenario) -> int:
    """Each target's tasks are dealt out to agents beforehand, as in static binning."""
    names = [agent.name for agent in scenario.agents]
    dealt: dict[str, int] = {}
    owner: dict[TaskId, str] = {}
    for task in scenario.tasks:
        target = task.id.partition(":")[2] or task.id.rstrip("0123456789")
        owner[task.id] = names[dealt.setdefault(target, 0) % len(names)]
        dealt[target] += 1
    return greedy(scenario, lambda _task: 0, lambda task, agent: owner[task.id] == agent.name)


def critical_path(scenario: Scenario) -> int:
    """List scheduling: the longest path to the end first, to whoever is idle."""
    rank = ranks(scenario, believed_ms(scenario))
    return greedy(scenario, lambda task: -rank[task.id])


def detected(scenario: Scenario) -> int:
    """Critical-path scheduling by somebody who finds every straggler at the moment when it has taken half as long again as it should, and begins it anew.

    So a straggler takes two and a half times as long. Nobody who cannot tell it from other tasks before, and who does not run tasks twice from the beginning, is much better.
    """
    tasks = tuple(
        task if task.actual_ms is None else replace(task, actual_ms=min(task.actual_ms, task.duration_ms * 5 // 2))
        for task in scenario.tasks
    )
    return critical_path(replace(scenario, tasks=tasks))


def heft(scenario: Scenario) -> int:
    """Heterogeneous Earliest Finish Time: all is placed beforehand, by rank, into the earliest gap; then it runs in that order."""
    duration_ms = believed_ms(scenario)
    rank = ranks(scenario, duration_ms)
    tasks = {task.id: task for task in scenario.tasks}
    slots = [(agent, number) for agent in scenario.agents for number in range(agent.slots)]
    free = dict.fromkeys(range(len(slots)), 0.0)
    ends: dict[TaskId, float] = {}
    queues: list[list[TaskId]] = [[] for _ in slots]
    position = {task: number for number, task in enumerate(scenario.graph.tasks)}
    for task_id in sorted(tasks, key=lambda task: (-rank[task], position[task])):
        ready = max((ends[dep] for dep in tasks[task_id].deps), default=0.0)
        best = min(free, key=lambda slot: max(free[slot], ready) + duration_ms[task_id] / slots[slot][0].speed)
        ends[task_id] = free[best] = max(free[best], ready) + duration_ms[task_id] / slots[best][0].speed
        queues[best].append(task_id)
    # By rank every task stands behind what it depends on, so that the plan can be carried out in that order.
    real: dict[TaskId, int] = {}
    slot_of = {task_id: number for number, queue in enumerate(queues) for task_id in queue}
    at = dict.fromkeys(range(len(slots)), 0)
    for task_id in sorted(tasks, key=lambda task: (-rank[task], position[task])):
        task, number = tasks[task_id], slot_of[task_id]
        took = task.duration_ms if task.actual_ms is None else task.actual_ms
        begins = max(at[number], max((real[dep] for dep in task.deps), default=0))
        real[task_id] = at[number] = begins + round(took / slots[number][0].speed)
    return max(real.values(), default=0)
