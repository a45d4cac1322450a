"""Whether two tasks could write the same path: two writers of one path make a result that depends on who was last.

Globs are compared as languages, not by what is on disk: outputs are looked at before anything has been made. Where the answer would cost more
than it is worth (a `!` that takes away only a part of the other's), it is yes.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from typing import Final

from msgspec import Struct

from mesh.exec.globs import Globs

_BRACES: Final = re.compile(r"(?<!\\)\{([^{}]*)\}")
_PIECE: Final = re.compile(r"\*+|\?|\[[!^]?.[^\]]*\]|\\.|.", re.DOTALL)
_ASCII: Final = "".join(map(chr, range(1, 128))).replace("/", "")
_BEYOND: Final = "\N{REPLACEMENT CHARACTER}"
_TREE: Final = "**"


class Overlap(Struct, frozen=True):
    """Two owners and the pattern of each that can mean a path of the other's."""

    first: str
    second: str
    first_pattern: str
    second_pattern: str


class _Output(Struct, frozen=True):
    owner: str
    pattern: str
    prefix: tuple[str, ...]
    segments: tuple[str, ...]


def overlaps(outputs: Mapping[str, Sequence[str]]) -> Iterator[Overlap]:
    """Every way in which two owners' outputs can meet."""
    entries = [entry for owner, patterns in outputs.items() for entry in _entries(owner, patterns)]
    above: list[_Output] = []
    for entry in sorted(
        entries, key=lambda entry: entry.prefix
    ):  # stable: of two equals the one that was named first comes first
        # Two patterns can meet only where the fixed beginning of one leads to the other's.
        above = [other for other in above if entry.prefix[: len(other.prefix)] == other.prefix]
        for other in above:
            if (
                other.owner != entry.owner
                and may_meet(other.segments, entry.segments)
                and not _taken_away(entry, tuple(outputs[other.owner]))
                and not _taken_away(other, tuple(outputs[entry.owner]))
            ):
                yield Overlap(other.owner, entry.owner, other.pattern, entry.pattern)
        above.append(entry)


def _entries(owner: str, patterns: Sequence[str]) -> Iterator[_Output]:
    for pattern in patterns:
        if not pattern.startswith("!"):
            for prefix, segments in _parsed(pattern):
                yield _Output(owner, pattern, prefix, segments)


@lru_cache(maxsize=65_536)
def _parsed(pattern: str) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]:
    """The fixed beginning and the segments, for each way through the braces of `pattern`."""
    found = []
    for plain in _without_braces(pattern):
        prefix = Globs((plain,)).static_prefix
        found.append((tuple(prefix.split("/")) if prefix else (), segments_of(plain)))
    return tuple(found)


def _without_braces(pattern: str) -> list[str]:
    """One pattern for each way through the braces, innermost first."""
    if (found := _BRACES.search(pattern)) is None:
        return [pattern]
    return [
        plain
        for option in found[1].split(",")
        for plain in _without_braces(pattern[: found.start()] + option + pattern[found.end() :])
    ]


def segments_of(plain: str) -> tuple[str, ...]:
    """The segments of a pattern without braces; a name at the end stands for a tree as well."""
    segments = tuple(segment for segment in plain.split("/") if segment not in ("", "."))
    return segments if segments[-1:] == (_TREE,) or _is_wild(segments[-1]) else (*segments, _TREE)


def _is_wild(segment: str) -> bool:
    return any(len(piece) > 2 or piece[0] in "*?" for piece in _PIECE.findall(segment))


def _taken_away(output: _Output, patterns: tuple[str, ...]) -> bool:
    """Whether the `!` patterns of the other side cover all that `output` can mean."""
    excludes = _excludes(patterns)
    return excludes is not None and excludes.match("/".join(output.prefix) + "/")


@lru_cache(maxsize=4_096)
def _excludes(patterns: tuple[str, ...]) -> Globs | None:
    negative = [pattern.removeprefix("!") for pattern in patterns if pattern.startswith("!")]
    return Globs(negative) if negative else None


def may_meet(first: tuple[str, ...], second: tuple[str, ...]) -> bool:
    """Whether some path is meant by both rows of segments."""

    @cache
    def meet(i: int, j: int) -> bool:
        if i == len(first) and j == len(second):
            return True
        if i < len(first) and first[i] == _TREE:
            return meet(i + 1, j) or (j < len(second) and meet(i, j + 1))
        if j < len(second) and second[j] == _TREE:
            return meet(i, j + 1) or (i < len(first) and meet(i + 1, j))
        return i < len(first) and j < len(second) and _segments_meet(first[i], second[j]) and meet(i + 1, j + 1)

    return meet(0, 0)


@lru_cache(maxsize=65_536)
def _segments_meet(first: str, second: str) -> bool:
    """Whether some name is meant by both segments."""
    if first == second:
        return True
    ones, others = _pieces(first), _pieces(second)

    @cache
    def meet(i: int, j: int) -> bool:
        if i == len(ones) and j == len(others):
            return True
        if i < len(ones) and ones[i] is None:
            return meet(i + 1, j) or (j < len(others) and meet(i, j + 1))
        if j < len(others) and others[j] is None:
            return meet(i, j + 1) or (i < len(ones) and meet(i + 1, j))
        if i == len(ones) or j == len(others):
            return False
        one, other = ones[i], others[j]
        return one is not None and other is not None and not one.isdisjoint(other) and meet(i + 1, j + 1)

    return meet(0, 0)


@lru_cache(maxsize=65_536)
def _pieces(segment: str) -> tuple[frozenset[str] | None, ...]:
    """What each place of a name may be, None for any number of any characters. Beyond ASCII all characters count as one."""
    return tuple(None if piece[0] == "*" else _characters(piece) for piece in _PIECE.findall(segment))


@lru_cache(maxsize=4_096)
def _characters(piece: str) -> frozenset[str]:
    if len(piece) == 1 and piece != "?":
        return frozenset((piece,) if piece.isascii() else (piece, _BEYOND))
    if piece[0] == "\\":
        return frozenset(piece[1])
    meant = Globs((piece,))
    return frozenset(character for character in (*_ASCII, *piece, _BEYOND) if meant.match(character))
