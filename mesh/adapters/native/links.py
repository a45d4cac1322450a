"""Where the symbolic links of a tree lead, by their texts alone: of a commit there is nothing on disk.

A task that opens a link reads what is behind it, so that this is an input wherever the link is one. What leads out of the workspace, or to nothing that git
knows, has nothing behind it: such a link is its text.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

HOPS_MAX: Final = 40
"""As many links as Linux follows for one path."""


class Links:
    """The links of one tree: path → text, relative to where the link is, or with a leading `/` to the workspace."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self.texts = texts
        self._paths = sorted(texts)

    def __contains__(self, path: str) -> bool:
        return path in self.texts

    def __len__(self) -> int:
        return len(self.texts)

    def under(self, prefix: str) -> Iterator[str]:
        """All by which something at or below `prefix` may be reached: those that stand there, and those on the way."""
        at = prefix
        while (slash := at.rfind("/")) >= 0:
            at = at[:slash]
            if at in self.texts:
                yield at
        yield from within(self._paths, prefix)

    def follow(self, link: str) -> tuple[tuple[str, ...], str | None]:
        """Every link on the way, `link` first, and the path to which they lead; None where that is not in the workspace."""
        passed: list[str] = []
        at: list[str] = link.split("/")
        rest: list[str] = []
        while True:
            here = "/".join(at)
            if here in self.texts:
                if len(passed) == HOPS_MAX:
                    return tuple(passed), None
                passed.append(here)
                text = self.texts[here]
                at = [] if text.startswith("/") else at[:-1]
                rest += [step for step in reversed(text.split("/")) if step not in ("", ".")]
            if not rest:
                return tuple(passed), "/".join(at)
            step = rest.pop()
            if step != "..":
                at.append(step)
            elif at:
                at.pop()
            else:
                return tuple(passed), None


def within(paths: Sequence[str], prefix: str) -> Iterator[str]:
    """Of `paths`, which are in order, `prefix` and all below it."""
    if not prefix:
        yield from paths
        return
    # What goes on with a character below `/` stands between a directory's name and its content: `a`, `a.txt`, `a/b`.
    start = bisect_left(paths, prefix)
    if start < len(paths) and paths[start] == prefix:
        yield prefix
    yield from paths[bisect_left(paths, f"{prefix}/") : bisect_left(paths, f"{prefix}0")]
