"""What a workspace says about itself: its task runner, its package manager, its branch; all from files, so that nothing has to be installed."""

import json
import re
from pathlib import Path
from typing import Any, Final, Literal, cast

from msgspec import Struct

from mesh.adapters.native.config import FILE_NAME, load
from mesh.adapters.native.hashing import GitError, git
from mesh.errors import UsageError

ToolName = Literal["nx", "turbo", "dte.toml"]
TOOL_FILES: Final[tuple[tuple[str, ToolName], ...]] = (
    ("nx.json", "nx"),
    ("turbo.json", "turbo"),
    ("turbo.jsonc", "turbo"),
    (FILE_NAME, "dte.toml"),
)

_USUAL: Final = ("lint", "typecheck", "check-types", "test", "build")
_NX_TARGETS: Final = ("lint", "typecheck", "test", "build")
"""A target that no project has is no mistake to nx."""
_COREPACK: Final = "npm install --global corepack@latest && corepack enable"
"""Gives the package manager in the version that package.json asks for; not every Node brings it along."""
_JSONC: Final = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/|,(?=\s*[}\]])', re.DOTALL)


class Manager(Struct, frozen=True):
    """A package manager: how it installs exactly what its lock file says, and how it runs a package's program."""

    install: tuple[str, ...]
    execute: str


def _if_missing(program: str) -> str:
    return f"command -v {program} >/dev/null || {{ {_COREPACK}; }}"


_NPM: Final = Manager(("npm ci",), "npx")
_LOCKS: Final[tuple[tuple[str, Manager], ...]] = (
    ("pnpm-lock.yaml", Manager((_if_missing("pnpm"), "pnpm install --frozen-lockfile"), "pnpm exec")),
    ("bun.lock", Manager(("bun install --frozen-lockfile",), "bunx")),
    ("bun.lockb", Manager(("bun install --frozen-lockfile",), "bunx")),
    ("package-lock.json", _NPM),
    ("npm-shrinkwrap.json", _NPM),
)
_YARN: Final = Manager((_COREPACK, "yarn install --immutable"), "yarn")
_YARN_CLASSIC: Final = Manager((_if_missing("yarn"), "yarn install --frozen-lockfile"), "yarn")
_NO_LOCK: Final = Manager(("npm install",), "npx")
_PYTHON: Final = (
    ("uv.lock", "uv sync --locked"),
    ("requirements.txt", "python3 -m pip install --requirement requirements.txt"),
)
_NODE_FILES: Final = (".nvmrc", ".node-version", ".tool-versions")


def tools_of(root: Path) -> dict[ToolName, str]:
    """The task runners that `root` is set up for, and the file that says so, the likeliest first."""
    found: dict[ToolName, str] = {}
    for name, tool in TOOL_FILES:
        if tool not in found and (root / name).is_file():
            found[tool] = name
    return found


def manager_of(root: Path) -> Manager | None:
    """The package manager by its lock file; None where there are no packages of Node."""
    if not (root / "package.json").is_file():
        return None
    if (lock := root / "yarn.lock").is_file():
        modern = (root / ".yarnrc.yml").is_file() or "__metadata:" in lock.read_text(encoding="utf-8", errors="replace")
        return _YARN if modern else _YARN_CLASSIC
    return next((manager for name, manager in _LOCKS if (root / name).is_file()), _NO_LOCK)


def install_of(root: Path) -> tuple[str, ...]:
    """The commands that install what tasks need; none where nothing says what that is."""
    manager = manager_of(root)
    python = next((command for name, command in _PYTHON if (root / name).is_file()), None)
    return (*(manager.install if manager else ()), *((python,) if python else ()))


def node_file_of(root: Path) -> str:
    """The file that says which Node it is; "" where none does."""
    for name in _NODE_FILES:
        if (root / name).is_file() and (name != ".tool-versions" or "nodejs" in (root / name).read_text("utf-8")):
            return name
    package = _json(root / "package.json") if (root / "package.json").is_file() else {}
    pinned = any("node" in (package.get(key) or {}) for key in ("volta", "engines"))
    return "package.json" if pinned else ""


def command_of(root: Path, tool: ToolName) -> tuple[str, ...]:
    """Shell that sets `$@` to what `dte run` is to do: what a change since `$base` affects; everything without a `$base`."""
    execute = (manager_of(root) or _NO_LOCK).execute
    if tool == "nx":
        targets = " ".join(_NX_TARGETS)
        affected = [f'set -- {execute} nx affected -t {targets} --base="$base"']
        everything = f"set -- {execute} nx run-many -t {targets}"
    elif tool == "turbo":
        tasks = " ".join(turbo_tasks(root))
        affected = ['export TURBO_SCM_BASE="$base"', f"set -- {execute} turbo run {tasks} --affected"]
        everything = f"set -- {execute} turbo run {tasks}"
    else:
        tasks = " ".join(_native_tasks(root))
        affected = [f'set -- --affected --base "$base" {tasks}']
        everything = f"set -- {tasks}"
    return ('if [ -n "$base" ]; then', *(f"  {line}" for line in affected), "else", f"  {everything}", "fi")


def branch_of(root: Path) -> str:
    """The branch that changes are made for, as far as this clone knows."""
    try:
        return git(root, "symbolic-ref", "--short", "refs/remotes/origin/HEAD").decode().strip().removeprefix("origin/")
    except UsageError:
        return "master" if _has_branch(root, "master") and not _has_branch(root, "main") else "main"


def check_root(root: Path) -> None:
    """Raise `UsageError` where `root` is a folder within a repository: CI files belong at its top."""
    try:
        top = Path(git(root, "rev-parse", "--show-toplevel").decode(errors="surrogateescape").rstrip("\n"))
    except GitError:
        return
    if top.resolve() != root.resolve():
        raise UsageError(f"{root} is a folder of the repository {top}: run `dte init` there, where its CI file belongs")


def _has_branch(root: Path, name: str) -> bool:
    try:
        git(root, "rev-parse", "--verify", "--quiet", f"refs/heads/{name}")
    except UsageError:
        return False
    return True


def nx_targets() -> tuple[str, ...]:
    """Targets that CI is likely to run."""
    return _NX_TARGETS


def turbo_tasks(root: Path) -> list[str]:
    """Tasks of turbo.json that CI is likely to run."""
    path = next(root / name for name, tool in TOOL_FILES if tool == "turbo" and (root / name).is_file())
    table = _json(path)
    tasks = table.get("tasks") or table.get("pipeline") or {}
    plain = {name: entry for name, entry in tasks.items() if "#" not in name}
    usual = [name for name in _USUAL if name in plain]
    # What runs until it is stopped has no place in CI, nor has what is never cached: it may deploy.
    lasting = [
        name for name, entry in plain.items() if not entry.get("persistent") and entry.get("cache", True) is not False
    ]
    if not (usual or lasting):
        raise UsageError(f"{path.name} names no task that could run in CI; add one, such as build")
    return usual or lasting


def _native_tasks(root: Path) -> list[str]:
    tasks = load(root).tasks
    usual = [name for name in _USUAL if name in tasks]
    # What is bound to the main job may deploy: nobody gets that for having typed `init`.
    return usual or [name for name, task in tasks.items() if task.where != "main"] or list(tasks)


def _json(path: Path) -> dict[str, Any]:
    """A JSON file as tools of Node take it, with comments and trailing commas."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        value = json.loads(_JSONC.sub(lambda match: match[1] or "", text))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise UsageError(f"{path} is not a JSON object")
    return cast("dict[str, Any]", value)
