"""An agent whose machine is broken turns no run red that is well elsewhere, and no task that fails everywhere comes out green: by seed."""

import random

import pytest

from mesh.sim.cluster import Cluster
from mesh.sim.faults import Faults
from mesh.sim.workload import random_graph

SEEDS = range(12)


def live(seed, *, agents=4, tasks=40, **faults):
    dice = random.Random(seed)
    cluster = Cluster(seed, agents=agents, graph=random_graph(dice, tasks), faults=Faults(**faults))
    life = cluster.run()
    assert life.problems == ()
    return cluster, life


@pytest.mark.parametrize("seed", SEEDS)
def test_one_broken_agent_among_others_makes_no_run_red(seed):
    cluster, life = live(seed, broken=1)
    assert life.verdict == "success"
    # A failure that is allowed is not doubted: it costs nobody the run.
    others = [status for task, status in cluster.checkers.status.items() if not cluster.graph.tasks[task].allow_failure]
    assert set(others) <= {"success"}


@pytest.mark.parametrize("seed", SEEDS)
def test_what_fails_everywhere_stays_red_whether_an_agent_is_broken_or_not(seed):
    cluster, life = live(seed, broken=seed % 2, bad_permille=100)
    green = [task for task, status in cluster.checkers.status.items() if status == "success"]
    assert not set(cluster.bad) & set(green)
    behind = [task for task, status in cluster.checkers.status.items() if status == "failure"]
    other = [task for task in behind if task not in cluster.bad]
    assert all(cluster.graph.tasks[task].allow_failure for task in other), "nothing else has failed that matters"
    allowed = all(cluster.graph.tasks[task].allow_failure for task in behind)
    assert life.verdict == ("success" if allowed else "failure")


@pytest.mark.parametrize("seed", SEEDS)
def test_a_mesh_of_broken_agents_comes_to_a_red_end(seed):
    _, life = live(seed, agents=3, broken=3, tasks=20)
    assert life.verdict == "failure"


@pytest.mark.parametrize("seed", SEEDS)
def test_broken_agents_beside_other_faults_leave_no_run_hanging(seed):
    live(seed, broken=1, kills=1, cuts=3, late=1, leaves=1, fetch_fails_permille=20, task_fails_permille=50)
