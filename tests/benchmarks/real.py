"""Does the simulator tell the truth? A graph of tasks that sleep, once in `dte sim --graph` and once by eight agents with one slot each, all real processes.

    python -m tests.benchmarks.real [--seeds 3] [--seconds 20]

prints one JSON line: both makespans of each graph and their ratio. Nobody knows durations beforehand, on either side. All tasks stand behind one that runs
until every agent has joined; time counts from its end. `seconds` is about how long a graph takes with all slots busy.
"""

import argparse
import json
import random
import secrets
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.benchmarks.noop import PATIENCE_S, environment, git, machine

AGENTS = 8
GATE = "gate"
GATE_MS = 8_000
LAYERS = 6


def graph(seed: int, seconds: int) -> list[dict[str, object]]:
    """Layers of tasks as in a monorepo: most behind one or two of the layer before, durations lognormal around half a second."""
    dice = random.Random(seed)
    tasks: list[dict[str, object]] = [{"id": GATE, "deps": [], "duration_ms": GATE_MS}]
    before: list[str] = [GATE]
    left_ms = seconds * 1000 * AGENTS
    for layer in range(LAYERS):
        names: list[str] = []
        until_ms = left_ms * (LAYERS - 1 - layer) // (LAYERS - layer)
        while left_ms > until_ms:
            duration_ms = round(min(5_000, max(100, dice.lognormvariate(6.5, 0.8))))
            left_ms -= duration_ms
            names.append(f"layer{layer}-{len(names)}")
            deps = sorted(dice.sample(before, min(len(before), dice.choice((1, 1, 2)))))
            tasks.append({"id": names[-1], "deps": deps, "duration_ms": duration_ms})
        before = names
    return tasks


def task_file(tasks: list[dict[str, object]]) -> str:
    lines = ["[defaults]", "cache = false", "inputs = []", ""]
    for task in tasks:
        duration_ms = task["duration_ms"]
        assert isinstance(duration_ms, int)
        lines += [
            f"[tasks.{task['id']}]",
            f'command = ["sleep", "{duration_ms / 1000}"]',
            f"deps = {json.dumps(task['deps'])}",
        ]
    return "\n".join([*lines, ""])


def makespan_ms(report: dict[str, object]) -> int:
    """From the end of the gate to the end of the last task."""
    tasks = report["tasks"]
    assert report["verdict"] == "success"
    assert isinstance(tasks, list)
    gate = next(task for task in tasks if task["id"] == GATE)
    return max(task["ended_ms"] for task in tasks) - gate["ended_ms"]


def simulated_ms(tasks: list[dict[str, object]], place: Path) -> int:
    scenario, report = place / "graph.json", place / "simulated.json"
    agents = [{"name": f"agent-{number}", "slots": 1} for number in range(AGENTS)]
    scenario.write_text(json.dumps({"version": 1, "tasks": tasks, "agents": agents}))
    subprocess.run(
        [sys.executable, "-m", "mesh", "sim", "--graph", str(scenario), "--json", str(report)],
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=PATIENCE_S,
    )
    return makespan_ms(json.loads(report.read_text()))


def real_ms(tasks: list[dict[str, object]], place: Path) -> int:
    secret = secrets.token_hex(32)
    main = place / "main"
    main.mkdir()
    (main / "dte.toml").write_text(task_file(tasks))
    git(main, "init", "--quiet")
    git(main, "add", "--all")
    git(main, "commit", "--quiet", "--message", "Tasks that sleep")
    meet = ["--rendezvous", str(place / "meet"), "--listen", "127.0.0.1:0"]
    report = place / "report.json"
    with ExitStack() as stack:
        for number in range(AGENTS):
            clone = place / f"agent-{number}"
            git(place, "clone", "--quiet", str(main), str(clone))
            agent = subprocess.Popen(
                [sys.executable, "-m", "mesh", "join", *meet, "--slots", "1", "--name", clone.name],
                cwd=clone,
                env=environment(place, clone.name, secret),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
            stack.callback(agent.wait)
            stack.callback(agent.terminate)
        subprocess.run(
            [sys.executable, "-m", "mesh", "run", *meet, "--json", str(report), *(str(task["id"]) for task in tasks)],
            cwd=main,
            env=environment(place, "main", secret),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=PATIENCE_S,
        )
    told = json.loads(report.read_text())
    gate = next(task for task in told["tasks"] if task["id"] == GATE)
    late = [agent["name"] for agent in told["agents"] if agent["joined_ms"] > gate["ended_ms"]]
    assert len(told["agents"]) == AGENTS, told["agents"]
    assert not late, f"{late} joined when the tasks were under way"
    return makespan_ms(told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=20)
    options = parser.parse_args()
    runs = []
    for seed in range(max(1, options.seeds)):
        tasks = graph(seed, options.seconds)
        with tempfile.TemporaryDirectory(prefix="dte-bench-") as name:
            simulated, real = simulated_ms(tasks, Path(name)), real_ms(tasks, Path(name))
        ratio = round(real / simulated, 3)
        runs.append({"tasks": len(tasks), "simulated_ms": simulated, "real_ms": real, "ratio": ratio})
    ratio = statistics.median(run["ratio"] for run in runs)
    print(json.dumps({"bench": "real", "ratio": ratio, "runs": runs, "agents": AGENTS, "machine": machine()}))


if __name__ == "__main__":
    main()
