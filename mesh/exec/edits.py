"""Which files that git tracks a task has changed: no tool passes those on with a result, and a single machine that does everything has them."""

import os
import subprocess
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Final

import trio

from mesh.exec.environment import without_ours
from mesh.exec.leftovers import some

Edits = dict[str, tuple[int, int] | None]
"""Tracked files that are not as they are committed: their times of change, in nanoseconds, and sizes; None for what is no file any more."""

_CHANGED: Final = ("git", "diff", "--name-only", "--relative", "--no-renames", "--no-ext-diff", "-z", "HEAD")
_CLEAN: Final = (0, 0)


def only_on_main(edited: tuple[str, ...]) -> str:
    """Why nothing is passed on of a task that has succeeded: it, or one beside it, has changed these."""
    return (
        f"{some(edited)}, which git tracks, changed while it ran: so it, and what depends on it, runs on the main job"
    )


def edits(workspace: Path) -> Edits:
    """What has been changed so far; nothing where this is no git checkout."""
    environ = without_ours(os.environ)
    try:
        done = subprocess.run(_CHANGED, cwd=workspace, env=environ, capture_output=True, check=False)
    except FileNotFoundError:
        return {}
    return {name: _state(workspace / name) for name in filter(None, os.fsdecode(done.stdout).split("\0"))}


class Edited:
    """What turns out to be changed in one workspace. Whoever was at work meanwhile may have done it."""

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace
        self._edits: Edits | None = None
        self._found: list[str] = []
        self._looking = trio.Lock()

    async def mark(self) -> int:
        """Now, for `since`."""
        if self._edits is None:
            await self._look()
        return len(self._found)

    async def since(self, mark: int, outputs: Container[str] = ()) -> tuple[str, ...]:
        """What has been found to be changed since then, and what of `outputs` is not as it is committed, whoever changed it."""
        await self._look()
        travels = [path for path in self._edits or () if path in outputs]
        return tuple(dict.fromkeys((*self._found[mark:], *travels)))

    async def _look(self) -> None:
        async with self._looking:
            now = await trio.to_thread.run_sync(edits, self._workspace)
            if self._edits is not None:
                self._found += _differing(self._edits, now)
            self._edits = now


def _differing(before: Mapping[str, tuple[int, int] | None], after: Mapping[str, tuple[int, int] | None]) -> list[str]:
    return [path for path in {**before, **after} if before.get(path, _CLEAN) != after.get(path, _CLEAN)]


def _state(path: Path) -> tuple[int, int] | None:
    if path.is_symlink() or not path.is_file():
        return None
    state = path.stat()
    return state.st_mtime_ns, state.st_size
