"""Tasks of dte.toml: which agents can take them, which stay on the main job and why, and what is wrong with the file."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from mesh.adapters.native.config import load
from mesh.adapters.native.plan import plan
from mesh.cli.checks import Check, some
from mesh.cli.checks.ignored import outputs_and_git
from mesh.errors import UsageError
from mesh.graph import Graph, Task


def tasks_of_dte_toml(workspace: Path, names: Sequence[str], environ: Mapping[str, str]) -> Iterator[Check]:
    """All tasks of the file, or those called `names` with all they depend on."""
    try:
        planned = plan(workspace, names or tuple(load(workspace).tasks), environ=environ)
    except UsageError as error:
        for line in str(error).splitlines():
            yield Check("bad", line)
        return
    yield from _where_they_run(planned.graph)
    yield from _needs(planned.graph, environ)
    for notice in planned.notices:
        if "not ignored by git" not in notice and "in git's keeping" not in notice:  # told below, made or not
            yield Check("warn", notice)
    yield from outputs_and_git(workspace, {task.id: task.outputs for task in planned.graph.tasks.values()})


def _where_they_run(graph: Graph) -> Iterator[Check]:
    """How many tasks agents can take, and which stay."""
    free = [task for task in graph.tasks.values() if task.where != "main"]
    stay = [task.id for task in graph.tasks.values() if task.where == "main"]
    yield Check("ok", f"dte.toml: agents can run {len(free)} of {len(graph.tasks)} tasks")
    if stay:
        yield Check("ok", f'only on the main job: {some([*map(str, stay)])} (`where = "main"`)')


def _needs(graph: Graph, environ: Mapping[str, str]) -> Iterator[Check]:
    """What an agent must have for some tasks."""
    for label, group in _by(graph, lambda task: task.runs_on).items():
        yield Check("ok", f"only on an agent with the label {label}: {some(group)}", f"dte join --label {label}")
    for name, group in _by(graph, lambda task: task.secret_env).items():
        if not environ.get(name):
            yield Check(
                "warn", f"only where {name} is set, and here it is not: {some(group)} (secret_env)", "set it on agents"
            )


def _by(graph: Graph, of: Callable[[Task], tuple[str, ...]]) -> dict[str, list[str]]:
    table: dict[str, list[str]] = {}
    for task in graph.tasks.values():
        for name in of(task):
            table.setdefault(name, []).append(task.id)
    return table
