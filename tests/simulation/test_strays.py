"""What one task leaves and does not declare is on one machine: no run is red for that which would be green on one machine, by seed."""

import random

import pytest

from mesh.sim.cluster import Cluster
from mesh.sim.faults import Faults
from mesh.sim.workload import random_graph


def live(seed, **faults):
    dice = random.Random(seed)
    cluster = Cluster(seed, agents=4, graph=random_graph(dice, 40), faults=Faults(strays=1, **faults))
    life = cluster.run()
    assert life.problems == ()
    return cluster, life


@pytest.mark.parametrize("seed", range(30))
def test_what_needs_the_stray_files_of_one_task_passes_where_they_are(seed):
    cluster, _ = live(seed)
    ((where, *_),) = cluster.strays.values()
    leader = cluster.machines[cluster.main].node.leader
    for task, status in cluster.checkers.status.items():
        bound = cluster.graph.tasks[task].where == "main" or cluster.graph.tasks[task].allow_failure
        behind = bound or any(
            leader.market.tasks[dep].stops for dep in leader.market.upstream(leader.market.tasks[task])
        )
        assert status == "success" or behind or where in leader.surplus.released


@pytest.mark.parametrize("seed", range(10))
def test_stray_files_beside_other_faults_leave_no_run_hanging(seed):
    live(seed, kills=1, cuts=3, late=1, leaves=1, fetch_fails_permille=20, task_fails_permille=50, broken=seed % 2)
