"""Whether this checkout would make what main asked for: an agent asks before it bids, and tells a person why where it would not."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from mesh.adapters.native.hashing import Tree, working_tree
from mesh.adapters.native.keys import KEY_VERSION, InputTable, key, machine_of
from mesh.adapters.native.plan import TOOL
from mesh.graph import Graph, Task
from mesh.types import TaskId
from mesh.wire.canonical import Reader

PATHS_TOLD_MAX: Final = 3


def drift(
    workspace: Path,
    graph: Graph,
    manifest_of_main: Mapping[str, str] | None,
    *,
    environ: Mapping[str, str] = os.environ,
) -> dict[TaskId, str]:
    """For each native task that this checkout cannot do as main means it, why. Tasks that only main may run are not looked at."""
    tasks = [task for task in graph.tasks.values() if task.tool == TOOL]
    tree = _without_results(working_tree(workspace), tasks, manifest_of_main or {})
    here = _Checkout(tree)
    # A link of main's that says something else than ours is told as such, wherever it leads.
    main = None if manifest_of_main is None else _Checkout(Tree(manifest_of_main, texts=tree.texts))
    reasons: dict[TaskId, str] = {}
    for task in tasks:
        found = [*_differences(task, graph, here, main), *_missing_secrets(task, environ)]
        if found and task.where != "main":
            reasons[task.id] = "; ".join(found)
    return reasons


class _Checkout:
    """The inputs of tasks in one checkout; to be asked in the order of the graph."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._table = InputTable(tree)

    def inputs(self, task: Task) -> tuple[str, Mapping[str, str]]:
        """The digest of a task's inputs, and the files themselves."""
        made = self._table.made(task.id, task.outputs, task.deps)
        inputs = self._table.inputs(Reader(task.payload, task.id).texts("inputs"), made)
        return inputs.digest, {path: self._tree.entries[path] for path in inputs.paths}


def _without_results(tree: Tree, tasks: Sequence[Task], manifest_of_main: Mapping[str, str]) -> Tree:
    """`tree` without what this very run may have brought here: it was not on main either when the keys were made."""
    if not tree.untracked:
        return tree
    results = {path for task in tasks if task.outputs for path in tree.matching(task.outputs) if path in tree.untracked}
    results -= manifest_of_main.keys()
    return replace(tree, entries={path: entry for path, entry in tree.entries.items() if path not in results})


def _differences(task: Task, graph: Graph, here: _Checkout, main: _Checkout | None) -> Iterator[str]:
    """Why this checkout comes to another key; nothing where it comes to the same."""
    digest, files = here.inputs(task)
    main_digest, main_files = main.inputs(task) if main else ("", {})
    machine = machine_of(task.outputs)
    deps = (graph.tasks[dep].key for dep in task.deps)
    if key({**task.payload, "version": KEY_VERSION}, task.outputs, machine, digest, deps) == task.key:
        return
    version, asked_machine = task.payload.get("version"), task.payload.get("machine")
    if version != KEY_VERSION:
        yield f"main computes keys in another way (version {version}, here {KEY_VERSION}): run the same dte on both"
    if machine != asked_machine:
        yield f"it makes files for {asked_machine}, and this is {machine}"
    if main is None:
        yield "its inputs or its definition are not main's"
    elif digest != main_digest:
        yield f"its inputs are not main's: {_told(files, main_files)}"
    elif version == KEY_VERSION and machine == asked_machine:
        yield "its key is not what its definition and main's files come to, so main's plan is not to be trusted"


def _told(files: Mapping[str, str], main_files: Mapping[str, str]) -> str:
    differing = [path for path in sorted(files.keys() | main_files.keys()) if files.get(path) != main_files.get(path)]
    told = [f"{path} ({_how(files.get(path), main_files.get(path))})" for path in differing[:PATHS_TOLD_MAX]]
    more = len(differing) - len(told)
    return ", ".join(told) + (f" and {more} more" if more else "")


def _how(entry: str | None, main_entry: str | None) -> str:
    if entry is None:
        return "not here"
    if main_entry is None:
        return "only here"
    return "another mode" if entry.split(" ")[1] == main_entry.split(" ")[1] else "another content"


def _missing_secrets(task: Task, environ: Mapping[str, str]) -> Iterator[str]:
    missing = [name for name in task.secret_env if not environ.get(name)]  # an empty one is how CI withholds a secret
    if missing:
        yield f"{', '.join(missing)} (secret_env) is not set here"
