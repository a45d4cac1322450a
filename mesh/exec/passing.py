"""Variables of the main job that every task of a run gets, whatever tool runs it: what `--pass-env` names, and what its tool lives by.

They travel in the task's payload, beside what its key is made of: they change no key. What is named and not set on the main job is not set for the
tasks either.
"""

from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final

from mesh.errors import UsageError, readable
from mesh.exec.environment import OWN_PREFIX
from mesh.wire.canonical import Reader

RUN_ENV: Final = "run_env"
"""Where a payload has them."""


def check_names(names: Iterable[str]) -> tuple[str, ...]:
    """Names of `--pass-env`, where `*` is any part. Raises `UsageError` for those that no task may see."""
    found = tuple(dict.fromkeys(names))
    for name in found:
        if "=" in name:
            raise UsageError(f"--pass-env {name.partition('=')[0]}=…: only the name; the value is taken from here")
        if name.startswith(OWN_PREFIX):
            raise UsageError(f"--pass-env {name}: dte's own variables are never given to tasks")
    return found


def shipped(environ: Mapping[str, str], names: Collection[str]) -> dict[str, Any]:
    """What a payload says under `RUN_ENV`. Raises `UsageError`."""
    values = {
        name: value
        for name, value in environ.items()
        if any(fnmatchcase(name, pattern) for pattern in names) and not name.startswith(OWN_PREFIX)
    }
    for name, value in values.items():
        if not value.isascii() and value != readable(value):
            raise UsageError(f"--pass-env {name}: its value is not UTF-8, so it cannot be passed to agents")
    return {"values": values, "unset": [name for name in names if "*" not in name and name not in environ]}


def taken(payload: Mapping[str, Any]) -> tuple[dict[str, str], tuple[str, ...]]:
    """What a task was shipped with: values, and names of what must not be set. Raises `RemoteError`."""
    if RUN_ENV not in payload:
        return {}, ()
    read = Reader(payload[RUN_ENV], RUN_ENV)
    values = {name: value for name, value in read.string_table("values").items() if not name.startswith(OWN_PREFIX)}
    return values, read.texts("unset")


def applied(environ: Mapping[str, str], payload: Mapping[str, Any]) -> dict[str, str]:
    """`environ` with what a task was shipped with."""
    values, unset = taken(payload)
    return {**{name: value for name, value in environ.items() if name not in unset}, **values}
