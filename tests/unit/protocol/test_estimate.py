"""Durations from what was seen so far: the nearest experience counts, skew does not, and only news is told."""

from mesh.protocol.estimate import Estimator, lookup_ms
from mesh.types import TaskId

BUILD, OTHER, TEST = TaskId("app:build"), TaskId("lib:build"), TaskId("app:test")


def learnt(*durations_ms, task=BUILD):
    estimator = Estimator()
    for duration_ms in durations_ms:
        estimator.learn(task, duration_ms)
    return estimator


def test_nothing_is_known_before_anything_was_seen():
    assert Estimator().estimate_ms(BUILD) is None


def test_a_task_is_estimated_by_itself_else_by_its_target_else_by_everything():
    estimator = learnt(1_000)
    estimator.learn(TEST, 9_000)
    assert estimator.estimate_ms(BUILD) == 1_000
    assert estimator.estimate_ms(OTHER) == 1_000
    assert estimator.estimate_ms(TEST) == 9_000
    assert 1_000 < estimator.estimate_ms(TaskId("app:lint")) < 9_000


def test_one_slow_run_does_not_double_every_later_estimate():
    assert learnt(*[1_000] * 5, 8_000).estimate_ms(BUILD) < 2_000


def test_estimates_follow_a_lasting_change():
    assert learnt(1_000, *[8_000] * 10).estimate_ms(BUILD) > 7_000


def test_a_task_that_takes_no_time_or_less_takes_a_millisecond():
    assert learnt(0, -5_000).estimate_ms(BUILD) == 1


def test_targets_and_everything_are_told_and_tasks_are_not():
    assert learnt(1_000).changed_ms() == {"build": 1_000, "": 1_000}


def test_only_what_has_changed_by_more_than_a_quarter_is_told_again():
    estimator = learnt(1_000)
    estimator.changed_ms()
    assert estimator.changed_ms() == {}
    estimator.learn(BUILD, 1_100)
    assert estimator.changed_ms() == {}
    for _ in range(10):
        estimator.learn(BUILD, 4_000)
    assert estimator.changed_ms().keys() == {"build", ""}


def test_everything_is_told_again_to_who_may_have_forgotten():
    estimator = learnt(1_000)
    told = estimator.changed_ms()
    estimator.tell_all_again()
    assert estimator.changed_ms() == told


def test_a_bid_is_read_as_it_was_meant():
    estimates = {"app:build": 1, "build": 2, "": 3}
    assert [lookup_ms(estimates, task) for task in (BUILD, OTHER, TEST)] == [1, 2, 3]
    assert lookup_ms({}, BUILD) is None
