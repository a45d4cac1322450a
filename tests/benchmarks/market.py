"""How close the market comes to the best possible schedule, next to schedulers that everybody knows.

    python -m tests.benchmarks.market [--seeds 3] [--json]

prints makespan ÷ lower bound, the median over seeds and the worst, for graphs of monorepos and, where `wfcommons` is installed, scientific workflows. The bound is the
critical path on the fastest agent or all the work on all slots, whichever is more. The market runs as it is in simulated time (`dte sim --graph`); agents'
estimates are off by lognormal noise of sigma 0.3. Everything follows from the seeds: it does not matter what else this machine does.
"""

import argparse
import json
import random
import statistics
from importlib.util import find_spec

from mesh.sim import Scenario, simulate
from tests.benchmarks import graphs, schedulers

OTHERS = {
    "fifo": schedulers.fifo,
    "longest first": schedulers.longest_first,
    "binned": schedulers.binned,
    "critical path": schedulers.critical_path,
    "heft": schedulers.heft,
}
MONOREPOS = ((80, 4), (80, 16), (300, 8), (300, 32), (600, 16), (1_500, 64))
WORKFLOWS = (("montage", 300, 8), ("cycles", 300, 32), ("epigenomics", 300, 8), ("genome", 300, 32))


def ratios(scenario: Scenario) -> dict[str, float]:
    """Each scheduler's makespan ÷ the lower bound."""
    bound_ms = max(1, scenario.lower_bound_ms)
    return {
        "market": simulate(scenario).ratio,
        **{name: schedule(scenario) / bound_ms for name, schedule in OTHERS.items()},
    }


def measure(seeds: int) -> dict[str, list[dict[str, float]]]:
    """By kind of graph and condition, one row for each graph and seed."""
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(seeds):
        for tasks, slots in MONOREPOS:
            graph = graphs.monorepo(random.Random(f"{seed} {tasks}"), tasks)
            for condition, scenario in graphs.cases(seed, graph, slots):
                found.setdefault(f"monorepo {condition}", []).append(ratios(scenario))
        for recipe, tasks, slots in WORKFLOWS if find_spec("wfcommons") else ():
            graph = graphs.workflow(random.Random(f"{seed} {recipe}"), recipe, tasks)
            for condition, scenario in graphs.cases(seed, graph, slots):
                found.setdefault(f"workflow {condition}", []).append(ratios(scenario))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print nothing but one line of JSON")
    asked = parser.parse_args()
    found = measure(asked.seeds)
    names = ["market", *OTHERS]
    table = {
        kind: {
            name: {"median": statistics.median(row[name] for row in rows), "worst": max(row[name] for row in rows)}
            for name in names
        }
        for kind, rows in found.items()
    }
    if not asked.json:
        print(f"{'makespan ÷ bound (worst)':24}", *(f"{name:>16}" for name in names))
        for kind, row in table.items():
            print(f"{kind:24}", *(f"{row[name]['median']:8.3f} ({row[name]['worst']:.2f})" for name in names))
    print(json.dumps({"seeds": asked.seeds, "ratios": table}))


if __name__ == "__main__":
    main()
