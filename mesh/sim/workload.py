"""Task graphs and what their tasks do, from a seed."""

import random

from mesh.graph import Graph, Task
from mesh.graph.task import Resources
from mesh.types import TaskId


def random_graph(dice: random.Random, tasks: int) -> Graph:
    """A graph of `tasks` tasks in layers, some of them wide, exclusive, retried, bound to the main job or allowed to fail."""
    made: list[Task] = []
    for number in range(tasks):
        near = made[-8:]
        deps = tuple(task.id for task in near if dice.random() < 0.2)
        made.append(
            Task(
                id=TaskId(f"p{number}:{dice.choice(['build', 'test', 'lint'])}"),
                tool="sim",
                deps=deps,
                key=f"{number:08x}",
                outputs=(f"out/{number}/**",) if dice.random() < 0.7 else (),
                where="main" if dice.random() < 0.03 else "any",
                resources=Resources(cpu=dice.choice([1, 1, 1, 2])),
                mutex="db" if dice.random() < 0.05 else "",
                whole_agent=dice.random() < 0.02,
                allow_failure=dice.random() < 0.05,
                retries=dice.choice([0, 0, 0, 1, 2]),
            )
        )
    return Graph.of(made)


def duration_ms(dice: random.Random) -> int:
    """How long one execution takes: log-normal, as CI tasks are."""
    return max(1, min(60_000, round(dice.lognormvariate(6.5, 1.0))))
