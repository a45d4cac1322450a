"""Runs the finished calculator on some example files; each line is an input, ` = `, and what must come out."""

import json
import subprocess
import sys
from pathlib import Path

from common import fail, say, wait, write


def main(target, files):
    results = {}
    for name in files:
        lines = Path(name).read_text().splitlines()
        given = "".join(line.split(" = ")[0] + "\n" for line in lines)
        run = subprocess.run(
            [sys.executable, "build/calc.pyz"], input=given, capture_output=True, text=True, timeout=60, check=False
        )
        if run.returncode:
            fail(f"{name}: the calculator ended with {run.returncode}\n{run.stderr}")
        for line, found in zip(lines, run.stdout.splitlines()):
            if found.split(" = ")[1] != line.split(" = ")[1]:
                fail(f"{name}: expected {line}, found {found}")
        say(f"{name}: {len(lines)} lines are right")
        results[name] = run.stdout.splitlines()
        wait(0.6)
    write(target, json.dumps(results, indent=1) + "\n")


main(sys.argv[1], sys.argv[2:])
