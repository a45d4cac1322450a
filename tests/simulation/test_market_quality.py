"""How close the market's schedules come to the best possible: a few graphs of each kind, by fixed seeds. `just bench market` has many, beside other schedulers."""

import random

import pytest
from msgspec.structs import replace

from mesh.protocol.eta import remaining_ms
from mesh.sim import Scenario, SimAgent, SimTask, simulate
from mesh.types import TaskId
from tests.benchmarks import bounds, graphs, schedulers

SIZES = ((80, 4), (80, 16), (300, 8), (300, 32))


def market_and_others(condition, tasks, slots, seed=0):
    scenario = dict(graphs.cases(seed, graphs.graph("", tasks, seed), slots))[condition]
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


@pytest.mark.parametrize("seed", range(40))
def test_no_schedule_is_below_what_is_called_the_least_and_that_is_no_less_than_path_and_work(seed):
    dice = random.Random(seed)
    # Whole milliseconds at every speed, so that no rounding makes a schedule shorter.
    tasks = tuple(replace(task, duration_ms=4 * (task.duration_ms // 400 + 1)) for task in graphs.monorepo(dice, 40))
    agents = tuple(SimAgent(f"a{number}", 1, dice.choice((0.5, 1, 2))) for number in range(dice.randint(1, 12)))
    scenario = Scenario(tasks, agents, graphs.believed(dice, tasks, agents))
    least_ms = bounds.least_ms(scenario)
    made = [schedule(scenario) for schedule in (schedulers.fifo, schedulers.critical_path, schedulers.heft)]
    assert scenario.lower_bound_ms <= least_ms <= min(*made, simulate(scenario).makespan_ms)


def test_work_that_is_late_and_work_that_must_be_early_make_the_least_more_than_path_and_work():
    """Four slots, a first task, eight in the middle and a last one: 100 + 8 * 100 / 4 + 100 are 400, the path 300 and the work 250."""
    middle = tuple(SimTask(TaskId(f"m{number}"), (TaskId("first"),), 100) for number in range(8))
    last = SimTask(TaskId("last"), tuple(task.id for task in middle), 100)
    scenario = Scenario((SimTask(TaskId("first"), (), 100), *middle, last), (SimAgent("a", 4),))
    assert (scenario.lower_bound_ms, bounds.least_ms(scenario)) == (300, 400)


def test_a_straggler_counts_twice_where_it_is_begun_anew_when_it_should_have_been_done():
    late = SimTask(TaskId("late"), (), 100, 800)
    scenario = Scenario((late, SimTask(TaskId("next"), (TaskId("late"),), 50)), (SimAgent("a", 2),))
    assert (bounds.least_ms(scenario), bounds.least_ms(bounds.found_late(scenario))) == (150, 250)


@pytest.mark.parametrize("condition", ["equal", "mixed", "stragglers"])
@pytest.mark.parametrize(("tasks", "slots"), [(80, 16), (300, 8), (300, 32)])
def test_where_durations_are_known_the_end_is_foreseen_within_fifteen_per_cent_from_the_tenth_part_on(
    condition, tasks, slots
):
    foreseen: dict[int, int | None] = {}

    def look(now, market):
        tenth = 10 * (tasks - market.left) // tasks
        if market.tasks and tenth and tenth not in foreseen:
            foreseen[tenth] = now + remaining_ms(market, now)

    schedule = simulate(dict(graphs.cases(0, graphs.graph("", tasks, 0), slots))[condition], look=look)
    assert set(foreseen) == set(range(1, 11))
    assert list(foreseen.values()) == pytest.approx([schedule.makespan_ms] * 10, rel=0.15)
