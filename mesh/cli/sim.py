"""`dte sim`: whole meshes in one thread. By seed, under faults; or the schedule that the market makes for a graph file."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from mesh.sim import Schedule


def sim(
    seed: int = typer.Option(0, help="The first seed."),
    lives: int = typer.Option(1, help="How many seeds, one after the other."),
    graph: str = typer.Option("", metavar="FILE", help="Simulate the schedule of this graph file instead."),
    json: str = typer.Option(
        "",
        metavar="FILE",
        help='Write the outcome to this file ("-": standard output): one JSON object a life, or what `dte run --json` writes.',
    ),
) -> int:
    """Live through simulated runs. One seed is one life: the same on every machine."""
    return _schedule(graph, json) if graph else _lives(seed, lives, json)


def _lives(seed: int, lives: int, json: str) -> int:
    from msgspec.structs import asdict

    from mesh.cli.common import write_json
    from mesh.errors import Exit
    from mesh.sim import live

    bad = 0
    lines: list[object] = []
    for number in range(seed, seed + lives):
        life = live(number)
        bad += bool(life.problems)
        lines.append(asdict(life))
        if json != "-":
            how = "; ".join(life.problems) or "holds"
            print(
                f"seed {life.seed}: {life.tasks} tasks, {life.executions} executions, {life.messages} messages, {life.verdict}: {how}"
            )
    if json:
        write_json(json, *lines)
    return int(Exit.TASK_FAILED if bad else Exit.OK)


def _schedule(graph: str, json: str) -> int:
    from mesh.cli.common import write_json
    from mesh.errors import Exit, UsageError
    from mesh.sim import read_scenario, simulate

    try:
        data = Path(graph).read_bytes()
    except OSError as error:
        raise UsageError(f"--graph {graph}: {error.strerror}") from None
    schedule = simulate(read_scenario(data, graph))
    if json != "-":
        for line in _told(schedule):
            print(line)
    if json:
        write_json(json, _to_json(schedule))
    return int(Exit.OK)


def _told(schedule: "Schedule") -> list[str]:
    from mesh.report import words

    scenario = schedule.scenario
    slots = sum(agent.slots for agent in scenario.agents)
    tasks, agents = words.count(len(scenario.tasks), "task"), words.count(len(scenario.agents), "agent")
    took, bound = words.duration(schedule.makespan_ms), words.duration(scenario.lower_bound_ms)
    slots_told = words.count(slots, "slot")
    lines = [f"{tasks} on {agents} with {slots_told}: {took}, {schedule.ratio:.3f} of the lower bound {bound}"]
    if scenario.critical_path:
        first, last = scenario.critical_path[0], scenario.critical_path[-1]
        lines.append(
            f"critical path: {words.count(len(scenario.critical_path), 'task')}, from {words.one_line(first)} to {words.one_line(last)}"
        )
    if late := sum(one.killed for one in schedule.executions):
        lines.append(f"{words.count(late, 'execution')} killed: another one of the same task was done first")
    for agent in scenario.agents:
        ran = [one for one in schedule.executions if one.agent == agent.name]
        busy_ms = sum(one.ended_ms - one.started_ms for one in ran if one.ended_ms is not None)
        share = 100 * busy_ms // max(1, agent.slots * schedule.makespan_ms)
        lines.append(f"  {words.one_line(agent.name)}: {words.count(len(ran), 'task')}, busy {share}% of the time")
    return lines


def _to_json(schedule: "Schedule") -> dict[str, object]:
    """What a run would write, but for the bound: here the true durations are known."""
    from mesh.report.summary import Summary

    summary = Summary("sim/graph")
    for t_ms, item in schedule.told:
        summary.apply(item, t_ms)
    return summary.to_json(0) | {
        "makespan_ms": schedule.makespan_ms,
        "lower_bound_ms": schedule.scenario.lower_bound_ms,
        "critical_path": list(schedule.scenario.critical_path),
    }
