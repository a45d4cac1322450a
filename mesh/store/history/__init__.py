"""How long tasks took on this machine and on others, so that a bid is better than a guess from a run's first task on.

    samples    what was measured, and what is worth keeping      place      which workspace this is, which class of machine
    estimates  samples in, expected durations out (pure)         portable   samples as one small file, for CI caches
    database   samples in SQLite, for all processes of a user    nx         samples out of nx's own task history

A history is a convenience. Whatever is wrong with it is told in one sentence, `History.notice`, and no run ends because of it.
"""

from mesh.store.history.database import History
from mesh.store.history.estimates import Estimate
from mesh.store.history.nx import seed_from_nx
from mesh.store.history.place import workspace_id
from mesh.store.history.portable import decode, encode
from mesh.store.history.samples import Sample, unix_now

__all__ = [
    "Estimate",
    "History",
    "Sample",
    "decode",
    "encode",
    "seed_from_nx",
    "unix_now",
    "workspace_id",
]
