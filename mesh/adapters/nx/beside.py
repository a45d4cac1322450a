"""Continuous tasks that ran beside another one. What is to be known of them on the main job is told in that one's log and problem, and read there again.

nx from 22.7 on fails a run in which one of them ended by itself, also where what it ran beside has passed.
"""

import re
from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from mesh.graph import Task


class Beside(Struct, frozen=True):
    """What one of them printed. `code`: its exit code, where it ended by itself and was not stopped."""

    id: str
    output: str
    code: int | None = None


def for_log(task: Task, beside: Iterable[Beside], *, failed: bool) -> bytes:
    """What is added to the log of `task`: who ended by itself last, and the others only where it `failed`."""
    shown = [one for one in beside if failed or one.code is not None]
    shown.sort(key=lambda one: one.code is not None)
    return b"".join(_heading(task, one.id) + one.output.encode() for one in shown)


def problem_of(beside: Iterable[Beside]) -> str:
    """A line for a person about those that ended by themselves, or ""."""
    return "; ".join(f"{one.id}{_ENDED}{one.code}" for one in beside if one.code is not None)


def ended(task: Task, problem: str, log: bytes) -> tuple[tuple[Beside, ...], bytes]:
    """Those of which the `problem` of `task` says so, and the rest of its log."""
    codes = {
        companion: int(match[1])
        for companion in [str(node["task"]["id"]) for node in task.payload["tasks"][1:]]
        if (match := re.search(rf"(?:^|; ){re.escape(companion)}{_ENDED}(-?\d+)", problem))
    }
    outputs: dict[str, str] = {}
    for companion in sorted(codes, key=lambda each: log.rfind(_heading(task, each)), reverse=True):
        before, heading, output = log.rpartition(_heading(task, companion))
        if heading:
            log, outputs[companion] = before, output.decode(errors="replace")
    return tuple(Beside(each, outputs.get(each, ""), code) for each, code in codes.items()), log


def from_json(said: Iterable[Any]) -> tuple[Beside, ...]:
    """As worker.cjs tells it."""
    return tuple(Beside(name, output, code) for name, output, code in said)


_ENDED = ", which ran beside it, ended by itself with exit code "


def _heading(task: Task, companion: str) -> bytes:
    return f"\n> nx run {companion} (ran beside {task.payload['tasks'][0]['task']['id']})\n\n".encode()
