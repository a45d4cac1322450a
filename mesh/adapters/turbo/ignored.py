"""Whether git ignores what tasks make: turbo takes every file of a package that it does not for an input.

Where there is no repository, or none that git wants to speak of, turbo reads .gitignore by itself. So git is asked with an empty repository then.
"""

import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from mesh.errors import UsageError
from mesh.exec.globs import Globs

WAIT_MS: Final = 60_000
_IGNORED: Final = ("check-ignore", "-z", "--stdin")
_NONE_IGNORED: Final = 1


def not_ignored(workspace: Path, places: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """For each task the `places` that git does not ignore. Where git is not there to say, nothing."""
    asked = dict.fromkeys(path for some in places.values() for path in some if not path.startswith(".."))
    if not asked:
        return {}
    paths = "".join(f"{path}\0" for path in asked)
    try:
        done = _git(workspace, *_IGNORED, asked=paths)
        if done.returncode not in (0, _NONE_IGNORED):
            with tempfile.TemporaryDirectory(prefix="dte-git-") as empty:
                _git(workspace, "init", "-q", "--bare", empty)
                done = _git(workspace, f"--git-dir={empty}", "--work-tree=.", *_IGNORED, asked=paths)
    except (OSError, subprocess.SubprocessError):
        return {}
    if done.returncode not in (0, _NONE_IGNORED):
        return {}
    ignored = _paths(done)
    seen = {task: [path for path in some if path in asked and path not in ignored] for task, some in places.items()}
    return {task: paths for task, paths in seen.items() if paths}


def tracked(workspace: Path, patterns: Mapping[str, str]) -> frozenset[str]:
    """Those paths that are committed, or about to be, so that .gitignore says nothing of them; `patterns` has what each one is an example of. Of
    `*/package.json` it counts that such a file is committed anywhere.
    """
    if not patterns:
        return frozenset()
    try:
        files = _paths(_git(workspace, "ls-files", "-z"))
    except (OSError, subprocess.SubprocessError):
        return frozenset()
    return frozenset(path for path, pattern in patterns.items() if path in files or _names_one(pattern, files))


def as_committed(workspace: Path, paths: Sequence[str]) -> frozenset[str]:
    """Those of these files, which git tracks, that nobody has changed."""
    if not paths:
        return frozenset()
    try:
        done = _git(workspace, "--literal-pathspecs", "diff", "--name-only", "--relative", "-z", "HEAD", "--", *paths)
    except (OSError, subprocess.SubprocessError):
        return frozenset()
    return frozenset(paths) - _paths(done) if done.returncode == 0 else frozenset()


def _names_one(pattern: str, files: Iterable[str]) -> bool:
    """Whether `pattern`, which says the name of a file and leaves open where it is, means one of `files`."""
    name = pattern.rpartition("/")[2]
    if "*" not in pattern or "*" in name:
        return False
    try:
        globs = Globs([pattern])
    except UsageError:  # turbo understands it, dte does not
        return False
    return any(file.endswith(f"/{name}") and globs.match(file) for file in files)


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
