"""The referee: gives every vector to an implementation and compares what it says. Standard library only; knows no implementation.

    python conformance/runner/run.py [--only GROUP] [--json] -- COMMAND…

COMMAND is an adapter (../README.md says what it reads and writes). Exit code 0: every vector was passed; 1: one failed or could not be judged; 2: the
adapter does not speak the protocol. What an adapter does not support is counted as such, and is never a pass.
"""

import argparse
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).parents[1] / "vectors"
LEVEL = 1


class Adapter:
    """One implementation behind a pipe."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        self._count = 0

    def ask(self, op: str, given: dict[str, Any]) -> dict[str, Any]:
        """One question, one answer."""
        self._count += 1
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"id": self._count, "op": op, "input": given}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise SystemExit(f"the adapter has ended before {op}") from None
        line = self._process.stdout.readline()
        try:
            answer = json.loads(line)
        except json.JSONDecodeError:
            answer = None
        if not isinstance(answer, dict) or answer.get("id") != self._count:
            print(f"the adapter's answer to {op} is no answer: {line[:200]!r}", file=sys.stderr)
            sys.exit(2)
        del answer["id"]
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)


def judge(vector: dict[str, Any], supported: list[str], adapter: Adapter) -> tuple[str, str]:
    """`pass`, `fail` or `unsupported`, and what was wrong."""
    if vector["op"] not in supported:
        return "unsupported", vector["op"]
    answer = adapter.ask(vector["op"], vector["input"])
    if answer == vector["expect"]:
        return "pass", ""
    return "fail", f"expected {json.dumps(vector['expect'])[:300]}, got {json.dumps(answer)[:300]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="GROUP", help="vectors of one group")
    parser.add_argument("--json", action="store_true", help="one JSON object for each vector")
    parser.add_argument("command", nargs="+", metavar="COMMAND")
    options = parser.parse_args()
    paths = sorted((VECTORS / options.only).rglob("*.json"))
    if not paths:
        print(f"there are no vectors in {VECTORS / options.only}", file=sys.stderr)
        return 2
    adapter = Adapter(options.command)
    hello = adapter.ask("hello", {"level": LEVEL}).get("ok", {})
    count: Counter[str] = Counter()
    for path in paths:
        vector = json.loads(path.read_text(encoding="utf-8"))
        verdict, why = judge(vector, hello.get("ops", []), adapter)
        count[verdict] += 1
        if options.json:
            print(json.dumps({"id": vector["id"], "clause": vector["clause"], "verdict": verdict, "why": why}))
        elif verdict != "pass":
            print(f"{verdict}  {vector['id']}  ({vector['clause']}: {vector['comment']})\n      {why}")
    adapter.close()
    print(
        f"{hello.get('name', 'unnamed')}, level {LEVEL}: {count['pass']} passed, {count['fail']} failed, {count['unsupported']} unsupported",
        file=sys.stderr if options.json else sys.stdout,
    )
    return 0 if count["pass"] == len(paths) else 1


if __name__ == "__main__":
    sys.exit(main())
