"""On a person's terminal: what every agent does right now, drawn in place, while finished tasks scroll away above it.

All drawing happens within the calls of `news` and `tick`, at most `REFRESH_PER_SECOND` times a second: no thread, so nothing is read
while it changes. The drawing is narrower than the terminal, and when a terminal is made narrower it breaks long lines in two, which
is reckoned with before the next drawing.
"""

import atexit
import os
import sys
from collections.abc import Iterable, Mapping
from typing import IO, Final, TextIO, cast

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType
from rich.text import Text

from mesh.protocol.news import News, TaskEnded, TaskRequeued
from mesh.report import telling, words
from mesh.report.foresight import Foresees, nobody_knows
from mesh.report.groups import Groups
from mesh.report.logs import Logs
from mesh.report.pen import Pen
from mesh.report.summary import Lane, Summary
from mesh.types import TaskId

REFRESH_PER_SECOND: Final = 8
BAR_CHARS_MAX: Final = 30
NAME_CHARS_MAX: Final = 20
FAILURES_SHOWN_MAX: Final = 3
DEFAULT_SIZE: Final = (80, 24)

_REFRESH_MS: Final = 1_000 // REFRESH_PER_SECOND
_STYLES: Final = {"✓": "green", "✗": "bold red", "↻": "yellow", "·": "dim", "d": "cyan"}


class LiveReporter:
    """One lane per agent, a bar, the time that is left, and the failures so far."""

    def __init__(self, out: TextIO, environ: Mapping[str, str], *, colour: bool) -> None:
        self._pen = Pen(out)
        self._colour = colour
        self.foresees: Foresees = nobody_knows
        self._summary = Summary()
        self._logs = Logs()
        self._now_ms = 0
        self._drawn_ms: int | None = None
        self._widths: list[int] = []
        """Of the lines that are drawn."""
        self._scroll: list[Text] = []
        self._closed = False
        self._console = Console(
            file=cast("IO[str]", self._pen),
            force_terminal=True,
            force_interactive=True,
            no_color=not colour,
            highlight=False,
            markup=False,
            emoji=False,
            _environ=environ,
        )
        self._measure()
        # What the program itself prints meanwhile (a warning, say) is to appear above the drawing.
        redirect = out is sys.stdout
        self._live = Live(
            self,
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=redirect,
            redirect_stderr=redirect,
            vertical_overflow="crop",
        )

    def news(self, item: News, t_ms: int) -> None:
        """Something has happened."""
        self._summary.apply(item, t_ms)
        match item:
            case TaskEnded():
                self._ended(item)
            case TaskRequeued():
                self._logs.came_to_nothing(
                    item.task, item.attempt, f"attempt {item.attempt} came to nothing: {item.reason}"
                )
                self._say(telling.requeued_line(item))
            case _:
                for line in telling.mesh_lines(item, self._summary):
                    self._say(line)
        self._draw(t_ms)

    def log(self, task: TaskId, attempt: int, data: bytes) -> None:
        """The next bytes of what an attempt of a task has written; they are shown if it fails."""
        if not self._summary.succeeded(task):
            self._logs.add(task, attempt, data)

    def unseen(self, task: TaskId, log: Iterable[bytes]) -> None:
        """Every log of a failed task is shown here."""

    def tick(self, t_ms: int) -> None:
        """Time has passed."""
        self._draw(t_ms)

    def close(self, exit_code: int) -> None:
        """The run is over: take the drawing away and tell the end."""
        if self._closed:
            return
        self._closed = True
        if self._live.is_started:
            self._flush()
            self._restore()
        telling.write_closing(self._pen, self._summary, self._logs, exit_code, Groups(""), colour=self._colour)
        self._logs.close()

    def _ended(self, end: TaskEnded) -> None:
        if end.status == "success":
            self._logs.drop(end.task)
        elif end.log is not None:
            self._logs.counts(end.task, end.attempt)
        # When a run is cancelled, a line for each task that never ran would bury the rest.
        if end.status != "cancelled" or end.task in self._logs:
            self._say(telling.task_line(end))

    def _say(self, line: str) -> None:
        self._scroll.append(Text(line, style=_STYLES.get(line[:1], ""), overflow="fold"))

    # --- drawing -----------------------------------------------------------------------------------

    def _draw(self, t_ms: int) -> None:
        self._now_ms = max(self._now_ms, t_ms)
        if self._closed or (self._drawn_ms is not None and 0 <= t_ms - self._drawn_ms < _REFRESH_MS):
            return
        self._drawn_ms = t_ms
        if not self._live.is_started:
            atexit.register(self._restore)
            self._live.start()
        self._flush()

    def _flush(self) -> None:
        """Draw again, below the lines that have come since."""
        self._measure()
        if self._scroll:
            lines, self._scroll = self._scroll, []
            self._console.print(Text("\n").join(lines))  # draws below them, too
        else:
            self._live.refresh()

    def _restore(self) -> None:
        """Give the terminal back, cursor and all, whatever has happened."""
        atexit.unregister(self._restore)
        self._measure()
        self._live.stop()

    def _measure(self) -> None:
        """Learn the terminal's size. It is asked of the stream itself: standard input may be elsewhere."""
        try:
            columns, rows = os.get_terminal_size(self._pen.fileno())
        except (OSError, ValueError):
            columns, rows = DEFAULT_SIZE
        columns, rows = columns or DEFAULT_SIZE[0], rows or DEFAULT_SIZE[1]
        # Lines that no longer fit were broken by the terminal: go up over the parts that the drawing does not know of.
        broken = sum((width - 1) // columns for width in self._widths if width)
        if broken:
            up = ((ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1))
            self._console.control(Control(*(up * min(broken, rows))))
        self._widths = [min(width, columns) for width in self._widths]
        self._console.size = (columns, rows)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """What rich draws: always the present state."""
        yield Group(*self._drawing())

    def _drawing(self) -> list[Text]:
        columns, rows = self._console.size
        width, height = max(columns - 1, 1), max(rows - 2, 1)
        head = [self._bar(width)]
        failed = self._failed(width)
        lanes = list(self._summary.lanes())
        room = max(height - len(head) - len(failed), 0)
        shown = lanes if len(lanes) <= room else lanes[: max(room - 1, 0)]
        name_chars = min(max((len(lane.name) for lane in shown), default=0), NAME_CHARS_MAX, width // 3)
        lines = [*head, *failed, *(self._lane(lane, name_chars, width) for lane in shown)]
        if len(shown) < len(lanes) and room:
            busy = sum(len(lane.running) for lane in lanes[len(shown) :])
            lines.append(_line(f"… {words.count(len(lanes) - len(shown), 'more agent')}, {busy} running", width, "dim"))
        lines = lines[:height]
        self._widths = [line.cell_len for line in lines]
        return lines

    def _bar(self, width: int) -> Text:
        progress = self._summary.progress()
        chars = min(BAR_CHARS_MAX, width // 4)
        filled = chars * progress.done // progress.total if progress.total else 0
        line = Text(no_wrap=True)
        line.append("━" * filled, "red" if progress.failed else "green")
        line.append("━" * (chars - filled), "dim")
        line.append(" " + telling.status_line(progress, self.foresees()).removeprefix("dte: "))
        line.truncate(width, overflow="ellipsis")
        return line

    def _failed(self, width: int) -> list[Text]:
        failures = self._summary.failures() if self._summary.progress().failed else []
        if not failures:
            return []
        names = [words.one_line(end.task) for end in failures[-FAILURES_SHOWN_MAX:]]
        earlier = len(failures) - len(names)
        more = f" and {earlier} before" if earlier else ""
        return [_line(f"✗ {', '.join(names)}{more}", width, "red")]

    def _lane(self, lane: Lane, name_chars: int, width: int) -> Text:
        name = words.clip(words.one_line(lane.name), name_chars)
        line = Text(f"{name:<{name_chars}} ", style="cyan", no_wrap=True)
        for number, (task, since_ms) in enumerate(lane.running):
            line.append(" · " if number else "", "dim")
            line.append(words.one_line(task), "default")
            line.append(f" {words.duration(self._now_ms - since_ms)}", "dim")
            if line.cell_len > width:
                break
        if not lane.running:
            line.append("idle", "dim")
        line.truncate(width, overflow="ellipsis")
        return line


def _line(text: str, width: int, style: str) -> Text:
    line = Text(text, style=style, no_wrap=True)
    line.truncate(width, overflow="ellipsis")
    return line
