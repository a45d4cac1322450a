"""What turbo would do in one checkout, asked with `--dry=json`: the only door through which anything about turbo's graph comes in."""

import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import trio
from msgspec import Struct

from mesh.adapters.turbo.errors import TurboError
from mesh.errors import RemoteError
from mesh.wire import canonical
from mesh.wire.canonical import Reader

WAIT_MS: Final = 300_000
"""A large repository on a cold disk, on a machine that is busy with everything else."""
TASKS_MAX: Final = 200_000
NEW_ONLY: Final = "new-only"
_NOTHING: Final = "<NONEXISTENT>"
_SAID_CHARS: Final = 1_000
_DEFAULT: Final = "$TURBO_DEFAULT$"


class DryTask(Struct, frozen=True):
    """One task as turbo sees it. `inputs` is file by file, relative to the package; `variables` are `NAME=hash of its value`."""

    id: str
    hash: str
    directory: str
    dependencies: tuple[str, ...]
    exists: bool
    """False: the package has no such script. A node of turbo's graph in which nothing happens."""
    cache: bool
    persistent: bool
    beside: bool
    """Others are started together with it (`with`)."""
    outputs: tuple[str, ...]
    log: str
    local: bool
    """Its result is in turbo's own cache on this machine."""
    inputs: Mapping[str, str]
    external: str
    variables: tuple[str, ...]
    names: tuple[str, ...]
    """Variables that are hashed, as patterns."""
    default_inputs: bool
    """Whatever lies in the package is an input."""
    asked: tuple[str, ...]
    """What else is an input, as patterns, relative to the package: git ignored or not."""
    new_only: bool = False
    """Its log is printed when it runs, and not when its result is in a cache; a command may say otherwise."""

    @classmethod
    def from_json(cls, value: Any) -> "DryTask":
        """One of `tasks`. Raises `RemoteError("malformed")`."""
        read = Reader(value, "task")
        definition = Reader(read.table("resolvedTaskDefinition"), "task.resolvedTaskDefinition")
        asked = _texts(definition, "inputs")
        return cls(
            id=read.text("taskId"),
            hash=read.text("hash"),
            directory=read.text("directory", default=""),
            dependencies=_texts(read, "dependencies"),
            exists=read.text("command", max_chars=16_777_216) != _NOTHING,
            cache=definition.flag("cache", default=True),
            persistent=definition.flag("persistent", default=False) or definition.flag("interactive", default=False),
            beside=bool(_texts(read, "with")),
            outputs=_texts(read, "outputs"),
            log=read.text("logFile", default=""),
            local=Reader(read.table("cache"), "task.cache").flag("local", default=False),
            inputs=read.string_table("inputs"),
            external=read.text("hashOfExternalDependencies", default=""),
            variables=_variables(read.table("environmentVariables")),
            names=_names(read.table("environmentVariables")),
            default_inputs=not asked or _DEFAULT in asked,
            asked=tuple(pattern for pattern in asked if pattern != _DEFAULT),
            new_only=definition.text("outputLogs", default="") == NEW_ONLY,
        )


class DryRun(Struct, frozen=True):
    """The whole answer, in turbo's order."""

    version: str
    tasks: Mapping[str, DryTask]
    loose: bool
    inference: bool
    external: str
    files: Mapping[str, str]
    variables: tuple[str, ...]
    names: tuple[str, ...]

    @classmethod
    def from_json(cls, value: Any) -> "DryRun":
        """What turbo printed. Raises `RemoteError("malformed")`."""
        read = Reader(value, "dry run")
        everywhere = Reader(read.table("globalCacheInputs"), "globalCacheInputs")
        tasks = [DryTask.from_json(item) for item in read.items("tasks", max_items=TASKS_MAX)]
        return cls(
            version=read.text("turboVersion"),
            tasks={task.id: task for task in tasks},
            loose=read.text("envMode", default="strict").lower() == "loose",
            inference=read.flag("frameworkInference", default=True),
            external=everywhere.text("hashOfExternalDependencies", default=""),
            files=everywhere.string_table("files"),
            variables=_variables(everywhere.table("environmentVariables")),
            names=_names(everywhere.table("environmentVariables")),
        )

    def all_names(self) -> tuple[str, ...]:
        """Every variable that is hashed for some task, as patterns, and by name what frameworks brought in."""
        named = [*self.names, *(name for task in self.tasks.values() for name in task.names)]
        hashed = [*self.variables, *(variable for task in self.tasks.values() for variable in task.variables)]
        return tuple(dict.fromkeys((*named, *(variable.partition("=")[0] for variable in hashed))))


async def dry_run(program: Path, workspace: Path, environ: Mapping[str, str], arguments: Iterable[str]) -> DryRun:
    """Ask turbo. Raises `TurboError` with what turbo says against it."""
    said = await _output(program, workspace, environ, arguments)
    try:
        return DryRun.from_json(canonical.decode(said[max(said.find(b"{"), 0) :]))
    except RemoteError as error:
        raise TurboError(f"turbo's own plan of this run cannot be read ({error}); is this turbo 2 or later?") from None


async def configuration(
    program: Path, workspace: Path, environ: Mapping[str, str], options: Iterable[str] = ()
) -> Reader:
    """Turbo's settings, from wherever it takes them. Raises `TurboError`."""
    said = await _output(program, workspace, environ, ("config", *options))
    try:
        return Reader(canonical.decode(said[max(said.find(b"{"), 0) :]), "turbo config")
    except RemoteError as error:
        raise TurboError(f"turbo's settings cannot be read ({error}); is this turbo 2 or later?") from None


async def _output(program: Path, workspace: Path, environ: Mapping[str, str], arguments: Iterable[str]) -> bytes:
    try:
        with trio.fail_after(WAIT_MS / 1_000):
            done = await trio.run_process(
                [str(program), *arguments],
                cwd=workspace,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                capture_stdout=True,
                capture_stderr=True,
                check=False,
            )
    except trio.TooSlowError:
        raise TurboError(f"turbo did not say within {WAIT_MS // 1_000} s what it would do") from None
    except OSError as error:
        raise TurboError(f"{program} cannot be run: {error.strerror}") from None
    if done.returncode != 0:
        raise TurboError(f"turbo said: {done.stderr.decode(errors='replace').strip()[-_SAID_CHARS:]}")
    return done.stdout


def _texts(read: Reader, name: str) -> tuple[str, ...]:
    return read.texts(name) if read.has(name) else ()


def _variables(value: Mapping[str, Any]) -> tuple[str, ...]:
    read = Reader(dict(value), "environmentVariables")
    return (*_texts(read, "configured"), *_texts(read, "inferred"))


def _names(value: Mapping[str, Any]) -> tuple[str, ...]:
    read = Reader(dict(value), "environmentVariables")
    return _texts(Reader(read.table("specified"), "environmentVariables.specified"), "env")
