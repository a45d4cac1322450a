"""`--affected`: only the tasks whose inputs, or whose dependencies' inputs, differ between a branch's beginning and now.

Both sides are whole trees in git's own hashes, so renames, reverts and merges need no thought: a path is changed if its content differs.
"""

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from mesh.adapters.native.config import FILE_NAME, Config, Definition, parse
from mesh.adapters.native.expand import Expansion
from mesh.adapters.native.hashing import GitError, Tree, commit_tree, git
from mesh.errors import UsageError
from mesh.exec.globs import Globs
from mesh.types import TaskId


class Range(Struct, frozen=True):
    """From where `base` and `head` parted to `head`; without a `head`, to the working tree with all that is not committed."""

    base: str
    head: str = ""


def reached_by(workspace: Path, config: Config, expansion: Expansion, tree: Tree, range_: Range) -> frozenset[TaskId]:
    """The tasks that a change in `range_` reaches. Raises `UsageError` where git does not know enough to say."""
    base = _merge_base(workspace, range_)
    before = commit_tree(workspace, base)
    after = commit_tree(workspace, _commit(workspace, range_.head)) if range_.head else tree
    changed = _changed(before, after)
    redefined = _redefined(workspace, config, base, range_.head)
    reached: set[TaskId] = set()
    for unit in expansion.units.values():  # each one behind its dependencies
        if unit.definition.name in redefined or not reached.isdisjoint(unit.deps):
            reached.add(unit.id)
        else:
            meant = Globs(unit.inputs)
            if any(before.is_meant(path, meant) or after.is_meant(path, meant) for path in changed):
                reached.add(unit.id)
    return frozenset(reached)


def _changed(before: Tree, after: Tree) -> list[str]:
    """The paths that differ. A submodule is one path: its commit tells what is in it."""
    submodules = tuple(f"{path}/" for path in after.paths if after.is_submodule(path))
    return [
        path
        for path in sorted(before.entries.keys() | after.entries.keys())
        if before.entries.get(path) != after.entries.get(path) and not path.startswith(submodules)
    ]


def _redefined(workspace: Path, config: Config, base: str, head: str) -> frozenset[str]:
    """The names of the tasks whose definition differs. A file that could not be used then defines nothing."""
    before = _definitions(workspace, base)
    after = _definitions(workspace, head) if head else config.tasks
    return frozenset(name for name in config.tasks if name not in after or before.get(name) != after[name])


def _definitions(workspace: Path, commit: str) -> Mapping[str, Definition]:
    try:
        was = parse(git(workspace, "show", f"{commit}:./{FILE_NAME}"))
    except GitError:  # not there yet
        return {}
    return {} if was.problems else was.tasks


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
