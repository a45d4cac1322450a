"""`dte run TASK…` on the native graph: names in, a graph of tasks out, each with its key and all that an agent needs to run it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from mesh.adapters.native.affected import Range, reached_by
from mesh.adapters.native.config import DEFAULT_INPUTS, Config, Definition, load, refuse
from mesh.adapters.native.expand import Expansion, Unit, expand
from mesh.adapters.native.hashing import Tree, working_tree
from mesh.adapters.native.keys import KEY_VERSION, InputTable, key, machine_of
from mesh.adapters.native.overlap import overlaps
from mesh.errors import UsageError
from mesh.graph import Graph, Task
from mesh.types import TaskId

TOOL: Final = "native"


class Plan(Struct, frozen=True):
    """What will run. `manifest` is every input by path as git writes it, `mode sha`; `notices` are for a person."""

    graph: Graph
    manifest: Mapping[str, str]
    notices: tuple[str, ...] = ()


def plan(workspace: Path, names: Sequence[str], *, environ: Mapping[str, str], affected: Range | None = None) -> Plan:
    """The tasks called `names` and all they depend on. Raises `UsageError`, with everything that is wrong, before anything runs."""
    config = load(workspace)
    tree = working_tree(workspace)
    expansion = expand(config, workspace, tree.paths)
    refuse(expansion.problems)
    targets = _select(config, expansion, names)
    notices = [*tree.notices, *expansion.notices]
    if affected is not None:
        reached = reached_by(workspace, expansion, tree, affected)
        targets = [task_id for task_id in targets if task_id in reached]
        if not targets:
            notices.append(f"nothing to run: no change since {affected.base} reaches {', '.join(names)}")
    units = _closure(expansion, targets)
    notices += [*_unmatched(expansion, tree, units), *_in_the_way(expansion, tree, units)]
    table = InputTable(tree)
    tasks: dict[TaskId, Task] = {}
    manifest: dict[str, str] = {}
    for unit in units:
        inputs = table.inputs(unit.inputs, table.made(unit.id, unit.outputs, unit.deps))
        manifest |= {path: tree.entries[path] for path in inputs.paths if path not in manifest}
        payload = _payload(unit, environ)
        name = key(payload, unit.outputs, payload["machine"], inputs.digest, (tasks[dep].key for dep in unit.deps))
        tasks[unit.id] = _task(unit, payload, name)
    return Plan(Graph.of(tasks.values()), dict(sorted(manifest.items())), tuple(dict.fromkeys(notices)))


# --- which tasks -----------------------------------------------------------------------------------


def _select(config: Config, expansion: Expansion, names: Sequence[str]) -> list[TaskId]:
    if not names:
        raise UsageError(f"name the tasks to run: dte run TASK…\n{_listing(config, expansion)}")
    unknown = [name for name in names if name not in expansion.groups]
    if unknown:
        lines = [_unknown(name, expansion) for name in unknown]
        raise UsageError("\n".join([*lines, "the tasks are", _listing(config, expansion)]))
    return list(dict.fromkeys(task_id for name in names for task_id in expansion.groups[name]))


def _unknown(name: str, expansion: Expansion) -> str:
    close = get_close_matches(name, expansion.groups, n=3)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    return f"there is no task {name!r} in dte.toml{hint}"


def _listing(config: Config, expansion: Expansion) -> str:
    width = max(map(len, config.tasks))
    return "\n".join(
        f"  {name:{width}}  {_extent(definition, expansion)}{definition.description}".rstrip()
        for name, definition in config.tasks.items()
    )


def _extent(definition: Definition, expansion: Expansion) -> str:
    if not definition.each:
        return ""
    directories = {expansion.units[task_id].directory or "." for task_id in expansion.groups[definition.name]}
    return (
        f"({min(directories)}:{definition.name}, in {len(directories)} directories) "
        if directories
        else "(in no directory) "
    )


def _closure(expansion: Expansion, targets: Iterable[TaskId]) -> list[Unit]:
    """The targets and all they depend on, dependencies first."""
    wanted: dict[TaskId, None] = {}
    waiting = list(targets)
    while waiting:
        if (task_id := waiting.pop()) not in wanted:
            wanted[task_id] = None
            waiting.extend(expansion.units[task_id].deps)
    return [unit for unit in expansion.units.values() if unit.id in wanted]


# --- one task --------------------------------------------------------------------------------------


def _payload(unit: Unit, environ: Mapping[str, str]) -> dict[str, Any]:
    names = sorted(unit.definition.pass_env)
    passed = {name: environ[name] for name in names if name in environ}
    for name, value in passed.items():
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise UsageError(
                f"{unit.id}: the value of {name} is not UTF-8, so it cannot be passed to agents; take it out of pass_env"
            )
    payload: dict[str, Any] = {
        "version": KEY_VERSION,
        "command": unit.command if isinstance(unit.command, str) else list(unit.command),
        "shell": isinstance(unit.command, str),
        "cwd": unit.cwd,
        "env": dict(unit.definition.env),
        "pass_env": passed,
        "unset_env": [name for name in names if name not in environ],
        "inputs": list(unit.inputs),
        "machine": machine_of(unit.outputs),
    }
    if unit.shards:
        payload |= {"shard": unit.shard, "shards": unit.shards}
    return payload


def _task(unit: Unit, payload: Mapping[str, Any], name: str) -> Task:
    definition = unit.definition
    return Task(
        id=unit.id,
        tool=TOOL,
        deps=unit.deps,
        key=name,
        cache=definition.cache,
        outputs=unit.outputs,
        where=definition.where,
        runs_on=definition.runs_on,
        resources=definition.resources,
        mutex=definition.mutex,
        allow_failure=definition.allow_failure,
        timeout_ms=definition.timeout,
        retries=definition.retries,
        secret_env=definition.secret_env,
        description=definition.description,
        payload=payload,
    )


# --- what a person should know ---------------------------------------------------------------------


def _unmatched(expansion: Expansion, tree: Tree, units: Sequence[Unit]) -> Iterator[str]:
    """Input globs that mean nothing in any directory of their task: most often a slip of the pen, and a change that is never noticed."""
    by_name: dict[str, list[Unit]] = {}
    for unit in units:
        by_name.setdefault(unit.definition.name, []).append(unit)
    found: dict[str, list[str]] = {}
    for name, group in by_name.items():
        definition = group[0].definition
        if definition.inputs is DEFAULT_INPUTS:
            continue
        for index, pattern in enumerate(definition.inputs):
            if pattern.startswith("!") or any(next(tree.read((unit.inputs[index],)), None) for unit in group):
                continue
            makers = _makers(group[0].inputs[index], expansion)
            before = {unit.id for unit in _closure(expansion, group[0].deps)}
            if not makers:
                text = f"inputs {pattern!r} matches no file that git knows (ignored files are never inputs)"
            elif before.isdisjoint(makers):
                text = f"inputs {pattern!r} is made by {makers[0]}, which is not in its deps; add it, or the order is left to chance"
            else:
                continue
            found.setdefault(text, []).append(name)
    # One slip in a generated file is one notice, and not one for each task.
    return (f"{_some(names)}: {text}" for text, names in found.items())


def _makers(pattern: str, expansion: Expansion) -> list[TaskId]:
    """The tasks whose outputs `pattern` can mean."""
    asked = "\0"  # no task is called so
    outputs = {asked: (pattern,)} | {unit.id: unit.outputs for unit in expansion.units.values() if unit.outputs}
    pairs = ((found.first, found.second) for found in overlaps(outputs))
    return [TaskId(first if second == asked else second) for first, second in pairs if asked in (first, second)]


def _in_the_way(expansion: Expansion, tree: Tree, units: Sequence[Unit]) -> Iterator[str]:
    """Files that are outputs and sources at once."""
    if not tree.by_git:
        return
    for unit in units:
        kept = [path for path in tree.matching(unit.outputs) if path not in tree.untracked]
        if kept:
            yield f"{unit.id}: its outputs cover {_some(kept)}, in git's keeping; outputs are deleted before the task runs"
    for unit in expansion.units.values() if tree.untracked else ():
        loose = [path for path in tree.matching(unit.outputs) if path in tree.untracked]
        if loose:
            yield f"{unit.id}: its outputs {_some(loose)} are not ignored by git, so they count as inputs of other tasks; add them to .gitignore"


def _some(paths: Sequence[str]) -> str:
    return paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
