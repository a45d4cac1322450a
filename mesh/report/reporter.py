"""What every display is to the rest of `dte`, and the choice of one."""

from collections.abc import Iterable, Mapping
from typing import Final, Literal, Protocol, TextIO

from mesh.protocol.news import News
from mesh.report.foresight import Foresees
from mesh.report.groups import Groups
from mesh.report.pen import Pen
from mesh.report.plain import PlainReporter
from mesh.report.quiet import QuietReporter
from mesh.types import TaskId

ReporterKind = Literal["auto", "live", "plain", "quiet", "wrapped"]

_OFF: Final = ("", "0", "false")


class Reporter(Protocol):
    """Shows one run to a person. Nothing here raises or awaits; all instants are milliseconds since the run began."""

    foresees: Foresees
    """Asked whenever how far the run is is shown."""

    def news(self, item: News, t_ms: int) -> None:
        """Something has happened."""

    def log(self, task: TaskId, attempt: int, data: bytes) -> None:
        """The next bytes of what an attempt of a task has written, before or after the news of its end."""

    def unseen(self, task: TaskId, log: Iterable[bytes]) -> None:
        """What a failed task has written, and what nobody has shown: it belongs to the end, in full."""

    def tick(self, t_ms: int) -> None:
        """Time has passed; to be called about four times a second."""

    def close(self, exit_code: int) -> None:
        """The run is over: show what is left, in full, and how it went. More calls do nothing."""


def make_reporter(kind: ReporterKind, out: TextIO, err: TextIO, environ: Mapping[str, str]) -> Reporter:
    """The display of that kind. `auto` draws on a person's terminal and prints plain lines anywhere else.

    `wrapped` is for a command that prints its tasks itself, `quiet` for an `out` that is for others: only what concerns the mesh, and on `err`.
    """
    bare = environ.get("NO_COLOR", "") != "" or environ.get("TERM") == "dumb"
    if kind in ("quiet", "wrapped"):
        return QuietReporter(Pen(err), wrapped=kind == "wrapped", colour=not bare)
    # A live display cannot be drawn on what is no terminal, whoever asks for it.
    if out.isatty() and (kind == "live" or (kind == "auto" and not bare and environ.get("CI", "").lower() in _OFF)):
        from mesh.report.live import LiveReporter  # noqa: PLC0415  # loading rich takes longer than joining a mesh

        return LiveReporter(out, environ, colour=not bare)
    return PlainReporter(Pen(out), Groups.of(environ), colour=not bare)
