"""How close the market's schedules come to the best possible: a few graphs of each kind, by fixed seeds. `just bench market` has many, beside other schedulers."""

import random

import pytest

from mesh.sim import simulate
from tests.benchmarks import graphs, schedulers

SIZES = ((80, 4), (80, 16), (300, 8), (300, 32))


def market_and_others(condition, tasks, slots, seed=0):
    graph = graphs.monorepo(random.Random(f"{seed} {tasks}"), tasks)
    scenario = dict(graphs.cases(seed, graph, slots))[condition]
    return scenario, simulate(scenario)


@pytest.mark.parametrize("condition", ["equal", "mixed"])
@pytest.mark.parametrize(("tasks", "slots", "seed"), [*((*size, 0) for size in SIZES), (80, 16, 2)])
def test_with_noisy_estimates_the_market_is_as_good_as_critical_path_scheduling_and_never_worse_than_fifo(
    condition, tasks, slots, seed
):
    scenario, schedule = market_and_others(condition, tasks, slots, seed)
    list_ratio = schedulers.critical_path(scenario) / scenario.lower_bound_ms
    assert schedule.ratio <= 1.05 * max(1, list_ratio)
    assert schedule.makespan_ms <= schedulers.fifo(scenario)


@pytest.mark.parametrize(("tasks", "slots"), SIZES)
def test_tasks_that_take_eight_times_as_long_cost_a_tenth_at_most(tasks, slots):
    _, schedule = market_and_others("stragglers", tasks, slots)
    assert schedule.ratio <= 1.10
    assert len(schedule.executions) <= tasks * 1.03


def test_where_a_straggler_is_on_the_critical_path_it_costs_what_finding_it_takes():
    scenario, schedule = market_and_others("stragglers", 80, 4, seed=2)
    assert schedule.ratio <= 1.10 * schedulers.detected(scenario) / scenario.lower_bound_ms
    assert schedule.makespan_ms < 0.5 * schedulers.critical_path(scenario)


def test_without_any_history_the_market_is_better_than_fifo_and_close_to_what_history_gives():
    ratios = []
    for tasks, slots in SIZES:
        scenario, schedule = market_and_others("cold", tasks, slots)
        ratios.append(schedule.makespan_ms / schedulers.fifo(scenario))
        assert schedule.ratio <= 1.03
    assert sum(ratios) / len(ratios) < 0.96
