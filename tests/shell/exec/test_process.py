"""Commands as real processes: their output, their exit, and that nothing of them is left."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import trio

from mesh.exec import process as process_module
from mesh.exec.cookie import COOKIE_VARIABLE, new_cookie
from mesh.exec.ending import end_everything
from mesh.exec.process import Exited, Spec, run

# Two forks and a session of its own, as a daemon does; it says where it is, and goes on for long.
DAEMON = """
import os, sys, time
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
{ignore}
{silence}
open({pid!r}, "w").write(str(os.getpid()))
time.sleep(60)
"""
IGNORE = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
SILENCE = "null = os.open('/dev/null', os.O_RDWR); [os.dup2(null, n) for n in (0, 1, 2)]"


@pytest.fixture
def cookie() -> str:
    return new_cookie({})


@pytest.fixture(autouse=True)
def nothing_is_left(cookie: str) -> Iterator[None]:
    yield
    assert alive(cookie) == []


def alive(cookie: str) -> list[str]:
    """The command lines of all processes that carry `cookie`."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(COOKIE_VARIABLE, "").startswith(cookie) and process.status() != "zombie":
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def runs_on(pid: Path) -> bool:
    """Whether the process that wrote its id to the file is still running. A zombie, if nobody inherits it, is not."""
    try:
        return psutil.Process(int(pid.read_text())).status() != "zombie"
    except psutil.NoSuchProcess:
        return False


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


async def until_async(condition: Callable[[], bool]) -> None:
    with trio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - other processes set no events
            await trio.sleep(0.005)


class Runs:
    """Runs commands in a directory and keeps what they write."""

    def __init__(self, cwd: Path, cookie: str) -> None:
        self.cwd = cwd
        self.log = bytearray()
        self.env = {**os.environ, COOKIE_VARIABLE: cookie}

    def spec(self, *argv: str, timeout_ms: int = 0, grace_ms: int = 5_000, cwd: Path | None = None) -> Spec:
        return Spec(argv, cwd or self.cwd, self.env, timeout_ms=timeout_ms, grace_ms=grace_ms)

    def __call__(self, *argv: str, timeout_ms: int = 0, grace_ms: int = 5_000, cwd: Path | None = None) -> Exited:
        return trio.run(run, self.spec(*argv, timeout_ms=timeout_ms, grace_ms=grace_ms, cwd=cwd), self.log.extend)

    def shell(self, script: str, *, timeout_ms: int = 0, grace_ms: int = 5_000) -> Exited:
        return self("/bin/sh", "-c", script, timeout_ms=timeout_ms, grace_ms=grace_ms)

    def python(self, script: str, *, timeout_ms: int = 0, grace_ms: int = 5_000) -> Exited:
        return self(sys.executable, "-c", script, timeout_ms=timeout_ms, grace_ms=grace_ms)


@pytest.fixture
def runs(tmp_path: Path, cookie: str, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """In the directory where this process itself is, as most tasks run."""
    monkeypatch.chdir(tmp_path)
    return Runs(tmp_path, cookie)


@pytest.fixture(params=["here", "elsewhere"])
def anywhere(request: pytest.FixtureRequest, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """In that directory and in another one: processes are started in two ways."""
    if request.param == "elsewhere":
        monkeypatch.chdir("/")
    return runs


def test_a_command_that_does_well_exits_with_zero(runs: Runs) -> None:
    before_ms = time.time() * 1_000 - 1
    exited = runs.shell("echo hello")
    assert (exited.exit_code, exited.timed_out, exited.problem) == (0, False, "")
    assert runs.log == b"hello\n"
    assert before_ms <= exited.started_ms <= exited.ended_ms <= time.time() * 1_000 + 1
    assert exited.max_rss_bytes > 0


def test_an_exit_code_is_passed_on(anywhere: Runs) -> None:
    assert anywhere.shell("exit 7").exit_code == 7


def test_a_signal_is_128_and_its_number(anywhere: Runs) -> None:
    assert anywhere.shell("kill -SEGV $$").exit_code == 128 + signal.SIGSEGV


def test_memory_is_that_of_the_largest_process(runs: Runs) -> None:
    # More than this process has ever had, which is where the kernel begins to count.
    large = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024 + (32 << 20)
    exited = runs.python(f"import subprocess, sys; subprocess.run([sys.executable, '-c', 'b\"x\" * {large}'])")
    assert large <= exited.max_rss_bytes < large + (64 << 20)


def test_stdout_and_stderr_are_one_log_in_the_order_of_writing(anywhere: Runs) -> None:
    anywhere.shell("for i in 1 2 3 4 5 6 7 8; do echo out $i; echo err $i >&2; done")
    assert anywhere.log.decode() == "".join(f"out {i}\nerr {i}\n" for i in range(1, 9))


def test_bytes_that_are_no_utf_8_come_through_as_they_are(runs: Runs) -> None:
    runs.shell(r"printf '\377\376\000caf\351\n'")
    assert runs.log == b"\xff\xfe\x00caf\xe9\n"


def test_output_is_seen_while_the_command_runs(runs: Runs) -> None:
    async def main() -> None:
        seen = trio.Event()

        async def until_seen() -> None:
            await seen.wait()
            (runs.cwd / "go").touch()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(until_seen)
            spec = runs.spec("/bin/sh", "-c", "echo ready; until [ -e go ]; do sleep 0.01; done")
            assert (await run(spec, lambda data: seen.set())).exit_code == 0

    trio.run(main)


def test_fifty_megabytes_lose_nothing(runs: Runs) -> None:
    size = 0

    def count(data: bytes) -> None:
        nonlocal size
        size += len(data)

    exited = trio.run(run, runs.spec("/bin/sh", "-c", "head -c 50000000 /dev/zero; echo end"), count)
    assert exited.exit_code == 0
    assert size == 50_000_004


def test_standard_input_is_empty(anywhere: Runs) -> None:
    assert anywhere("/bin/cat").exit_code == 0
    assert anywhere.log == b""


def test_a_task_runs_in_its_own_session_at_lower_priority(anywhere: Runs) -> None:
    anywhere.python(
        "import os, time\n"
        f"while os.getpriority(os.PRIO_PROCESS, 0) == {os.getpriority(os.PRIO_PROCESS, 0)}: time.sleep(0.001)\n"
        "print(os.getsid(0) == os.getpid(), os.getpriority(os.PRIO_PROCESS, 0))"
    )
    assert anywhere.log.decode().split() == ["True", str(min(19, os.getpriority(os.PRIO_PROCESS, 0) + 5))]


def test_signals_that_python_ignores_are_not_ignored_by_tasks(anywhere: Runs) -> None:
    anywhere.shell("grep SigIgn /proc/self/status")
    ignored = int(anywhere.log.split()[1], 16)
    assert not ignored & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1)


def test_a_command_without_a_path_is_looked_for_where_its_task_looks(anywhere: Runs) -> None:
    (anywhere.cwd / "tools").mkdir()
    (anywhere.cwd / "tools" / "mine").write_text("#!/bin/sh\necho found\n")
    (anywhere.cwd / "tools" / "mine").chmod(0o755)
    anywhere.env["PATH"] = f"/nowhere:{anywhere.cwd}/tools:{os.environ['PATH']}"
    assert anywhere("mine").exit_code == 0
    assert anywhere.log == b"found\n"


def test_a_cookie_extends_the_one_it_was_made_under(anywhere: Runs, cookie: str) -> None:
    anywhere.shell(f'echo "${COOKIE_VARIABLE}"')
    assert anywhere.log.decode().startswith(f"{cookie}/")
    assert len(anywhere.log) > len(cookie) + 10


@pytest.mark.parametrize(
    ("make", "argv", "exit_code", "line"),
    [
        (None, "no-such-command", 127, "no-such-command: command not found; PATH is "),
        (None, "./missing.sh", 127, "./missing.sh: no such file"),
        (("#!/no/such/interpreter\n", 0o755), "./file", 127, "./file: no such file, or the interpreter"),
        (("#!/bin/sh\n", 0o644), "./file", 126, "./file: permission denied; is it executable"),
        (("echo no first line\n", 0o755), "./file", 126, "./file: not a program for this machine"),
        (None, "/tmp", 126, "/tmp: permission denied"),
        (None, "a\0b", 126, "cannot run 'a\\x00b': embedded null byte"),
    ],
)
def test_a_command_that_cannot_start_is_an_exit_code_and_a_line(
    make: tuple[str, int] | None, argv: str, exit_code: int, line: str, anywhere: Runs
) -> None:
    if make is not None:
        (anywhere.cwd / "file").write_text(make[0])
        (anywhere.cwd / "file").chmod(make[1])
    exited = anywhere(argv)
    assert exited.exit_code == exit_code
    assert anywhere.log.decode().startswith(f"dte: {line}")
    assert anywhere.log.endswith(b"\n")


def test_a_directory_that_is_missing_is_named(anywhere: Runs) -> None:
    assert anywhere("/bin/true", cwd=anywhere.cwd / "gone").exit_code == 126
    assert anywhere.log.decode() == f"dte: cannot run /bin/true: its directory {anywhere.cwd}/gone does not exist\n"


def test_arguments_that_are_too_long_are_explained(anywhere: Runs) -> None:
    assert anywhere("/bin/echo", "x" * 200_000).exit_code == 126
    assert anywhere.log.decode() == "dte: cannot run /bin/echo: argument list too long\n"


def test_a_time_out_ends_the_command_and_says_so(runs: Runs) -> None:
    exited = runs.shell("echo begun; sleep 60", timeout_ms=200)
    assert exited.timed_out
    assert exited.exit_code == 128 + signal.SIGTERM
    assert exited.problem == "timed out after 0.2 s and was ended"
    assert runs.log == b"begun\n"


def test_a_command_may_say_last_words_when_it_is_ended(runs: Runs) -> None:
    exited = runs.shell("trap 'echo last words; exit 3' TERM; echo begun; while :; do sleep 0.01; done", timeout_ms=200)
    assert (exited.timed_out, exited.exit_code) == (True, 3)
    assert runs.log.endswith(b"last words\n")


def test_one_that_ignores_sigterm_is_killed_after_its_grace(runs: Runs) -> None:
    began = time.monotonic()
    exited = runs.shell("trap '' TERM; while :; do sleep 0.01; done", timeout_ms=100, grace_ms=300)
    assert 0.35 < time.monotonic() - began < 5
    assert exited.exit_code == 128 + signal.SIGKILL


def test_a_whole_tree_of_processes_ends_with_a_time_out(runs: Runs) -> None:
    exited = runs.shell("(sleep 60 & sleep 60) & sh -c 'sleep 60; :' & sleep 60", timeout_ms=200)
    assert exited.timed_out


def test_one_that_left_its_session_ends_with_a_time_out(runs: Runs) -> None:
    pid = runs.cwd / "pid"
    (runs.cwd / "daemon.py").write_text(DAEMON.format(ignore=IGNORE, silence=SILENCE, pid=str(pid)))
    exited = runs.shell(f"{sys.executable} daemon.py; sleep 60", timeout_ms=1_000, grace_ms=200)
    assert exited.timed_out
    assert not runs_on(pid)


def test_cancellation_ends_every_process_before_it_is_passed_on(runs: Runs, cookie: str) -> None:
    async def main() -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(
                    run, runs.spec("/bin/sh", "-c", "sleep 60 & setsid sleep 60 & sleep 60"), runs.log.extend
                )
                await until_async(lambda: sum("sleep 60" in line for line in alive(cookie)) >= 3)
                scope.cancel()
        assert scope.cancelled_caught
        assert alive(cookie) == []

    trio.run(main)


def test_a_background_child_that_holds_the_output_does_not_hold_the_run(runs: Runs) -> None:
    began = time.monotonic()
    exited = runs.shell("echo done; sleep 60 &")
    assert time.monotonic() - began < 5
    assert exited.exit_code == 0
    assert exited.problem.startswith("left sleep (")
    assert exited.problem.endswith(") running in the background, which was ended")
    assert runs.log == b"done\n"


def test_a_background_child_without_output_is_ended_too(runs: Runs) -> None:
    assert "left sleep" in runs.shell("sleep 60 >/dev/null 2>&1 &").problem


def test_a_background_child_may_finish_its_last_line(runs: Runs) -> None:
    exited = runs.shell("(sleep 0.1; echo late) & echo early")
    assert exited.problem == ""
    assert runs.log == b"early\nlate\n"


def test_a_daemon_that_holds_the_output_is_ended(runs: Runs) -> None:
    pid = runs.cwd / "pid"
    exited = runs.python(DAEMON.format(ignore="", silence="", pid=str(pid)))
    assert "running in the background, which was ended" in exited.problem
    assert not runs_on(pid)


def test_a_holder_of_the_output_that_cannot_be_found_is_told_of(runs: Runs, tmp_path: Path) -> None:
    # Without its environment and in a session of its own nothing marks it any more.
    exited = runs.shell("env -i setsid sleep 2 &\nsleep 0.1")
    assert exited.exit_code == 0
    assert "its output is held open" in exited.problem


def test_a_daemon_that_let_go_lives_until_everything_is_ended(runs: Runs, cookie: str) -> None:
    pid = runs.cwd / "pid"
    exited = runs.python(DAEMON.format(ignore="", silence=SILENCE, pid=str(pid)))
    assert exited.problem == ""
    until(lambda: pid.exists() and pid.read_text() != "")
    assert runs_on(pid)
    assert trio.run(end_everything, cookie) == ()
    assert not runs_on(pid)


def test_everything_does_not_include_another_nodes_tasks(runs: Runs, cookie: str) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, runs.spec("/bin/sleep", "60"), runs.log.extend)
            await until_async(lambda: alive(cookie) != [])
            assert await end_everything(new_cookie({})) == ()
            assert alive(cookie) != []
            assert await end_everything(cookie) == ()

    trio.run(main)


def test_without_a_pidfd_an_exit_is_noticed_all_the_same(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "_pidfd", lambda pid: None)
    assert runs.shell("exit 5").exit_code == 5
    assert runs.shell("sleep 60", timeout_ms=100).timed_out


def test_many_at_once_each_get_their_own_output(anywhere: Runs) -> None:
    logs = [bytearray() for _ in range(20)]

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number, log in enumerate(logs):
                nursery.start_soon(run, anywhere.spec("/bin/echo", str(number)), log.extend)

    trio.run(main)
    assert [bytes(log) for log in logs] == [b"%d\n" % number for number in range(20)]


def test_no_descriptor_is_left_open(anywhere: Runs) -> None:
    anywhere.shell("true")
    before = len(list(Path("/proc/self/fd").iterdir()))
    anywhere.shell("true")
    anywhere("no-such-command")
    anywhere.shell("sleep 60", timeout_ms=50)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("directory", ["/", "/tmp"])
def test_a_command_inherits_its_three_streams_and_nothing_else(directory: str, tmp_path: Path) -> None:
    """Not even what this process was started with: who holds a pipe open keeps somebody waiting."""
    script = (
        "import trio; from pathlib import Path; from mesh.exec.process import Spec, run\n"
        "log = bytearray(); spec = Spec(('/bin/ls', '/proc/self/fd'), Path('/'), {})\n"
        "mine = open('/dev/null'); trio.run(run, spec, log.extend); print(log.decode())"
    )
    with (tmp_path / "held").open("wb") as held:
        ran = subprocess.run(
            [sys.executable, "-c", script],
            pass_fds=(held.fileno(),),
            capture_output=True,
            check=True,
            text=True,
            cwd=directory,
        )
    # The fourth is that of `ls` itself, which lists them.
    assert ran.stdout.split() == ["0", "1", "2", "3"]


@pytest.mark.parametrize("script", ["exit 3", "sleep 0.1; exit 3"], ids=["of a moment", "that is watched"])
def test_a_command_whose_exit_code_the_kernel_does_not_keep_has_not_succeeded(runs: Runs, script: str) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with pytest.raises(ChildProcessError, match="the exit code of /bin/sh is not known"):
            runs.shell(script)
    finally:
        signal.signal(signal.SIGCHLD, before)


@pytest.fixture
def few_files() -> Iterator[Callable[[], None]]:
    """What takes all that is left of a few descriptors; they are given back at the end."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, limits[1]))
    taken: list[int] = []

    def take() -> None:
        with suppress(OSError):
            while True:
                taken.append(os.dup(0))

    try:
        yield take
    finally:
        for file in taken:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_command_that_has_no_room_is_not_taken_for_one_that_failed(runs: Runs, few_files: Callable[[], None]) -> None:
    async def main() -> None:
        few_files()
        await run(runs.spec("/bin/true"), runs.log.extend)

    with pytest.raises(OSError, match="Too many open files"):
        trio.run(main)
    assert runs.log == b""


def test_a_command_is_seen_through_though_no_descriptor_is_left_to_watch_it(
    runs: Runs, few_files: Callable[[], None]
) -> None:
    def log(data: bytes) -> None:
        runs.log.extend(data)
        few_files()

    spec = runs.spec("/bin/sh", "-c", "echo early; sleep 0.2; echo late; exec >&- 2>&-; sleep 0.1; exit 7")
    exited = trio.run(run, spec, log)
    assert exited.exit_code == 7
    assert runs.log == b"early\nlate\n"
