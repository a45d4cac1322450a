"""What one nx task costs beyond its own script: nx alone, and the mesh with one agent, one task at a time on both sides.

    python -m tests.benchmarks.nx [--projects 20] [--runs 5]

prints one JSON line. A side's cost is (time of all tasks - time of one task) / (tasks - 1) - time of the bare script, so that the start of nx and of the mesh,
which do not depend on the number of tasks, are not in it; `start_ms` tells them. Medians; the sides take turns. No result is taken from a cache.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

from tests.benchmarks.nx_machines import TARGETS, Mesh, about, median_ms, timed, without_nx_cache, workspace
from tests.nx_workspace import Workspace

SCRIPT = "node tools/task.js lint"


def nx_alone(plain: Workspace, projects: str) -> float:
    without_nx_cache(plain)
    return timed(plain.command(*command(projects)), plain.path, plain.environment())


def with_one_agent(source: Workspace, place: Path, projects: str) -> float:
    """Clones of their own for each run: what the last one stored must not help."""
    place.mkdir()
    mesh = Mesh(place)
    try:
        main, agent = source.clone(place / "main"), source.clone(place / "agent")
        with mesh.agent(agent, slots=1):
            seconds, report = mesh.run(main, *command(projects))
        tasks = report["tasks"]
        assert isinstance(tasks, list)
        assert all(task["where"] == "agent" and task["cache"] == "none" for task in tasks), "not on the agent"
        return seconds
    finally:
        shutil.rmtree(place)


def command(projects: str) -> list[str]:
    return ["run-many", "-t", *(TARGETS if projects == "*" else TARGETS[:1]), f"--projects={projects}", "--parallel=1"]


def _sides() -> dict[str, list[float]]:
    return {"nx": [], "dte": []}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--projects", type=int, default=20)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dte-bench-") as name:
        place = Path(name)
        source = workspace(place, options.projects, SCRIPT)
        plain = source.clone(place / "plain")
        script: list[float] = []
        all_tasks, one_task = _sides(), _sides()
        for number in range(options.runs):
            script += [timed(["sh", "-c", f"{SCRIPT} p0"], plain.path, plain.environment()) for _ in range(5)]
            for projects, seconds in (("*", all_tasks), ("p0", one_task)):
                seconds["nx"].append(nx_alone(plain, projects))
                seconds["dte"].append(with_one_agent(source, place / f"mesh-{number}-{projects == '*'}", projects))
        tasks = options.projects * len(TARGETS)
        script_ms = median_ms(script)
        print(
            json.dumps(
                {
                    "bench": "nx",
                    "tasks": tasks,
                    "script_ms": script_ms,
                    **{
                        side: {
                            "ms_per_task_beyond_script": round(
                                (median_ms(all_tasks[side]) - median_ms(one_task[side])) / (tasks - 1) - script_ms, 1
                            ),
                            "all_ms": median_ms(all_tasks[side]),
                            "start_ms": round(median_ms(one_task[side]) - script_ms, 1),
                        }
                        for side in ("nx", "dte")
                    },
                    "runs": options.runs,
                    **about(),
                }
            )
        )


if __name__ == "__main__":
    main()
