"""How numbers and foreign text are worded, so that every display says them alike. Nothing here decides what is said."""

import re
from typing import Final

_SPACE_AND_CONTROLS: Final = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


def duration(ms: int) -> str:
    """A span of time as a person says it: `40 ms`, `1.2 s`, `3m10s`, `2h05m`."""
    if ms < 100:
        return f"{max(ms, 0)} ms"
    tenths = (ms + 50) // 100
    if tenths < 600:
        return f"{tenths // 10}.{tenths % 10} s"
    seconds = (ms + 500) // 1_000
    if seconds < 3_600:
        return f"{seconds // 60}m{seconds % 60:02}s"
    minutes = seconds // 60
    return f"{minutes // 60}h{minutes % 60:02}m"


def rough(ms: int) -> str:
    """An estimated span, which does not know tenths of a second: `4 s`, `3m10s`."""
    seconds = (max(ms, 0) + 999) // 1_000
    return f"{seconds} s" if seconds < 60 else duration(seconds * 1_000)


def count(number: int, noun: str) -> str:
    """`1 task`, `2 tasks`, `12,000 tasks`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def ratio(part: int, whole: int) -> str:
    """`2.6` for 26 of 10; both are at least 0, and nothing of nothing is `1.0`."""
    tenths = (part * 10 + whole // 2) // whole if whole else 10
    return f"{tenths // 10}.{tenths % 10}"


def one_line(text: str) -> str:
    """Text from elsewhere (a name, a reason) as one line that cannot command a terminal."""
    return _SPACE_AND_CONTROLS.sub(" ", text).strip()


def clip(text: str, width: int) -> str:
    """`text` in at most `width` characters."""
    return text if len(text) <= width else f"{text[: max(width - 1, 0)]}…"
