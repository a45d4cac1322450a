"""Rules of the live display, seen on a real pseudo-terminal through a small screen of our own."""

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
import time

import pytest

from mesh.protocol.news import RunEnded
from mesh.report import make_reporter
from mesh.types import TaskId

SEQUENCE = re.compile(r"\x1b\[(\??[0-9;]*)([A-Za-z])|\x1b\][^\x07]*\x07|([\r\n])|([^\x1b\r\n]+)")


class Terminal:
    """A pseudo-terminal, and what has been written to it."""

    def __init__(self, columns: int, rows: int) -> None:
        self._master, slave = pty.openpty()
        self.out = os.fdopen(slave, "w", encoding="utf-8")
        self.resize(columns, rows)
        self.raw = b""
        self._marks = 0
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.out.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while piece := os.read(self._master, 65_536):
                self.raw += piece

    def text(self) -> str:
        """All that was written so far, once it has come through."""
        # Each call has a mark of its own: an earlier one may still be the last thing that has come through.
        self._marks += 1
        mark = f"\x1b[{9_000 + self._marks}z"
        self.out.write(mark)
        self.out.flush()
        deadline = time.monotonic() + 5
        while mark.encode() not in self.raw and time.monotonic() < deadline:
            time.sleep(0.001)
        return self.raw.decode()

    def lines(self) -> list[str]:
        """What is on a screen that is high enough never to scroll."""
        lines, row, column = [""], 0, 0
        for parameters, letter, space, words in SEQUENCE.findall(self.text()):
            if space == "\r":
                column = 0
            elif space == "\n":
                row, column = row + 1, 0
                lines.extend([""] * (row + 1 - len(lines)))
            elif words:
                lines[row] = lines[row][:column].ljust(column) + words + lines[row][column + len(words) :]
                column += len(words)
            elif letter == "A":
                row = max(row - int(parameters or 1), 0)
            elif letter == "K":
                lines[row] = ""
        return [line.rstrip() for line in lines]

    def close(self) -> None:
        self.out.close()
        self._reader.join(5)
        os.close(self._master)


@pytest.fixture
def terminal():
    terminal = Terminal(80, 24)
    yield terminal
    terminal.close()


def live(terminal: Terminal, **environ: str):
    return make_reporter("live", terminal.out, terminal.out, {"TERM": "xterm-256color", **environ})


def test_each_agent_has_a_lane_and_finished_tasks_scroll_above(say, terminal):
    reporter = live(terminal)
    reporter.foresees = lambda: 2_000
    say.tell(
        reporter,
        (0, say.joined("agent-1", 2)),
        (0, say.joined("agent-2", 1)),
        (0, say.graph(a__x="", b__x="", c__x="", d__x="a__x")),
        (10, say.started("a:x", "agent-1")),
        (10, say.started("b:x", "agent-1")),
        (1_000, say.started("c:x", "agent-2")),
        (2_000, say.ended("a:x", "agent-1", 1_990)),
    )
    reporter.tick(3_000)
    assert terminal.lines() == [
        "dte: agent-1 joined (2 slots)",
        "dte: agent-2 joined (1 slot)",
        "✓ a:x  2.0 s  agent-1",
        "━━━━━━━━━━━━━━━━━━━ 1/4 done, 2 running on 2 agents, ~2 s left",
        "agent-1 b:x 3.0 s",
        "agent-2 c:x 2.0 s",
    ]
    reporter.close(143)


def test_the_end_takes_the_drawing_away_and_gives_the_cursor_back(say, terminal):
    reporter = live(terminal)
    say.tell(reporter, (0, say.joined("agent-1")), (0, say.graph(a="", b="")), (5, say.started("a", "agent-1")))
    reporter.log(TaskId("a"), 1, b"why it \x1b[31mfailed\n")
    reporter.log(TaskId("b"), 1, b"of no interest\n")
    say.tell(
        reporter, (1_000, say.failed("a", "agent-1")), (2_000, say.ended("b", "agent-1")), (2_000, RunEnded("failure"))
    )
    reporter.close(1)
    reporter.close(1)
    assert terminal.lines()[:-1] == [
        "dte: agent-1 joined (1 slot)",
        "✗ a  1.0 s  agent-1  failed (exit code 1)",
        "✓ b  1.0 s  agent-1",
        "",
        "✗ a  1.0 s  agent-1  failed (exit code 1)",
        "why it failed",
        "",
        "dte: failed: a",
        "dte: exit code 1; 2 tasks: 1 succeeded, 1 failed",
        "dte: 2.0 s on 1 agent for 2.0 s of work",
        "dte: no faster than 2.0 s with these slots; longest chain 1.0 s: a",
    ]
    raw = terminal.text()
    assert raw.count("\x1b[?25l") == raw.count("\x1b[?25h") == 1


@pytest.mark.parametrize(("columns", "rows"), [(1, 1), (2, 2), (7, 3), (20, 5), (39, 4), (300, 100)])
def test_the_drawing_fits_any_terminal(say, columns, rows):
    terminal = Terminal(columns, rows)
    reporter = live(terminal)
    for number in range(12):
        reporter.news(say.joined(f"agent-with-a-long-name-{number}", 2), 0)
    reporter.news(say.graph(**{f"packages__{number}": "" for number in range(30)}), 0)
    for number in range(12):
        reporter.news(say.started(f"packages:{number}", f"agent-with-a-long-name-{number}"), 0)
    reporter.tick(500)
    before = len(terminal.raw)
    reporter.tick(1_000)
    terminal.text()
    drawn = re.sub(r"\x1b\[\??[0-9;]*[A-Za-z]", "", terminal.raw[before:].decode()).split("\r")[-1].split("\n")
    assert len(drawn) <= max(rows - 1, 1)
    assert all(len(line) <= max(columns - 1, 1) for line in drawn)
    reporter.close(0)
    terminal.close()


def test_a_terminal_that_became_narrower_is_cleaned_of_broken_lines(say, terminal):
    reporter = live(terminal)
    say.tell(reporter, (0, say.joined("agent-1", 4)), (0, say.graph(**{f"task{n}__build": "" for n in range(4)})))
    say.tell(reporter, *[(0, say.started(f"task{n}:build", "agent-1")) for n in range(4)])
    reporter.tick(1_000)
    widths = [len(line) for line in terminal.lines()[-2:]]
    assert widths == [50, 79]
    before = len(terminal.raw)
    terminal.resize(30, 24)
    reporter.tick(2_000)
    terminal.text()
    # Two lines of 50 and 79 characters stand on 2 and 3 rows now: 1 + 2 rows more than were drawn, and 1 row up between the lines.
    assert terminal.raw[before:].count(b"\x1b[1A") == 1 + 2 + 1
    reporter.close(0)


def test_it_is_drawn_at_most_eight_times_a_second(say, terminal):
    reporter = live(terminal)
    reporter.news(say.graph(**{f"t{number}": "" for number in range(1_000)}), 0)
    for number in range(1_000):
        reporter.news(say.ended(f"t{number}", "agent-1", 1), number)
    drawn = terminal.text().count("running on")
    assert 7 <= drawn <= 9
    reporter.close(0)
    assert terminal.text().count("✓ t") == 1_000


def test_without_colour_none_is_sent(say, terminal):
    reporter = live(terminal, NO_COLOR="1")
    say.tell(reporter, (0, say.joined("agent-1")), (0, say.graph(a="")), (500, say.failed("a", "agent-1")))
    reporter.log(TaskId("a"), 1, b"\x1b[31mred\n")
    reporter.close(1)
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", terminal.text())


def test_a_program_that_dies_gives_the_cursor_back():
    terminal = Terminal(80, 24)
    program = (
        "import sys\n"
        "from mesh.protocol.news import Notice\n"
        "from mesh.report import make_reporter\n"
        "reporter = make_reporter('live', sys.stdout, sys.stderr, {'TERM': 'xterm'})\n"
        "reporter.news(Notice('hello'), 0)\n"
        "raise RuntimeError('nobody caught this')\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], stdout=terminal.out, stderr=subprocess.PIPE, timeout=30, check=False
    )
    assert run.returncode == 1
    raw = terminal.text()
    assert raw.count("\x1b[?25l") == raw.count("\x1b[?25h") == 1
    assert raw.rindex("\x1b[?25h") > raw.rindex("\x1b[?25l")
    terminal.close()


def test_a_terminal_that_was_closed_does_not_stop_the_run(say):
    terminal = Terminal(80, 24)
    reporter = live(terminal)
    reporter.news(say.joined("agent-1"), 0)
    os.close(terminal._master)
    reporter.news(say.graph(a=""), 500)
    reporter.tick(1_000)
    reporter.close(0)
    with contextlib.suppress(OSError):
        terminal.out.close()
    terminal._reader.join(5)
