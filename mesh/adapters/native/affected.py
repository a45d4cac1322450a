"""`--affected`: only the tasks that have become others between a branch's beginning and now, or stand behind one that has.

Both sides are whole trees in git's own hashes, in which all tasks are found: so renames, reverts and merges need no thought, nor does what an `each` or
`shards` no longer finds. A task is another one if anything that is compared for its key differs: its definition, its command, what it depends on, its inputs.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from msgspec import Struct

from mesh.adapters.native.config import FILE_NAME, Config, parse
from mesh.adapters.native.expand import Expansion, Unit, expand
from mesh.adapters.native.hashing import GitError, Tree, commit_tree, git
from mesh.adapters.native.keys import InputTable
from mesh.errors import UsageError
from mesh.types import TaskId


class Range(Struct, frozen=True):
    """From where `base` and `head` parted to `head`; without a `head`, to the working tree with all that is not committed."""

    base: str
    head: str = ""


def reached_by(workspace: Path, expansion: Expansion, tree: Tree, range_: Range) -> frozenset[TaskId]:
    """The tasks that a change in `range_` reaches. Raises `UsageError` where git does not know enough to say."""
    base = _merge_base(workspace, range_)
    old = commit_tree(workspace, base)
    before = _expanded(workspace, base, old)
    after = expansion
    if range_.head:
        head = _commit(workspace, range_.head)
        tree = commit_tree(workspace, head)
        after = _expanded(workspace, head, tree)
    was, now = _works(before, _without_what_is_in(tree, old)), _works(after, _without_what_is_in(old, tree))
    reached: set[TaskId] = set()
    for unit in expansion.units.values():  # each one behind its dependencies
        work = now.get(unit.id)
        if work is None or work != was.get(unit.id) or not reached.isdisjoint(unit.deps):
            reached.add(unit.id)
    return frozenset(reached)


def _works(expansion: Expansion, tree: Tree) -> Mapping[TaskId, tuple[Unit, str]]:
    """What each task is, and a digest of its inputs."""
    table = InputTable(tree)
    works: dict[TaskId, tuple[Unit, str]] = {}
    for unit in expansion.units.values():
        inputs = table.inputs(unit.inputs, table.made(unit.id, unit.outputs, unit.deps))
        works[unit.id] = unit, inputs.digest
    return works


def _without_what_is_in(other: Tree, tree: Tree) -> Tree:
    """`tree`, in which nobody has to look for who reads what has not changed. Where links lead elsewhere now, that is not enough to know."""
    if tree.links.texts != other.links.texts:
        return tree
    changed = {path: entry for path, entry in tree.entries.items() if entry != other.entries.get(path)}
    return replace(tree, entries=changed | {link: tree.entries[link] for link in tree.links.texts})


def _expanded(workspace: Path, commit: str, tree: Tree) -> Expansion:
    """All tasks as they were in `commit`. A file that could not be used then defines nothing; what the disk now objects to is no matter."""
    try:
        was = parse(git(workspace, "show", f"{commit}:./{FILE_NAME}"))
    except GitError:  # not there yet
        was = parse(b"")
    return expand(Config({}, was.lines) if was.problems else was, workspace, tree.paths)


def _merge_base(workspace: Path, range_: Range) -> str:
    base, head = _commit(workspace, range_.base), _commit(workspace, range_.head or "HEAD")
    try:
        return git(workspace, "merge-base", base, head).decode().strip()
    except GitError:
        if _is_shallow(workspace):
            raise UsageError(
                f"this clone is shallow: where {range_.head or 'HEAD'} parted from {range_.base} is not in it."
                " Get the history: git fetch --unshallow (in GitHub Actions: fetch-depth: 0; in GitLab: GIT_DEPTH: 0)"
            ) from None
        raise UsageError(
            f"{range_.base} and {range_.head or 'HEAD'} have no commit in common; choose another --base"
        ) from None


def _commit(workspace: Path, reference: str) -> str:
    if reference.startswith("-") or not reference:
        raise UsageError(f"--base and --head take a branch, a tag or a commit, not {reference!r}")
    try:
        return git(workspace, "rev-parse", "--verify", "--quiet", f"{reference}^{{commit}}").decode().strip()
    except GitError:
        pass
    git(workspace, "rev-parse", "--git-dir")  # says so if there is no repository at all
    if reference == "HEAD":
        raise UsageError(f"{workspace} has no commit yet, so there is nothing to compare with")
    remotes = git(workspace, "remote").decode().split()
    remote, _, branch = reference.partition("/")
    if remote in remotes and branch:
        fetch = f"git fetch {remote} {branch}:refs/remotes/{reference}"
    else:
        fetch = f"git fetch {remotes[0] if remotes else 'origin'} {reference}"
    more = " (this clone is shallow; git fetch --unshallow gets all of it)" if _is_shallow(workspace) else ""
    raise UsageError(f"{reference} is not known in this clone: {fetch}{more}")


def _is_shallow(workspace: Path) -> bool:
    return git(workspace, "rev-parse", "--is-shallow-repository").strip() == b"true"
