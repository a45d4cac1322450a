"""Command-line transcripts: what a person types and what is answered, played against the real `dte`.

    # a comment
    $ COMMAND                  run by a shell where the main job works; must end with 0
    agent-1$ COMMAND           started where that agent works, beside what follows; must have ended with 0 at the end
    $ export NAME=VALUE        for all that follows; after `agent-1$` or `main$` there only
    ? 2                        the exit code, where it is not 0
    what it prints             on both streams; `[..]` is anything within a line, `...` any number of lines

A command is written as the documents have it. What stands there for a name of the reader's own (`MAIN:7946`) is replaced just before it is run.
"""

import re
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.endtoend.mesh_under_test import LIMIT_S, Machine, Site

_AGENTS = {"DTE_LISTEN": "127.0.0.1:0"}
"""Documents speak of real machines; these are all on one, and nobody else is to reach them."""
_MAIN = {"DTE_AGENT_WAIT": "60s"}
"""However busy this machine is, its agents are waited for."""
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_COMMAND = re.compile(r"(?P<machine>[a-z0-9-]*)\$ (?P<command>.*)")


@dataclass
class Step:
    """One command, and what is expected of it."""

    machine: str
    command: str
    code: int = 0
    output: list[str] = field(default_factory=list)


def read_transcript(path: Path) -> list[Step]:
    """The steps of a transcript."""
    steps: list[Step] = []
    for line in path.read_text().splitlines():
        if line.startswith("#") or not line.strip():
            continue
        if (match := _COMMAND.fullmatch(line)) is not None:
            steps.append(Step(match["machine"], match["command"]))
        elif line.startswith("? "):
            steps[-1].code = int(line[2:])
        else:
            steps[-1].output.append(line)
    return steps


def play(steps: list[Step], site: Site, replacements: dict[str, str]) -> None:
    """Run a transcript on the machines of `site`; fails where anything is answered otherwise."""
    machines: dict[str, Machine] = {}
    beside: list[tuple[Step, subprocess.Popen[str]]] = []
    exported: dict[str, dict[str, str]] = {"": {}}
    for step in steps:
        name = step.machine or "main"
        if name not in machines:
            machines[name] = site.machine(name)
        machine = machines[name]
        command = _meant(step.command, replacements)
        if command.startswith("export "):
            variable, _, value = command.removeprefix("export ").partition("=")
            exported.setdefault(step.machine, {})[variable] = value
            continue
        own = {**exported[""], **exported.get(name, {})}
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            cwd=machine.workspace,
            env={**site.environ(machine), **(_AGENTS if step.machine else _MAIN), **own},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        if step.machine:
            beside.append((step, process))
        else:
            _check(step, process)
    for step, process in beside:
        _check(step, process)


def _meant(command: str, replacements: dict[str, str]) -> str:
    for written, meant in replacements.items():
        command = command.replace(written, meant)
    return command


def _check(step: Step, process: subprocess.Popen[str]) -> None:
    try:
        output, _ = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        raise AssertionError(f"{step.command} did not end in {LIMIT_S} s") from None
    output = _ANSI.sub("", output)
    print(f"$ {step.command}\n{output}")
    assert process.returncode == step.code, f"{step.command} ended with {process.returncode}\n{output}"
    assert matches(step.output, output.splitlines()), f"{step.command} did not answer what was expected\n{output}"


def matches(expected: list[str], lines: list[str]) -> bool:
    """Whether `lines` are what is `expected`; nothing expected is nothing asked."""
    if not expected:
        return True
    parts = ["(?:.*\n)*?" if line == "..." else f"{_line(line)}\n" for line in expected]
    return re.fullmatch("".join(parts), "".join(f"{line}\n" for line in lines)) is not None


def _line(text: str) -> str:
    return ".*".join(re.escape(part) for part in text.split("[..]"))


def commands_of(text: str) -> list[str]:
    """The commands in the blocks of a document: lines that stand in by four or in a fence of `console`, without prompt and comment."""
    found = []
    fence = ""
    for line in text.splitlines():
        if line.startswith("```"):
            fence = "" if fence else line.removeprefix("```").strip() or "text"
        elif line.startswith("    ") and not fence:
            found.append(line[4:])
        elif fence in ("console", "sh", "shell"):
            found.append(line)
    stripped = (re.sub(r"\s+#.*", "", line.removeprefix("$ ")).strip() for line in found)
    return list(dict.fromkeys(line for line in stripped if _STARTS.match(line)))


_STARTS = re.compile(r"(dte|export|python3|just|curl) |(main job|agent jobs)\s+dte |dte$")
