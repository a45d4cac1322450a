"""What turbo wants done, as the mesh's graph; and every reason for which turbo had better do it alone.

    turbo's task                                     in the graph
    ────────────────────────────────────────────────────────────────────────────────────────────────────────
    cacheable                                        any machine, named by turbo's hash
    no such script in the package                    no task: what depends on it depends on what it depends on
    `cache: false`, persistent, or behind one        main only: an agent's turbo would run it once more for each task behind it
    in a package whose outputs git does not ignore,  main only: once they are there they are inputs, and the hash is another
      whose `inputs` name what a task makes,
      or behind one
    its result is at hand on the main job            main only, and done at once

What stays on main takes no slot of the mesh there: turbo itself starts it when its turn comes.
"""

import hashlib
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import Any, Final

import trio

from mesh.adapters.turbo import environment
from mesh.adapters.turbo.command import OUTPUT_LOGS, TurboCommand, program
from mesh.adapters.turbo.dry_run import NEW_ONLY, DryRun, DryTask, configuration, dry_run
from mesh.adapters.turbo.errors import TurboError
from mesh.adapters.turbo.ignored import as_committed, not_ignored, tracked
from mesh.errors import RemoteError, UsageError
from mesh.exec.environment import without_ours
from mesh.exec.globs import Globs
from mesh.exec.places import Places
from mesh.graph import Graph, Resources, Task
from mesh.types import TaskId

TOOL: Final = "turbo"
TURBO_VERSION_MIN: Final = 2
HERE: Final = "turbo runs all tasks here"

_CACHE_DIR: Final = ".turbo/cache"
_MARK_CHARS: Final = 4
"""Of the hash of a path and of what is in it: enough to name what differs, where the hash of the task has shown that something does."""
_PACKED_CHARS: Final = 2 * _MARK_CHARS
_TOLD_MAX: Final = 3
_NOT_IGNORED: Final = "git does not ignore what is made in its package"
_TRACKED: Final = "git tracks what is made in its package"
_ROOT: Final = "$TURBO_ROOT$/"
_NOT_ASKED: Final = ("--summarize", "--json", "--log-file", "--profile", "--anon-profile", "--remote-only")
"""Options that would have the dry run write something, and one that turbo does not bear beside what it is asked with."""
_EVERYWHERE: Final = ("--global-deps", "--root-turbo-json")
"""Options with a value that change what a task is, and so are said to the agents' turbo too."""
_SWITCHES: Final = ("--single-package", "--dangerously-disable-package-manager-check")
_AGAINST_US: Final = {
    "--no-cache": "keeps no results, through which dte passes them on",
    "--force": "uses no results, through which dte passes them on",
    "--remote-cache-read-only": "keeps no results in a remote cache, through which dte passes them on",
    "--remote-cache-timeout": "does not wait for results",
    "--only": "gives results names of its own",
    "--cwd": "works somewhere else",
    "--api": "uses another remote cache than dte's",
    "--token": "uses another remote cache than dte's",
    "--team": "uses another remote cache than dte's",
}
_SETTINGS: Final = {"api_url": "apiUrl", "team_slug": "teamSlug", "team_id": "teamId"}
_VARIABLES_AGAINST_US: Final = {"TURBO_FORCE": "--force", "TURBO_REMOTE_CACHE_READ_ONLY": "--remote-cache-read-only"}


@dataclass(frozen=True, slots=True)
class TurboPlan:
    """One turbo command's plan. `objection` says why dte must not take it over; only `notices`, and what is `at_hand`, are of use then."""

    dry: DryRun
    passed: tuple[str, ...] = ()
    bare: Mapping[str, str] = field(default_factory=dict)
    """Where `passed` is not for all tasks, the hash of each one as if it had not been said."""
    spared: frozenset[str] = frozenset()
    """Tasks that do not get what is `passed`, though their hashes tell of it: turbo gives it to those that its command names."""
    flags: tuple[str, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict, repr=False)
    remote: Mapping[str, str] | None = field(default=None, repr=False)
    """The user's own remote cache."""
    signed: bool = False
    goes_on: bool = False
    """Whether turbo runs what it can when a task has failed (`--continue`)."""
    cache_dir: Path = Path()
    """Where turbo's own cache should be; a linked git worktree uses that of another one, of which turbo does not tell."""
    kept: Mapping[str, str] = field(default_factory=dict)
    """Tasks that stay on the main job, with the reason."""
    objection: str = ""
    notices: tuple[str, ...] = ()
    new_only: bool = False
    """Whether turbo prints the logs of what it runs alone, and of nothing that is in a cache (`--output-logs=new-only`)."""

    def local(self) -> tuple[str, ...]:
        """Tasks whose result is in turbo's own cache, from where it can be taken: not what is signed, since its signature is not there."""
        if self.signed:
            return ()
        return tuple(task for task in self.dry.tasks if self.has(task))

    def has(self, task_id: str) -> bool:
        """Whether turbo's own cache has the result, so that turbo asks no other one for it."""
        task = self.dry.tasks[task_id]
        return task.local and task.cache and task.exists

    def at_hand(self) -> tuple[str, ...]:
        """All tasks, where turbo's own cache has the result of every one; else none."""
        tasks = list(_real(self.dry))
        return tuple(task.id for task in tasks) if all(task.local for task in tasks) else ()

    def to_graph(self, at_hand: Iterable[str] = (), prefix: str = "") -> Graph:
        """The mesh's view. `at_hand` are tasks whose result the main job has already, or can get; `prefix` keeps apart the tasks of several
        turbo commands in one run.
        """
        present = dict.fromkeys(at_hand)
        return Graph.of(
            self._task(task, prefix, main=task.id in self.kept or task.id in present) for task in _real(self.dry)
        )

    def _task(self, task: DryTask, prefix: str, *, main: bool) -> Task:
        return Task(
            id=TaskId(prefix + task.id),
            tool=TOOL,
            deps=tuple(TaskId(prefix + dep) for dep in _contracted(task, self.dry.tasks)),
            key=task.hash,
            cache=task.cache,
            outputs=tuple(_from_root(task.directory, output) for output in task.outputs),
            where="main" if main else "any",
            resources=Resources(cpu=0 if main else 1),
            secret_env=(environment.SIGNATURE_KEY,) if self.signed else (),
            description=f"turbo run {task.id}",
            payload={
                "id": task.id,
                "turbo": self.dry.version,
                "passed": list(self.passed),
                "bare": self.bare.get(task.id, ""),
                "spared": task.id in self.spared,
                "flags": list(self.flags),
                "environment": dict(self.environment),
                "external": [self.dry.external, task.external],
                "inputs": packed({**self.dry.files, **inputs_from_root(task)}),
                "variables": list(marked(self.dry.variables, task.variables)),
                "log": task.log,
            },
        )


def turbo_id(task: Task) -> str:
    """What turbo calls `task`."""
    return str(task.payload["id"])


async def plan(command: TurboCommand, workspace: Path, environ: Mapping[str, str]) -> TurboPlan:
    """Ask turbo what it is to do. Where dte must not help, the plan says so in `objection`."""
    try:
        return await _plan(command, workspace, environ)
    except (TurboError, RemoteError) as error:
        return _declined(f"{error}; {HERE}")


async def _plan(command: TurboCommand, workspace: Path, environ: Mapping[str, str]) -> TurboPlan:
    if command.says("--graph") is not None or any(command.says(f) is not None for f in ("--dry", "--dry-run")):
        return _declined("turbo only tells what it would run")
    if said := _said_against(command, environ):
        return _declined(f"{said}; {HERE}")
    turbo = program(workspace, environ)
    if turbo is None:
        return _declined(f"turbo is not in this workspace's node_modules, so agents could not run it; {HERE}")
    rules = command.with_value("--root-turbo-json")
    settings = await configuration(turbo, workspace, without_ours(environ, cookie=True), rules)
    signed = settings.flag("signature", default=False)
    if not settings.flag("enabled", default=True):
        return _declined(
            f"turbo's configuration turns its remote cache off, through which dte passes results on; {HERE}"
        )
    if signed and not environ.get(environment.SIGNATURE_KEY):
        return _declined(f"turbo is to sign results, but {environment.SIGNATURE_KEY} is not set; {HERE}")
    options = command.without(*_NOT_ASKED)
    if command.says("--remote-only") is not None or _is_set(environ, "TURBO_REMOTE_ONLY"):
        options.append("--cache=remote:rw")  # which turbo takes beside the variable that tells it where not to ask
    asking = [*options, "--dry=json", *(("--", *command.passed) if command.passed else ())]
    dry = await dry_run(turbo, workspace, environment.planning_environment(environ), asking)
    if _major(dry.version) < TURBO_VERSION_MIN:
        return _declined(f"turbo {dry.version} is too old for dte, which needs turbo {TURBO_VERSION_MIN}; {HERE}")
    if not all((workspace / task.directory).is_dir() for task in _real(dry)):
        return _declined(f"turbo's workspace begins above {workspace}, where dte was started; {HERE}")
    if hashed := environment.hashed_of_ours(environ, [dry.names, *{task.names for task in dry.tasks.values()}]):
        some = ", ".join(hashed[:3])
        return _declined(f"its `env` or `globalEnv` has turbo hash {some}, which dte has to set for a run; {HERE}")
    kept, notices = await _kept(dry, workspace)
    spared = _spared(command, dry)
    if spared and signed:
        return _declined(
            f"arguments are not for all tasks, and turbo signs results by their hashes, which tell of them all the same; {HERE}"
        )
    asking_bare = [*options, "--dry=json"]
    bare = await dry_run(turbo, workspace, environment.planning_environment(environ), asking_bare) if spared else None
    found = TurboPlan(
        dry=dry,
        passed=command.passed,
        bare={task.id: task.hash for task in bare.tasks.values()} if bare else {},
        spared=spared,
        flags=_flags(command, dry),
        environment=environment.shipped(environ, dry.all_names()),
        remote=_remote(settings, environ),
        signed=signed,
        goes_on=command.says("--continue") not in (None, "never"),
        cache_dir=workspace / (command.value("--cache-dir") or settings.text("cacheDir", default=_CACHE_DIR)),
        kept=kept,
        notices=notices,
        new_only=_new_only(command, dry),
    )
    return replace(found, objection=_nothing_to_give(found))


def packed(inputs: Mapping[str, str]) -> str:
    """`inputs` in a few characters each: a mark of the path, a mark of what is in it."""
    return "".join(_mark(path) + _mark(value) for path, value in sorted(inputs.items()))


def differing(theirs: str, ours: Mapping[str, str]) -> tuple[str, ...]:
    """Which of `ours` is not as the main job `packed` it, in words."""
    main = {
        theirs[at : at + _MARK_CHARS]: theirs[at + _MARK_CHARS : at + _PACKED_CHARS]
        for at in range(0, len(theirs), _PACKED_CHARS)
    }
    here = {_mark(path): path for path in ours}
    found = [
        f"{path} ({'another content' if mark in main else 'only here'})"
        for mark, path in sorted(here.items(), key=lambda item: item[1])
        if main.get(mark) != _mark(ours[path])
    ]
    missing = len(main.keys() - here.keys())
    told = [*found[:_TOLD_MAX], *([f"{len(found) - _TOLD_MAX} more"] if len(found) > _TOLD_MAX else [])]
    return (*told, *([f"{missing} file(s) of the main job that are not here"] if missing else []))


def marked(*variables: Iterable[str]) -> Iterator[str]:
    """`NAME=mark` for `NAME=hash of the value`."""
    for each in dict.fromkeys(one for some in variables for one in some):
        name, _, value = each.partition("=")
        yield f"{name}={_mark(value)}"


def inputs_from_root(task: DryTask) -> dict[str, str]:
    """The task's inputs by their paths in the workspace."""
    return {_from_root(task.directory, path): value for path, value in task.inputs.items()}


def _mark(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_MARK_CHARS]


def _from_root(directory: str, path: str) -> str:
    if not directory:
        return path
    return f"!{directory}/{path[1:]}" if path.startswith("!") else f"{directory}/{path}"


def _new_only(command: TurboCommand, dry: DryRun) -> bool:
    said = command.with_value(OUTPUT_LOGS)
    return said[-1].endswith(NEW_ONLY) if said else all(task.new_only for task in _real(dry))


def _declined(reason: str, notices: tuple[str, ...] = ()) -> TurboPlan:
    nothing = DryRun("", {}, loose=False, inference=True, external="", files={}, variables=(), names=())
    return TurboPlan(nothing, objection=reason, notices=notices)


def _said_against(command: TurboCommand, environ: Mapping[str, str]) -> str:
    for flag, what in _AGAINST_US.items():
        if command.says(flag) is not None:
            return f"turbo {flag} {what}"
    for variable, flag in _VARIABLES_AGAINST_US.items():
        if _is_set(environ, variable):
            return f"{variable} is set, with which turbo {_AGAINST_US[flag]}"
    cache = command.value("--cache") or environ.get("TURBO_CACHE", "")
    parts = dict(part.strip().partition(":")[::2] for part in re.split("[,;]", cache) if part.strip())
    if parts and set(parts.get("remote", "")) != {"r", "w"}:
        return f"turbo is to use its caches as {cache!r}, but dte passes results on through the remote one (remote:rw)"
    return ""


def _is_set(environ: Mapping[str, str], variable: str) -> bool:
    """Whether turbo takes it for true."""
    return environ.get(variable, "").lower() in ("1", "true")


def _major(version: str) -> int:
    first = version.partition(".")[0]
    return int(first) if first.isascii() and first.isdigit() else 0


def _spared(command: TurboCommand, dry: DryRun) -> frozenset[str]:
    """Tasks that turbo runs without what follows `--`."""
    names = command.names()
    others = (task.id for task in _real(dry) if task.id.rpartition("#")[2] not in names)
    return frozenset(others if command.passed else ())


def _flags(command: TurboCommand, dry: DryRun) -> tuple[str, ...]:
    said = [word for flag in _EVERYWHERE for word in command.with_value(flag)]
    said += [flag for flag in _SWITCHES if command.says(flag) is not None]
    said += ["--env-mode=loose"] if dry.loose else []
    return (*said, *(() if dry.inference else ("--framework-inference=false",)))


def _remote(settings: Any, environ: Mapping[str, str]) -> dict[str, str] | None:
    """Where the user's own remote cache is; None where there is none, or turbo would not use it for want of a team."""
    if not (token := environ.get("TURBO_TOKEN")):
        return None
    named = {name: settings.text(field, default="") if settings.has(field) else "" for name, field in _SETTINGS.items()}
    team = {name: named[name] for name in ("team_slug", "team_id") if named[name]}
    return {"token": token, "api_url": named["api_url"], **team} if team and named["api_url"] else None


async def _kept(dry: DryRun, workspace: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """What stays on the main job and why, and what a person should know of it."""
    patterns = {path: pattern for task in _real(dry) for path, pattern in _outputs(task).items()}
    seen, committed, unchanged = await _seen(dry, workspace, patterns)
    paths = list(dict.fromkeys(path for some in seen.values() for path in some))
    packages: dict[str, dict[str, str]] = {}
    for task_id, some in seen.items():
        reason = _TRACKED if committed.issuperset(some) else _NOT_IGNORED
        packages.setdefault(dry.tasks[task_id].directory, {}).update(dict.fromkeys(some, reason))
    taken_in = {path for task in _real(dry) for path in _taken_in(task, packages)}
    paths = [path for path in paths if path in taken_in]
    committed = committed.intersection(paths)
    own, others = _fed(dry, unchanged)
    kept = {task.id: reason for task in _real(dry) if (reason := _stays(task, packages, others))}
    first = [*kept]
    for task in _in_order(dry.tasks):
        if task.exists and task.id not in kept:
            for dep in _contracted(task, dry.tasks):
                if dep in kept:
                    kept[task.id] = f"it depends on {dep}, which stays on the main job"
                elif dep in own:
                    kept[task.id] = f"it depends on {dep}, whose `inputs` name what it makes itself ({own[dep]})"
                    first.append(task.id)
                else:
                    continue
                break
    notices = []
    if first:
        more = f", and so do {len(kept) - 1} more" if len(kept) > 1 else ""
        notices.append(f"{first[0]} stays on the main job: {kept[first[0]]}{more}")
    if untracked := [path for path in paths if path not in committed]:
        notices.append(
            f"git does not ignore {_some(untracked)}, which tasks make and turbo then takes for inputs; put it into .gitignore"
        )
    if committed:
        told = _some([patterns.get(path, path) for path in paths if path in committed])
        notices.append(
            f"git tracks {told}, which tasks declare as outputs and turbo takes for inputs; take it out of the outputs in turbo.json"
        )
    return kept, tuple(notices)


async def _seen(
    dry: DryRun, workspace: Path, patterns: Mapping[str, str]
) -> tuple[dict[str, list[str]], frozenset[str], frozenset[str]]:
    """What each task is likely to make that git does not ignore; which of it is committed; and what was left out of it: single files that are as
    they are committed. Such a file makes no difference until a task changes it, and then that task's result is not passed on.
    """
    places = {task.id: [*_outputs(task), *([str(PurePosixPath(task.log))] if task.log else [])] for task in _real(dry)}
    loose = await trio.to_thread.run_sync(not_ignored, workspace, places)
    asked = {path: patterns.get(path, path) for every in loose.values() for path in every}
    committed = await trio.to_thread.run_sync(tracked, workspace, asked)
    single = [path for path in asked if path in committed and asked[path] == path]
    unchanged = await trio.to_thread.run_sync(as_committed, workspace, single)
    left = {task: [path for path in every if path not in unchanged] for task, every in loose.items()}
    seen = {task: some for task, every in left.items() if (some := _likely(dry.tasks[task], every, workspace))}
    return seen, committed, unchanged


def _some(paths: Sequence[str]) -> str:
    return ", ".join(paths[:_TOLD_MAX]) + (f" and {len(paths) - _TOLD_MAX} more" if len(paths) > _TOLD_MAX else "")


def _stays(task: DryTask, packages: Mapping[str, Mapping[str, str]], fed: Mapping[str, str]) -> str:
    """Why it stays, or ""; `packages` are directories whose outputs count as inputs, each with the reason, and `fed` tasks that name such inputs."""
    if task.persistent:
        return "it runs until it is stopped"
    if task.beside:
        return "others run beside it"
    if not task.cache:
        return "turbo does not cache it, so its results cannot be passed on"
    if task.id in fed:
        return f"its `inputs` name what another task makes ({fed[task.id]})"
    return next(iter(_taken_in(task, packages).values()), "")


def _taken_in(task: DryTask, packages: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """What is made in its package and counts as its input, each with the reason."""
    made = packages.get(task.directory, {}) if task.default_inputs else {}
    without = [_input_from_root(task.directory, pattern) for pattern in task.asked if pattern.startswith("!")]
    inputs = _globs(["**", *without]) if made and without else None
    return {path: reason for path, reason in made.items() if inputs is None or inputs.match(path)}


def _fed(dry: DryRun, unchanged: Container[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Tasks whose `inputs` name outputs, but for `unchanged` ones, each with one: first those that name their own, then those that name others'.
    Git's ignoring has no say there, and turbo hashes before anything is made, so that where such an output lies already the hash is another.
    """
    own: dict[str, str] = {}
    others: dict[str, str] = {}
    made = Places[tuple[str, str]]()
    for task in _real(dry):
        for pattern in _outputs(task).values():
            if pattern not in unchanged:
                made.add((task.id, pattern), [_static(pattern)])
    for task in _real(dry):
        asked = [_input_from_root(task.directory, pattern) for pattern in task.asked]
        inputs = _globs(asked)
        named = [path for pattern in asked if inputs.match(path := _one_of(pattern))]
        for maker, pattern in made.sharing(inputs.prefixes):
            if inputs.match(_one_of(pattern)) or (named and any(map(_globs([pattern]).match, named))):
                (own if maker == task.id else others).setdefault(task.id, pattern)
    return own, others


def _static(pattern: str) -> str:
    """The directory, or the file, in which everything is that `pattern` matches."""
    before, star, _ = pattern.partition("*")
    return before.rpartition("/")[0] if star else pattern


def _input_from_root(directory: str, pattern: str) -> str:
    away, path = ("!", pattern[1:]) if pattern.startswith("!") else ("", pattern)
    return away + normpath(path.removeprefix(_ROOT) if path.startswith(_ROOT) else _from_root(directory, path))


def _globs(patterns: Iterable[str]) -> Globs:
    """Those of `patterns` that stay within the workspace, and can be read as ours."""
    readable: list[str] = []
    for pattern in patterns:
        with suppress(UsageError):
            Globs([pattern])
            readable.append(pattern)
    return Globs(readable)


def _one_of(pattern: str) -> str:
    """A path that is as good as any that `pattern` matches."""
    return str(PurePosixPath(pattern.replace("**", "x").replace("*", "x")))


def _outputs(task: DryTask) -> dict[str, str]:
    """What a task makes: a path that is as good as any that a pattern matches, and the pattern, both from the workspace's root."""
    patterns = [_from_root(task.directory, output) for output in task.outputs if not output.startswith("!")]
    return {_one_of(each): each for each in patterns}


def _likely(task: DryTask, paths: Sequence[str], workspace: Path) -> list[str]:
    """Those of `paths`, which git does not ignore, that the task is likely to make. One list of outputs often is for packages of all kinds
    (`dist/**`, `build/**`, `.next/**`): where git ignores one of them, another that is not there is not this package's.
    """
    outputs = _outputs(task)
    if all(path in paths for path in outputs):
        return [*paths]
    return [path for path in paths if _is_there(outputs.get(path, path), workspace)]


def _is_there(pattern: str, workspace: Path) -> bool:
    return "*" not in pattern or (workspace / _static(pattern)).exists()


def _nothing_to_give(found: TurboPlan) -> str:
    tasks = list(_real(found.dry))
    if not tasks:
        return "there is nothing for turbo to run"
    if found.at_hand():
        return "every result is in this machine's turbo cache already"
    if all(task.id in found.kept for task in tasks):
        first = tasks[0].id
        more = f" (and {len(tasks) - 1} more)" if len(tasks) > 1 else ""
        return f"every task stays on the main job: {first}{more}: {found.kept[first]}"
    return ""


def _real(dry: DryRun) -> Iterator[DryTask]:
    return (task for task in dry.tasks.values() if task.exists)


def _contracted(task: DryTask, tasks: Mapping[str, DryTask]) -> list[str]:
    """What `task` depends on, through nodes in which nothing happens."""
    found: dict[str, None] = {}
    passed: dict[str, None] = {}
    stack = list(reversed(task.dependencies))
    while stack:
        dep = stack.pop()
        if dep in passed or dep not in tasks:
            continue
        passed[dep] = None
        if tasks[dep].exists:
            found[dep] = None
        else:
            stack += reversed(tasks[dep].dependencies)
    return list(found)


def _in_order(tasks: Mapping[str, DryTask]) -> Iterator[DryTask]:
    """Each task behind all that it depends on; turbo has made sure that there is no cycle."""
    done: dict[str, None] = {}
    for start in tasks:
        stack = [start]
        while stack:
            waits = [dep for dep in tasks[stack[-1]].dependencies if dep in tasks and dep not in done]
            if waits:
                stack += waits
                continue
            last = stack.pop()
            if last not in done:
                done[last] = None
                yield tasks[last]
