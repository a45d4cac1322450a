"""One measured duration, and the limits of what is kept: the same for what was measured here, imported, or found at nx's."""

import time
from typing import Final, Literal

from msgspec import Struct

from mesh.types import TaskId, UnixMs

SAMPLES_PER_SERIES_MAX: Final = 20
SERIES_MAX: Final = 50_000
"""A series is one task of one workspace on one class of machine. Full, the database has about 35 MB."""
AGE_MS_MAX: Final = 90 * 24 * 3_600 * 1_000
"""A series that has had no new sample for so long is forgotten."""
AHEAD_MS_MAX: Final = 24 * 3_600 * 1_000
"""How far another machine's clock may be ahead: a sample that stays the newest for ever would be the last word on its task."""
DURATION_MS_MAX: Final = 30 * 24 * 3_600 * 1_000
NAME_CHARS_MAX: Final = 1_024

Status = Literal["success", "failure"]


class Sample(Struct, frozen=True):
    """One execution: never a result from a cache, nor one that was ended from outside."""

    workspace: str
    task: TaskId
    machine: str
    duration_ms: int
    ended_ms: UnixMs
    status: Status = "success"

    def worth_keeping(self, now: UnixMs) -> bool:
        """Whether it is something that can be, and not too old."""
        return (
            all(_is_name(name) for name in (self.workspace, self.task, self.machine))
            and is_duration(self.duration_ms)
            and now - AGE_MS_MAX <= self.ended_ms <= now + AHEAD_MS_MAX
        )


def is_duration(value: object) -> bool:
    """Whether it is a number of milliseconds that a task can have taken."""
    # `type`, since isinstance(True, int).
    return type(value) is int and 0 <= value <= DURATION_MS_MAX


def unix_now() -> UnixMs:
    """The wall clock."""
    return UnixMs(time.time_ns() // 1_000_000)


def _is_name(text: str) -> bool:
    if not 0 < len(text) <= NAME_CHARS_MAX:
        return False
    try:  # file names that are no UTF-8 can be in task ids; neither SQLite nor JSON takes them
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
