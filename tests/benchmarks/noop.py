"""What the mesh itself costs: tasks that do nothing, over two agents with two slots each, all real processes in clones of their own.

    python -m tests.benchmarks.noop [--tasks 2000] [--chain 200] [--runs 5] [--no-dask]

prints one JSON line. `tasks_per_s` and `ms_per_task` are medians of the time from the first award to the verdict, so that meeting is not in them
(`makespan_ms` has it in). `main_cpu_ms` and `agents_cpu_ms` are what these processes took of the processors, their start and the tasks included, and can be
compared on a busy machine too. `chain` is the same for tasks that wait for each other. Every run has new processes, a new store and no cache.

Between these runs Dask distributed does the same (`dask_side.py`), from the start of its first task to its last result; `ratios` are of the medians.

`award_to_start_ms` is how long the leader's award is on its way until the process runs, to an agent that is idle: each task of a chain prints the time,
and what a bare process needs for that is taken off. The award's own time is the sum of two that are known to the millisecond below, so that what is told is too
long, never too short: by `rounding` on average, which is not taken off.
"""

import argparse
import json
import os
import platform
import resource
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.benchmarks import apart

AGENTS = 2
SLOTS = 2
PATIENCE_S = 300
ROUNDING_MS = 1.0
DASK = "distributed==2026.8.0"
TRUE = ("/bin/true",)
CLOCK = ("/bin/date", "+%s%N")
"""Prints the time in nanoseconds."""


def task_file(count: int, *, chain: bool, command: Sequence[str]) -> str:
    """`count` tasks that run `command`, side by side or one behind the other; `all` waits for them."""
    words = json.dumps(list(command))
    lines = ["[defaults]", "cache = false", "inputs = []", ""]
    for number in range(count):
        lines += [f"[tasks.t{number}]", f"command = {words}"]
        lines += [f'deps = ["t{number - 1}"]'] if chain and number else []
    last = f'"t{count - 1}"' if chain else ", ".join(f'"t{number}"' for number in range(count))
    return "\n".join([*lines, "[tasks.all]", f"command = {words}", f"deps = [{last}]", ""])


def git(where: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *arguments], cwd=where, check=True, stdin=subprocess.DEVNULL)


def environment(place: Path, name: str, secret: str) -> dict[str, str]:
    """A machine of its own, as far as one process can tell: HOME, data, and nothing of the caller's mesh."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("DTE_", "NX_", "PYTHON"))}
    home = place / f"home-{name}"
    home.mkdir()
    return {**kept, "HOME": str(home), "DTE_DATA_DIR": str(home / "data"), "DTE_SECRET": secret, "DTE_RUN_ID": "bench"}


def measured(report: Mapping[str, object], count: int) -> dict[str, float]:
    """What one run's `--json` says."""
    tasks = report["tasks"]
    assert report["verdict"] == "success", report["notices"]
    assert isinstance(tasks, list)
    assert len(tasks) == count + 1
    assert all(task["where"] != "main" for task in tasks), "the main job ran tasks itself"
    makespan_ms = report["makespan_ms"]
    assert isinstance(makespan_ms, int)
    work_ms = max(1, makespan_ms - min(task["awarded_ms"] for task in tasks))
    return {"work_ms": work_ms, "makespan_ms": makespan_ms, "tasks_per_s": round(len(tasks) * 1000 / work_ms, 1)}


def children_cpu_ms() -> int:
    """What the processes that have ended and been waited for, and theirs, have taken of the processors."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return round((used.ru_utime + used.ru_stime) * 1000)


def prepared(place: Path, count: int, *, chain: bool, command: Sequence[str] = TRUE) -> Path:
    """A repository with `count` tasks, and a clone of it for each agent; returns the main job's."""
    main = place / "main"
    main.mkdir()
    (main / "dte.toml").write_text(task_file(count, chain=chain, command=command))
    git(main, "init", "--quiet")
    git(main, "add", "--all")
    git(main, "commit", "--quiet", "--message", "Tasks that do nothing")
    for number in range(AGENTS):
        git(place, "clone", "--quiet", str(main), str(place / f"agent-{number}"))
    return main


def one_run(place: Path, count: int, *, chain: bool, command: Sequence[str] = TRUE) -> dict[str, float]:
    """One run of `count` tasks, in the empty directory `place`; leaves `report.json` there."""
    secret = secrets.token_hex(32)
    main = prepared(place, count, chain=chain, command=command)
    meet = ["--rendezvous", str(place / "meet"), "--listen", "127.0.0.1:0", "--slots"]
    report = place / "report.json"
    with ExitStack() as stack:
        for number in range(AGENTS):
            clone = place / f"agent-{number}"
            agent = subprocess.Popen(
                [sys.executable, "-m", "mesh", "join", *meet, str(SLOTS), "--name", clone.name],
                cwd=clone,
                env=environment(place, clone.name, secret),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
            stack.callback(agent.wait)
            stack.callback(agent.terminate)
        before_ms = children_cpu_ms()
        subprocess.run(
            [sys.executable, "-m", "mesh", "run", *meet, "1", "--json", str(report), "all"],
            cwd=main,
            env=environment(place, "main", secret),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=PATIENCE_S,
        )
        main_ms = children_cpu_ms() - before_ms
    agents_ms = children_cpu_ms() - before_ms - main_ms
    return {**measured(json.loads(report.read_text()), count), "main_cpu_ms": main_ms, "agents_cpu_ms": agents_ms}


def noop_run(count: int, *, chain: bool) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="dte-bench-") as name:
        return one_run(Path(name), count, chain=chain)


def award_to_start_ms(count: int) -> dict[str, float]:
    """From award to a process that runs, beyond what a bare process takes, over a chain of `count`."""
    with tempfile.TemporaryDirectory(prefix="dte-bench-") as name:
        place = Path(name)
        one_run(place, count, chain=True, command=CLOCK)
        report = json.loads((place / "report.json").read_text())
        blobs = place / "home-main" / "data" / "blobs" / "sha256"
        spawn_ms = statistics.median(bare_spawn_ms() for _ in range(50))
        took = []
        for task in report["tasks"]:
            digest = task["log_digest"].removeprefix("sha256:")
            ran_ms = int((blobs / digest[:2] / digest).read_text()) / 1e6
            took.append(ran_ms - (report["started_ms"] + task["awarded_ms"]) - spawn_ms)
    percentiles = statistics.quantiles(took, n=100, method="inclusive")
    told = {"p50": percentiles[49], "p99": percentiles[98], "rounding": ROUNDING_MS, "spawn": spawn_ms}
    return {name: round(value, 2) for name, value in told.items()}


def bare_spawn_ms() -> float:
    began = time.time_ns()
    printed = subprocess.run(CLOCK, capture_output=True, check=True, stdin=subprocess.DEVNULL).stdout
    return (int(printed) - began) / 1e6


def dask_run(python: Path, tasks: int, chain: int) -> dict[str, float]:
    side = Path(__file__).with_name("dask_side.py")
    before_ms = children_cpu_ms()
    ran = subprocess.run([python, side, str(tasks), str(chain)], capture_output=True, check=True, timeout=PATIENCE_S)
    return {**json.loads(ran.stdout), "cpu_ms": children_cpu_ms() - before_ms}


def summary(runs: list[dict[str, float]], tasks: int) -> dict[str, object]:
    """Medians, and what they are medians of."""
    work_ms = statistics.median(run["work_ms"] for run in runs)
    return {
        "tasks": tasks,
        "tasks_per_s": round(tasks * 1000 / work_ms, 1),
        "ms_per_task": round(work_ms / tasks, 2),
        "median": {key: statistics.median(run[key] for run in runs) for key in runs[0]},
        "runs": runs,
    }


def beside(
    ours: dict[str, object], chain: dict[str, object], dask: list[dict[str, float]], tasks: int, links: int
) -> dict[str, object]:
    """Dask's medians per task, and how ours compare."""
    wide_ms = statistics.median(run["wide_ms"] for run in dask) / tasks
    chain_ms = statistics.median(run["chain_ms"] for run in dask) / links
    return {
        "dask": {"tasks_per_s": round(1000 / wide_ms, 1), "chain_ms_per_task": round(chain_ms, 2), "runs": dask},
        "ratios": {
            "tasks_per_s": round(float(str(ours["tasks_per_s"])) * wide_ms / 1000, 2),
            "chain_ms_per_task": round(float(str(chain["ms_per_task"])) / chain_ms, 2),
        },
    }


def machine() -> dict[str, object]:
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--chain", type=int, default=200)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--no-dask", action="store_true", help="do not install and run Dask beside")
    options = parser.parse_args()
    python = None if options.no_dask else apart.python_in(apart.home_of(DASK))
    wide, chain, dask = [], [], []
    # In turns, so that a disturbance of the machine touches all.
    for _ in range(max(1, options.runs)):
        wide.append(noop_run(options.tasks, chain=False))
        chain.append(noop_run(options.chain, chain=True))
        if python is not None:
            dask.append(dask_run(python, options.tasks, options.chain))
    ours, links = summary(wide, options.tasks + 1), summary(chain, options.chain + 1)
    told = {"bench": "noop", **ours, "chain": links}
    if dask:
        told |= beside(ours, links, dask, options.tasks, options.chain)
    told |= {
        "award_to_start_ms": award_to_start_ms(options.chain),
        "agents": AGENTS,
        "slots": SLOTS,
        "machine": machine(),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
