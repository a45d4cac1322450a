"""What nx itself has measured in this workspace, so that the first run with dte is not blind.

Nx keeps a SQLite database for each machine and each version of its schema, since nx 23 in the user's home, by the workspace's identity. Tables and columns
that are asked for are the same from nx 21 to 24. Results from a cache are rows too, with a status of their own, and say nothing of a duration.
"""

import hashlib
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from mesh.errors import RemoteError
from mesh.store.history.place import git, remote_url, workspace_id
from mesh.store.history.samples import Sample, is_duration
from mesh.types import TaskId, UnixMs
from mesh.wire import canonical
from mesh.wire.canonical import Reader

ROWS_MAX: Final = 100_000
DATABASES_MAX: Final = 16
_BUSY_WAIT_S: Final = 1.0

_QUERY: Final = """
    SELECT project, target, configuration, status, start, "end" FROM task_history JOIN task_details USING (hash)
    WHERE status IN ('success', 'failure') ORDER BY task_history.id DESC LIMIT ?
"""
_REMOTES: Final = tuple(
    re.compile(pattern + r"([^/]+/.+?)(?:\.git)?")
    for pattern in (r"git@([^:]+):", r"https?://(?:[^@]+@)?([^@/]+)/", r"ssh://[^@]+@([^:/]+)(?::[0-9]+)?/")
)
"""The addresses that nx understands, as nx does: host and path."""


def seed_from_nx(workspace: Path, machine: str, environ: Mapping[str, str] | None = None) -> tuple[list[Sample], str]:
    """Samples of this workspace, and "" or what a person should know: then there are none. No history at all is nothing to know."""
    try:
        databases = _databases(workspace, os.environ if environ is None else environ)
        if not databases:
            return [], ""
        name = workspace_id(workspace)
        return [_sample(name, machine, row) for path in databases for row in _rows(path)], ""
    except (sqlite3.Error, OSError, MemoryError, ValueError) as error:
        return [], f"nx's own task history could not be read ({error}); this run begins without it"


def _rows(path: Path) -> Iterator[tuple[Any, ...]]:
    log = path.with_name(f"{path.name}-wal")
    # Read-only, SQLite would still leave its two helper files beside a database that nobody has open.
    how = "mode=ro" if log.exists() and log.stat().st_size else "immutable=1"
    uri = f"file:{quote(str(path))}?{how}"
    with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_WAIT_S)) as connection:
        for row in connection.execute(_QUERY, (ROWS_MAX,)):
            if _sensible(*row):
                yield row


def _sensible(project: Any, target: Any, configuration: Any, _status: Any, start: Any, end: Any) -> bool:
    names = all(type(name) is str for name in (project, target, configuration or ""))
    return names and type(start) is int and type(end) is int and is_duration(end - start)


def _sample(workspace: str, machine: str, row: tuple[Any, ...]) -> Sample:
    project, target, configuration, status, start, end = row
    task = TaskId(":".join(filter(None, (project, target, configuration))))
    return Sample(workspace, task, machine, end - start, UnixMs(end), status)


def _databases(workspace: Path, environ: Mapping[str, str]) -> list[Path]:
    """Every schema's database; the newest where there are too many."""
    found = [path for place in _places(workspace, environ) for path in place.glob("*.db") if path.is_file()]
    return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)[:DATABASES_MAX]


def _places(workspace: Path, environ: Mapping[str, str]) -> Iterator[Path]:
    if told := environ.get("NX_WORKSPACE_DATA_DIRECTORY") or environ.get("NX_PROJECT_GRAPH_CACHE_DIRECTORY"):
        yield workspace / told
        return
    yield workspace / ".nx" / "workspace-data"
    if (home := environ.get("HOME")) and (identity := _identity(workspace)):
        yield Path(home) / ".nx" / hashlib.sha256(identity.encode()).hexdigest()[:16] / "databases"


def _identity(workspace: Path) -> str:
    """What nx calls the workspace: the name it has at Nx Cloud, else a hash over its remote or first commit, and its place in the repository."""
    try:
        config = Reader(canonical.decode((workspace / "nx.json").read_bytes()), "nx.json")
        for name in ("nxCloudId", "nxCloudAccessToken"):
            if config.has(name):
                return config.text(name)
    except OSError:
        return ""
    except RemoteError:  # comments, perhaps: nx takes them
        pass
    url = remote_url(workspace)
    matches = [match for pattern in _REMOTES if (match := pattern.fullmatch(url))]
    if matches:
        host, path = matches[0].groups()
        repository = f"{host}/{path}".lower().rstrip("/")
    else:
        repository = min(git(workspace, "rev-list", "--max-parents=0", "HEAD").split(), default="")
    inside = git(workspace, "rev-parse", "--show-prefix").strip().rstrip("/")
    return hashlib.sha256(f"{repository}#{inside}".encode()).hexdigest() if repository else ""
