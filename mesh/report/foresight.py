"""How long what is left of a run should take: asked of whoever knows, and not more often than it is worth."""

from collections.abc import Callable
from typing import Final

from mesh.report.summary import Summary

Foresees = Callable[[], int | None]
"""What is left, in milliseconds from now on; None where nobody can tell."""

ASK_MS: Final = 1_000
"""An answer is good for this long, and counts down meanwhile."""
ASK_TASKS: Final = 10_000
"""With more tasks left it is good for as much longer: all of them are looked at."""


def nobody_knows() -> None:
    """What is foreseen where nothing is."""


class NowAndThen:
    """A `Foresees` of its own that asks another one now and then; `clock` says milliseconds, and `summary` how much is left."""

    def __init__(self, foresees: Foresees, clock: Callable[[], int], summary: Summary) -> None:
        self._foresees = foresees
        self._clock = clock
        self._summary = summary
        self._asked_ms: int | None = None
        self._left_ms: int | None = None

    def __call__(self) -> int | None:
        now_ms, progress = self._clock(), self._summary.progress()
        good_ms = max(progress.total - progress.done, ASK_TASKS) * ASK_MS // ASK_TASKS
        if self._asked_ms is None or now_ms - self._asked_ms >= good_ms:
            self._asked_ms, self._left_ms = now_ms, self._foresees()
        return None if self._left_ms is None else max(self._left_ms - (now_ms - self._asked_ms), 0)
