"""`dte plan` predicts with the real market: more agents never hurt, and the knee is where they stop helping."""

import pytest

from mesh.sim.forecast import Forecast, forecasts, knee
from mesh.sim.scenario import Scenario, SimTask
from mesh.sim.schedule import Schedule
from mesh.types import TaskId


def tasks(*durations_ms: int, chain: bool = False) -> list[SimTask]:
    deps = [(TaskId(f"t{number - 1}"),) if chain and number else () for number in range(len(durations_ms))]
    return [SimTask(TaskId(f"t{n}"), deps[n], duration_ms) for n, duration_ms in enumerate(durations_ms)]


def predicted(*makespans_ms: int) -> list[Forecast]:
    none = Scenario((), ())
    return [Forecast(count + 1, Schedule(none, makespan_ms=each)) for count, each in enumerate(makespans_ms)]


def test_tasks_that_need_nothing_of_each_other_are_shared_out():
    found = list(forecasts(tasks(*[1000] * 8), 4, 2))
    assert [each.makespan_ms for each in found] == [4000, 2000, 2000, 1000]
    assert [each.busy for each in found] == [1, 1, pytest.approx(2 / 3), 1]


def test_a_chain_takes_its_length_on_any_number_of_agents():
    assert [each.makespan_ms for each in forecasts(tasks(500, 700, 300, chain=True), 3, 1)] == [1500] * 3


@pytest.mark.parametrize(
    ("makespans_ms", "agents"),
    [
        ((1000,), 1),
        ((1000, 1000, 1000), 1),
        ((1000, 500, 490, 480), 2),
        ((1000, 960, 500), 3),  # two do not help, but three do
        ((1000, 950), 2),
        ((1000, 951), 1),
    ],
)
def test_the_knee_is_where_no_further_agents_gain_five_per_cent(makespans_ms: tuple[int, ...], agents: int):
    assert knee(predicted(*makespans_ms)) == agents
