"""Whether git ignores what tasks make: turbo takes every file of a package that it does not for an input."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

WAIT_MS: Final = 60_000
_NONE_IGNORED: Final = 1


def not_ignored(workspace: Path, places: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """For each task the `places` that git does not ignore. Where git cannot say, nothing: turbo then takes inputs from elsewhere too."""
    asked = dict.fromkeys(path for some in places.values() for path in some if not path.startswith(".."))
    if not asked:
        return {}
    try:
        done = _git(workspace, "check-ignore", "-z", "--stdin", asked="".join(f"{path}\0" for path in asked))
    except (OSError, subprocess.SubprocessError):
        return {}
    if done.returncode not in (0, _NONE_IGNORED):
        return {}
    ignored = _paths(done)
    seen = {task: [path for path in some if path in asked and path not in ignored] for task, some in places.items()}
    return {task: paths for task, paths in seen.items() if paths}


def tracked(workspace: Path, paths: Sequence[str]) -> frozenset[str]:
    """Those of `paths` that are committed, or about to be: .gitignore says nothing of them."""
    if not paths:
        return frozenset()
    try:
        return _paths(_git(workspace, "ls-files", "-z")).intersection(paths)
    except (OSError, subprocess.SubprocessError):
        return frozenset()


def _git(workspace: Path, *arguments: str, asked: str = "") -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        ("git", *arguments),
        cwd=workspace,
        input=asked.encode(errors="surrogateescape"),
        capture_output=True,
        timeout=WAIT_MS / 1_000,
        check=False,
    )


def _paths(done: "subprocess.CompletedProcess[bytes]") -> frozenset[str]:
    return frozenset(done.stdout.decode(errors="surrogateescape").split("\0")[:-1])
