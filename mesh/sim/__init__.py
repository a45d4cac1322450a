"""A whole mesh in one thread: the same core as in a real run, in simulated time.

`live` is a life under faults, from one seed, with checkers for what must always hold. `simulate` is a schedule: what the market makes of
given tasks, agents and estimates, where nothing goes wrong.
"""

from mesh.sim.cluster import Cluster, Life, live
from mesh.sim.faults import Faults
from mesh.sim.scenario import Scenario, SimAgent, SimTask, read_scenario
from mesh.sim.schedule import Execution, Schedule, simulate
from mesh.sim.workload import random_graph

__all__ = [
    "Cluster",
    "Execution",
    "Faults",
    "Life",
    "Scenario",
    "Schedule",
    "SimAgent",
    "SimTask",
    "live",
    "random_graph",
    "read_scenario",
    "simulate",
]
