"""How long `dte run -- turbo` goes on when its last task is done: results to bring, turbo's last words, and the mesh's end.

    python -m tests.benchmarks.turbo [--packages 4] [--runs 5]

prints one JSON line. A main job and two agents in three clones; each run has clones of its own, so that nothing is in a cache. `main_after_last_task_ms`
is the end of the main job's process less the end of the last task as its agent tells it, both by this machine's clock; beside it, the whole command, and
turbo alone with as many tasks at once. Medians.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.benchmarks.nx_machines import Mesh, about, median_ms, timed
from tests.turbo_workspace import TURBO_VERSION, Workspace, commit, make_workspace

COMMAND = ("run", "build", "test", "lint")
AGENTS = 2
WORK_MS = 500
"""Of each task, beyond what npm and node take: a run has to be longer than a main job waits for agents that come late."""


def workspace(place: Path, packages: int) -> Workspace:
    made = make_workspace(place / "workspace", packages)
    script = made.path / "tools/task.mjs"
    script.write_text(f"await new Promise((done) => setTimeout(done, {WORK_MS}));\n{script.read_text()}")
    commit(made.path)
    return made


def one_run(source: Workspace, place: Path, tasks: int) -> tuple[float, float]:
    """Milliseconds from the last task's end to the main job's, and seconds of the whole command."""
    place.mkdir()
    try:
        mesh = Mesh(place)
        clones = [source.clone(place / f"agent{number}") for number in range(AGENTS)]
        main = source.clone(place / "main")
        with ExitStack() as agents:
            for clone in clones:
                agents.enter_context(mesh.agent(clone, slots=1))
            seconds, report = mesh.run(main, *COMMAND)
            ended_ms = time.time() * 1000
        return ended_ms - _last_task_ms(report, tasks), seconds
    finally:
        shutil.rmtree(place)


def _last_task_ms(report: dict[str, Any], tasks: int) -> float:
    done = report["tasks"]
    assert len(done) == tasks
    assert all(task["where"].startswith("agent") for task in done), "not on the agents"
    return float(report["started_ms"] + max(task["ended_ms"] for task in done))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packages", type=int, default=4)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    tasks = options.packages * len(COMMAND[1:])
    alone: list[float] = []
    meshed: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory(prefix="dte-bench-") as name:
        place = Path(name)
        source = workspace(place, options.packages)
        for number in range(options.runs):
            plain = source.clone(place / f"plain-{number}")
            alone.append(timed(plain.command(*COMMAND, f"--concurrency={AGENTS}"), plain.path, plain.environment()))
            meshed.append(one_run(source, place / f"mesh-{number}", tasks))
    said = about()
    print(
        json.dumps(
            {
                "bench": "turbo",
                "tasks": tasks,
                "main_after_last_task_ms": round(statistics.median(after for after, _ in meshed), 1),
                "all_ms": median_ms([seconds for _, seconds in meshed]),
                "turbo_alone_all_ms": median_ms(alone),
                "runs": options.runs,
                "turbo_version": TURBO_VERSION,
                "machine": said["machine"],
            }
        )
    )


if __name__ == "__main__":
    main()
