"""A task's key: the name of its result before it exists. Everything that may change the result is in it, and nothing else.

Main computes it when it plans, and each agent computes it again from the task's payload in its own checkout; where the two differ the agent
would make something else than what was asked for.
"""

import hashlib
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from mesh.adapters.native.hashing import Tree
from mesh.types import TaskId
from mesh.wire import canonical

KEY_VERSION: Final = 2
"""Grows with every change of what a key is made of, so that a result of another making is never taken for ours."""

_IN_THE_KEY: Final = ("version", "command", "shell", "cwd", "env", "pass_env", "unset_env", "shard", "shards")


class Inputs(Struct, frozen=True):
    """The files a task reads, and one digest over their names and contents."""

    paths: tuple[str, ...]
    digest: str


class InputTable:
    """The inputs of many tasks in one tree; tasks with the same globs share the work."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._known: dict[tuple[tuple[str, ...], frozenset[str]], Inputs] = {}
        self._made: dict[TaskId, frozenset[str]] = {}

    def made(self, task_id: TaskId, outputs: Sequence[str], deps: Iterable[TaskId]) -> frozenset[str]:
        """The files that the task or what it depends on makes. They are no inputs: the keys of their makers stand for them.

        To be asked in the order of the graph, dependencies first.
        """
        here = frozenset(self._tree.matching(outputs)) if outputs else frozenset[str]()
        self._made[task_id] = here.union(
            *(self._made.get(dep, here) for dep in deps)
        )  # a dependency may be another tool's
        return self._made[task_id]

    def inputs(self, patterns: Sequence[str], made: frozenset[str]) -> Inputs:
        """What `patterns` mean, without what is `made`."""
        asked = (tuple(patterns), made)
        if asked not in self._known:
            paths = tuple(sorted(self._tree.read(patterns, made)))
            listing = [[path, self._tree.entries[path]] for path in paths]
            self._known[asked] = Inputs(paths, hashlib.sha256(canonical.encode(listing)).hexdigest())
        return self._known[asked]


def key(
    payload: Mapping[str, Any], outputs: Sequence[str], machine: str, inputs_digest: str, dep_keys: Iterable[str]
) -> str:
    """The key of the task with this `payload`, on a `machine` (see `machine_of`)."""
    parts = {name: payload.get(name) for name in _IN_THE_KEY}
    parts |= {"outputs": list(outputs), "machine": machine, "inputs": inputs_digest, "deps": sorted(dep_keys)}
    return hashlib.sha256(canonical.encode(parts)).hexdigest()


def machine_of(outputs: Sequence[str]) -> str:
    """What of this machine goes into a key: its system and architecture if something is made that another one may not be able to use."""
    return f"{sys.platform}/{platform.machine()}" if outputs else ""
