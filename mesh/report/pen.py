"""Writes text to a stream of the person's, whatever state that stream is in: a display must never be what stops a run.

A reader that went away, a full disk behind a redirection, a pipe that another process has made non-blocking (node does), a terminal that cannot
say `✓`: each is met here, once. It has what rich asks of a file, so that rich can draw through it.
"""

import os
import select
from typing import Final, TextIO

_STALL_S: Final = 1.0
"""How long one wait for room in a non-blocking pipe may be before its state is looked at again."""

_PLAIN_SIGNS: Final = str.maketrans(
    {"✓": "+", "✗": "x", "↻": "~", "→": ">", "…": "~", "·": "-", "─": "-", "━": "=", "▸": ">"}
)


class Pen:
    """Writes to `stream` and never raises. Once `stream` is gone, what is written goes nowhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.encoding = stream.encoding or "utf-8"
        self._simple = not _can_say(self.encoding, "✓…")
        self._gone = False
        try:
            self._fd: int | None = stream.fileno()
        except (OSError, AttributeError):
            self._fd = None

    def isatty(self) -> bool:
        """Whether a person may be looking."""
        return not self._gone and self._stream.isatty()

    def fileno(self) -> int:
        """The stream's descriptor. Raises `OSError` or `ValueError` where it has none."""
        return self._stream.fileno()

    def flush(self) -> None:
        """Nothing to do: `write` leaves nothing behind."""

    def write(self, text: str) -> int:
        """Write all of `text`, now."""
        if self._gone:
            return len(text)
        shown = text.translate(_PLAIN_SIGNS) if self._simple else text
        data = shown.encode(self.encoding, "replace")
        try:
            # What others wrote to the stream comes first.
            self._stream.flush()
            if self._fd is None:
                self._stream.write(data.decode(self.encoding))
                self._stream.flush()
            else:
                _write_all(self._fd, data)
        except (OSError, ValueError):
            self._gone = True
        return len(text)

    def line(self, text: str = "") -> None:
        """Write one line."""
        self.write(f"{text}\n")


def _can_say(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            select.select([], [fd], [], _STALL_S)
