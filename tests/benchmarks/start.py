"""How long a person waits: for `dte --help`, and for `dte join` to be taken in by a main job that waits for it.

    python -m tests.benchmarks.start [--runs 7]

prints one JSON line, medians in milliseconds. `join_ms` is from the start of the process until the main job tells that the agent has joined.
"""

import argparse
import json
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.benchmarks.noop import PATIENCE_S, environment, git, machine

TASKS = '[tasks.wait]\ncommand = ["sleep", "600"]\nruns_on = ["nobody"]\ncache = false\ninputs = []\n'


def help_ms() -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "mesh", "--help"], check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE_S)
    return (time.monotonic() - began) * 1000


def join_ms(runs: int) -> list[float]:
    """Agents that come one after the other to one main job, and leave again."""
    took = []
    with tempfile.TemporaryDirectory(prefix="dte-bench-") as name, ExitStack() as stack:
        place, secret = Path(name), secrets.token_hex(32)
        main = place / "main"
        main.mkdir()
        (main / "dte.toml").write_text(TASKS)
        git(main, "init", "--quiet")
        git(main, "add", "--all")
        git(main, "commit", "--quiet", "--message", "A task for nobody")
        meet, seen = ["--rendezvous", str(place / "meet"), "--listen", "127.0.0.1:0"], place / "events"
        leader = subprocess.Popen(
            [sys.executable, "-m", "mesh", "run", *meet, "--events", str(seen), "wait"],
            cwd=main,
            env=environment(place, "main", secret),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        stack.callback(leader.wait)
        stack.callback(leader.terminate)
        until(lambda: any((place / "meet").glob("**/*")) if (place / "meet").exists() else False)
        for number in range(runs):
            clone = place / f"agent-{number}"
            git(place, "clone", "--quiet", str(main), str(clone))
            env = environment(place, clone.name, secret)
            began = time.monotonic()
            agent = subprocess.Popen(
                [sys.executable, "-m", "mesh", "join", *meet, "--name", clone.name],
                cwd=clone,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
            stack.callback(agent.wait)
            stack.callback(agent.terminate)
            until(lambda name=clone.name: f'"{name}"' in seen.read_text())
            took.append((time.monotonic() - began) * 1000)
            agent.terminate()
            agent.wait()
    return took


def until(condition) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.002)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    helped, joined = [help_ms() for _ in range(options.runs)], join_ms(options.runs)
    medians = {"help_ms": round(statistics.median(helped)), "join_ms": round(statistics.median(joined))}
    print(json.dumps({"bench": "start", **medians, "runs": options.runs, "machine": machine()}))


if __name__ == "__main__":
    main()
