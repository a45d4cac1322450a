"""Which workspace this is, by a name that all its checkouts share: what samples are kept by.

It names no person, host or secret, since it travels in files.
"""

import os
import re
import subprocess
from pathlib import Path
from typing import Final

GIT_WAIT_S: Final = 60
"""Time for a cold disk and a large checkout."""

# A hook of git runs us with these set: they would point at one repository, whatever the directory. And git runs programs of the
# user's choice, which are not to see the run's secret.
_NOT_FOR_GIT: Final = ("DTE_", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY")
_WITH_SCHEME: Final = re.compile(
    r"[a-z][a-z0-9+.-]*://(?:[^/?#]*@)?([^/?#:\[]+|\[[^/?#\]]+\])(?::\d*)?(/[^?#]*)?.*", re.IGNORECASE
)
_LIKE_SCP: Final = re.compile(r"(?:[^/@]+@)?([^/:@\\]{2,}):(?!//)([^?#]*).*")


def workspace_id(workspace: Path) -> str:
    """`github.com/acme/shop`, from the remote's address; else the repository's first commit; else the directory's name.

    How the remote is spoken to does not count, nor as whom. A workspace that is not the root of its repository has its place behind a `#`.
    """
    repository = remote_of(workspace) or _first_commit(workspace)
    inside = git(workspace, "rev-parse", "--show-prefix").strip().rstrip("/") if repository else ""
    return (f"{repository}#{inside}" if inside else repository) or workspace.resolve().name or "/"


def remote_of(workspace: Path) -> str:
    """Host and path of `origin`, else of the first remote by name; "" where there is none."""
    url = remote_url(workspace)
    if match := _WITH_SCHEME.fullmatch(url) or _LIKE_SCP.fullmatch(url):
        host, path = match.groups()
        url = f"{host.lower()}/{(path or '').strip('/')}"
    else:
        url = url.removeprefix("file://")
    return url.rstrip("/").removesuffix(".git").rstrip("/")


def remote_url(workspace: Path) -> str:
    """The address as it is configured, secrets and all; "" where there is none."""
    found: dict[str, str] = {}
    for line in git(workspace, "config", "--get-regexp", r"^remote\..*\.url$").splitlines():
        name, _, url = line.partition(" ")
        found.setdefault(name, url.strip())
    return found.get("remote.origin.url") or next((found[name] for name in sorted(found)), "")


def _first_commit(workspace: Path) -> str:
    # What is oldest in a shallow clone depends on when it was made.
    if git(workspace, "rev-parse", "--is-shallow-repository").strip() != "false":
        return ""
    return min(git(workspace, "rev-list", "--max-parents=0", "HEAD").split(), default="")


def git(workspace: Path, *arguments: str) -> str:
    """What git prints; "" where it says no, or is not there."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_FOR_GIT)}
    environ["GIT_OPTIONAL_LOCKS"] = "0"
    try:
        done = subprocess.run(
            ("git", "-C", workspace, *arguments),
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=GIT_WAIT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode(errors="replace")
