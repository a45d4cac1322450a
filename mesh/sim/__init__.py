"""A whole mesh in one thread, from one seed: the same core as in a real run, under faults, with checkers for what must always hold."""

from mesh.sim.cluster import Cluster, Life, live
from mesh.sim.faults import Faults
from mesh.sim.workload import random_graph

__all__ = ["Cluster", "Faults", "Life", "live", "random_graph"]
