"""Why tasks have other hashes here than elsewhere, or than at another commit: what they are made of is saved there, and compared here."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import trio

from mesh.adapters.native.config import load
from mesh.adapters.native.drift import drift
from mesh.adapters.native.plan import plan as plan_native
from mesh.adapters.nx.asking import ask, differing
from mesh.adapters.turbo.command import TurboCommand
from mesh.adapters.turbo.drift import drift as drift_of_turbo
from mesh.adapters.turbo.plan import plan as plan_turbo
from mesh.cli.checks import Check
from mesh.cli.ci.workspace import nx_targets, tools_of, turbo_tasks
from mesh.errors import RemoteError, UsageError
from mesh.exec.packages import package_facts
from mesh.exec.workspace import facts
from mesh.graph import Graph, Task
from mesh.protocol.facts import COMPARED_FACTS
from mesh.store.files import write_atomically
from mesh.wire import canonical
from mesh.wire.canonical import Reader

VERSION: Final = 1
ADVICE: Final = "give both the same; or, for nx and turbo, take the input out of the task's inputs if the result does not depend on it"


def save(file: Path, workspace: Path, tasks: Sequence[str], environ: Mapping[str, str]) -> Check:
    """Write what the hashes of `tasks` are made of here to `file`. Raises a `MeshError`."""
    told: dict[str, Any] = {"version": VERSION, "facts": _facts(workspace, environ), "tools": {}}
    for tool in tools_of(workspace):
        told["tools"][tool] = _saved(tool, workspace, tasks, environ)
    write_atomically(file, canonical.encode(told) + b"\n")
    count = sum(len(tool["tasks"]) for tool in told["tools"].values())
    return Check("ok", f"{file} says what the hashes of {count} tasks are made of here")


def compare(file: Path, workspace: Path, environ: Mapping[str, str]) -> Iterator[Check]:
    """What is another here than where `file` was saved. Raises a `MeshError`."""
    try:
        read = Reader(canonical.decode(file.read_bytes()), str(file))
        version = read.number("version")
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None
    except RemoteError as error:
        raise UsageError(f"{file} was not written by `dte doctor --save`: {error}") from None
    if version != VERSION:
        raise UsageError(f"{file} was saved by another version of dte; install one version on both machines")
    ours = _facts(workspace, environ)
    for name, theirs in read.string_table("facts").items():
        if (here := ours.get(name, "")) != theirs:
            yield Check("bad", f"{name.replace('-', ' ')} is {here or 'unknown'} here, and {theirs} there")
    for tool, there in read.table("tools").items():
        differences, same = _differences(tool, there, workspace, environ)
        for task, what in differences.items():
            yield Check("bad", f"{task} has another hash here; what differs: {what}", ADVICE)
        yield Check("ok", f"{tool}: {same} tasks have the same hash")


def _facts(workspace: Path, environ: Mapping[str, str]) -> dict[str, str]:
    found = facts(workspace) | package_facts(workspace, environ)
    return {name: found[name] for name in COMPARED_FACTS if name in found}


def _saved(tool: str, workspace: Path, names: Sequence[str], environ: Mapping[str, str]) -> dict[str, Any]:
    if tool == "nx":
        arguments = ("run-many", "-t", *(names or nx_targets()))
        plan, _ = trio.run(ask, workspace, arguments, environ)
        tasks = {name: {"hash": raw["hash"], "inputs": plan.inputs[name]} for name, raw in plan.tasks.items()}
        return {"arguments": list(arguments), "tasks": tasks}
    if tool == "turbo":
        turbo = trio.run(plan_turbo, TurboCommand(("run", *(names or turbo_tasks(workspace)))), workspace, environ)
        if turbo.objection:
            raise UsageError(f"turbo: {turbo.objection}")
        return _raw(Graph.of(_without_values(task) for task in turbo.to_graph().tasks.values()))
    # Without variables to pass on: those that are passed are the main job's own everywhere.
    native = plan_native(workspace, tuple(names) or tuple(load(workspace).tasks), environ={})
    return {**_raw(native.graph), "manifest": dict(native.manifest)}


def _without_values(task: Task) -> Task:
    """As turbo knows it, but without the variables that agents are given: the values here are to be those of this machine."""
    environment = {**task.payload["environment"], "names": [], "values": {}}
    return replace(task, payload={**task.payload, "environment": environment})


def _raw(graph: Graph) -> dict[str, Any]:
    return {"graph": canonical.decode(graph.encode()), "tasks": {task: {} for task in graph.tasks}}


def _differences(
    tool: str, there: Mapping[str, Any], workspace: Path, environ: Mapping[str, str]
) -> tuple[dict[str, str], int]:
    """Task → what differs, and how many tasks are the same."""
    read = Reader(dict(there), tool)
    saved = read.table("tasks")
    if tool == "nx":
        return _of_nx(saved, read.texts("arguments"), workspace, environ)
    graph = Graph.decode(canonical.encode(read.table("graph")))
    if tool == "turbo":
        found = trio.run(drift_of_turbo, workspace, graph, environ)
    else:
        found = drift(workspace, graph, read.string_table("manifest"), environ=environ)
    return {str(task): what for task, what in found.items()}, len(saved) - len(found)


def _of_nx(
    saved: Mapping[str, Any], arguments: tuple[str, ...], workspace: Path, environ: Mapping[str, str]
) -> tuple[dict[str, str], int]:
    plan, inputs = trio.run(ask, workspace, arguments, environ)
    found: dict[str, str] = {}
    for name, raw in saved.items():
        if name not in plan.tasks:
            found[name] = "nx does not know this task here"
        elif raw["hash"] and plan.tasks[name]["hash"] != raw["hash"]:
            found[name] = ", ".join(differing(inputs[name], raw["inputs"])) or "an input that is not here"
    return found, len(saved) - len(found)
