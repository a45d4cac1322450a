"""What the mesh itself costs: tasks that do nothing, over two agents with two slots each, all real processes in clones of their own.

    python tests/benchmarks/noop.py [--tasks 1000] [--chain 200] [--runs 5]

prints one JSON line. `tasks_per_s` and `ms_per_task` are medians of the time from the first award to the verdict, so that meeting is not in them
(`makespan_ms` has it in). `main_cpu_ms` and `agents_cpu_ms` are what these processes took of the processors, their start and the tasks included, and can be
compared on a busy machine too. `chain` is the same for tasks that wait for each other. Every run has new processes, a new store and no cache.
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
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

AGENTS = 2
SLOTS = 2
PATIENCE_S = 300


def task_file(count: int, *, chain: bool) -> str:
    """`count` tasks that run /bin/true, side by side or one behind the other; `all` waits for them."""
    lines = ["[defaults]", "cache = false", "inputs = []", ""]
    for number in range(count):
        lines += [f"[tasks.t{number}]", 'command = ["/bin/true"]']
        lines += [f'deps = ["t{number - 1}"]'] if chain and number else []
    last = f'"t{count - 1}"' if chain else ", ".join(f'"t{number}"' for number in range(count))
    return "\n".join([*lines, "[tasks.all]", 'command = ["/bin/true"]', f"deps = [{last}]", ""])


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


def prepared(place: Path, count: int, *, chain: bool) -> Path:
    """A repository with `count` tasks, and a clone of it for each agent; returns the main job's."""
    main = place / "main"
    main.mkdir()
    (main / "dte.toml").write_text(task_file(count, chain=chain))
    git(main, "init", "--quiet")
    git(main, "add", "--all")
    git(main, "commit", "--quiet", "--message", "Tasks that do nothing")
    for number in range(AGENTS):
        git(place, "clone", "--quiet", str(main), str(place / f"agent-{number}"))
    return main


def one_run(count: int, *, chain: bool, profile: Path | None = None) -> dict[str, float]:
    """One run of `count` tasks; with `profile` the main job's profile is written there."""
    secret = secrets.token_hex(32)
    with tempfile.TemporaryDirectory(prefix="dte-bench-") as name:
        place = Path(name)
        main = prepared(place, count, chain=chain)
        meet = ["--rendezvous", str(place / "meet"), "--listen", "127.0.0.1:0", "--slots"]
        python = [sys.executable, *(["-m", "cProfile", "-o", str(profile)] if profile is not None else [])]
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
                [*python, "-m", "mesh", "run", *meet, "1", "--json", str(report), "all"],
                cwd=main,
                env=environment(place, "main", secret),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                check=True,
                timeout=PATIENCE_S,
            )
            main_ms = children_cpu_ms() - before_ms
        agents_ms = children_cpu_ms() - before_ms - main_ms
        cpu = {"main_cpu_ms": main_ms, "agents_cpu_ms": agents_ms}
        return {**measured(json.loads(report.read_text()), count), **cpu}


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--chain", type=int, default=200)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--profile", type=Path, help="profile the main job of one more run into this file")
    options = parser.parse_args()
    # In turns, so that a disturbance of the machine touches both.
    pairs = [
        (one_run(options.tasks, chain=False), one_run(options.chain, chain=True)) for _ in range(max(1, options.runs))
    ]
    if options.profile is not None:
        one_run(options.tasks, chain=False, profile=options.profile.absolute())
    print(
        json.dumps(
            {
                "bench": "noop",
                **summary([wide for wide, _ in pairs], options.tasks + 1),
                "chain": summary([chain for _, chain in pairs], options.chain + 1),
                "agents": AGENTS,
                "slots": SLOTS,
                "machine": {
                    "cpus": len(os.sched_getaffinity(0)),
                    "load": os.getloadavg()[0],
                    "python": platform.python_version(),
                },
            }
        )
    )


if __name__ == "__main__":
    main()
