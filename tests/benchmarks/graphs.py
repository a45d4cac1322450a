"""Families of task graphs that schedules are measured on, each from a seed."""

import json
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

from mesh.sim import Scenario, SimAgent, SimTask
from mesh.types import TaskId
from tests.benchmarks import apart

WFCOMMONS = "wfcommons==1.6"
RECIPES = ("blast", "bwa", "cycles", "epigenomics", "genome", "montage", "rnaseq", "seismology", "soykb", "srasearch")

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


def graph(recipe: str, tasks: int, seed: int) -> tuple[SimTask, ...]:
    """That workflow, or where `recipe` is "" a monorepo."""
    return workflow(recipe, tasks, seed) if recipe else monorepo(random.Random(f"{seed} {tasks}"), tasks)


def _task(dice: random.Random, task: TaskId, deps: tuple[TaskId, ...], median_ms: float) -> SimTask:
    return SimTask(task, deps, max(1, round(median_ms * dice.lognormvariate(0, 0.4))))


def workflow(recipe: str, tasks: int, seed: int) -> tuple[SimTask, ...]:
    """One of WfCommons' scientific workflows, generated offline from the shapes that were measured. What has been generated is kept: it takes seconds."""
    home = apart.home_of(WFCOMMONS)
    kept = home / f"{recipe}-{tasks}-{seed}.json"
    if not kept.exists():
        side = Path(__file__).with_name("workflow_side.py")
        command = [apart.python_in(home), side, recipe, str(tasks), str(seed)]
        made = subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": "0"})
        fresh = kept.with_suffix(f".{os.getpid()}")
        fresh.write_bytes(made.stdout)
        fresh.replace(kept)
    return tuple(
        SimTask(TaskId(task), tuple(TaskId(dep) for dep in deps), max(1, round(1000 * seconds)))
        for task, deps, seconds in json.loads(kept.read_bytes())
    )


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


def believed_by_all(
    dice: random.Random, tasks: tuple[SimTask, ...], who: tuple[SimAgent, ...], sigma: float = SIGMA
) -> dict[TaskId, dict[str, int]]:
    """The same where equal agents have one history: all are off alike, so that many opinions are no better than one."""
    return {
        task.id: dict.fromkeys(
            (agent.name for agent in who), max(1, round(task.duration_ms * dice.lognormvariate(0, sigma)))
        )
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
    yield "shared", Scenario(tasks, equal, believed_by_all(dice, tasks, equal))
