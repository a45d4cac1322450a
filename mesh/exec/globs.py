"""Globs over the paths of a workspace: one meaning for inputs, for outputs, and for what an archive may hold.

Paths are relative to the workspace and use `/`. `*`, `?` and `[a-z]` (`[!a-z]`) stay within one segment and match leading dots too; `**`
is any number of whole segments; `{a,b}` is either; a backslash takes the next character as it is. A pattern whose last segment has no
wildcard names a file or a whole tree: `dist` is `dist` and all below it. `!pattern` takes away, in whatever order it is written.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from posixpath import commonpath
from typing import Final

from mesh.errors import UsageError

ALTERNATIVES_MAX: Final = 1_000
"""How many patterns the braces of one pattern may stand for."""

_SPECIAL: Final = re.compile(r"([\\*?\[\]{},!])")
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)


class Globs:
    """Compiled patterns. Raises `UsageError` for a pattern that cannot be meant."""

    def __init__(self, patterns: Iterable[str]) -> None:
        positive: list[list[str]] = []
        negative: list[list[str]] = []
        for pattern in patterns:
            side = negative if pattern.startswith("!") else positive
            side.extend(_segments(one, pattern) for one in _alternatives(pattern.removeprefix("!"), pattern))
        self._matches = _any_of(map(_whole, positive))
        self._excludes = _any_of(map(_whole, negative))
        self._leads_to = _any_of(map(_beginnings, positive))
        self.prefixes = _outermost(map(_prefix, positive))
        """The files and directories in which everything that can match stands; "" is the workspace itself."""
        self.literals = tuple(
            dict.fromkeys(_prefix(segments) for segments in positive if not any(map(_is_wild, segments)))
        )
        """What is named without a wildcard, and so is expected to be there."""

    @property
    def static_prefix(self) -> str:
        """The one path in which everything that can match stands; "" is the workspace itself."""
        return commonpath(self.prefixes) if self.prefixes else ""

    def match(self, path: str) -> bool:
        """Whether the file or directory `path` is meant. `dist/` asks for the inside of `dist` as such: `dist/**` says yes to it."""
        return self._matches.fullmatch(path) is not None and self._excludes.fullmatch(path) is None

    def may_contain(self, directory: str) -> bool:
        """Whether anything below `directory` can match. False says that nobody has to look there."""
        return self._leads_to.fullmatch(directory) is not None and self._excludes.fullmatch(f"{directory}/") is None


def literal(path: str) -> str:
    """The pattern that means `path` itself, whatever characters are in it."""
    return _SPECIAL.sub(r"\\\1", path)


def _any_of(expressions: Iterable[str]) -> re.Pattern[str]:
    # No patterns, no paths: `(?!)` matches nothing, where "" would match the workspace itself.
    choices = list(expressions)
    return re.compile("|".join(choices) if choices else "(?!)", re.DOTALL)


def _alternatives(text: str, pattern: str) -> list[str]:
    """`text` without braces: one pattern for each way through them. A brace without a partner is an ordinary character."""
    done: list[str] = []
    waiting = [text]
    while waiting:
        if len(done) + len(waiting) > ALTERNATIVES_MAX:
            raise UsageError(
                f"glob {pattern!r}: its braces stand for more than {ALTERNATIVES_MAX} patterns; write fewer alternatives"
            )
        one = waiting.pop()
        if (group := _first_group(one)) is None:
            done.append(one)
        else:
            start, end, items = group
            waiting.extend(one[:start] + item + one[end:] for item in reversed(items))
    return done


def _first_group(text: str) -> tuple[int, int, list[str]] | None:
    """The first `{…}` that is closed and holds no other: where it starts, where it ends, and what its commas divide."""
    opened: list[list[int]] = []  # for each open brace: where it is, and where its commas are
    at = 0
    while at < len(text):
        match text[at]:
            case "\\":
                at += 1
            case "{":
                opened.append([at])
            case "," if opened:
                opened[-1].append(at)
            case "}" if opened:
                marks = [*opened[-1], at]
                return marks[0], at + 1, [text[a + 1 : b] for a, b in pairwise(marks)]
            case _:
                pass
        at += 1
    return None


def _segments(text: str, pattern: str) -> list[str]:
    segments = [segment for segment in text.split("/") if segment not in ("", ".")]
    if ".." in segments:
        raise UsageError(f"glob {pattern!r}: `..` could leave the workspace; write the path from the workspace's root")
    if not segments:
        raise UsageError(f"glob {pattern!r}: names nothing; `**` is everything in the workspace")
    for segment in segments:
        try:
            re.compile(_segment(segment))
        except re.error as error:
            raise UsageError(f"glob {pattern!r}: {segment!r} is not understood: {error}") from None
    return segments


def _whole(segments: list[str]) -> str:
    """The expression of all paths that `segments` mean."""
    *parents, last = segments
    expression = "".join("(?:[^/]+/)*" if parent == "**" else _segment(parent) + "/" for parent in parents)
    if last == "**":
        return expression + ".*"
    return expression + _segment(last) + ("" if _is_wild(last) else "(?:/.*)?")


def _beginnings(segments: list[str]) -> str:
    """The expression of all directories below which `segments` can mean something."""
    *steps, last = segments
    expression = ".*"
    if last != "**":
        if _is_wild(last):
            expression = ""
        else:
            steps.append(last)
    for step in reversed(steps):
        # What follows `**` may be at any depth, so that every directory leads to it.
        expression = ".*" if step == "**" else _segment(step) + (f"(?:/{expression})?" if expression else "")
    return expression


def _segment(segment: str) -> str:
    """The expression of one segment; a name is never empty."""
    if segment.strip("*") == "":
        return "[^/]+"
    expression = ""
    at = 0
    while at < len(segment):
        character = segment[at]
        at += 1
        match character:
            case "*":
                expression += "[^/]*"
            case "?":
                expression += "[^/]"
            case "[" if (end := segment.find("]", at + (segment[at : at + 1] in ("!", "^")) + 1)) > 0:
                expression += _character_class(segment[at:end])
                at = end + 1
            case "\\" if at < len(segment):
                expression += re.escape(segment[at])
                at += 1
            case _:
                expression += re.escape(character)
    return expression


def _character_class(inside: str) -> str:
    negated = inside[0] in "!^"
    escaped = re.sub(r"([\\\[\]&~|^])", r"\\\1", inside[negated:])
    return f"(?!/)[{'^' if negated else ''}{escaped}]"


def _is_wild(segment: str) -> bool:
    return any(character in _ESCAPED.sub("", segment) for character in "*?[")


def _prefix(segments: list[str]) -> str:
    return "/".join(_ESCAPED.sub(r"\1", segment) for segment in _literal(segments))


def _literal(segments: list[str]) -> Iterator[str]:
    for segment in segments:
        if _is_wild(segment):
            return
        yield segment


def _outermost(paths: Iterable[str]) -> tuple[str, ...]:
    """`paths` in order, without those that stand in another one."""
    kept: list[str] = []
    for path in sorted(set(paths), key=lambda path: path.split("/") if path else []):
        if not kept or not (kept[-1] == "" or path.startswith(kept[-1] + "/")):
            kept.append(path)
    return tuple(kept)
