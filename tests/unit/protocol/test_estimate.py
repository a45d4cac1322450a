"""What a task takes and how fast an agent is: bids are split into both, and what nobody knows is learnt from what is like it."""

import hashlib
import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.protocol.estimate import GUESS_MS, MOMENT_MS, Forecast, family, sample, usual
from mesh.types import NodeId, Quantiles, TaskId

A, B, C = NodeId("a"), NodeId("b"), NodeId("c")
TASKS = [TaskId(f"p{number}:build") for number in range(100)]


def learnt(*durations_ms, task="lib:build"):
    forecast = Forecast()
    for number, duration_ms in enumerate(durations_ms):
        forecast.learn(TaskId(f"{number}{task}"), A, duration_ms)
    return forecast


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("p1:build", ("p1", "build")),
        ("p1:build:production", ("p1", "build")),
        ("x:test/3", ("x", "test")),
        ("x:e2e-ci--src/a.spec.ts", ("x", "e2e-ci")),
        ("lint", ("", "lint")),
        ("mProject_00012", ("", "mProject")),
        ("42", ("", "42")),
    ],
)
def test_a_task_belongs_to_a_project_and_a_target_whatever_else_its_id_says(task, expected):
    assert family(TaskId(task)) == expected


@given(count=st.integers(1, 300), most=st.integers(1, 80), node=st.integers(0, 2**256 - 1))
def test_a_sample_has_one_task_of_each_stretch_of_the_graph(count, most, node):
    estimates = {TaskId(f"p{number}:build"): usual(number) for number in range(count)}
    found = sample(estimates, most, NodeId(f"{node:064x}"))
    assert found.items() <= estimates.items()
    assert len(found) <= most
    numbers = [-1, *(estimate.p50_ms for estimate in found.values()), count]
    assert all(later - earlier <= 2 * -(-count // most) for earlier, later in itertools.pairwise(numbers))


def test_many_nodes_samples_have_all_tasks():
    estimates = dict.fromkeys(TASKS, usual(5_000))
    nodes = [NodeId(hashlib.sha256(bytes([number])).hexdigest()) for number in range(100)]
    assert {task for node in nodes for task in sample(estimates, 10, node)} == set(TASKS)


def test_where_all_are_wanted_all_are_said():
    estimates = dict.fromkeys(TASKS, usual(5_000))
    assert sample(estimates, 0, A) == sample(estimates, len(TASKS), A) == estimates


def test_nothing_is_known_before_anything_was_seen():
    forecast = Forecast()
    assert forecast.duration_ms(TaskId("app:build")) == GUESS_MS
    assert forecast.speed(A) == 1


def test_a_task_that_nobody_knows_is_like_others_of_its_target():
    forecast = learnt(*[10_000] * 20)
    assert forecast.duration_ms(TaskId("new:build")) == pytest.approx(10_000, rel=0.1)


def test_and_like_others_of_its_project():
    forecast = Forecast()
    for number in range(20):
        forecast.learn(TaskId(f"p{number}:build"), A, 1_000)
        forecast.learn(TaskId(f"p{number}:lint"), A, 1_000)
    forecast.learn(TaskId("big:build"), A, 8_000)
    assert forecast.duration_ms(TaskId("big:lint")) > 2 * forecast.duration_ms(TaskId("small:lint"))


def test_what_is_known_of_a_task_counts_before_what_is_known_of_its_like():
    forecast = learnt(*[10_000] * 20)
    forecast.bid(B, {TaskId("app:build"): usual(500)})
    assert forecast.duration_ms(TaskId("app:build")) == 500


def test_a_task_that_takes_no_time_or_less_takes_a_millisecond():
    forecast = Forecast()
    forecast.bid(A, {TaskId("app:build"): usual(0)})
    forecast.learn(TaskId("app:build"), A, -5_000)
    assert forecast.duration_ms(TaskId("app:build")) == 1


def bids(sigma, **speeds):
    """What agents of these speeds bid for a hundred tasks of ten seconds, each off by `sigma`."""
    dice, forecast = random.Random(1), Forecast()
    for name, speed in speeds.items():
        said = {task: usual(round(10_000 / speed * dice.lognormvariate(0, sigma))) for task in TASKS}
        forecast.bid(NodeId(name), said)
    return forecast


def test_agents_that_bid_alike_are_equally_fast_however_noisy_each_bid_is():
    forecast = bids(0.3, a=1, b=1, c=1)
    assert forecast.speed(B) == pytest.approx(1, rel=0.1)
    assert forecast.speed(C) == pytest.approx(1, rel=0.1)


def test_an_agent_that_bids_half_as_much_for_everything_is_about_twice_as_fast():
    forecast = bids(0.3, a=1, b=2)
    assert 1.7 < forecast.speed(B) / forecast.speed(A) < 2.1
    assert forecast.duration_ms(TASKS[0]) == pytest.approx(10_000, rel=0.7)


@pytest.mark.parametrize("speed", [0.25, 4])
def test_an_agent_that_is_four_times_as_fast_or_slow_is_known_for_it_before_it_has_run_anything(speed):
    forecast = bids(0.3, a=1, b=speed)
    assert forecast.speed(B) / forecast.speed(A) == pytest.approx(speed, rel=0.15)


def test_who_bids_first_is_no_more_moved_by_a_straggler_than_others():
    forecast = bids(0.1, a=1, b=1, c=2)
    forecast.learn(TASKS[0], A, 80_000)
    assert forecast.speed(A) > 0.9


def test_one_bid_that_differs_says_little_of_its_agent():
    forecast = Forecast()
    forecast.bid(A, {TASKS[0]: usual(10_000)})
    forecast.bid(B, {TASKS[0]: usual(5_000)})
    assert 1 < forecast.speed(B) < 1.5


def test_many_opinions_make_a_better_estimate_than_one():
    one, many = bids(0.3, a=1), bids(0.3, **{f"a{number}": 1 for number in range(16)})

    def error(forecast):
        return sum(abs(forecast.duration_ms(task) - 10_000) for task in TASKS)

    assert error(many) < error(one) / 2


def test_what_runs_show_moves_a_speed_and_one_straggler_does_not_move_it_far():
    forecast = bids(0.1, a=1, b=1)
    for task in TASKS[:30]:
        forecast.learn(task, B, 5_000)
    assert forecast.speed(B) > 1.4
    forecast = bids(0.1, a=1, b=1)
    forecast.learn(TASKS[0], B, 80_000)
    assert forecast.speed(B) > 0.8


@pytest.mark.parametrize(("speed", "low", "high"), [(1, 0.95, 1.05), (2, 1.25, 2)])
def test_without_history_equal_agents_are_soon_taken_for_equal_and_others_are_told_apart(speed, low, high):
    dice, forecast = random.Random(0), Forecast()
    agents = [NodeId(f"a{number}") for number in range(16)]
    for number in range(320):
        duration_ms = 10_000 * dice.lognormvariate(0, 0.8) / speed ** (number % 2)
        forecast.learn(TaskId(f"p{number}:build"), agents[number % 16], round(duration_ms))
    slow, fast = ([forecast.speed(node) for node in agents[first::2]] for first in (0, 1))
    assert low < sum(fast) / sum(slow) < high
    assert max(slow) / min(slow) < 1.3


def test_what_all_agents_are_off_by_is_no_agents_speed():
    forecast = Forecast()
    for number in range(60):
        # Each task takes longer than those before it would let anybody expect, wherever it runs.
        forecast.learn(TaskId(f"p{number}:build"), (A, B, C)[number % 3], round(1_000 * 1.1**number))
    assert [forecast.speed(node) for node in (A, B, C)] == [1, 1, 1]


def test_a_duration_is_sure_where_it_is_known_or_where_its_like_are_short_and_alike():
    alike, unlike, long = learnt(*[90] * 20), learnt(*[10, 200] * 10), learnt(*[10_000] * 20)
    new = TaskId("new:build")
    assert [found.is_sure(new) for found in (Forecast(), alike, unlike, long)] == [False, True, False, False]
    unlike.bid(B, {new: usual(500)})
    assert unlike.is_sure(new)


def test_what_is_known_is_overdue_after_half_as_long_again():
    assert bids(0, a=1).overdue_ms(TASKS[0]) == 15_000


def told(p50_ms, p90_ms, task=TASKS[0]):
    forecast = Forecast()
    forecast.bid(A, {task: Quantiles(p50_ms, p90_ms)})
    return forecast


def test_what_varies_from_run_to_run_is_overdue_when_nine_of_ten_times_it_is_over():
    assert told(10_000, 40_000).overdue_ms(TASKS[0]) == pytest.approx(40_000, rel=0.01)
    assert told(10_000, 11_000).overdue_ms(TASKS[0]) == 15_000


def test_what_is_steady_is_slow_soon_and_nothing_later_than_after_half_as_long_again():
    steady, known, varying = (told(10_000, p90_ms).slow_ms(TASKS[0]) for p90_ms in (10_500, 15_000, 40_000))
    assert steady < 12_500 < known == varying == 15_000


def test_that_many_agree_on_a_task_that_varies_does_not_make_it_steady():
    forecast = Forecast()
    for number in range(16):
        forecast.bid(NodeId(f"a{number}"), {TASKS[0]: Quantiles(10_000, 40_000)})
    assert forecast.overdue_ms(TASKS[0]) == pytest.approx(40_000, rel=0.01)


def test_who_knows_a_task_well_counts_for_more_than_who_guesses():
    forecast = told(1_000, 8_000)
    forecast.bid(B, {TASKS[0]: usual(10_000)})
    assert forecast.duration_ms(TASKS[0]) > 8_000
    assert forecast.is_sure(TASKS[0])
    assert 15_000 < forecast.overdue_ms(TASKS[0]) < 25_000


def slow_day(factor, sigma=0.0, tasks=50):
    """Two agents that know each task to take ten seconds, and a run that shows other durations."""
    dice, forecast = random.Random(3), bids(0, a=1, b=1)
    for number, task in enumerate(TASKS[:tasks]):
        forecast.learn(task, (A, B)[number % 2], round(10_000 * factor * dice.lognormvariate(0, sigma)))
    return forecast


def test_where_everything_takes_longer_today_no_task_is_slow_for_taking_as_long_as_the_others():
    today, first = slow_day(2), slow_day(2, tasks=1)
    assert 20_000 < today.slow_ms(TASKS[99]) < today.overdue_ms(TASKS[99]) < 35_000
    assert first.overdue_ms(TASKS[99]) < 17_500  # one straggler is no slow day


@pytest.mark.parametrize("factor", [0.5, 1, 1.3, 1.7, 3])
@pytest.mark.parametrize("sigma", [0, 0.3])
def test_a_task_is_slow_before_it_is_overdue_whatever_the_day(factor, sigma):
    today = slow_day(factor, sigma)
    for p90_ms in (10_000, 12_000, 15_000, 40_000):
        today.bid(C, {TaskId(f"{p90_ms}:e2e"): Quantiles(10_000, p90_ms)})
        assert today.slow_ms(TaskId(f"{p90_ms}:e2e")) <= today.overdue_ms(TaskId(f"{p90_ms}:e2e"))


def test_where_everything_is_faster_today_or_as_known_a_task_is_overdue_after_half_as_long_again():
    assert slow_day(0.5).overdue_ms(TASKS[99]) == slow_day(1).overdue_ms(TASKS[99]) == 15_000


def test_where_what_was_known_turns_out_to_be_far_off_a_task_is_overdue_later():
    assert slow_day(1, sigma=0.1).overdue_ms(TASKS[99]) == pytest.approx(15_000, rel=0.03)
    assert 16_500 < slow_day(1, sigma=0.4).overdue_ms(TASKS[99]) < 24_000


def test_stragglers_do_not_make_others_overdue_later():
    forecast = slow_day(1, sigma=0.05)
    for task in TASKS[50:54]:
        forecast.learn(task, A, 80_000)
    assert forecast.overdue_ms(TASKS[99]) == pytest.approx(15_000, rel=0.03)


def test_what_an_agent_only_guesses_does_not_say_when_its_slot_will_be_free():
    assert told(10_000, 18_000).is_sure(TASKS[0])
    assert not told(10_000, 20_000).is_sure(TASKS[0])
    assert told(20, 100).is_sure(TASKS[0])


def test_an_execution_of_a_task_that_varies_says_less_of_its_agent_s_speed():
    speeds = []
    for p90_ms in (14_700, 40_000):
        forecast = Forecast()
        for node in (A, B):
            forecast.bid(node, dict.fromkeys(TASKS, Quantiles(10_000, p90_ms)))
        for task in TASKS[:8]:
            forecast.learn(task, B, 5_000)
        speeds.append(forecast.speed(B))
    assert speeds[0] > speeds[1] >= 1


def test_what_is_only_like_others_is_overdue_the_later_the_less_these_are_alike():
    alike = learnt(*[10_000] * 30).overdue_ms(TaskId("new:build"))
    unlike = learnt(*[2_500, 40_000] * 15).overdue_ms(TaskId("new:build"))
    assert 14_000 <= alike < 30_000 < unlike


def test_what_takes_a_moment_is_known_by_the_task_itself_or_by_others_of_its_target():
    seen = learnt(*[2] * 20)
    assert seen.takes_a_moment(TaskId("new:build"))
    assert seen.duration_ms(TaskId("new:other")) <= MOMENT_MS
    assert not seen.takes_a_moment(TaskId("new:other"))
    told = Forecast()
    told.bid(A, {TaskId("short"): usual(MOMENT_MS), TaskId("long"): usual(MOMENT_MS + 1)})
    assert told.takes_a_moment(TaskId("short"))
    assert not told.takes_a_moment(TaskId("long"))
