"""Samples as one file: small, canonical (equal samples are equal bytes, so a CI cache sees whether anything changed), and checked on the way in.

    {"format":"dte-timing-history","version":1,
     "workspaces":{"github.com/acme/shop":{"p1:build":{"linux-x86_64-8":{"success":[[ended_ms,duration_ms],…],"failure":[…]}}}}}

A list has its oldest sample first and is left out where it would be empty. Times are Unix milliseconds. Unknown fields are ignored.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final, get_args

from mesh.errors import RemoteError, UsageError
from mesh.store.history.samples import SAMPLES_PER_SERIES_MAX, SERIES_MAX, Sample, Status, is_duration
from mesh.types import TaskId, UnixMs
from mesh.wire import canonical
from mesh.wire.canonical import Reader

FORMAT: Final = "dte-timing-history"
VERSION: Final = 1
FILE_BYTES_MAX: Final = 64 * 1024 * 1024

_STATUSES: Final[tuple[Status, ...]] = get_args(Status)


def encode(samples: Iterable[Sample]) -> bytes:
    """The file's content."""
    workspaces: dict[str, dict[TaskId, dict[str, dict[str, list[list[int]]]]]] = {}
    for sample in sorted(samples, key=lambda one: (one.ended_ms, one.duration_ms)):
        machines = workspaces.setdefault(sample.workspace, {}).setdefault(sample.task, {})
        by_status = machines.setdefault(sample.machine, {})
        by_status.setdefault(sample.status, []).append([sample.ended_ms, sample.duration_ms])
    return canonical.encode({"format": FORMAT, "version": VERSION, "workspaces": workspaces})


def decode(data: bytes, name: str) -> list[Sample]:
    """The samples in the content of the file `name`. Raises `UsageError`, which says what is wrong with it."""
    if len(data) > FILE_BYTES_MAX:
        raise UsageError(f"{name} has more than {FILE_BYTES_MAX} bytes, which no timing history of dte has")
    try:
        read = Reader(canonical.decode(data), "history")
        if (found := read.text("format", default="")) != FORMAT:
            raise UsageError(f"{name} is no timing history of dte: its format is {found[:80]!r} and not {FORMAT!r}")
        if (version := read.number("version")) != VERSION:
            raise UsageError(
                f"{name} is a timing history of format {version}, and this dte reads {VERSION}; "
                "export it again with this version of dte"
            )
        return list(_samples(read))
    except RemoteError as error:
        raise UsageError(f"{name} is no timing history that `dte history export` has written: {error}") from None


def _samples(read: Reader) -> Iterator[Sample]:
    series = 0
    for workspace, tasks in read.table("workspaces").items():
        for task, machines in _table(tasks, workspace):
            for machine, by_status in _table(machines, f"{workspace}: {task}"):
                series += 1
                if series > SERIES_MAX:
                    raise RemoteError("too-large", f"more than {SERIES_MAX} tasks")
                where = f"{workspace}: {task}: {machine}"
                lists = Reader(by_status, where)
                for status in _STATUSES:
                    if lists.has(status):
                        for item in lists.items(status, max_items=SAMPLES_PER_SERIES_MAX):
                            ended_ms, duration_ms = _pair(item, f"{where}.{status}")
                            yield Sample(workspace, TaskId(task), machine, duration_ms, UnixMs(ended_ms), status)


def _table(value: Any, where: str) -> Iterator[tuple[str, Any]]:
    if type(value) is not dict:
        raise RemoteError("malformed", f"{where[:200]}: an object was expected")
    yield from value.items()


def _pair(value: Any, where: str) -> tuple[int, int]:
    match value:
        case [int(ended_ms), int(duration_ms)] if type(ended_ms) is int and is_duration(duration_ms):
            return ended_ms, duration_ms
        case _:
            raise RemoteError(
                "malformed", f"{where[:200]}: two numbers were expected, when it ended and how long it took"
            )
