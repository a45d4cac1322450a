"""Whether turbo would do here what the main job means by a task: an agent asks its own turbo before it bids, and says what differs."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mesh.adapters.turbo.command import program
from mesh.adapters.turbo.dry_run import DryRun, DryTask, dry_run
from mesh.adapters.turbo.environment import agent_environment
from mesh.adapters.turbo.errors import TurboError
from mesh.adapters.turbo.plan import TOOL, differing, inputs_from_root, marked, turbo_id
from mesh.errors import RemoteError
from mesh.graph import Graph, Task
from mesh.types import TaskId
from mesh.wire.canonical import Reader


async def drift(workspace: Path, graph: Graph, environ: Mapping[str, str]) -> dict[TaskId, str]:
    """For each task of turbo's that this checkout cannot do as the main job means it, why. What only the main job may run is not looked at."""
    tasks = [task for task in graph.tasks.values() if task.tool == TOOL and task.where != "main"]
    reasons = {task.id: f"{', '.join(unset)} is not set here" for task in tasks if (unset := _unset(task, environ))}
    try:
        differences = await compare(workspace, [task for task in tasks if task.id not in reasons], environ)
    except TurboError as error:
        differences = {task.id: str(error) for task in tasks}
    return {**differences, **reasons}


async def compare(workspace: Path, tasks: Iterable[Task], environ: Mapping[str, str]) -> dict[TaskId, str]:
    """What differs, for each of `tasks` that has another hash here. Raises `TurboError` where turbo cannot say."""
    asked = list(tasks)
    if not asked:
        return {}
    turbo = program(workspace, environ)
    if turbo is None:
        raise TurboError(f"turbo is not in {workspace}/node_modules; install the workspace's packages before joining")
    about = asked[0].payload  # the same for all tasks of one command
    environment = agent_environment(environ, about["environment"])
    here = await dry_run(
        turbo, workspace, environment, run_arguments((turbo_id(task) for task in asked), about, "--dry=json")
    )
    found: dict[TaskId, str] = {}
    for task in asked:
        ours = here.tasks.get(turbo_id(task))
        if ours is None or ours.hash != task.key:
            found[task.id] = "; ".join(_differences(task, ours, here)) or "something that turbo does not tell of"
    return found


def run_arguments(tasks: Iterable[str], payload: Mapping[str, Any], *options: str, spare: bool = False) -> list[str]:
    """What is said to turbo for `tasks` by their ids, so that each has the hash that the main job's turbo gave it; with `spare` its bare one, and
    what is passed does not reach it.
    """
    read = Reader(dict(payload), "payload")
    passed = () if spare else read.texts("passed")
    return ["run", *tasks, *options, *read.texts("flags"), *(("--", *passed) if passed else ())]


def _differences(task: Task, ours: DryTask | None, here: DryRun) -> Iterator[str]:
    if ours is None:
        yield "turbo does not know this task here"
        return
    try:
        read = Reader(dict(task.payload), "payload")
        version, inputs = read.text("turbo"), read.text("inputs", max_chars=len(task.payload["inputs"]))
        variables, external = read.texts("variables"), read.texts("external")
    except RemoteError as error:
        yield str(error)
        return
    if version != here.version:
        yield f"turbo is {here.version} here, and {version} on the main job"
    yield from differing(inputs, {**here.files, **inputs_from_root(ours)})
    set_here = tuple(marked(here.variables, ours.variables))
    if names := sorted({each.partition("=")[0] for each in {*variables} ^ {*set_here}}):
        yield f"variables: {', '.join(names)}"
    if external != (here.external, ours.external):
        yield "the packages that the lock file names"
    if version == here.version and ours.dependencies:
        behind = [dep for dep in ours.dependencies if dep in here.tasks and here.tasks[dep].exists]
        yield f"or what it depends on: {', '.join(behind[:3])}" if behind else "or its definition"


def _unset(task: Task, environ: Mapping[str, str]) -> list[str]:
    return [name for name in task.secret_env if not environ.get(name)]
