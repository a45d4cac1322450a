"""Tasks of nx: which agents can take them, which stay on the main job and why.

nx is asked for its task graph only (`--graph`): nothing is run, whatever becomes of this process.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

from mesh.adapters.nx.environment import SINGLE
from mesh.adapters.nx.node_options import PNP
from mesh.adapters.nx.plan import Plan
from mesh.cli.checks import Check, some
from mesh.cli.checks.ignored import outputs_and_git
from mesh.cli.ci.workspace import install_of
from mesh.errors import MeshError, UsageError
from mesh.exec.environment import without_ours
from mesh.graph import Where

NX_S: Final = 300
"""A cold nx on a busy machine takes minutes, if rarely."""
OTHER_CACHES: Final = tuple(
    f"@nx/{prefix}{name}-cache" for name in ("s3", "shared-fs", "gcs", "azure") for prefix in ("", "powerpack-")
)
_SINCE_21: Final = {"parallelism": True, "continuous": False}
_ENVIRONMENT: Final = {"NX_DAEMON": "false", "NX_NO_CLOUD": "true", "NX_TUI": "false", "FORCE_COLOR": "0"}


def tasks_of_nx(workspace: Path, targets: Sequence[str], environ: Mapping[str, str]) -> Iterator[Check]:
    """What nx would run for `targets` in all projects; without any, for every target there is."""
    package = workspace / "node_modules/nx/package.json"
    if not package.is_file() and (workspace / PNP).is_file():
        yield Check(
            "ok", "nx comes by Yarn's Plug'n'Play: `dte run` distributes its tasks, but this does not look at them"
        )
        return
    if not package.is_file():
        install = " && ".join(install_of(workspace))
        yield Check("bad", "nx.json is here, but nx is not installed", f"install dependencies first: {install}")
        return
    try:
        plan = _plan(workspace, _read(package)["version"], targets, environ)
    except (UsageError, MeshError) as error:
        yield Check("bad", str(error))
        return
    yield Check("ok", f"nx {plan.nx}")
    if plan.objection:
        yield Check("bad", plan.objection)
        return
    where = {str(task.id): task.where for task in plan.to_graph().tasks.values()}
    yield Check("ok", f"nx: agents can run {list(where.values()).count('any')} of {len(where)} tasks")
    yield from _stay(plan, where)
    yield from _beside(plan)
    yield from outputs_and_git(workspace, {name: raw["outputs"] for name, raw in plan.tasks.items()})


def _stay(plan: Plan, where: Mapping[str, Where]) -> Iterator[Check]:
    stay = {name: plan.tasks[name] for name, place in where.items() if place == "main"}
    for group in _by_target(stay, lambda raw: not raw["cache"]):
        yield Check(
            "warn",
            f"only on the main job: {some(group)}, with `cache: false`: it may deploy, or rewrite the repository",
            "if all it does is make its outputs, set `cache: true` in nx.json",
        )
    for group in _by_target(stay, lambda raw: raw["cache"]):
        yield Check(
            "warn",
            f"only on the main job: {some(group)}, with outputs outside the workspace, which nx does not cache",
            "write them below the workspace",
        )


def _beside(plan: Plan) -> Iterator[Check]:
    for group in _by_target(plan.tasks, lambda raw: raw["continuous"]):
        yield Check("ok", f"continuous: {some(group)}: started beside the tasks that need it, and stopped after them")
    for group in _by_target(plan.tasks, lambda raw: not raw["parallelism"]):
        yield Check("ok", f"with an agent of its own while it runs: {some(group)} (`parallelism: false`)")


def _by_target(tasks: Mapping[str, Mapping[str, Any]], chosen: Callable[[Mapping[str, Any]], bool]) -> list[list[str]]:
    """The tasks that are `chosen`, together where they are the same target of many projects."""
    groups: dict[str, list[str]] = {}
    for name, raw in tasks.items():
        if chosen(raw):
            groups.setdefault(raw["target"]["target"], []).append(name)
    return list(groups.values())


def _plan(workspace: Path, version: str, targets: Sequence[str], environ: Mapping[str, str]) -> Plan:
    """Nx's task graph as if main.cjs had sent it. Raises `UsageError` or `RemoteError`."""
    projects = _nx(workspace, environ, "graph")["graph"]["nodes"].values()
    lasting = {
        name: target.get("continuous", False) is True
        for project in projects
        for name, target in project["data"].get("targets", {}).items()
    }
    if unknown := [name for name in targets if name not in lasting]:
        raise UsageError(f"no project has a target {unknown[0]!r}; there are {', '.join(sorted(lasting))}")
    wanted = list(targets) or [name for name in lasting if not lasting[name]]
    if not wanted:
        raise UsageError("no project of this workspace has a target, so there is nothing to run")
    graph = _nx(workspace, environ, "run-many", "--targets", ",".join(wanted))["tasks"]
    tasks = {name: {**_SINCE_21, "hash": "", **raw} for name, raw in graph["tasks"].items()}
    caches = [name for name in OTHER_CACHES if (workspace / "node_modules" / name).exists()]
    return Plan.from_json(
        {
            "nx": version,
            "node": "",
            "command": ["run-many"],
            "initiating": [],
            "parallel": 1,
            "bail": False,
            "local": [],
            "everything_is_here": False,
            "settled": [],
            "tasks": {name: {**raw, "cache": bool(raw.get("cache"))} for name, raw in tasks.items()},
            "inputs": {},
            "dependencies": graph["dependencies"],
            "continuous_dependencies": graph.get("continuousDependencies", {}),
            "runs_single_tasks": _runs_single_tasks(workspace, environ),
            "skip_cache": bool(environ.get("NX_SKIP_NX_CACHE") or environ.get("NX_DISABLE_NX_CACHE")),
            "skip_remote_cache": bool(environ.get("NX_SKIP_REMOTE_CACHE") or environ.get("NX_DISABLE_REMOTE_CACHE")),
            "other_remote_cache": next(iter(caches), ""),
            "legacy_cache": _is_legacy(workspace, version, environ),
            "node_path": [],
        }
    )


def _runs_single_tasks(workspace: Path, environ: Mapping[str, str]) -> bool:
    """What dte needs of nx, asked of nx's own modules as main.cjs does."""
    found = subprocess.run(
        ("node", os.fspath(SINGLE)), cwd=workspace, env=dict(environ), capture_output=True, timeout=NX_S, check=False
    )
    return found.returncode == 0


def _is_legacy(workspace: Path, version: str, environ: Mapping[str, str]) -> bool:
    """Whether nx 20 is told to keep its results without a database; nx 21 knows no such thing."""
    told = environ.get("NX_DISABLE_DB") == "true" or environ.get("NX_DB_CACHE") == "false"
    return version.startswith("20.") and (told or bool(_read(workspace / "nx.json").get("useLegacyCache")))


def _nx(workspace: Path, environ: Mapping[str, str], *arguments: str) -> dict[str, Any]:
    """What `nx ARGUMENTS` would do, as nx tells in a file."""
    ours = without_ours(environ)
    with tempfile.TemporaryDirectory(prefix="dte-doctor-") as folder:
        told = Path(folder) / "graph.json"
        how = f"--{'file' if arguments == ('graph',) else 'graph'}={told}"
        try:
            done = subprocess.run(
                (os.fspath(workspace / "node_modules/.bin/nx"), *arguments, how),
                cwd=workspace,
                env={**ours, **_ENVIRONMENT},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=NX_S,
                check=False,
            )
        except OSError as error:
            raise UsageError(f"nx cannot be started: {error.strerror}") from None
        except subprocess.TimeoutExpired:
            raise UsageError(f"nx {arguments[0]} did not end in {NX_S} s") from None
        if done.returncode != 0 or not told.is_file():
            said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            raise UsageError(f"nx {arguments[0]} failed: {' '.join(said[:3]) or f'exit code {done.returncode}'}")
        return _read(told)


def _read(path: Path) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))
