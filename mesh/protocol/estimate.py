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

    def learn(self, task: TaskId, duration_ms: int) -> None:
        """One execution took this long."""
        sample = math.log(max(duration_ms, 1))
        for name in (task, target_of(task), ""):
            before = self.logs.get(name)
            self.logs[name] = sample if before is None else before + (sample - before) * WEIGHT_PERCENT / 100

    def estimate_ms(self, task: TaskId) -> int | None:
        """The best guess, or None where nothing at all is known."""
        for name in (task, target_of(task), ""):
            if name in self.logs:
                return max(1, round(math.exp(self.logs[name])))
        return None

    def by_target_ms(self) -> dict[str, int]:
        """What a bid carries: targets, and "" for everything."""
        return {name: max(1, round(math.exp(value))) for name, value in self.logs.items() if ":" not in name}


def lookup_ms(estimates: Mapping[str, int], task: TaskId) -> int | None:
    """An estimate out of a bid."""
    for name in (task, target_of(task), ""):
        if name in estimates:
            return estimates[name]
    return None
