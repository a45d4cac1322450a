"""A run in which every task is in nx's local cache already: `dte run -- nx …` against nx alone, on the same machine and the same cache.

    python -m tests.benchmarks.nx_cached [--projects 300] [--runs 5]

prints one JSON line: medians of the whole command, the sides in turns, without agents and with one, and each one's ratio to nx alone.
"""

import argparse
import json
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.benchmarks.nx_machines import TARGETS, Mesh, about, median_ms, timed, workspace

SCRIPT = "mkdir -p {projectRoot}/dist && echo > {projectRoot}/dist/made #"
COMMAND = ("run-many", "-t", *TARGETS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--projects", type=int, default=300)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {"nx": [], "dte": [], "dte_with_agent": []}
    with tempfile.TemporaryDirectory(prefix="dte-bench-") as name:
        place = Path(name)
        machine = workspace(place, options.projects, SCRIPT)
        other = machine.clone(place / "agent")
        timed(machine.command(*COMMAND), machine.path, machine.environment())
        for number in range(options.runs):
            seconds["nx"].append(timed(machine.command(*COMMAND), machine.path, machine.environment()))
            for side in ("dte", "dte_with_agent"):
                home = place / f"{side}-{number}"
                home.mkdir()
                mesh = Mesh(home)
                with ExitStack() as stack:
                    if side == "dte_with_agent":
                        stack.enter_context(mesh.agent(other, slots=2))
                    took, report = mesh.run(machine, *COMMAND)
                tasks = report["tasks"]
                assert isinstance(tasks, list)
                assert {task["cache"] for task in tasks} <= {"hit"}, "a task ran"
                seconds[side].append(took)
    nx_ms = median_ms(seconds["nx"])
    print(
        json.dumps(
            {
                "bench": "nx-cached",
                "tasks": options.projects * len(TARGETS),
                "ms": {side: median_ms(each) for side, each in seconds.items()},
                "ratio_to_nx": {side: round(median_ms(each) / nx_ms, 2) for side, each in seconds.items()},
                "runs": options.runs,
                **about(),
            }
        )
    )


if __name__ == "__main__":
    main()
