"""Turns a line of text into tokens: pairs of a kind and the text itself."""

import re

_NUMBER = r"\d+(?:\.\d*)?(?:[eE][+-]?\d+)?"
_TOKEN = re.compile(rf"\s*(?:(?P<NUMBER>{_NUMBER})|(?P<NAME>[A-Za-z]+)|(?P<SIGN>[-+*/^()]))")


class LexError(ValueError):
    """A character that no token begins with."""


def tokens(line):
    """All tokens of `line`, in order."""
    found, at, line = [], 0, line.rstrip()
    while at < len(line):
        match = _TOKEN.match(line, at)
        if match is None:
            raise LexError(f"{line[at:]!r} begins no token")
        kind, text = match.lastgroup, match.group(match.lastgroup)
        found.append((text if kind == "SIGN" else kind, text))
        at = match.end()
    return found
