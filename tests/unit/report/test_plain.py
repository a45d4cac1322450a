"""Rules of plain lines, of the quiet display, and of who gets which."""

import io
import os
import subprocess
import sys
import threading

import pytest

from mesh.protocol.news import Notice, RunEnded, TaskDelivered, TaskRequeued
from mesh.report import make_reporter
from mesh.report.live import LiveReporter
from mesh.report.plain import PlainReporter
from mesh.report.quiet import QuietReporter
from mesh.types import TaskId

A, B = TaskId("p1:a"), TaskId("p1:b")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def out():
    return io.StringIO()


@pytest.fixture
def plain(out):
    return make_reporter("plain", out, io.StringIO(), {})


def test_a_finished_task_is_one_line_with_its_log_under_it(say, plain, out):
    plain.log(A, 1, b"compiling\n")
    plain.log(B, 1, b"of another task\n")
    plain.log(A, 1, b"done")
    plain.news(say.ended("p1:a", "agent-1", 1_234), 2_000)
    assert out.getvalue() == "✓ p1:a  1.2 s  agent-1\ncompiling\ndone\n"


def test_a_log_that_comes_after_its_tasks_end_is_waited_for(say, plain, out):
    plain.log(A, 1, b"one\n")
    plain.news(say.ended("p1:a", "agent-1", log_bytes=8), 2_000)
    assert out.getvalue() == ""
    plain.log(A, 1, b"two\n")
    assert out.getvalue() == "✓ p1:a  1.0 s  agent-1\none\ntwo\n"


def test_a_delivered_task_is_waited_for_no_longer(say, plain, out):
    plain.news(say.ended("p1:a", "agent-1", log_bytes=8), 2_000)
    plain.news(TaskDelivered(A), 2_100)
    assert out.getvalue() == "✓ p1:a  1.0 s  agent-1\n"


def test_failing_logs_come_last_and_in_full(say, plain, out):
    whole = "".join(f"line {number}\n" for number in range(200_000))
    plain.news(say.joined("agent-1"), 0)
    plain.news(say.graph(p1__a="", p1__b=""), 0)
    for start in range(0, len(whole), 100_000):
        plain.log(A, 1, whole[start : start + 100_000].encode())
    plain.news(say.failed("p1:a", "agent-1", 900), 1_000)
    plain.log(B, 1, b"fine\n")
    plain.news(say.ended("p1:b", "agent-1"), 2_000)
    plain.news(RunEnded("failure"), 2_100)
    before = out.getvalue()
    assert before.splitlines()[1] == "✗ p1:a  0.9 s  agent-1  failed (exit code 1)  (log at the end)"
    assert "line 0" not in before
    plain.close(1)
    closing = out.getvalue().removeprefix(before)
    head, shown, account = closing.partition(whole)
    assert head == "\n✗ p1:a  0.9 s  agent-1  failed (exit code 1)\n"
    assert shown == whole
    assert account.splitlines() == [
        "",
        "dte: failed: p1:a",
        "dte: exit code 1; 2 tasks: 1 succeeded, 1 failed",
        "dte: 2.1 s on 1 agent for 1.9 s of work",
        "dte: no faster than 1.9 s with these slots; longest chain 1.0 s: p1:b",
    ]


def test_closing_twice_says_nothing_twice(plain, out):
    plain.close(0)
    once = out.getvalue()
    plain.close(0)
    assert out.getvalue() == once == "dte: all is well; no tasks were run\n"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (0, "dte: all is well; nothing was distributed: the command did everything itself\n"),
        (7, "dte: exit code 7; nothing was distributed\n"),
    ],
)
def test_a_command_that_left_nothing_to_the_mesh_is_not_said_to_have_run_nothing(code, said, out):
    display = make_reporter("wrapped", io.StringIO(), out, {})
    display.close(code)
    assert out.getvalue() == said


def test_what_a_command_did_without_the_mesh_is_counted_and_no_time_is_told_of_it(say, out):
    display = make_reporter("wrapped", io.StringIO(), out, {})
    for task in ("p1:a", "p1:b"):
        display.news(say.ended(task, "main", 0, cache="hit", ledger_index=None), 5)
    display.close(0)
    did = "nothing was distributed: the command did everything itself"
    assert out.getvalue() == f"dte: all is well; 2 tasks: 2 succeeded (2 from cache); {did}\n"


def test_what_a_task_had_written_when_the_run_was_stopped_is_shown(say, plain, out):
    plain.news(say.graph(p1__a=""), 0)
    plain.news(say.started("p1:a", "agent-1"), 1)
    plain.log(A, 1, b"waiting for a server\n")
    plain.close(130)
    assert "· p1:a  what it had written\nwaiting for a server\n" in out.getvalue()
    assert "dte: stopped by a signal (exit code 130); 1 task: 1 not finished\n" in out.getvalue()


def test_a_commands_own_exit_code_is_not_taken_for_a_signal(say, plain, out):
    plain.news(say.graph(p1__a=""), 0)
    plain.news(say.failed("p1:a", "agent-1"), 1_000)
    plain.news(RunEnded("failure"), 1_100)
    plain.close(130)  # as nx 22 ends where a failure made it skip tasks
    assert "dte: exit code 130; 1 task: 1 failed\n" in out.getvalue()


def test_tasks_that_never_ran_do_not_bury_a_cancelled_run(say, plain, out):
    plain.news(say.ended("p1:a", "", 0, status="cancelled"), 5)
    plain.log(B, 1, b"it was here\n")
    plain.news(say.ended("p1:b", "agent-1", 9, status="cancelled"), 5)
    assert out.getvalue() == "· p1:b  cancelled\nit was here\n"


def test_skipped_cached_and_repeated_tasks_say_so(say, plain, out):
    plain.news(say.ended("p1:a", "agent-1", 9_000, cache="hit"), 5)
    plain.news(say.ended("p1:b", "", 0, status="skipped", problem="p1:a failed"), 5)
    plain.news(say.failed("p1:c", "agent-1", 50, attempts=2, allowed_to_fail=True), 5)
    assert out.getvalue().splitlines() == [
        "✓ p1:a  cached  agent-1",
        "· p1:b  skipped  p1:a failed",
        "✗ p1:c  50 ms  agent-1  failed, as it is allowed to (exit code 1)  attempt 2",
    ]


def test_a_task_that_runs_again_says_why_and_keeps_both_logs(say, plain, out):
    plain.log(A, 1, b"first\n")
    plain.news(TaskRequeued(A, "agent-1", 1, "agent-1 was lost"), 100)
    plain.log(A, 2, b"second\n")
    plain.news(say.ended("p1:a", "agent-2", attempts=2, attempt=2, log_bytes=7), 2_000)
    assert out.getvalue().splitlines() == [
        "↻ p1:a  runs again: attempt 1 on agent-1: agent-1 was lost",
        "✓ p1:a  1.0 s  agent-2  attempt 2",
        "first",
        "",
        "── attempt 1 came to nothing: agent-1 was lost ──",
        "second",
    ]


def test_what_was_flaky_is_said_with_the_task_and_in_the_account(say, plain, out):
    plain.news(say.graph(p1__a=""), 0)
    plain.news(say.ended("p1:a", "agent-2", attempts=2, flaky=True), 2_000)
    plain.close(0)
    assert out.getvalue().splitlines()[:2] == [
        "✓ p1:a  1.0 s  agent-2  attempt 2, flaky",
        "dte: flaky, failed before it passed: p1:a",
    ]


def test_agents_come_and_go_until_the_run_is_over(say, plain, out):
    plain.news(say.joined("agent-1", 2), 0)
    plain.news(say.joined("main", 0), 0)
    plain.news(say.left("agent-1", reason="SIGTERM"), 10)
    plain.news(say.left("agent-2", lost=True, reason="no answer for 4 s"), 10)
    plain.news(Notice("first\nsecond"), 10)
    plain.news(RunEnded("success"), 20)
    plain.news(say.left("agent-3"), 30)
    plain.news(Notice("what could not be kept"), 30)
    assert out.getvalue().splitlines() == [
        "dte: agent-1 joined (2 slots)",
        "dte: agent-1 left: SIGTERM",
        "dte: agent-2 was lost: no answer for 4 s; what it had is run elsewhere",
        "dte: first",
        "     second",
        "dte: what could not be kept",
    ]


@pytest.mark.parametrize("kind", ["plain", "quiet"])
def test_there_is_a_sign_of_life_every_thirty_seconds(say, kind):
    stream = io.StringIO()
    reporter = make_reporter(kind, stream, stream, {})
    reporter.foresees = lambda: 285_000
    reporter.tick(29_999)
    reporter.tick(30_000)
    reporter.news(say.joined("agent-1", 2), 30_500)
    reporter.news(say.graph(a__x="", b__x="", c__x="", d__y=""), 31_000)
    reporter.news(say.failed("a:x", "agent-1", 190_000), 31_000)
    reporter.news(say.started("b:x", "agent-1"), 60_000)
    for t_ms in range(31_000, 61_000, 250):
        reporter.tick(t_ms)
    signs = [
        line for line in stream.getvalue().splitlines() if "agent here" in line or "agents here" in line or "/" in line
    ]
    assert signs == [
        "dte: no tasks yet, 0 agents here",
        "dte: 1/4 done, 1 running on 1 agent, 1 failed, ~4m45s left",
    ]


def test_what_a_log_says_cannot_draw_but_keeps_its_colours(say, out):
    reporter = make_reporter("plain", out, io.StringIO(), {})
    reporter.log(A, 1, b"\x1b[2J\x1b[31mred\x1b[0m\x1b]0;title\x07\n")
    reporter.news(say.ended("p1:a"), 5)
    assert out.getvalue().endswith("\n\x1b[31mred\x1b[0m\n")
    bare = make_reporter("plain", out, io.StringIO(), {"NO_COLOR": "1"})
    bare.log(A, 1, b"\x1b[31mred\x1b[0m\n")
    bare.news(say.ended("p1:a"), 5)
    assert out.getvalue().endswith("\nred\n")


@pytest.mark.parametrize(
    ("environ", "head", "tail"),
    [
        ({}, "✓ p1:a", ""),
        ({"GITHUB_ACTIONS": "true"}, "::group::✓ p1:a", "::endgroup::\n"),
        ({"TF_BUILD": "True"}, "##[group]✓ p1:a", "##[endgroup]\n"),
        ({"BUILDKITE": "true"}, "--- ✓ p1:a", ""),
    ],
)
def test_a_log_is_folded_as_the_ci_knows_it(say, out, environ, head, tail):
    reporter = make_reporter("auto", out, io.StringIO(), environ)
    reporter.log(A, 1, b"words\n")
    reporter.news(say.ended("p1:a", "agent-1"), 5)
    assert out.getvalue() == f"{head}  1.0 s  agent-1\nwords\n{tail}"


def test_a_gitlab_section_has_a_name_of_its_own_and_the_tasks_duration(say, out):
    reporter = make_reporter("auto", out, io.StringIO(), {"GITLAB_CI": "true"})
    for task in (A, B):
        reporter.log(task, 1, b"words\n")
        reporter.news(say.ended(task, "agent-1", 60_000), 5)
    lines = out.getvalue().split("\n")
    start, end = (int(lines[at].split(":")[1]) for at in (0, 2))
    assert 59 <= end - start <= 61
    assert ":dte_1[collapsed=true]\r\x1b[0K✓ p1:a" in lines[0]
    assert ":dte_2[collapsed=true]\r\x1b[0K✓ p1:b" in lines[3]


def test_a_wrapped_tools_tasks_are_left_to_it(say):
    out, err = io.StringIO(), io.StringIO()
    quiet = make_reporter("quiet", out, err, {})
    quiet.news(say.joined("agent-1", 2), 0)
    quiet.news(say.graph(p1__a="", p1__b=""), 0)
    quiet.log(A, 1, b"a log\n")
    quiet.news(say.ended("p1:a", "agent-1"), 1_000)
    quiet.news(say.failed("p1:b", "agent-1", problem="ended after 30m: its time was up"), 2_000)
    quiet.news(RunEnded("failure"), 2_000)
    quiet.close(1)
    assert out.getvalue() == ""
    assert err.getvalue().splitlines()[:3] == [
        "dte: agent-1 joined (2 slots)",
        "dte: p1:b: ended after 30m: its time was up",
        "dte: failed: p1:b",
    ]
    assert "a log" not in err.getvalue()


@pytest.mark.parametrize(
    ("kind", "terminal", "environ", "expected"),
    [
        ("auto", True, {"TERM": "xterm"}, LiveReporter),
        ("auto", True, {"TERM": "xterm", "CI": "false"}, LiveReporter),
        ("auto", False, {}, PlainReporter),
        ("auto", True, {"CI": "true"}, PlainReporter),
        ("auto", True, {"NO_COLOR": "1"}, PlainReporter),
        ("auto", True, {"TERM": "dumb"}, PlainReporter),
        ("live", True, {"CI": "true"}, LiveReporter),
        ("live", False, {}, PlainReporter),
        ("plain", True, {}, PlainReporter),
        ("quiet", True, {}, QuietReporter),
        ("wrapped", True, {}, QuietReporter),
    ],
)
def test_a_display_suits_where_it_is_seen(kind, terminal, environ, expected):
    out = Terminal() if terminal else io.StringIO()
    assert type(make_reporter(kind, out, io.StringIO(), environ)) is expected


def test_plain_lines_do_not_wait_for_rich_to_load():
    program = "import sys, mesh.report; mesh.report.make_reporter('plain', sys.stdout, sys.stderr, {}); print('rich' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert run.stdout == "False\n"


def test_a_reader_that_went_away_does_not_stop_the_run(say):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as out:
        reporter = make_reporter("plain", out, out, {})
        reporter.log(A, 1, b"words\n")
        reporter.news(say.ended("p1:a"), 5)
        reporter.close(0)


def test_a_pipe_that_is_full_and_must_not_block_still_gets_every_byte(say):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    got: list[bytes] = []

    def read() -> None:
        while piece := os.read(reading, 65_536):
            got.append(piece)

    reader = threading.Thread(target=read)
    with os.fdopen(writing, "w") as out:
        reporter = make_reporter("plain", out, out, {})
        reporter.log(A, 1, b"x" * 3_000_000)
        reader.start()
        reporter.news(say.ended("p1:a"), 5)
        reporter.close(0)
    reader.join(10)
    os.close(reading)
    assert b"".join(got).count(b"x") == 3_000_000


def test_a_stream_that_cannot_say_a_tick_gets_signs_that_it_can(say):
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    reporter = make_reporter("plain", out, out, {})
    reporter.log(A, 1, "naïve\n".encode())
    reporter.news(say.ended("p1:a", "agent-1"), 5)
    out.flush()
    assert raw.getvalue() == b"+ p1:a  1.0 s  agent-1\nna?ve\n"


@pytest.mark.parametrize("kind", ["plain", "quiet", "wrapped"])
def test_of_notices_that_are_alike_three_are_shown_and_the_number_of_the_others(say, kind):
    stream = io.StringIO()
    reporter = make_reporter(kind, stream, stream, {})
    names = [f"t{number}" for number in range(5)]
    reporter.news(say.joined("a1"), 0)
    reporter.news(say.graph(**dict.fromkeys(names, "")), 0)
    for t_ms, name in enumerate(names):
        reporter.news(say.ended(name), t_ms)
        reporter.news(Notice.of(TaskId(name), "a1", f"it left {name}.txt"), t_ms)
    for number in range(4):
        reporter.news(Notice(f"told of once: {number}"), 9)
    reporter.close(0)
    lines = stream.getvalue().splitlines()
    assert [line for line in lines if "it left" in line] == [f"dte: t{n} on a1: it left t{n}.txt" for n in range(3)]
    assert sum("told of once" in line for line in lines) == 4
    assert "dte: 2 more tasks left or changed more than is declared; `--json FILE` has all notices" in lines
