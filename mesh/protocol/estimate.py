"""How long a task will take, from what was seen so far: by task, else by target, else by everything, else a guess.

The mean is exponentially weighted on the logarithm, since durations are skewed: one slow run must not double every later estimate.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from mesh.types import TaskId

GUESS_MS: Final = 1_000
WEIGHT_PERCENT: Final = 30
"""How much of the newest sample enters the mean."""


def target_of(task: TaskId) -> str:
    """What stands behind the last colon: tasks of one target tend to take alike."""
    return task.rpartition(":")[2]


@dataclass(slots=True)
class Estimator:
    """Durations of one node, or of one run."""

    logs: dict[str, float] = field(default_factory=dict)
    """Mean of log-milliseconds, by task id and by target; "" is the mean of everything."""
    _seeded: dict[str, None] = field(default_factory=dict)
    _fresh: dict[str, None] = field(default_factory=dict)
    _told: dict[str, int] = field(default_factory=dict)

    def learn(self, task: TaskId, duration_ms: int) -> None:
        """One execution took this long."""
        sample = math.log(max(duration_ms, 1))
        for name in (task, target_of(task), ""):
            if ":" not in name:
                self._fresh[name] = None
            before = self.logs.get(name)
            self.logs[name] = sample if before is None else before + (sample - before) * WEIGHT_PERCENT / 100

    def seed(self, task: TaskId, duration_ms: int) -> None:
        """What is known of a task from earlier runs; what this run has seen already counts more."""
        if task not in self.logs:
            self.logs[task] = math.log(max(duration_ms, 1))
            self._seeded[task] = self._fresh[task] = None

    def estimate_ms(self, task: TaskId) -> int | None:
        """The best guess, or None where nothing at all is known."""
        for name in (task, target_of(task), ""):
            if name in self.logs:
                return max(1, round(math.exp(self.logs[name])))
        return None

    def changed_ms(self) -> dict[str, int]:
        """What a bid carries: what is known from earlier runs, and of targets ("" is everything) what has changed by more than a quarter."""
        told: dict[str, int] = {}
        for name in self._fresh:
            value = max(1, round(math.exp(self.logs[name])))
            before = self._told.get(name)
            if before is None or abs(value - before) * 4 > before:
                told[name] = self._told[name] = value
        self._fresh.clear()
        return told

    def tell_all_again(self) -> None:
        """Whoever was told may have forgotten."""
        self._told.clear()
        self._fresh.update(dict.fromkeys(name for name in self.logs if ":" not in name or name in self._seeded))


def lookup_ms(estimates: Mapping[str, int], task: TaskId) -> int | None:
    """An estimate out of a bid."""
    for name in (task, target_of(task), ""):
        if name in estimates:
            return estimates[name]
    return None
