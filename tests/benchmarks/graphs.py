"""Families of task graphs that schedules are measured on, each from a seed."""

import importlib
import random
from collections.abc import Iterator

from mesh.sim import Scenario, SimAgent, SimTask
from mesh.types import TaskId

SIGMA = 0.3
"""Of what agents believe beforehand, on logarithms."""


def monorepo(dice: random.Random, tasks: int) -> tuple[SimTask, ...]:
    """Projects in layers, each built behind those it imports; tests and lint behind or beside; a few end-to-end tests. Large projects are large in all targets."""
    made: list[SimTask] = []
    builds: list[TaskId] = []
    while len(made) < tasks:
        name = f"p{len(builds)}"
        size = dice.lognormvariate(0, 0.6)
        near = builds[-30:]
        imports = tuple(dice.sample(near, min(len(near), dice.choice([0, 1, 1, 2, 3]))))
        build = TaskId(f"{name}:build")
        made.append(_task(dice, build, imports, 12_000 * size))
        made.append(_task(dice, TaskId(f"{name}:test"), (build,), 20_000 * size))
        made.append(_task(dice, TaskId(f"{name}:lint"), (), 5_000 * size))
        if len(builds) % 8 == 7:
            made.append(_task(dice, TaskId(f"{name}:e2e"), (build,), 60_000 * size))
        builds.append(build)
    return tuple(made[:tasks])


def _task(dice: random.Random, task: TaskId, deps: tuple[TaskId, ...], median_ms: float) -> SimTask:
    return SimTask(task, deps, max(1, round(median_ms * dice.lognormvariate(0, 0.4))))


def workflow(dice: random.Random, recipe: str, tasks: int) -> tuple[SimTask, ...]:
    """One of WfCommons' scientific workflows, generated offline from the shapes that were measured."""
    import numpy as np

    # Its recipes know no other dice than these.
    random.seed(dice.getrandbits(32))
    np.random.seed(dice.getrandbits(32))  # noqa: NPY002
    module = importlib.import_module(f"wfcommons.wfchef.recipes.{recipe}")
    recipe_class = getattr(module, f"{recipe.capitalize()}Recipe")
    made = recipe_class.from_num_tasks(max(tasks, recipe_class.get_min() if hasattr(recipe_class, "get_min") else 0))
    workflow = made.build_workflow(recipe)
    parents = {node: tuple(TaskId(parent) for parent in workflow.predecessors(node)) for node in workflow.nodes}
    runtimes = {node: workflow.nodes[node]["task"].runtime for node in workflow.nodes}
    return tuple(SimTask(TaskId(node), parents[node], max(1, round(1000 * runtimes[node]))) for node in workflow.nodes)


def agents(dice: random.Random, slots: int, *, mixed: bool) -> tuple[SimAgent, ...]:
    """One slot each; `mixed` have speeds from 0.5 to 2."""
    return tuple(SimAgent(f"a{number}", 1, 2 ** dice.uniform(-1, 1) if mixed else 1.0) for number in range(slots))


def believed(
    dice: random.Random, tasks: tuple[SimTask, ...], who: tuple[SimAgent, ...], sigma: float = SIGMA
) -> dict[TaskId, dict[str, int]]:
    """What each agent thinks of each task: off by lognormal noise of its own."""
    return {
        task.id: {
            agent.name: max(1, round(task.duration_ms / agent.speed * dice.lognormvariate(0, sigma))) for agent in who
        }
        for task in tasks
    }


def with_stragglers(dice: random.Random, tasks: tuple[SimTask, ...]) -> tuple[SimTask, ...]:
    """2% of the tasks take eight times as long when they are run first."""
    slow = dict.fromkeys(dice.sample(range(len(tasks)), max(1, len(tasks) // 50)))
    return tuple(
        SimTask(task.id, task.deps, task.duration_ms, 8 * task.duration_ms) if number in slow else task
        for number, task in enumerate(tasks)
    )


def cases(seed: int, tasks: tuple[SimTask, ...], slots: int) -> Iterator[tuple[str, Scenario]]:
    """The conditions under which one graph is scheduled."""
    dice = random.Random(seed)
    equal, mixed = agents(dice, slots, mixed=False), agents(dice, slots, mixed=True)
    yield "equal", Scenario(tasks, equal, believed(dice, tasks, equal))
    yield "mixed", Scenario(tasks, mixed, believed(dice, tasks, mixed))
    late = with_stragglers(dice, tasks)
    yield "stragglers", Scenario(late, equal, believed(dice, late, equal))
    yield "cold", Scenario(tasks, equal)
