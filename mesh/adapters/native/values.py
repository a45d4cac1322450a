"""The values that `dte.toml` may hold: each reader takes what TOML said and returns what it means, or says what was expected instead."""

import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn, cast

from msgspec import Struct

from mesh.errors import MeshError, UsageError
from mesh.exec.globs import Globs
from mesh.graph import Where
from mesh.types import RETRIES_MAX

TIMEOUT_MS_MAX: Final = 7 * 24 * 3_600_000
SHARDS_MAX: Final = 1_000
CPU_MAX: Final = 1_024
GPU_MAX: Final = 64

_DURATION: Final = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?")
_DURATION_UNITS_MS: Final = (3_600_000, 60_000, 1_000, 1)
_SIZE: Final = re.compile(r"(\d+) ?([KMGT])?(i)?B?", re.IGNORECASE)
_SIZE_POWERS: Final = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OWN_PREFIX: Final = "DTE_"


class WrongValueError(MeshError):
    """A value is not what its key takes. `inside` leads from the key to the item that is wrong."""

    def __init__(self, text: str, *inside: str | int) -> None:
        super().__init__(text)
        self.inside = inside


class Shards(Struct, frozen=True):
    """How a task is divided: into `count` parts, or with `files` into at most `count` parts of these files."""

    count: int
    files: str = ""


def shown(value: Any) -> str:
    """A value as it stands in the file, short."""
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is dict:
        return "a table"
    if type(value) is list:
        return "a list"
    return repr(value) if len(repr(value)) <= 60 else f"{str(value)[:50]!r}…"


def _fail(expected: str, value: Any) -> NoReturn:
    raise WrongValueError(f"{expected} was expected, not {shown(value)}")


def text(value: Any) -> str:
    if type(value) is not str or not value or "\0" in value:
        _fail("a string that is not empty", value)
    return value


def flag(value: Any) -> bool:
    if type(value) is not bool:
        _fail("true or false", value)
    return value


def _number(value: Any, low: int, high: int) -> int:
    # `type`, since isinstance(True, int).
    if type(value) is not int or not low <= value <= high:
        _fail(f"a whole number from {low} to {high}", value)
    return value


def _texts(value: Any, example: str) -> tuple[str, ...]:
    if type(value) is not list:
        _fail(f"a list of strings ({example})", value)
    for index, item in enumerate(value):
        if type(item) is not str or not item or "\0" in item:
            raise WrongValueError(f"a string was expected, not {shown(item)}", index)
    return tuple(value)


def _table(value: Any, example: str) -> Mapping[str, Any]:
    if type(value) is not dict:
        _fail(f"a table ({example})", value)
    return cast("Mapping[str, Any]", value)


def command(value: Any) -> str | tuple[str, ...]:
    if type(value) is str and value.strip() and "\0" not in value:
        return value
    if type(value) is list and value:
        if any(type(item) is list for item in value):
            raise WrongValueError('one command was expected; join several in one string: command = "a && b"')
        return _texts(value, "")
    _fail('a command for the shell ("make all") or a list of arguments (["make", "all"])', value)


def deps(value: Any) -> tuple[str, ...]:
    names = _texts(value, 'deps = ["build"]')
    for index, name in enumerate(names):
        if name.startswith("^"):
            raise WrongValueError(
                f"{name!r}: there is no `^`, since dte does not know which directory depends on which;"
                f" name the tasks: {name[1:]!r} or 'DIRECTORY:{name[1:]}'",
                index,
            )
    return tuple(dict.fromkeys(names))


def glob(value: Any, *inside: int) -> str:
    """One glob, relative to the task's directory, or with a leading `/` to the workspace."""
    pattern = text(value)
    body = pattern.removeprefix("!")
    if body.startswith(("~", "//")) or re.match(r"[A-Za-z]:[\\/]", body):
        raise WrongValueError(
            f"{pattern!r} leaves the workspace; a path is relative to the task's directory, with a leading / to the workspace",
            *inside,
        )
    try:
        Globs((body.lstrip("/"),))
    except UsageError as error:
        raise WrongValueError(str(error), *inside) from None
    return pattern


def globs(value: Any) -> tuple[str, ...]:
    patterns = tuple(glob(item, index) for index, item in enumerate(_texts(value, '["src/**", "!**/*.md"]')))
    if patterns and all(pattern.startswith("!") for pattern in patterns):
        raise WrongValueError(f'only takes away; begin with what there is: ["**", "{patterns[0]}"]')
    return patterns


def glob_or_globs(value: Any) -> tuple[str, ...]:
    patterns = globs(value if type(value) is list else [value])
    if not patterns:
        _fail('a glob of files, such as "packages/*/pyproject.toml",', value)
    return patterns


def directory(value: Any) -> str:
    path = text(value)
    if path.startswith(("~", "//")) or ".." in path.split("/") or "\\" in path or re.match(r"[A-Za-z]:", path):
        raise WrongValueError(f"{path!r} leaves the workspace; a directory in it was expected")
    return path


def _env_name(name: str, *inside: str | int) -> str:
    if not _ENV_NAME.fullmatch(name):
        hint = "; its value is taken from main's environment" if "=" in name else ""
        raise WrongValueError(f"the name of a variable was expected, not {name!r}{hint}", *inside)
    if name.startswith(_OWN_PREFIX):
        raise WrongValueError(
            f"{name}: variables that begin with {_OWN_PREFIX} belong to dte and never reach a task", *inside
        )
    return name


def env(value: Any) -> Mapping[str, str]:
    if type(value) is list:
        raise WrongValueError(
            'is a table of values here: env = { MODE = "release" }; names whose value main has go into `pass_env`'
        )
    table = _table(value, 'env = { MODE = "release" }')
    for name, item in table.items():
        _env_name(name, name)
        if type(item) is not str or "\0" in item:
            raise WrongValueError(f'a string was expected for {name}, not {shown(item)}: write {name} = "{item}"', name)
    return dict(table)


def env_names(value: Any) -> tuple[str, ...]:
    if type(value) is dict:
        raise WrongValueError('is a list of names here: ["CI"]; values that stand in the file go into `env`')
    names = _texts(value, '["CI"]')
    return tuple(dict.fromkeys(_env_name(name, index) for index, name in enumerate(names)))


def duration_ms(value: Any) -> int:
    """What `"1h30m"`, `"90s"` or a number of seconds means."""
    total = -1
    if type(value) is int:
        total = value * 1_000
    elif type(value) is str and value and (found := _DURATION.fullmatch(value.replace(" ", ""))):
        total = sum(int(part or 0) * unit for part, unit in zip(found.groups(), _DURATION_UNITS_MS, strict=True))
    if not 0 <= total <= TIMEOUT_MS_MAX:
        _fail('a time of at most a week ("10m", "90s", "1h30m", or seconds; 0 for none)', value)
    return total


def retries(value: Any) -> int:
    return _number(value, 0, RETRIES_MAX)


def labels(value: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_texts(value, 'runs_on = ["linux", "gpu"]')))


def where(value: Any) -> Where:
    if value not in ("any", "main", "agent"):
        _fail('"any", "main" or "agent"', value)
    return cast("Where", value)


def _memory_bytes(value: Any) -> int:
    if type(value) is int and value >= 0:
        return value
    found = _SIZE.fullmatch(value) if type(value) is str else None
    if found is None:
        raise WrongValueError(f'memory: a size was expected ("4GB", "512MiB", or bytes), not {shown(value)}', "memory")
    factor: int = (1024 if found[3] else 1000) ** _SIZE_POWERS[(found[2] or "").upper()]
    return int(found[1]) * factor


def resources(value: Any) -> dict[str, int]:
    """The fields of `Resources` that are given."""
    table = _table(value, 'resources = { cpu = 2, memory = "4GB" }')
    fields: dict[str, int] = {}
    for name, item in table.items():
        try:
            match name:
                case "cpu":
                    fields["cpu"] = _number(item, 1, CPU_MAX)
                case "memory":
                    fields["memory_bytes"] = _memory_bytes(item)
                case "gpu":
                    fields["gpu"] = _number(item, 0, GPU_MAX)
                case _:
                    raise WrongValueError(f"`{name}` is not known; there are cpu, memory, gpu", name)
        except WrongValueError as error:
            raise (error if error.inside else WrongValueError(f"{name}: {error}", name)) from None
    return fields


def shards(value: Any) -> Shards:
    if type(value) is not dict:
        if type(value) is not int or not 1 <= value <= SHARDS_MAX:
            _fail(f'a number from 1 to {SHARDS_MAX}, or {{ files = "tests/**/test_*.py", max = 8 }},', value)
        return Shards(value)
    table = cast("dict[str, Any]", value)
    if unknown := sorted(table.keys() - {"files", "max"}):
        raise WrongValueError(f"`{unknown[0]}` is not known; there are files, max", unknown[0])
    if missing := sorted({"files", "max"} - table.keys()):
        raise WrongValueError(f'`{missing[0]}` is missing: shards = {{ files = "tests/**/test_*.py", max = 8 }}')
    try:
        files = glob(table["files"])
    except WrongValueError as error:
        raise WrongValueError(f"files: {error}", "files") from None
    try:
        return Shards(_number(table["max"], 1, SHARDS_MAX), files)
    except WrongValueError as error:
        raise WrongValueError(f"max: {error}", "max") from None
