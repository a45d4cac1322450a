"""Declared outputs against git: what it does not ignore counts as an input of other tasks, and what it keeps is overwritten.

Outputs are looked at before they are made, so git is asked about sample paths that a pattern can mean.
"""

import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from mesh.adapters.native.hashing import GitError, git
from mesh.cli.checks import Check, some
from mesh.errors import UsageError
from mesh.exec.globs import Globs

_BRACES: Final = re.compile(r"(?<!\\)\{([^{},]*)[^{}]*\}")
_CLASS: Final = re.compile(r"\[[!^]?.[^\]]*\]")
_SAMPLE: Final = "sample"
TOLD_MAX: Final = 3
"""So many tasks get a line each; of more, only the first is told."""


def outputs_and_git(workspace: Path, outputs: Mapping[str, Sequence[str]]) -> Iterator[Check]:
    """By task, its output patterns relative to the workspace; those that lead out of it are passed over."""
    inside = {
        (task, pattern): _samples(pattern)
        for task, patterns in outputs.items()
        for pattern in patterns
        if not pattern.startswith(("!", "/", "..")) and "/../" not in pattern
    }
    try:
        ignored = _ignored(workspace, sorted({path for paths in inside.values() for path in paths}))
        kept = git(workspace, "ls-files", "-z").decode(errors="surrogateescape").split("\0")[:-1]
    except UsageError as error:
        if "not a git repository" not in str(error):
            yield Check("warn", str(error), "so nobody knows which outputs are ignored by git")
        return
    loose = [key for key, paths in inside.items() if ignored.isdisjoint(paths)]
    for task, group in _by_task(loose).items():
        yield Check(
            "warn",
            f"{task}: its outputs {some(group)} are not ignored by git, so they count as inputs of tasks",
            "add them to .gitignore",
        )
    for task, group in _by_task([key for key in inside if _keeps(kept, key[1])]).items():
        yield Check(
            "warn",
            f"{task}: its outputs {some(group)} are in git's keeping, and are replaced whenever the task runs",
            "take them out of the outputs, or out of git (git rm --cached)",
        )


def _by_task(found: list[tuple[str, str]]) -> dict[str, list[str]]:
    """One line for each set of patterns: those of many projects are told with the first of them."""
    table: dict[str, list[str]] = {}
    for task, pattern in found:
        table.setdefault(task, []).append(pattern)
    if len(table) <= TOLD_MAX:
        return table
    first = next(iter(table))
    return {some([*table]): table[first]}


def _samples(pattern: str) -> tuple[str, str]:
    """A path that `pattern` means, and one within it, were it a directory: git's patterns may ask for either."""
    while (plain := _BRACES.sub(r"\1", pattern)) != pattern:
        pattern = plain
    path = _CLASS.sub("x", pattern).replace("**", _SAMPLE).replace("*", _SAMPLE).replace("?", "x").replace("\\", "")
    path = "/".join(part for part in path.split("/") if part not in ("", "."))
    return path, f"{path}/{_SAMPLE}"


def _ignored(workspace: Path, paths: Sequence[str]) -> frozenset[str]:
    """Those of `paths` that git would not see."""
    if not paths:
        return frozenset()
    asked = "\0".join(paths).encode(errors="surrogateescape")
    done = subprocess.run(
        ("git", "check-ignore", "--no-index", "--stdin", "-z"),
        cwd=workspace,
        input=asked,
        capture_output=True,
        check=False,
    )
    if done.returncode not in (0, 1):
        raise GitError(done.stderr.decode(errors="replace").strip())
    return frozenset(done.stdout.decode(errors="surrogateescape").split("\0"))


def _keeps(kept: Sequence[str], pattern: str) -> bool:
    try:
        meant = Globs((pattern,))
    except UsageError:  # nx understands it, dte does not
        return False
    return any(meant.match(path) for path in kept)
