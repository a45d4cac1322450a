"""What a checkout's packages of Node say of themselves: the lock file, Node, the package manager, and the task runner that is installed."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

from mesh.exec.environment import without_ours

LOCK_FILES: Final = (
    ("pnpm-lock.yaml", "pnpm"),
    ("yarn.lock", "yarn"),
    ("bun.lock", "bun"),
    ("bun.lockb", "bun"),
    ("package-lock.json", "npm"),
    ("npm-shrinkwrap.json", "npm"),
)
NX_PLACES: Final = ("node_modules", ".nx/installation/node_modules")
"""Where nx is installed; the second is that of `./nx`, for workspaces without a package.json."""
VERSION_WAIT_MS: Final = 20_000
DIGEST_CHARS: Final = 12

_SWITCHES_ITSELF: Final = ("pnpm", "yarn")
"""Started in any version, these go on as the one that package.json asks for."""
_MANIFEST_DEPTH: Final = 4
"""How far above a package manager's program its package.json may be."""


def package_facts(workspace: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """`lock-file` (name and digest), `node`, `package-manager` (name and version), `nx`, `turbo`: what there is of them, and nothing
    at all for a workspace without packages of Node, whose tasks any Node may run.
    """
    manifest = _json(workspace / "package.json")
    if manifest is None and not (workspace / "nx.json").is_file():
        return {}
    lock, manager = next(((name, manager) for name, manager in LOCK_FILES if (workspace / name).is_file()), ("", "npm"))
    wanted = str((manifest or {}).get("packageManager") or "")
    found = {
        "lock-file": f"{lock} {_digest(workspace / lock)}" if lock else "",
        "node": _said("node", workspace, environ).removeprefix("v"),
        "package-manager": _package_manager(wanted, manager, workspace, environ),
        "nx": next(filter(None, (_version(workspace / place / "nx") for place in NX_PLACES)), ""),
        "turbo": _version(workspace / "node_modules/turbo"),
    }
    return {name: value for name, value in found.items() if value}


def _package_manager(wanted: str, by_lock_file: str, workspace: Path, environ: Mapping[str, str]) -> str:
    name, _, version = wanted.partition("@")
    name = name or by_lock_file
    if not version or name not in _SWITCHES_ITSELF:
        version = _installed(name, environ) or _said(name, workspace, environ)
    return f"{name} {version.partition('+')[0]}" if version else ""


def _installed(name: str, environ: Mapping[str, str]) -> str:
    """The version of a program that is a package itself, without the quarter of a second that starting it takes; "" where it is none."""
    found = shutil.which(name, path=environ.get("PATH"))
    if found is None:
        return ""
    for folder in (*Path(found).resolve().parents,)[:_MANIFEST_DEPTH]:
        manifest = _json(folder / "package.json")
        if manifest is not None and manifest.get("name") == name:
            return str(manifest.get("version") or "")
    return ""


def _version(package: Path) -> str:
    return str((_json(package / "package.json") or {}).get("version") or "")


def _said(program: str, workspace: Path, environ: Mapping[str, str]) -> str:
    """What `program --version` prints; "" where it prints nothing of use."""
    try:
        said = subprocess.run(
            (shutil.which(program, path=environ.get("PATH")) or program, "--version"),
            cwd=workspace,
            env=without_ours(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=VERSION_WAIT_MS / 1_000,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    return said.decode(errors="replace").strip().partition("\n")[0]


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:DIGEST_CHARS]
    except OSError as error:
        return os.strerror(error.errno or 0)


def _json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None
