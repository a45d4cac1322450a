"""Whole meshes under faults, one life for each seed: what was found once stays found, and the same seed is the same life everywhere."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mesh.sim import live

ROOT = Path(__file__).parents[2]

PAST = {
    # An award was taken back from the agent that was the best choice, and given to it again, for ever.
    "a_task_does_not_wander": (26, 40, 63, 75),
    # The run was stopped before its graph had been compared, so that no task was known.
    "a_stop_before_the_first_graph_is_a_proper_end": (232,),
    # An agent was taken for lost while a task ran, came back, and was awarded the same task: its result was of an attempt that nobody asked about.
    "what_runs_meets_a_newer_award": (527, 577, 718, 940, 1005, 1074, 1436),
    # Outputs were lost while a dependent ran; its agent died, and it was awarded again before they had been made again.
    "what_goes_back_waits_for_what_is_made_again": (7740,),
    # Between a new link and the hello over it, a task was awarded without the records that had been lost with the old link.
    "records_are_told_anew_before_the_first_award": (7891,),
    # Outputs were lost while a dependent ran, which was overdue meanwhile: its copy was started before they had been made again.
    "a_copy_waits_for_what_is_made_again": (1880,),
}
FRESH = 300


@pytest.mark.parametrize("seed", range(200))
def test_a_life_under_faults_holds_every_promise(seed):
    assert live(seed).problems == ()


@pytest.mark.parametrize(("rule", "seed"), [(rule, seed) for rule, seeds in PAST.items() for seed in seeds])
def test_a_seed_that_failed_once_holds_now(rule, seed):
    assert live(seed).problems == ()


@pytest.mark.parametrize(("agents", "tasks"), [(0, 0), (0, 30), (1, 0), (1, 1), (6, 1), (2, 200)])
def test_a_mesh_of_any_size_comes_to_its_verdict(agents, tasks):
    life = live(1, agents=agents, tasks=tasks)
    assert life.problems == ()
    assert life.tasks == tasks


def test_equal_seeds_are_equal_lives_and_others_are_others():
    assert live(3) == live(3)
    assert live(3).digest != live(4).digest


def sim(seed, lives, hash_seed):
    """What another process says of these seeds."""
    ran = subprocess.run(
        [sys.executable, "-m", "mesh", "sim", "--seed", str(seed), "--lives", str(lives), "--json", "-"],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout.splitlines()


def test_one_seed_is_one_life_in_every_process():
    told = [sim(11, 6, hash_seed) for hash_seed in ("0", "1", "31337")]
    assert len(told[0]) == 6
    assert told[0] == told[1] == told[2]


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_lives_that_nobody_has_seen_before_hold_every_promise():
    """The commit is the first seed: every change tries others, and each can be tried again."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    first = int(commit[:12], 16)
    lives = [live(seed) for seed in range(first, first + FRESH)]
    assert {life.seed: life.problems for life in lives if life.problems} == {}


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_two_thousand_lives_hold_every_promise():
    lives = [live(seed) for seed in range(200, 2_200)]
    assert {life.seed: life.problems for life in lives if life.problems} == {}
