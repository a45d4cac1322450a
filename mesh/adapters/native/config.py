"""`dte.toml`: what a person wrote, checked as far as the file alone can be, with the line of everything that is wrong with it.

All mistakes of a file are told at once, each with what to do about it, and a name from another tool is answered with ours. What needs the
workspace (which directories an `each` means, who depends on whom) is the business of `expand`.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, cast

from msgspec import Struct, field

from mesh.adapters.native import values
from mesh.adapters.native.lines import Lines
from mesh.adapters.native.values import Shards, WrongValueError
from mesh.errors import UsageError
from mesh.graph import Resources, Where

FILE_NAME: Final = "dte.toml"
DEFAULT_INPUTS: Final = ("**", f"!/{FILE_NAME}")
"""A task's definition is part of its key already: without this, every edit of the file would run every task again."""

_TASK_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@-]*")
_POSITION: Final = re.compile(r" ?\(at line (\d+), column \d+\)")
_END: Final = " (at end of document)"


class Definition(Struct, frozen=True):
    """One `[tasks.NAME]` with the defaults filled in. Two of them are equal where they mean the same work."""

    name: str
    command: str | tuple[str, ...] = ""
    deps: tuple[str, ...] = ()
    inputs: tuple[str, ...] = DEFAULT_INPUTS
    outputs: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    pass_env: tuple[str, ...] = ()
    secret_env: tuple[str, ...] = ()
    cache: bool = True
    cwd: str = ""
    timeout: int = 0
    """In milliseconds, like `Task.timeout_ms`; it keeps the name it has in the file."""
    retries: int = 0
    runs_on: tuple[str, ...] = ()
    resources: Resources = field(default_factory=Resources)
    mutex: str = ""
    allow_failure: bool = False
    where: Where = "any"
    description: str = ""
    each: tuple[str, ...] = ()
    shards: Shards | None = None


_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "command": values.command,
    "deps": values.deps,
    "inputs": values.globs,
    "outputs": values.globs,
    "env": values.env,
    "pass_env": values.env_names,
    "secret_env": values.env_names,
    "cache": values.flag,
    "cwd": values.directory,
    "timeout": values.duration_ms,
    "retries": values.retries,
    "runs_on": values.labels,
    "resources": values.resources,
    "mutex": values.text,
    "allow_failure": values.flag,
    "where": values.where,
    "description": values.text,
    "each": values.glob_or_globs,
    "shards": values.shards,
}
_OF_ONE_TASK: Final = ("command", "deps", "outputs", "cwd", "description", "each", "shards")

_FOREIGN: Final[Mapping[str, str]] = {
    **dict.fromkeys(("dependsOn", "depends_on", "depends-on", "needs", "execution_dependencies", "requires"), "deps"),
    **dict.fromkeys(("cmd", "cmds", "commands", "script", "scripts", "run", "exec", "executor", "args"), "command"),
    **dict.fromkeys(("sources", "srcs", "src", "files"), "inputs"),
    **dict.fromkeys(
        ("generates", "outs", "out_dirs", "output_files", "output_directories", "artifacts", "artifact_paths"),
        "outputs",
    ),
    **dict.fromkeys(("dir", "directory", "working-directory", "working_directory", "workdir", "workingDir"), "cwd"),
    **dict.fromkeys(("environment", "variables", "vars"), "env"),
    **dict.fromkeys(("globalEnv", "passEnv", "extra_env_vars", "pass-env"), "pass_env"),
    **dict.fromkeys(
        ("passThroughEnv", "globalPassThroughEnv", "secrets", "secret", "pass_unsafe_env", "secret-env"), "secret_env"
    ),
    **dict.fromkeys(("timeout-minutes", "timeout_minutes", "timeout_in_minutes", "timeout_ms", "timeout_s"), "timeout"),
    **dict.fromkeys(("retry", "retryCount", "retry_count", "flaky"), "retries"),
    **dict.fromkeys(
        ("runs-on", "runsOn", "run-on", "tags", "labels", "agents", "platform", "platforms", "os"), "runs_on"
    ),
    **dict.fromkeys(("concurrency", "concurrency_group", "resource_group", "exclusive"), "mutex"),
    **dict.fromkeys(
        ("continue-on-error", "continue_on_error", "allowFailure", "soft_fail", "ignore_error"), "allow_failure"
    ),
    **dict.fromkeys(("desc", "summary", "doc"), "description"),
    **dict.fromkeys(("matrix", "parallel", "parallelism", "shard", "shard_count"), "shards"),
    **dict.fromkeys(("foreach", "for_each", "packages", "projects"), "each"),
    **dict.fromkeys(("cpus", "memory", "cpu", "gpu", "gpus"), "resources"),
}
_FOREIGN_TABLES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("task", "pipeline", "targets", "target", "jobs", "job", "scripts", "recipes"), "[tasks.NAME]"),
    **dict.fromkeys(("default", "globals", "global", "targetDefaults", "globalEnv", "env", "variables"), "[defaults]"),
}


class Problem(Struct, frozen=True, order=True):
    """One thing that is wrong, and the line a person has to look at."""

    line: int
    text: str


class Config(Struct, frozen=True):
    """A whole file. `problems` are empty, or nothing may run."""

    tasks: Mapping[str, Definition]
    lines: Lines
    problems: tuple[Problem, ...] = ()

    def line(self, task: str, key: str = "", index: int | None = None) -> int:
        """Where `key` of a task is written: with the task, or in the defaults it inherits."""
        own, inherited = ("tasks", task, key), ("defaults", key)
        path = inherited if own not in self.lines and inherited in self.lines else own
        return self.lines.of(path if index is None else (*path, index))


def load(workspace: Path) -> Config:
    """The workspace's file. Raises `UsageError` with everything that is wrong with it."""
    path = workspace / FILE_NAME
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(
            f"there is no {FILE_NAME} in {workspace}: write one that names your tasks (see docs/guide/tasks.md),"
            " or wrap a command instead: dte run -- nx affected -t build"
        ) from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    config = parse(data)
    refuse(config.problems)
    return config


def refuse(problems: tuple[Problem, ...]) -> None:
    """Raise one `UsageError` that tells all `problems` in the order of their lines; with none, do nothing."""
    if problems:
        raise UsageError("\n".join(f"{FILE_NAME}:{problem.line}: {problem.text}" for problem in sorted(set(problems))))


def parse(data: bytes) -> Config:
    """What `data` says. Never raises: whatever is wrong is in `problems`."""
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        return Config({}, Lines(""), (Problem(line, "is not UTF-8; save the file in that encoding"),))
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _POSITION.search(str(error))
        line = int(found[1]) if found else text.count("\n") + 1
        reason = _POSITION.sub("", str(error)).removesuffix(_END)
        return Config({}, Lines(""), (Problem(line, f"is not TOML: {reason}"),))
    return _Parser(document, Lines(text)).config()


class _Parser:
    def __init__(self, document: Mapping[str, Any], lines: Lines) -> None:
        self._document = document
        self._lines = lines
        self._problems: list[Problem] = []

    def config(self) -> Config:
        for name in self._document:
            if name not in ("tasks", "defaults"):
                self._unknown((name,), f"`{name}`", ("[tasks.NAME]", "[defaults]"), _FOREIGN_TABLES)
        defaults = self._fields(("defaults",), self._table(("defaults",), self._document.get("defaults", {})))
        tasks = {
            name: self._definition(name, self._table(("tasks", name), value), defaults)
            for name, value in self._table(("tasks",), self._document.get("tasks", {})).items()
        }
        if not tasks and not self._problems:
            self._problem((), "names no task; write at least one [tasks.NAME] with a command")
        return Config(tasks, self._lines, tuple(self._problems))

    def _problem(self, path: tuple[str | int, ...], text: str) -> None:
        self._problems.append(Problem(self._lines.of(path), text))

    def _table(self, path: tuple[str, ...], value: Any) -> Mapping[str, Any]:
        if type(value) is dict:
            return cast("Mapping[str, Any]", value)
        name = ".".join(path)
        self._problem(path, f"`{name}` must be a table: [{name}], not {values.shown(value)}")
        return {}

    def _definition(self, name: str, table: Mapping[str, Any], defaults: Mapping[str, Any]) -> Definition:
        path = ("tasks", name)
        if not _TASK_NAME.fullmatch(name):
            self._problem(
                path, f"task name {name!r}: use letters, digits and . _ - + @ (a `:` divides a directory from a task)"
            )
        own = self._fields(path, table)
        merged: dict[str, Any] = {**defaults, **own}
        merged["env"] = {**defaults.get("env", {}), **own.get("env", {})}
        merged["resources"] = Resources(**{**defaults.get("resources", {}), **own.get("resources", {})})
        if "command" not in table:
            foreign = any(_FOREIGN.get(key) == "command" for key in table)
            if not foreign:  # else that name was answered already
                self._problem(path, f'tasks.{name} has no command: command = "make {name}" (or a list of arguments)')
        if merged.get("shards") is not None:
            self._check_shards(path, merged)
        for other in ("env", "pass_env"):
            for variable in merged.get("secret_env", ()):
                if variable in merged.get(other, ()):
                    self._problem(
                        (*path, other if other in table else "secret_env"),
                        f"tasks.{name}: {variable} is in `{other}` and in `secret_env`; a secret must not be written down or sent: take it out of `{other}`",
                    )
        return Definition(name=name, **merged)

    def _check_shards(self, path: tuple[str, ...], merged: Mapping[str, Any]) -> None:
        command, shards = merged.get("command", ""), merged["shards"]
        words = (command,) if isinstance(command, str) else command
        uses_files = any("{files}" in word for word in words)
        if shards.files and words != ("",) and not uses_files:
            self._problem(
                (*path, "command"), "`shards.files` divides files, but the command has no {files} that takes them"
            )
        if uses_files and not shards.files:
            self._problem((*path, "command"), '{files} needs `shards = { files = "tests/**/test_*.py", max = 8 }`')
        if not isinstance(command, str) and any("{files}" in word and word != "{files}" for word in command):
            self._problem((*path, "command"), 'in a list, "{files}" must be an argument of its own')

    def _fields(self, path: tuple[str, ...], table: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of one table that are right; each that is not is a problem."""
        fields: dict[str, Any] = {}
        where = ".".join(path)
        for key, value in table.items():
            if key not in _READERS:
                self._unknown((*path, key), f"{where}: `{key}`", tuple(_READERS), _FOREIGN)
            elif path == ("defaults",) and key in _OF_ONE_TASK:
                self._problem((*path, key), f"`{key}` belongs to one task, not to [defaults]")
            else:
                try:
                    fields[key] = _READERS[key](value)
                except WrongValueError as error:
                    self._problem((*path, key, *error.inside), f"{where}.{key}: {error}")
        return fields

    def _unknown(self, path: tuple[str, ...], what: str, known: tuple[str, ...], foreign: Mapping[str, str]) -> None:
        name = path[-1]
        plain = name.replace("-", "_").lower()
        if name in foreign:
            hint = f"is called `{foreign[name]}` here"
        elif close := get_close_matches(plain, known, n=1, cutoff=0.7):
            hint = f"is not known; did you mean `{close[0]}`?"
        else:
            hint = f"is not known; there are {', '.join(known)}"
        self._problem(path, f"{what} {hint}")
