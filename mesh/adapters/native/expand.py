"""From definitions to tasks: one per directory that `each` means and per shard, with names, dependencies and paths made absolute.

What cannot work is found here, before anything runs: an unknown dependency, a cycle, two writers of one path, a path that leaves the workspace.
"""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from posixpath import dirname, normpath, relpath
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from mesh.adapters.native.config import FILE_NAME, Config, Definition, Problem
from mesh.adapters.native.overlap import overlaps
from mesh.exec.globs import Globs
from mesh.types import TaskId

COMMAND_BYTES_MAX: Final = 120_000
"""Linux takes 128 KiB for one argument of a program, and `sh -c` takes the command as one."""

_PLACEHOLDER: Final = re.compile(r"(?<!\$)\{(shard|shards|files)\}")  # `${files}` is the shell's
_SPECIAL: Final = re.compile(r"([\\*?\[\]{},!])")


class Unit(Struct, frozen=True):
    """One task of the workspace. `cwd` and the globs are relative to the workspace."""

    id: TaskId
    definition: Definition
    directory: str | None
    cwd: str
    command: str | tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    deps: tuple[TaskId, ...] = ()
    shard: int = 0
    """From 1; 0 where the task is whole."""
    shards: int = 0


class Expansion(Struct, frozen=True):
    """All tasks of a workspace, each behind what it depends on. `groups` is what a name may mean: a task, its shards, or it in every directory."""

    units: Mapping[TaskId, Unit]
    groups: Mapping[str, tuple[TaskId, ...]]
    notices: tuple[str, ...]
    problems: tuple[Problem, ...]


def expand(config: Config, workspace: Path, files: Sequence[str]) -> Expansion:
    """All tasks that `config` means in a workspace with these `files`."""
    return _Expander(config, workspace, files).expansion()


def rooted(pattern: str, directory: str) -> str:
    """`pattern`, written relative to `directory` or with a leading `/` to the workspace, relative to the workspace."""
    sign, body = ("!", pattern[1:]) if pattern.startswith("!") else ("", pattern)
    if body.startswith("/"):
        return sign + body.lstrip("/")
    plain = _SPECIAL.sub(r"\\\1", directory)
    return f"{sign}{plain}/{body}" if directory else sign + body


class _Expander:
    def __init__(self, config: Config, workspace: Path, files: Sequence[str]) -> None:
        self._config = config
        self._workspace = workspace
        self._root = workspace.resolve()
        self._files = files
        self._problems: dict[Problem, None] = {}
        self._notices: list[str] = []
        self._groups: dict[str, list[TaskId]] = {}
        self._outside: dict[str, bool] = {}

    def expansion(self) -> Expansion:
        units = {unit.id: unit for name in self._config.tasks for unit in self._units(self._config.tasks[name])}
        self._check_paths(units)
        units = {unit.id: self._with_deps(unit) for unit in units.values()}
        groups = {name: tuple(ids) for name, ids in self._groups.items()}
        return Expansion(self._ordered(units), groups, tuple(self._notices), tuple(self._problems))

    def _problem(self, definition: Definition, key: str, text: str, index: int | None = None) -> None:
        line = self._config.line(definition.name, key, index)
        self._problems.setdefault(Problem(line, f"tasks.{definition.name}.{key}: {text}"))

    # --- tasks -------------------------------------------------------------------------------------

    def _units(self, definition: Definition) -> Iterator[Unit]:
        self._groups[definition.name] = []
        if not definition.each:
            yield from self._shards(definition, definition.name, None)
            return
        meant = Globs(rooted(pattern, "") for pattern in definition.each)
        directories = sorted({dirname(path) for path in self._files if meant.match(path)})
        if not directories:
            pattern = definition.each[0]
            self._problem(
                definition,
                "each",
                f'{pattern!r} matches no file; it names a file in each directory, like "packages/*/pyproject.toml"',
            )
        for directory in directories:
            yield from self._shards(definition, f"{directory or '.'}:{definition.name}", directory)

    def _shards(self, definition: Definition, label: str, directory: str | None) -> Iterator[Unit]:
        cwd = directory or ""
        if definition.cwd:
            cwd = normpath(
                definition.cwd.lstrip("/") if definition.cwd.startswith("/") else f"{cwd or '.'}/{definition.cwd}"
            )
            cwd = "" if cwd == "." else cwd
        parts = self._parts(definition, cwd)
        for number, files in enumerate(parts, start=1):
            shard, shards = (number, len(parts)) if definition.shards else (0, 0)
            unit = Unit(
                id=TaskId(f"{label}/{shard}" if shard else label),
                definition=definition,
                directory=directory,
                cwd=cwd,
                command=_command(definition, shard, shards, files),
                inputs=tuple(rooted(pattern, cwd) for pattern in definition.inputs),
                outputs=tuple(rooted(_fill(pattern, shard, shards), cwd) for pattern in definition.outputs),
                shard=shard,
                shards=shards,
            )
            if isinstance(unit.command, str) and len(unit.command.encode(errors="replace")) > COMMAND_BYTES_MAX:
                self._problem(
                    definition,
                    "shards",
                    f"the {len(files)} files of {unit.id} do not fit in one command line; raise `max`",
                )
            for name in dict.fromkeys((definition.name, label, unit.id)):
                self._groups.setdefault(name, []).append(unit.id)
            yield unit
        self._groups.setdefault(label, [])

    def _parts(self, definition: Definition, cwd: str) -> list[list[str]]:
        """The files of each shard; one part without files where the task has none to divide."""
        shards = definition.shards
        if shards is None:
            return [[]]
        if not shards.files:
            return [[] for _ in range(shards.count)]
        meant = Globs((rooted(shards.files, cwd),))
        files = [relpath(path, cwd or ".") for path in self._files if meant.match(path)]
        if not files and not definition.each:
            self._problem(definition, "shards", f"{shards.files!r} matches no file")
        elif not files:
            self._notices.append(
                f"{definition.name}: no file in {cwd or '.'} matches {shards.files!r}; nothing is run there"
            )
        count = min(shards.count, len(files))
        return [files[start::count] for start in range(count)]

    # --- dependencies ------------------------------------------------------------------------------

    def _with_deps(self, unit: Unit) -> Unit:
        deps: dict[TaskId, None] = {}
        for index, name in enumerate(unit.definition.deps):
            here = f"{unit.directory or '.'}:{name}"
            if unit.directory is not None and here in self._groups:
                deps.update(dict.fromkeys(self._groups[here]))
            elif name in self._groups:
                deps.update(dict.fromkeys(self._groups[name]))
            else:
                close = get_close_matches(name, self._groups, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(self._config.tasks)}"
                self._problem(unit.definition, "deps", f"{name!r} is not a task; {hint}", index)
        return replace(unit, deps=tuple(deps))

    def _ordered(self, units: Mapping[TaskId, Unit]) -> Mapping[TaskId, Unit]:
        sorter = TopologicalSorter({unit.id: unit.deps for unit in units.values()})
        try:
            return {task_id: units[task_id] for task_id in sorter.static_order()}
        except CycleError as error:
            cycle: list[TaskId] = error.args[1][::-1]  # it tells who goes before whom, we who waits for whom
            self._problem(
                units[cycle[0]].definition,
                "deps",
                f"tasks wait for each other: {' → '.join(cycle)}; take one of these deps away",
            )
            return units

    # --- paths -------------------------------------------------------------------------------------

    def _check_paths(self, units: Mapping[TaskId, Unit]) -> None:
        for unit in units.values():
            definition = unit.definition
            if self._is_outside(unit.cwd):
                self._problem(definition, "cwd", f"{unit.cwd!r} leads out of the workspace through a symbolic link")
                continue
            if not (self._workspace / unit.cwd).is_dir() and not _is_made(unit.cwd, units):
                self._problem(definition, "cwd", f"there is no directory {unit.cwd!r} in the workspace")
            for key, patterns in (("inputs", unit.inputs), ("outputs", unit.outputs)):
                for index, pattern in enumerate(patterns):
                    if not pattern.startswith("!") and any(map(self._is_outside, Globs((pattern,)).prefixes)):
                        self._problem(
                            definition, key, f"{pattern!r} leads out of the workspace through a symbolic link", index
                        )
            self._check_outputs(unit)
        told: dict[tuple[str, str], None] = {}
        for overlap in overlaps({unit.id: unit.outputs for unit in units.values()}):
            first, second = (units[TaskId(owner)] for owner in (overlap.first, overlap.second))
            names = (first.definition.name, second.definition.name)
            if names not in told and names[::-1] not in told:
                told[names] = None
                advice = "put {shard} into the path" if names[0] == names[1] and first.shards else "give each its own"
                self._problem(
                    second.definition,
                    "outputs",
                    f"{overlap.second_pattern!r} of {second.id} and {overlap.first_pattern!r} of {first.id} can be the same path; {advice}",
                )

    def _check_outputs(self, unit: Unit) -> None:
        """Outputs are cleared before a task runs, so they must never be able to mean what a person wrote."""
        meant = Globs(unit.outputs)
        at = f"{unit.cwd}/" if unit.cwd else ""
        if meant.match(".git/HEAD"):
            self._problem(
                unit.definition,
                "outputs",
                f"{', '.join(unit.outputs)} covers .git; name the directories that the task makes",
            )
        elif meant.match(FILE_NAME) or meant.match(f"{at}{FILE_NAME}"):
            self._problem(
                unit.definition,
                "outputs",
                f"{', '.join(unit.outputs)} covers the sources in {unit.cwd or 'the workspace'}, and outputs are deleted before a run;"
                ' name the directories that the task makes, like "dist/**"',
            )

    def _is_outside(self, path: str) -> bool:
        if path not in self._outside:
            try:
                self._outside[path] = not (self._workspace / path).resolve().is_relative_to(self._root)
            except (OSError, RuntimeError):  # a loop of links
                self._outside[path] = True
        return self._outside[path]


def _is_made(directory: str, units: Mapping[TaskId, Unit]) -> bool:
    """Whether some task's outputs may be what makes `directory`."""
    made = (Globs(unit.outputs) for unit in units.values())
    return any(globs.may_contain(directory) or globs.match(directory) for globs in made)


def _fill(text: str, shard: int, shards: int, files: Sequence[str] = ()) -> str:
    if not shards:
        return text
    found = {"shard": str(shard), "shards": str(shards), "files": shlex.join(files)}
    return _PLACEHOLDER.sub(lambda match: found[match[1]], text)


def _command(definition: Definition, shard: int, shards: int, files: Sequence[str]) -> str | tuple[str, ...]:
    if isinstance(definition.command, str):
        return _fill(definition.command, shard, shards, files)
    words: list[str] = []
    for word in definition.command:
        words.extend(files if shards and word == "{files}" else (_fill(word, shard, shards),))
    return tuple(words)
