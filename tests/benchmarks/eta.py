"""How well the end of a run is foreseen while it is under way.

    just bench eta [--seeds 1] [--jobs 2]

runs the market in simulated time on the graphs of `market.py`, but for the largest, and asks at 2, 10, 30, 50 and 70% of each run when it should be over (`mesh.protocol.eta`). Prints, by
condition and moment, what was foreseen ÷ when the run then ended: the median, the least and the most, and how many are within 15%. Nothing is foreseen before anything is known.
"""

import argparse
import json
import multiprocessing
import os
import statistics
from collections.abc import Sequence

from mesh.protocol.eta import remaining_ms
from mesh.protocol.market import Market
from mesh.sim import Scenario, simulate
from mesh.types import Instant
from tests.benchmarks import graphs
from tests.benchmarks.market import plans

MOMENTS = (2, 10, 30, 50, 70)
TASKS_MAX = 600

Foreseen = dict[str, list[float | None]]
"""By condition, for each moment."""


def foreseen(scenario: Scenario) -> list[float | None]:
    """What was foreseen at each moment ÷ what the run took."""
    took_ms = simulate(scenario).makespan_ms
    found: list[float | None] = []

    def look(now: Instant, market: Market) -> None:
        if len(found) < len(MOMENTS) and now * 100 >= MOMENTS[len(found)] * took_ms:
            left_ms = remaining_ms(market, now)
            found.append(None if left_ms is None else (now + left_ms) / took_ms)

    simulate(scenario, look=look)
    return found


def conditions(plan: tuple[str, str, int, int, int]) -> Foreseen:
    """All conditions of one graph and seed."""
    family, recipe, tasks, slots, seed = plan
    cases = graphs.cases(seed, graphs.graph(recipe, tasks, seed), slots)
    return {f"{family} {condition}": foreseen(case) for condition, case in cases}


def summary(found: Sequence[Foreseen]) -> dict[str, dict[str, dict[str, float]]]:
    """By condition and moment."""
    told: dict[str, dict[str, dict[str, float]]] = {}
    for kind in dict.fromkeys(kind for each in found for kind in each):
        told[kind] = {}
        for number, moment in enumerate(MOMENTS):
            all_of_it = [each[kind][number] for each in found if len(each.get(kind, ())) > number]
            values = [value for value in all_of_it if value is not None]
            near = sum(abs(value - 1) <= 0.15 for value in values)
            about = {"cases": len(all_of_it), "foreseen": len(values), "within_15_percent": near}
            if values:
                about |= {"median": statistics.median(values), "least": min(values), "most": max(values)}
            told[kind][f"{moment}%"] = about
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time")
    asked = parser.parse_args()
    work = [(*plan, seed) for seed in range(asked.seeds) for plan in plans() if plan[2] <= TASKS_MAX]
    with multiprocessing.Pool(asked.jobs) as pool:
        told = summary(pool.map(conditions, work))
    for kind, moments in told.items():
        cells = (
            f"{moment}: {about.get('median', 0):.2f} ({about.get('least', 0):.2f} to {about.get('most', 0):.2f}), {about['within_15_percent']}/{about['foreseen']}"
            for moment, about in moments.items()
        )
        print(f"{kind:20} {';  '.join(cells)}")
    print(json.dumps({"seeds": asked.seeds, "foreseen": told}))


if __name__ == "__main__":
    main()
