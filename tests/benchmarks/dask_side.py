"""Dask's half of `noop.py`: the same tasks through its scheduler. Runs in an environment of its own, which has `distributed` and not dte.

    python tests/benchmarks/dask_side.py TASKS CHAIN

Two worker processes of two threads, each task `subprocess.run(["/bin/true"])`. Prints one JSON line: how long from the start of the first task until
the client had every result, for TASKS side by side and for a chain of CHAIN, each after the workers had run some tasks already.
"""

import json
import subprocess
import sys
import time

from distributed import Client, LocalCluster

WORKERS = 2
THREADS = 2
WARM_UP = 20


def noop(_before: float = 0.0) -> float:
    """The task; returns when it began."""
    began = time.time()
    subprocess.run(["/bin/true"], check=True)
    return began


def wide(client: Client, count: int) -> float:
    began = client.gather(client.map(noop, range(count), pure=False))
    return (time.time() - min(began)) * 1000


def chain(client: Client, count: int) -> float:
    links = [client.submit(noop, pure=False)]
    for _ in range(count - 1):
        links.append(client.submit(noop, links[-1], pure=False))
    began = client.gather(links)
    return (time.time() - min(began)) * 1000


def main() -> None:
    tasks, length = int(sys.argv[1]), int(sys.argv[2])
    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=THREADS, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        wide(client, WARM_UP)
        print(json.dumps({"wide_ms": round(wide(client, tasks)), "chain_ms": round(chain(client, length))}))


if __name__ == "__main__":
    main()
