"""Makes a task's output safe to show: its words and its colours pass, whatever would move a cursor or command a terminal does not.

A task's log is bytes from anywhere. A stray cursor movement would draw over other lines, a title or clipboard sequence would reach into the
person's terminal, and a log that opens a colour would dye all that follows. No word is ever dropped: an escape sequence that
does not end loses its escape character only.
"""

import codecs
import re
from typing import Final

_STRING_CHARS_MAX: Final = 4_096
"""A title, a link or another "string" sequence that is longer than this is taken for text."""

RESET: Final = "\x1b[0m"
"""Ends every colour."""

_UNSAFE: Final = re.compile(
    rf"""
    \r\n?                                                                # a lone CR would overwrite the line
    | \x1b (?:
        \[ (?P<colour> [0-9;:]* ) m
        | \[ [0-?]{{0,64}} [ -/]{{0,8}} [@-~]                            # cursor, erase, scroll, modes
        | [\]PX^_] [^\x07\x1b\n]{{0,{_STRING_CHARS_MAX}}} (?: \x07 | \x1b\\ )
        | [ -/]{{0,8}} [0-~]
      )?
    | [\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f]+                     # many at a time: a disk image in a log has millions
    """,
    re.VERBOSE,
)
_UNFINISHED: Final = re.compile(
    rf"""
    (?: \r | \x1b (?: \[ [0-?]{{0,64}} [ -/]{{0,8}} | [\]PX^_] [^\x07\x1b\n]{{0,{_STRING_CHARS_MAX}}} \x1b? | [ -/]{{0,8}} )? ) \Z
    """,
    re.VERBOSE,
)


class Cleaner:
    """Cleans one log, fed in pieces that may end anywhere, even within a character."""

    def __init__(self, *, colour: bool) -> None:
        self._colour = colour
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""
        self._dyed = False

    def feed(self, data: bytes) -> str:
        """What can be shown so far; a sequence that may go on is held back."""
        text = self._held + self._decoder.decode(data)
        unfinished = _UNFINISHED.search(text, max(0, len(text) - _STRING_CHARS_MAX - 3))
        end = unfinished.start() if unfinished else len(text)
        self._held = text[end:]
        return _UNSAFE.sub(self._replace, text[:end])

    def finish(self) -> str:
        """The rest, and the end of any colour that the log left on."""
        rest = _UNSAFE.sub(self._replace, self._held + self._decoder.decode(b"", final=True))
        self._held = ""
        return rest + RESET if self._dyed else rest

    def _replace(self, match: re.Match[str]) -> str:
        found = match.group()
        if found[0] == "\r":
            return "\n"
        if match["colour"] is not None and self._colour:
            self._dyed = match["colour"] not in ("", "0")
            return found
        return ""
