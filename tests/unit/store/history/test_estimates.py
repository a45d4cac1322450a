"""From samples to expected durations: monotone, cautious where there is little to go by, and never nonsense."""

import math
import random
from itertools import pairwise
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.store.history.estimates import Estimate, estimates, family
from mesh.store.history.samples import DURATION_MS_MAX, SAMPLES_PER_SERIES_MAX
from mesh.types import TaskId

HERE, THERE = "linux-x86_64-2", "linux-aarch64-8"
TASKS = [TaskId(name) for name in ("a:build", "b:build", "a:test/1", "a:test/2", "a:build:production", "lint")]

durations = st.lists(st.integers(0, DURATION_MS_MAX), min_size=1, max_size=SAMPLES_PER_SERIES_MAX)
series = st.dictionaries(st.tuples(st.sampled_from(TASKS), st.sampled_from((HERE, THERE))), durations, max_size=8)


def one(observed: dict[tuple[TaskId, str], list[int]], task: str, machine: str = HERE) -> Estimate:
    return estimates(observed, [TaskId(task)], machine)[TaskId(task)]


def here(**observed: list[int]) -> dict[tuple[TaskId, str], list[int]]:
    return {(TaskId(name.replace("_", ":")), HERE): found for name, found in observed.items()}


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("p1:build", ("p1", "build")),
        ("p1:build:production", ("p1", "build")),
        ("p1:e2e-ci--src/login.spec.ts", ("p1", "e2e-ci")),
        ("packages/a:test/12", ("packages/a", "test")),
        ("api-test/3", ("", "api-test")),
        ("proto", ("", "proto")),
        ("docs/html", ("", "docs/html")),
        (".:lint", (".", "lint")),
        ("p1:", ("p1", "")),
        (":", ("", "")),
        ("/1", ("", "/1")),
    ],
)
def test_a_task_belongs_to_a_target_of_a_project(task: str, expected: tuple[str, str]) -> None:
    assert family(TaskId(task)) == expected


def test_nothing_known_is_no_estimate() -> None:
    assert estimates({}, TASKS, HERE) == {}


def test_tasks_that_nobody_asks_for_are_not_answered() -> None:
    assert list(estimates(here(a_build=[5]), [TASKS[1]], HERE)) == [TASKS[1]]


def test_a_well_known_task_is_expected_to_take_what_it_took() -> None:
    found = one(here(a_build=[60_000] * SAMPLES_PER_SERIES_MAX, b_test=[100] * 20), "a:build")
    assert 50_000 < found.p50_ms < 65_000
    assert found.p50_ms < found.p90_ms < 2 * found.p50_ms
    assert found.samples == SAMPLES_PER_SERIES_MAX


def test_the_quantiles_are_those_of_the_noise() -> None:
    chance = random.Random(7)
    observed = {
        (TaskId(f"p{number}:build"), HERE): [round(10_000 * chance.lognormvariate(0, 0.3)) for _ in range(20)]
        for number in range(200)
    }
    found = estimates(observed, [task for task, _ in observed], HERE).values()
    assert 9_500 < median(each.p50_ms for each in found) < 10_500
    assert 13_000 < median(each.p90_ms for each in found) < 16_500  # 10,000 x exp(1.28 x 0.3) = 14,700


def test_an_unknown_task_is_like_its_shards_then_like_its_target_then_like_everything() -> None:
    observed = {(TaskId(f"p{number}:lint"), HERE): [500] * 20 for number in range(20)}
    observed |= {(TaskId(f"p{number}:e2e"), HERE): [50_000] * 20 for number in range(20)}
    observed |= {(TaskId("p1:e2e/1"), HERE): [200_000] * 20, (TaskId("p1:e2e/2"), HERE): [200_000] * 20}
    shard, lint, e2e = (one(observed, task).p50_ms for task in ("p1:e2e/3", "new:lint", "new:e2e"))
    other = one(observed, "new:deploy")
    assert 400 < lint < 700
    assert 40_000 < e2e < 80_000
    assert e2e < shard < 200_000
    assert lint < other.p50_ms < e2e
    assert other.samples == 0


def test_another_class_of_machine_is_better_than_another_project() -> None:
    observed = {(TaskId(f"p{number}:build"), HERE): [1_000] * 20 for number in range(10)}
    observed[TaskId("big:build"), THERE] = [60_000] * 20
    found = one(observed, "big:build")
    assert 20_000 < found.p50_ms <= 60_000
    assert found.samples == 0
    assert one(observed, "big:build", THERE).samples == 20


def test_what_was_measured_on_this_class_of_machine_counts_most() -> None:
    observed = {(TaskId("a:build"), HERE): [10_000] * 20, (TaskId("a:build"), THERE): [40_000] * 20}
    assert one(observed, "a:build").p50_ms < 12_000
    assert one(observed, "a:build", THERE).p50_ms > 35_000


def test_a_change_is_followed() -> None:
    before = one(here(a_build=[10_000] * 20), "a:build").p50_ms
    after = [one(here(a_build=[10_000] * (20 - new) + [30_000] * new), "a:build").p50_ms for new in range(1, 21)]
    assert before < after[0]
    assert after == sorted(after)
    assert after[11] > 25_000


def test_one_straggler_does_not_make_a_slow_task() -> None:
    calm = one(here(a_build=[10_000] * 20), "a:build").p50_ms
    shaken = one(here(a_build=[10_000] * 19 + [80_000]), "a:build").p50_ms
    assert shaken < 1.4 * calm


def test_a_task_with_few_samples_is_given_more_room() -> None:
    found = one(here(a_build=[10_000], b_build=[10_000]), "a:build")
    assert found.p90_ms > 1.2 * found.p50_ms


@settings(deadline=None)
@given(st.integers(1, DURATION_MS_MAX), st.integers(1, DURATION_MS_MAX))
def test_the_more_samples_the_further_from_the_prior(own_ms: int, others_ms: int) -> None:
    def distance(count: int) -> float:
        observed = {(TaskId(f"p{number}:build"), HERE): [others_ms] * 5 for number in range(10)}
        observed[TaskId("own:build"), HERE] = [own_ms] * count
        return abs(math.log(one(observed, "own:build").p50_ms) - math.log(own_ms))

    rounding = math.log(1.5)  # of 1 ms and 2 ms
    far = [distance(count) for count in range(1, 21)]
    assert all(later <= earlier + rounding for earlier, later in pairwise(far))
    prior = abs(math.log(others_ms) - math.log(own_ms))
    if prior > 3 and min(own_ms, others_ms) > 1_000:
        assert 0.02 * prior < far[0] < 0.6 * prior
        assert far[-1] < far[0] / 3


@settings(deadline=None)
@given(series.filter(bool), st.data())
def test_no_longer_sample_makes_a_shorter_estimate(
    observed: dict[tuple[TaskId, str], list[int]], data: st.DataObject
) -> None:
    key = data.draw(st.sampled_from(sorted(observed)))
    place = data.draw(st.integers(0, len(observed[key]) - 1))
    longer = list(observed[key])
    longer[place] = data.draw(st.integers(longer[place], DURATION_MS_MAX))
    before, after = estimates(observed, TASKS, HERE), estimates({**observed, key: longer}, TASKS, HERE)
    slack = 1e-9  # of floating point, before it is rounded to whole milliseconds
    for task in TASKS:
        assert after[task].p50_ms >= math.floor(before[task].p50_ms * (1 - slack))
        assert after[task].p90_ms >= math.floor(before[task].p90_ms * (1 - slack))


@settings(deadline=None)
@given(series.filter(bool))
def test_no_estimate_is_outside_what_was_seen_and_guessed(observed: dict[tuple[TaskId, str], list[int]]) -> None:
    longest = max(1_000, *(duration for found in observed.values() for duration in found))
    shortest = min(1_000, *(duration for found in observed.values() for duration in found))
    for task, found in estimates(observed, TASKS, HERE).items():
        assert 1 <= found.p50_ms <= found.p90_ms
        assert shortest - 1 <= found.p50_ms <= longest + 1
        assert found.p90_ms <= 4 * longest + 1
        assert found.samples == len(observed.get((task, HERE), ()))


@settings(deadline=None)
@given(series, st.randoms(use_true_random=False))
def test_the_order_in_which_tasks_come_does_not_matter(
    observed: dict[tuple[TaskId, str], list[int]], chance: random.Random
) -> None:
    items = list(observed.items())
    chance.shuffle(items)
    once, again = estimates(observed, TASKS, HERE), estimates(dict(items), TASKS[::-1], HERE)
    for task, found in once.items():
        assert abs(again[task].p50_ms - found.p50_ms) <= 1 + found.p50_ms // 10**9
        assert abs(again[task].p90_ms - found.p90_ms) <= 1 + found.p90_ms // 10**9
