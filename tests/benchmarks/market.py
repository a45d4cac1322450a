"""How close the market comes to the best possible schedule, next to schedulers that everybody knows.

    just bench market [--seeds 5] [--jobs 2] [--only TEXT] [--graphs] [--json]

runs the market as it is, in simulated time (`dte sim --graph`), on graphs of monorepos and on WfCommons' scientific workflows, and prints makespan ÷ bound: the median over
graphs and seeds, and the worst. The bound is the critical path on the fastest agent or all the work on all slots, whichever is more: no schedule is faster. `least` is a closer one of that kind (`bounds.least_ms`): where it
is above 1 nobody comes to 1. Agents' estimates are off by
lognormal noise of sigma 0.3, each agent's by its own, and in `shared` all alike. `--graphs` has a line for each graph. Behind the table stand all cases that miss what is asked for:

    equal, mixed, shared
                    at most 1.05 times max(1, critical-path list scheduling), and never above FIFO
    stragglers      at most 1.10
    cold            never above FIFO

`detected` says what stragglers cost anybody who cannot tell them from other tasks before they are half as late again as they should be (`schedulers.detected`); where it is above
1.10 the graph's critical path has a straggler, and `as asked` counts the case where the market is within 1.05 of it. Lines say how many these are, and in how many of them nobody at all could be as asked.

`shuffled` is FIFO with another order of what becomes ready at one time. Where nothing is known beforehand any order is as good as another until something has been seen, and one of two is
above the other: a line says how often that is so of FIFO and itself.

Everything follows from the seeds: it does not matter what else this machine does.
"""

import argparse
import json
import multiprocessing
import os
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mesh.sim import Scenario, simulate
from tests.benchmarks import bounds, graphs, schedulers

OTHERS = {
    "fifo": schedulers.fifo,
    "shuffled": schedulers.shuffled,
    "longest first": schedulers.longest_first,
    "binned": schedulers.binned,
    "critical path": schedulers.critical_path,
    "heft": schedulers.heft,
    "detected": schedulers.detected,
}
MONOREPOS = ((80, 4), (80, 16), (300, 8), (300, 32), (600, 16), (1_500, 64))
WORKFLOWS = tuple((recipe, 300, slots) for recipe in graphs.RECIPES for slots in (8, 32))


@dataclass(frozen=True, slots=True)
class Row:
    """One graph under one condition: each scheduler's makespan ÷ bound, and what none is below."""

    kind: str
    graph: str
    seed: int
    ratios: dict[str, float]
    least: float
    least_found_late: float
    """By anybody who begins no task anew before it should have been done."""

    @property
    def condition(self) -> str:
        """The last word of its kind."""
        return self.kind.rpartition(" ")[2]

    @property
    def allowed(self) -> float:
        """What the market may come to here."""
        of = self.ratios
        if self.condition == "stragglers":
            return max(1.10, 1.05 * of["detected"] if of["detected"] > 1.10 else 0)
        if self.condition == "cold":
            return of["fifo"]
        return min(1.05 * max(1, of["critical path"]), of["fifo"])

    @property
    def over(self) -> float:
        """By how much it misses that; 0 where it does not."""
        return max(0, self.ratios["market"] / self.allowed - 1)


def plans() -> Iterator[tuple[str, str, int, int]]:
    """Family, name or "", tasks and slots of all graphs."""
    for tasks, slots in MONOREPOS:
        yield "monorepo", "", tasks, slots
    for recipe, tasks, slots in WORKFLOWS:
        yield "workflow", recipe, tasks, slots


def rows(plan: tuple[str, str, int, int, int]) -> list[Row]:
    """All conditions of one graph and seed."""
    family, recipe, tasks, slots, seed = plan
    cases = graphs.cases(seed, graphs.graph(recipe, tasks, seed), slots)
    name = f"{recipe or tasks} on {slots}"
    return [measured(f"{family} {condition}", name, seed, case) for condition, case in cases]


def measured(kind: str, graph: str, seed: int, scenario: Scenario) -> Row:
    """What each scheduler makes of it."""
    bound_ms = max(1, scenario.lower_bound_ms)
    found = {name: schedule(scenario) / bound_ms for name, schedule in OTHERS.items()}
    least, late = (bounds.least_ms(each) / bound_ms for each in (scenario, bounds.found_late(scenario)))
    return Row(kind, graph, seed, {"market": simulate(scenario).ratio, **found}, least, late)


def grouped(found: Sequence[Row], *, by_graph: bool) -> dict[str, list[Row]]:
    """By kind, or by kind and graph."""
    groups: dict[str, list[Row]] = {}
    for row in found:
        groups.setdefault(f"{row.kind} {row.graph}" if by_graph else row.kind, []).append(row)
    return dict(sorted(groups.items())) if by_graph else groups


def table(groups: dict[str, list[Row]]) -> Iterator[str]:
    """One line a group, with how many of its cases are as asked."""
    names = ["market", *OTHERS]
    width = max(24, *map(len, groups))
    heads = [*names, "least"]
    yield " ".join([f"{'makespan ÷ bound (worst)':{width}}", *(f"{name:>14}" for name in heads), f"{'as asked':>10}"])
    for name, group in groups.items():
        values = [*([row.ratios[other] for row in group] for other in names), [row.least for row in group]]
        cells = (f"{statistics.median(each):7.3f} ({max(each):.2f})".rjust(14) for each in values)
        yield " ".join([f"{name:{width}}", *cells, f"{sum(row.over == 0 for row in group)}/{len(group)}".rjust(10)])


def misses(found: Sequence[Row]) -> Iterator[str]:
    """Each case that is not as asked, the worst first."""
    over = sorted((row for row in found if row.over > 0), key=lambda row: -row.over)
    yield f"{len(over)} of {len(found)} cases are not as asked"
    for row in over:
        of = row.ratios
        told = ", ".join(f"{name} {of[name]:.3f}" for name in ("fifo", "critical path", "detected"))
        yield f"  {row.kind} {row.graph}, seed {row.seed}: {of['market']:.4f}, {row.allowed:.4f} allowed ({told}, least {row.least:.3f})"
    late = [row for row in found if row.condition == "stragglers" and row.ratios["market"] > 1.10]
    yield f"{len(late)} with stragglers are above 1.10, {sum(row.over == 0 for row in late)} of them within 1.05 of `detected`"
    nobody, not_later = sum(row.least > 1.10 for row in late), sum(row.least_found_late > 1.10 for row in late)
    yield f"  in {nobody} nobody is at 1.10, whatever they know; in {not_later} nobody who begins no task anew before it should have been done"
    cold = [row for row in found if row.condition == "cold"]
    for name in ("market", "shuffled"):
        above = [row.ratios[name] / row.ratios["fifo"] - 1 for row in cold]
        yield f"cold, {name} is above FIFO in {sum(by > 0 for by in above)} of {len(above)}, by {max(above, default=0):.1%} at worst"
    at_least = sum(row.ratios["fifo"] <= 1.001 * row.least for row in cold)
    yield f"  in {at_least} FIFO is within 0.1% of what no schedule is below"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time")
    parser.add_argument("--only", default="", metavar="TEXT", help="graphs in whose name this is")
    parser.add_argument("--graphs", action="store_true", help="a line for each graph")
    parser.add_argument("--json", action="store_true", help="print nothing but one line of JSON")
    asked = parser.parse_args()
    chosen = [plan for plan in plans() if asked.only in f"{plan[0]} {plan[1] or plan[2]} on {plan[3]}"]
    if not chosen:
        parser.error(
            f"--only {asked.only}: no graph has this in its name; `monorepo 80 on 4` and `workflow blast on 32` are two"
        )
    work = [(*plan, seed) for seed in range(asked.seeds) for plan in chosen]
    with multiprocessing.Pool(asked.jobs) as pool:
        found = [row for several in pool.imap(rows, work) for row in several]
    if not asked.json:
        print("\n".join([*table(grouped(found, by_graph=asked.graphs)), *misses(found)]))
    print(json.dumps(summary(found, asked.seeds)))


def summary(found: Sequence[Row], seeds: int) -> dict[str, object]:
    """The table for programs."""
    told = {
        kind: {
            name: {"median": statistics.median(values), "worst": max(values)}
            for name in ["market", *OTHERS]
            if (values := [row.ratios[name] for row in group])
        }
        | {"least": {"median": statistics.median(row.least for row in group), "worst": max(row.least for row in group)}}
        | {"cases": len(group), "as_asked": sum(row.over == 0 for row in group)}
        for kind, group in grouped(found, by_graph=False).items()
    }
    return {"seeds": seeds, "ratios": told}


if __name__ == "__main__":
    main()
