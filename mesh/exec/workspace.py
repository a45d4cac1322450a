"""What a checkout says of itself, so that an agent which works on something else than the main job is noticed, and the difference named."""

import hashlib
import os
import platform
import subprocess
from pathlib import Path
from typing import Final

from mesh.exec.environment import without_ours

GIT_WAIT_MS: Final = 60_000
"""Time for a cold disk and a large checkout."""


def facts(workspace: Path) -> dict[str, str]:
    """`commit` ("" without git), `dirty` (a digest of what differs from the commit in tracked files, or ""), `os`, `arch`, `python`."""
    commit = _git(workspace, "rev-parse", "HEAD").decode().strip()
    changes = _git(workspace, "diff", "--binary", "--no-ext-diff", "--no-textconv", "HEAD") if commit else b""
    return {
        "commit": commit,
        # A digest and not a flag: jobs that all apply the same patch have the same content.
        "dirty": hashlib.sha256(changes).hexdigest()[:12] if changes else "",
        "os": platform.system().lower(),
        "arch": platform.machine().lower(),
        "python": platform.python_version(),
    }


def _git(workspace: Path, *arguments: str) -> bytes:
    """What git prints; nothing where there is no git, or nothing that it could tell."""
    # Git runs the user's filters, which are no more to see the run's secret than a task is.
    environ = without_ours(os.environ)
    environ["GIT_OPTIONAL_LOCKS"] = "0"  # it must not stand in the way of the user's own git
    try:
        return subprocess.run(
            ("git", "-C", workspace, *arguments),
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=GIT_WAIT_MS / 1_000,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return b""
