"""What one nx task costs beyond its own script: nx alone, and the mesh with one agent, one task at a time on both sides.

    python -m tests.benchmarks.nx [--projects 20] [--runs 5]

prints one JSON line. Nx alone: (time of all tasks - time of one task) / (tasks - 1) - time of the bare script, so that nx's start is not in it. The mesh:
(end of the last task - first award) / tasks - time of the bare script, by the clock of the main job, results shown by nx or not; `all_ms` is the whole
command on both sides. Medians; the sides take turns. No result is taken from a cache.
"""

import argparse
import json
import shutil
import statistics
import tempfile
from pathlib import Path

from tests.benchmarks.nx_machines import TARGETS, Mesh, about, median_ms, timed, without_nx_cache, workspace
from tests.nx_workspace import Workspace

SCRIPT = "node tools/task.js lint"


def nx_alone(plain: Workspace, projects: str) -> float:
    without_nx_cache(plain)
    return timed(plain.command(*command(projects)), plain.path, plain.environment())


def with_one_agent(source: Workspace, place: Path, tasks: int) -> tuple[float, float]:
    """Seconds of the whole command, and milliseconds a task. Clones of their own: what the last run stored must not help."""
    place.mkdir()
    mesh = Mesh(place)
    try:
        main, agent = source.clone(place / "main"), source.clone(place / "agent")
        with mesh.agent(agent, slots=1):
            seconds, report = mesh.run(main, *command("*"))
        done = report["tasks"]
        assert isinstance(done, list)
        assert len(done) == tasks
        assert all(task["where"] == "agent" and task["cache"] == "none" for task in done), "not on the agent"
        work_ms = max(task["ended_ms"] for task in done) - min(task["awarded_ms"] for task in done)
        return seconds, work_ms / tasks
    finally:
        shutil.rmtree(place)


def command(projects: str) -> list[str]:
    return ["run-many", "-t", *(TARGETS if projects == "*" else TARGETS[:1]), f"--projects={projects}", "--parallel=1"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--projects", type=int, default=20)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    tasks = options.projects * len(TARGETS)
    script: list[float] = []
    one: list[float] = []
    alone: list[float] = []
    meshed: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory(prefix="dte-bench-") as name:
        place = Path(name)
        source = workspace(place, options.projects, SCRIPT)
        plain = source.clone(place / "plain")
        for number in range(options.runs):
            script += [timed(["sh", "-c", f"{SCRIPT} p0"], plain.path, plain.environment()) for _ in range(5)]
            one.append(nx_alone(plain, "p0"))
            alone.append(nx_alone(plain, "*"))
            meshed.append(with_one_agent(source, place / f"mesh-{number}", tasks))
    script_ms = median_ms(script)
    nx_ms = (median_ms(alone) - median_ms(one)) / (tasks - 1)
    dte_ms = statistics.median(each for _, each in meshed)
    print(
        json.dumps(
            {
                "bench": "nx",
                "tasks": tasks,
                "script_ms": script_ms,
                "nx": {"ms_per_task_beyond_script": round(nx_ms - script_ms, 1), "all_ms": median_ms(alone)},
                "dte": {
                    "ms_per_task_beyond_script": round(dte_ms - script_ms, 1),
                    "all_ms": median_ms([seconds for seconds, _ in meshed]),
                },
                "runs": options.runs,
                **about(),
            }
        )
    )


if __name__ == "__main__":
    main()
