"""What a task leaves in a workspace beside its declared outputs: files that will exist on this machine only, and tracked files that it changed.

git is asked before the first task and after each one. That costs time, which grows with the checkout: a task that was short against the last
look is not followed by one, and what it left is found after a later task.

What a task makes where other tasks have their outputs is found by when it was written. It may well reach the main job, since such a task makes it too or packs it here. So it is only listed, and the main job looks at
the end whether it has it.

Of node_modules git says nothing. What a task installs or links in that of its own project, as a package that uses itself by its name does, is found
by the names there.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Final, Protocol

import trio
from msgspec import Struct

from mesh.exec.environment import without_ours

LOOK_SHARE_MAX: Final = 0.1
"""How much of a task's own time may go into looking at what it left."""
LOOK_MS: Final = 20_000
LOOK_AT_MAX: Final = 100_000
"""So many files and directories of what is new are compared with what is declared."""
NAMED_MAX: Final = 3
LISTED_MAX: Final = 20
"""Files among others' outputs that are listed."""
LIST_AT_MAX: Final = 20_000
"""So many files are looked at for that."""

_STATUS: Final = (
    *("status", "--porcelain", "-z", "--no-renames", "--untracked-files=normal", "--ignored=matching"),
    *("--", "."),
)
_UNTRACKED: Final = ("??", "!!")
_OWN_PLACES: Final = frozenset((".git", ".nx", ".turbo", "node_modules"))
"""Caches of tools: whatever is in there, no task depends on it. Of node_modules that holds for names with a dot only."""


class Declared(Protocol):
    """What tasks say that they make. A directory ends with `/`."""

    def whole(self, path: str) -> bool:
        """Whether that file, or all of that directory, is declared."""

    def part(self, directory: str) -> bool:
        """Whether something in it may be."""


class Left(Struct, frozen=True):
    """Paths from the workspace, in order; a directory ends with `/`. `certain` is whether no other task could have left them."""

    untracked: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    certain: bool = True

    def remark(self, *, elsewhere: bool = False) -> str:
        """One line for a person; "" where there is nothing to say. `elsewhere`: this is not the main job's workspace."""
        parts = []
        if self.changed:
            lacks = " and the main job does not have that" if elsewhere else ""
            parts.append(
                f"changed {some(self.changed)}, which git tracks, so that later tasks find other inputs here{lacks}"
            )
        if self.untracked:
            parts.append(
                f"left {some(self.untracked)}, which no task declares as outputs, so that other machines do not get it"
            )
        who = "it" if self.certain else "it, or a task beside it,"
        return f"{who} {'; it '.join(parts)}" if parts else ""


class Leftovers:
    """One workspace. Calls may overlap; each path is told once."""

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace
        self._seen: set[tuple[str, bool]] | None = None
        self._prefix: str | None = None
        """Where the workspace is in its repository, "" or with a "/" at its end: from there git names files."""
        self._installed: dict[str, set[str]] = {}
        self._took_ms = 0.0
        self._looking = trio.Lock()
        self._certain = True

    async def before(self, home: str | None) -> None:
        """Remember how the workspace is before the first task, and what is installed in `home` before the first one there."""
        async with self._looking:
            if home is not None and home not in self._installed:
                self._installed[home] = await trio.to_thread.run_sync(_installed, self._workspace, home)
            if self._seen is None:
                found = await self._look()
                self._seen = None if found is None else set(found)

    async def after(self, duration_ms: int, home: str | None, declared: Declared, *, beside: bool) -> Left:
        """What is new, but for what is `declared`, after a task of `duration_ms`.

        Where other tasks run `beside` it, only what is new below `home`, the directory of its project ("" for the root); nothing without one.
        """
        async with self._looking:
            left = await self._found(duration_ms, home, declared, beside=beside)
            linked = await self._linked(home, declared)
            return Left(
                tuple(sorted((*left.untracked, *linked))), left.changed, left.certain and not (linked and beside)
            )

    async def changed(self, duration_ms: int, home: str, declared: Declared, *, beside: bool) -> Left:
        """Of that only the tracked files."""
        if self._took_ms > duration_ms * LOOK_SHARE_MAX:  # of a moment: it need not wait for a look that is under way
            self._certain = False
            return Left()
        async with self._looking:
            left = await self._found(duration_ms, home, declared, beside=beside)
        return Left(changed=left.changed, certain=left.certain)

    async def _found(self, duration_ms: int, home: str | None, declared: Declared, *, beside: bool) -> Left:
        """What git finds."""
        if self._seen is None or self._took_ms > duration_ms * LOOK_SHARE_MAX or (beside and home is None):
            self._certain = False
            return Left()
        found = await self._look()
        if found is None:
            self._certain = False
            return Left()
        new = [entry for entry in found if entry not in self._seen]
        certain = self._certain and not beside
        if beside:
            new = [entry for entry in new if below(entry[0], home or "")]
        self._certain = not beside
        self._seen.update(new)
        untracked = [path for path, tracked in new if not tracked]
        undeclared = await trio.to_thread.run_sync(_undeclared, self._workspace, untracked, declared)
        return Left(undeclared, tuple(path for path, tracked in new if tracked), certain)

    async def _linked(self, home: str | None, declared: Declared) -> list[str]:
        """What is new in the project's node_modules."""
        if home not in self._installed:
            return []
        found = await trio.to_thread.run_sync(_installed, self._workspace, home)
        new = found - self._installed[home]
        self._installed[home] |= new
        return [path for path in new if not declared.whole(path)]

    async def _look(self) -> list[tuple[str, bool]] | None:
        """All that git does not find as it is committed: path, and whether it is tracked. None where git cannot tell."""
        began = time.monotonic()
        if self._prefix is None:
            where = await self._git("rev-parse", "--show-prefix")
            self._prefix = None if where is None else os.fsdecode(where).removesuffix("\n")
        said = await self._git(*_STATUS)
        self._took_ms = (time.monotonic() - began) * 1_000
        if said is None or self._prefix is None:
            return None
        return [entry for entry in _entries(said, self._prefix) if _is_something(self._workspace, entry[0])]

    async def _git(self, *arguments: str) -> bytes | None:
        """What git says about this workspace; None where it cannot."""
        environ = without_ours(os.environ) | {"GIT_OPTIONAL_LOCKS": "0"}
        with trio.move_on_after(LOOK_MS / 1_000):
            try:
                done = await trio.run_process(
                    ("git", *arguments),
                    cwd=self._workspace,
                    env=environ,
                    capture_stdout=True,
                    capture_stderr=True,
                    check=False,
                )
            except OSError:
                return None
            return done.stdout if done.returncode == 0 else None
        return None


def among(workspace: Path, places: Iterable[str], meant: Callable[[str], bool], since_ns: int) -> tuple[str, ...]:
    """The first files at `places` or below them that are `meant` and have been written since then (Unix time in nanoseconds)."""
    found = (path for path in _files(workspace, places) if meant(path) and _is_since(workspace / path, since_ns))
    return tuple(islice(found, LISTED_MAX))


def _files(workspace: Path, places: Iterable[str]) -> Iterator[str]:
    looked_at = 0
    for place in places:
        if (workspace / place).is_file():
            yield place
        for folder, inner, names in os.walk(workspace / place):
            inner[:] = sorted(name for name in inner if name not in _OWN_PLACES)
            around = PurePosixPath(os.path.relpath(folder, workspace))
            for name in sorted(names):
                looked_at += 1
                if looked_at > LIST_AT_MAX:
                    return
                yield str(around / name)


def _is_since(file: Path, since_ns: int) -> bool:
    # The time of the inode, since a tool that unpacks or copies sets the other one.
    with suppress(OSError):
        return file.lstat().st_ctime_ns >= since_ns
    return False


def _undeclared(workspace: Path, paths: Sequence[str], declared: Declared) -> tuple[str, ...]:
    """What of `paths` nobody declares; of a directory of which some is declared, what is in it beside that."""
    found: list[str] = []
    looked_at = 0
    stack = list(reversed(paths))
    while stack and looked_at < LOOK_AT_MAX:
        path = stack.pop()
        looked_at += 1
        if declared.whole(path):
            continue
        if not path.endswith("/") or not declared.part(path):
            found.append(path)
            continue
        with suppress(OSError):
            entries = [
                f"{path}{each.name}{'/' * each.is_dir(follow_symlinks=False)}" for each in os.scandir(workspace / path)
            ]
            stack += sorted((each for each in entries if _is_something(workspace, each)), reverse=True)
    return tuple(found)


def _installed(workspace: Path, home: str) -> set[str]:
    """The packages in the node_modules of `home`, as paths from the workspace."""
    place = PurePosixPath(home, "node_modules")
    names = _names(workspace / place)
    scoped = (
        f"{scope}/{name}" for scope in names if scope.startswith("@") for name in _names(workspace / place / scope)
    )
    return {str(place / name) for name in (*(name for name in names if not name.startswith("@")), *scoped)}


def _names(folder: Path) -> list[str]:
    try:
        return [each.name for each in folder.iterdir() if not each.name.startswith(".")]
    except OSError:
        return []


def _entries(said: bytes, prefix: str) -> list[tuple[str, bool]]:
    entries = (os.fsdecode(entry) for entry in said.split(b"\0") if entry)
    told = [(entry[3:].removeprefix(prefix), entry[:2] not in _UNTRACKED) for entry in entries]
    return [each for each in told if _OWN_PLACES.isdisjoint(PurePosixPath(each[0]).parts)]


def _is_something(workspace: Path, path: str) -> bool:
    """Whether it is more than directories without a file, which git tells of where they are ignored."""
    if not path.endswith("/"):
        return True
    below = os.walk(workspace / path)
    return any(files or any(map(os.path.islink, map(Path(folder).joinpath, inner))) for folder, inner, files in below)


def below(path: str, home: str) -> bool:
    """Whether it lies in that directory; "" and "." are the workspace."""
    return home in ("", ".") or path.startswith(f"{home}/")


def some(paths: tuple[str, ...]) -> str:
    """The first few of them, and how many more there are."""
    more = len(paths) - NAMED_MAX
    return ", ".join(paths[:NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
