"""`dte plan`: what would run, how long it would take with how many agents, and how many are worth having. Nothing is run."""

import os
import sys
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mesh.graph import Graph
    from mesh.node.preview import Preview
    from mesh.sim.forecast import Forecast
    from mesh.sim.scenario import SimTask
    from mesh.store.history import Estimate
    from mesh.types import TaskId

Many = list[str]
AGENTS = 8
AGENTS_MAX = 256
GUESS_MS = 1_000
"""For every task, where nothing of this workspace has ever been timed."""


def plan(
    context: typer.Context,
    tasks: Many = typer.Argument(
        None, metavar="[TASK]...", help="Tasks of dte.toml; with `-- COMMAND…` the user's own nx or turbo command."
    ),
    affected: bool = typer.Option(False, "--affected", help="Only tasks that a change since --base reaches."),
    base: str = typer.Option("", metavar="REF", help="With --affected: what the changes are compared with."),
    head: str = typer.Option("", metavar="REF", help="With --affected: compare this commit, not the working tree."),
    agents: int = typer.Option(AGENTS, help="Predict for 1 to so many agents."),
    slots: int = typer.Option(0, help="Tasks at a time on each agent. Default: one for each processor here."),
    json: str = typer.Option("", metavar="FILE", help='Write the prediction to this file ("-": standard output).'),
    plot: str = typer.Option("", metavar="FILE", help="Draw it, as .svg or .png. Needs matplotlib."),
) -> int:
    """Predict a run for 1 to N agents, from what the history of this machine knows, by the market of a real run.

    nx and turbo plan their command themselves, and run no task. What else stands in the command, as in a script, is run.
    """
    from pathlib import Path

    from mesh.cli.common import selection, slots_of
    from mesh.errors import UsageError
    from mesh.node.preview import preview

    range_ = selection(context.obj, tasks, affected=affected, base=base, head=head)
    if context.obj is None and not tasks:
        raise UsageError("nothing to plan: give tasks of dte.toml, or `-- COMMAND…`")
    if not 1 <= agents <= AGENTS_MAX:
        raise UsageError(f"--agents {agents}: 1 to {AGENTS_MAX} were expected")
    if plot:
        from mesh.report.plot import check

        check(Path(plot))
    found = preview(Path.cwd(), tuple(context.obj or ()), tuple(tasks or ()), range_, dict(os.environ))
    for notice in found.notices:
        print(f"dte: {notice}", file=sys.stderr)
    if not found.graph.tasks:
        print("nothing to run")
        return 0
    return _tell(found, agents, slots_of(slots), json, plot)


def _tell(found: "Preview", agents: int, slots: int, json: str, plot: str) -> int:
    from mesh.cli.common import write_json
    from mesh.sim.forecast import forecasts, knee

    known = _known(found.graph)
    tasks = _tasks(found, known)
    predicted = list(forecasts(tasks, agents, slots))
    best = knee(predicted)
    path = predicted[0].schedule.scenario.critical_path
    path_ms = sum(task.duration_ms for task in tasks if task.id in path)
    told = {
        "version": 1,
        "tasks": len(tasks),
        "cached": len(found.cached),
        "never_timed": sum(1 for task in tasks if not (known.get(task.id) and known[task.id].samples)),
        "slots": slots,
        "work_ms": sum(task.duration_ms for task in tasks),
        "critical_path_ms": path_ms,
        "critical_path": list(path),
        "predictions": [{"agents": each.agents, "makespan_ms": each.makespan_ms} for each in predicted],
        "knee": best,
    }
    if json:
        write_json(json, told)
    if plot:
        _draw(plot, predicted, best, path_ms, path)
    if json != "-":
        _print(told, predicted, {task.id: task.duration_ms for task in tasks})
    return 0


def _known(graph: "Graph") -> "Mapping[TaskId, Estimate]":
    from pathlib import Path

    from mesh.exec.machine import machine_class
    from mesh.store.history import History, seed_from_nx, workspace_id
    from mesh.store.history.database import FILE_NAME
    from mesh.store.home import home

    name, machine = workspace_id(Path.cwd()), machine_class()
    with History(home() / FILE_NAME) as history:
        found = history.estimates(name, graph.tasks, machine)
        if not found and any(task.tool == "nx" for task in graph.tasks.values()):
            seeds, _ = seed_from_nx(Path.cwd(), machine)
            history.record(seeds)
            found = history.estimates(name, graph.tasks, machine)
        if history.notice:
            print(f"dte: {history.notice}", file=sys.stderr)
    return found


def _tasks(found: "Preview", known: "Mapping[TaskId, Estimate]") -> "list[SimTask]":
    from mesh.sim.scenario import SimTask

    def expected_ms(task: "TaskId") -> int:
        return 0 if task in found.cached else known[task].p50_ms if task in known else GUESS_MS

    return [SimTask(task.id, task.deps, expected_ms(task.id)) for task in found.graph.tasks.values()]


def _print(told: "Mapping[str, Any]", predicted: "Sequence[Forecast]", durations: "Mapping[TaskId, int]") -> None:
    from mesh.report.words import count, duration, ratio

    slots = told["slots"]
    print(f"{count(told['tasks'], 'task')}, {told['cached']:,} of them cached; {duration(told['work_ms'])} of work")
    if told["never_timed"] == told["tasks"]:
        print("none has ever been timed here: each counts as 1 s. Run once, or load timings with `dte history import`")
    elif told["never_timed"]:
        print(f"{count(told['never_timed'], 'task')} not timed here yet: taken to last as long as similar ones")
    print(f"\n  agents x {count(slots, 'slot'):10} predicted  speed-up  busy")
    first_ms = predicted[0].makespan_ms
    for each in predicted:
        mark = "  <- the knee" if each.agents == told["knee"] else ""
        speedup = f"{ratio(first_ms, max(1, each.makespan_ms))}x"
        print(f"  {each.agents:6} {duration(each.makespan_ms):>20} {speedup:>9} {each.busy:>5.0%}{mark}")
    if told["knee"] < len(predicted):
        print(f"\nmore than {count(told['knee'], 'agent')} gains under 5%")
    print(f"\ncritical path, {duration(told['critical_path_ms'])}:")
    for task in told["critical_path"]:
        print(f"  {duration(durations[task]):>8}  {task}")


def _draw(plot: str, predicted: "Sequence[Forecast]", best: int, bound_ms: int, path: "Sequence[TaskId]") -> None:
    from pathlib import Path

    from mesh.report.plot import draw

    chosen = predicted[best - 1].schedule
    lanes: dict[tuple[str, int], int] = {}  # when each slot of each agent is free again
    bars = []
    for each in chosen.executions:
        slot = next(number for number in range(len(lanes) + 1) if lanes.get((each.agent, number), 0) <= each.started_ms)
        lanes[each.agent, slot] = ended_ms = each.started_ms if each.ended_ms is None else each.ended_ms
        bars.append((f"{each.agent}/{slot + 1}", each.task, each.started_ms, ended_ms))
    draw(Path(plot), [(each.agents, each.makespan_ms) for each in predicted], bound_ms, best, bars, frozenset(path))
