"""`dte history`: how long tasks took, as this machine's bids know it; and the same as a file, for CI machines that are new every time."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from mesh.store.history import History

app = typer.Typer(help="See, save and load how long tasks took.", no_args_is_help=True, add_completion=False)


@app.command("show")
def show(
    pattern: str = typer.Argument("*", metavar="TASK-GLOB", help="Which tasks; quote it: '*:build'."),
    json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> int:
    """Print what each task of this workspace will probably take on this machine, the longest first."""
    from mesh.exec.machine import machine_class
    from mesh.store.history import workspace_id
    from mesh.wire import canonical

    name, machine = workspace_id(Path.cwd()), machine_class()
    with _open() as history:
        tasks = _tasks(history, name, machine, pattern)
        _tell(history)
    if json:
        print(canonical.encode({"version": 1, "workspace": name, "machine": machine, "tasks": tasks}).decode())
    elif tasks:
        _print_table(tasks)
    else:
        print(f"no task {pattern!r} of {name} has been timed here")
    return 0


@app.command("export")
def export(
    file: str = typer.Argument(metavar="FILE", help="Written in one step; keep it in the CI system's cache."),
    everything: bool = typer.Option(False, "--all", help="Every workspace's timings, not only this one's."),
) -> int:
    """Write this workspace's timings into one small file."""
    from mesh.report.words import count
    from mesh.store.files import write_atomically
    from mesh.store.history import encode, workspace_id

    with _open() as history:
        samples = history.samples(None if everything else workspace_id(Path.cwd()))
        _tell(history)
    write_atomically(Path(file), encode(samples))
    print(f"{count(len(samples), 'timing')} in {file}")
    return 0


@app.command("import")
def import_(file: str = typer.Argument(metavar="FILE", help="What `dte history export` has written.")) -> int:
    """Add the timings of a file to what is known here. To import a file again changes nothing."""
    from mesh.errors import StorageError, UsageError
    from mesh.report.words import count
    from mesh.store.history import decode, workspace_id
    from mesh.store.history.portable import FILE_BYTES_MAX

    try:
        with Path(file).open("rb") as opened:
            data = opened.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None
    samples = decode(data, file)
    with _open() as history:
        history.record(samples)
        if not history.keeps:
            raise StorageError(history.notice)
        _tell(history)
    name = workspace_id(Path.cwd())
    ours = sum(sample.workspace == name for sample in samples)
    print(f"{count(len(samples), 'timing')} in {file}, {ours:,} of this workspace ({name})")
    return 0


def _open() -> "History":
    from mesh.store.history import History
    from mesh.store.history.database import FILE_NAME
    from mesh.store.home import home

    return History(home() / FILE_NAME)


def _tell(history: "History") -> None:
    if history.notice:
        typer.echo(f"dte: {history.notice}", err=True)


def _tasks(history: "History", workspace: str, machine: str, pattern: str) -> list[dict[str, Any]]:
    from fnmatch import fnmatchcase

    from mesh.types import TaskId, UnixMs

    counts: dict[TaskId, int] = {}
    last: dict[TaskId, UnixMs] = {}
    for sample in history.samples(workspace):
        if fnmatchcase(sample.task, pattern):
            counts[sample.task] = counts.get(sample.task, 0) + 1
            last[sample.task] = max(sample.ended_ms, last.get(sample.task, UnixMs(0)))
    found = history.estimates(workspace, counts, machine)
    return [
        {
            "task": task,
            "samples": counts[task],
            "samples_here": estimate.samples,
            "p50_ms": estimate.p50_ms,
            "p90_ms": estimate.p90_ms,
            "last_ms": last[task],
        }
        for task, estimate in sorted(found.items(), key=lambda item: (-item[1].p50_ms, item[0]))
    ]


def _print_table(tasks: list[dict[str, Any]]) -> None:
    from datetime import UTC, datetime

    from mesh.report.words import duration, one_line

    rows = [("task", "samples", "p50", "p90", "last")]
    for task in tasks:
        when = datetime.fromtimestamp(task["last_ms"] / 1_000, UTC).astimezone()
        p50, p90 = duration(task["p50_ms"]), duration(task["p90_ms"])
        rows.append((one_line(task["task"]), f"{task['samples']:,}", p50, p90, f"{when:%Y-%m-%d %H:%M}"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for name, *cells in rows:
        numbers = "  ".join(cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        print(f"{name.ljust(widths[0])}  {numbers}")
