"""One command as a process of its own session: its output as it comes, its exit, and its end, whatever it does to avoid that.

The process is started from the event loop's own thread: posix_spawn, and Python's own way with `start_new_session` and without `preexec_fn`, use vfork,
which costs a fraction of a millisecond, less than handing the work to a thread. Its exit is a readable pidfd, so that nothing polls and no thread waits.
"""

import errno
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

import trio
from msgspec import Struct

from mesh.exec.cookie import COOKIE_VARIABLE, new_cookie
from mesh.exec.ending import end_processes
from mesh.types import UnixMs

LINGER_MS: Final = 500
"""How long what a command left in the background may go on after it, if only to finish its last line."""

READ_BYTES: Final = 64 * 1024
"""As much as a pipe holds."""

NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127
SIGNALLED: Final = 128

_NO_INPUT: Final = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0)
_NOT_IGNORED: Final = (signal.SIGPIPE, signal.SIGXFSZ)
"""Python ignores these, and no command expects that."""

WATCH_AFTER_MS: Final = 20
"""What is over within this time needs neither a lower priority nor anybody who watches more than its output: both take a good part of its start."""

_SCARCE: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM})
"""Why a process may not start that says nothing about the command: this machine has no room for it now."""

_REAP_WAIT_MS: Final = 1_000
_POLL_MAX_MS: Final = 20


class Spec(Struct, frozen=True):
    """What to run. The task's cookie extends the one in `env`, if there is one."""

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str]
    timeout_ms: int = 0
    """0: no time-out."""
    grace_ms: int = 5_000
    """From SIGTERM to SIGKILL."""
    nice: int = 5
    """How much lower than this process: a node that starves is taken for dead by its peers."""


class Exited(Struct, frozen=True):
    """How it ended. `problem` is one line for a person, "" where all is as it should be."""

    exit_code: int
    """128 + n where signal n ended it; 126 and 127 where it could not be started, as in a shell."""
    timed_out: bool
    max_rss_bytes: int
    """The largest of its processes, never less than this process itself: the kernel counts the pages that a process had before it became
    the command. 0 where it did not start."""
    started_ms: UnixMs
    ended_ms: UnixMs
    problem: str = ""


async def run(spec: Spec, log: Callable[[bytes], None]) -> Exited:
    """Run `spec`, giving `log` what it writes to stdout and stderr, in order. Returns when all its processes are gone.

    Cancellation ends them too, before it is passed on. A command that cannot be started is an exit code and a line in the log. Raises
    `ChildProcessError` where nobody can say how it ended, and another `OSError` where this machine has no room for one more process.
    """
    started_ms = now_ms()
    cookie = new_cookie(spec.env)
    try:
        child = _Child(spec, cookie, log)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in _SCARCE:
            raise
        exit_code, reason = _why_not(spec, error)
        log(f"dte: {reason}\n".encode(errors="surrogateescape"))
        return Exited(exit_code, timed_out=False, max_rss_bytes=0, started_ms=started_ms, ended_ms=started_ms)
    timed_out = False
    try:
        if spec.timeout_ms:
            with trio.move_on_after(spec.timeout_ms / 1_000) as limit:
                await child.see_through(spec.grace_ms)
            timed_out = limit.cancelled_caught
        else:
            await child.see_through(spec.grace_ms)
    finally:
        child.close()
    if child.lost:
        raise ChildProcessError(f"the exit code of {spec.argv[0]} is not known: somebody else has asked for it")
    too_long = f"timed out after {spec.timeout_ms / 1_000:g} s and was ended" if timed_out else ""
    return Exited(
        exit_code=child.exit_code,
        timed_out=timed_out,
        max_rss_bytes=child.max_rss_bytes,
        started_ms=started_ms,
        ended_ms=UnixMs(started_ms + child.elapsed_ms),
        problem="; ".join(filter(None, (too_long, child.problem))),
    )


def now_ms() -> UnixMs:
    """The wall clock, for records."""
    return UnixMs(time.time_ns() // 1_000_000)


class _Child:
    """A started command: its session, its pipe and its exit.

    At first its output alone is looked at, whose end is the end of most commands of a moment. What takes longer is watched closely: pipe and exit
    together, by an epoll of the child's own, so that one task waits for both.
    """

    def __init__(self, spec: Spec, cookie: str, log: Callable[[bytes], None]) -> None:
        _keep_descriptors()
        self._cookie = cookie
        self._log = log
        self._nice = spec.nice
        self._started_ns = time.monotonic_ns()
        self._output, output = os.pipe()
        try:
            self.pid: Final = _start(spec, {**spec.env, COOKIE_VARIABLE: cookie}, output)
        except BaseException:
            os.close(self._output)
            raise
        finally:
            os.close(output)
        os.set_blocking(self._output, False)
        self._pidfd: int | None = None
        self._watch: select.epoll | None = None
        """None until it is watched closely, and where no descriptor is left for that: then its exit is looked for now and then."""
        self._exited = trio.Event()
        self._drained = trio.Event()
        self.exit_code = SIGNALLED + signal.SIGKILL
        self.max_rss_bytes = 0
        self.elapsed_ms = 0
        self.lost = False
        """It has exited, and nobody can say how."""
        self.problem = ""
        """What a person should know of its end."""

    async def see_through(self, grace_ms: int) -> None:
        """Pass on what is written until the command itself has exited, then bring the rest to its end. Cancellation ends both, and is passed on after that."""
        try:
            with trio.move_on_after(WATCH_AFTER_MS / 1_000):
                await self._look_at_output()
            while not self._exited.is_set():
                await self._look()
        finally:
            if not (self._exited.is_set() and self._drained.is_set()) or _exists(self.pid):
                self.problem = await self._settle(grace_ms)

    async def _look_at_output(self) -> None:
        """Until there will be no more, at which most commands are over."""
        while not self._drained.is_set():
            await trio.lowlevel.wait_readable(self._output)
            self._read()
        self._reap()

    def _watch_closely(self) -> select.epoll | None:
        try:
            watch = select.epoll()
        except OSError:
            return None
        _lower_priority(self.pid, self._nice)
        if not self._drained.is_set():
            watch.register(self._output, select.EPOLLIN)
        if not self._exited.is_set():
            self._pidfd = _pidfd(self.pid)
            if self._pidfd is not None:
                watch.register(self._pidfd, select.EPOLLIN)
        return watch

    async def _settle(self, grace_ms: int) -> str:
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                # Meanwhile what is written is still passed on: last words belong to the log.
                nursery.start_soon(self._attend_to_the_end)
                problem = await (self._tidy(grace_ms) if self._exited.is_set() else self._interrupt(grace_ms))
                nursery.cancel_scope.cancel()
        return problem

    async def _attend_to_the_end(self) -> None:
        while not (self._exited.is_set() and self._drained.is_set()):
            await self._look()

    async def _look(self) -> None:
        """Wait for something to happen to the command, and take it in."""
        if self._watch is None:
            self._watch = self._watch_closely()
        if self._watch is not None and (self._pidfd is not None or self._exited.is_set()):
            await trio.lowlevel.wait_readable(self._watch.fileno())
        else:
            with trio.move_on_after(_POLL_MAX_MS / 1_000):
                if self._watch is None and self._drained.is_set():
                    await trio.sleep_forever()
                await trio.lowlevel.wait_readable(self._output if self._watch is None else self._watch.fileno())
        self._read()
        if not self._exited.is_set() and self._reap():
            # What it wrote last may have come in between.
            self._read()

    def _read(self) -> None:
        if self._drained.is_set():
            return
        try:
            data = os.read(self._output, READ_BYTES)
        except BlockingIOError:
            return
        if data:
            self._log(data)
        else:
            if self._watch is not None:
                self._watch.unregister(self._output)
            self._drained.set()

    def _reap(self) -> bool:
        try:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        except ChildProcessError:
            self.lost = True
        else:
            if not pid:
                return False
            code = os.waitstatus_to_exitcode(status)
            self.exit_code = code if code >= 0 else SIGNALLED - code
            self.max_rss_bytes = usage.ru_maxrss * 1_024
        self.elapsed_ms = (time.monotonic_ns() - self._started_ns) // 1_000_000
        if self._watch is not None and self._pidfd is not None:
            self._watch.unregister(self._pidfd)
        self._exited.set()
        return True

    async def _interrupt(self, grace_ms: int) -> str:
        _, left = await end_processes(self._cookie, self.pid, grace_ms)
        with trio.move_on_after(_REAP_WAIT_MS / 1_000):
            await self._exited.wait()
        with trio.move_on_after(LINGER_MS / 1_000):
            await self._drained.wait()
        return _could_not_end(left)

    async def _tidy(self, grace_ms: int) -> str:
        """After the command has exited: give what it left behind a moment, then end it."""
        with trio.move_on_after(LINGER_MS / 1_000) as linger:
            await self._drained.wait()
            pause_ms = 1
            while _exists(self.pid):
                await trio.sleep(pause_ms / 1_000)
                pause_ms = min(2 * pause_ms, _POLL_MAX_MS)
        if not linger.cancelled_caught:
            return ""
        found, left = await end_processes(self._cookie, self.pid, grace_ms)
        if left:
            return _could_not_end(left)
        if found:
            return f"left {', '.join(found)} running in the background, which was ended"
        if not self._drained.is_set():
            return "its output is held open by a process that could not be found; the log may lack its end"
        return ""

    def close(self) -> None:
        if self._watch is not None:
            self._watch.close()
        os.close(self._output)
        if self._pidfd is not None:
            os.close(self._pidfd)


def _start(spec: Spec, env: Mapping[str, str], output: int) -> int:
    """A process in a session of its own that writes all to the descriptor `output`; returns its id.

    posix_spawn takes half of what Popen takes, and knows neither of directories nor of PATH. What it cannot start Popen tries again, and tells why.
    """
    # Nothing is lost here: Popen tries again below, and its error is the one that is told. NotImplementedError is a C library that makes no sessions.
    with suppress(OSError, NotImplementedError):
        command = spec.argv[0] if "/" in spec.argv[0] else shutil.which(spec.argv[0], path=env.get("PATH", os.defpath))
        if command is not None and os.fspath(spec.cwd) == os.getcwd():  # noqa: PTH109 - for each task, and a Path takes five times as long
            streams = ((os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2), _NO_INPUT)
            return os.posix_spawn(command, spec.argv, env, file_actions=streams, setsid=True, setsigdef=_NOT_IGNORED)
    process = subprocess.Popen(
        spec.argv,
        cwd=spec.cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        # One pipe for both, so that their order is the order of the log.
        stdout=output,
        stderr=output,
        start_new_session=True,
        # None is inherited anyway, and to look for them in each child takes a fifth of its start.
        close_fds=False,
    )
    process.returncode = 0  # it is waited for here
    return process.pid


def _could_not_end(left: tuple[str, ...]) -> str:
    return f"could not end {', '.join(left)}" if left else ""


@cache
def _keep_descriptors() -> None:
    """What we have inherited ourselves is not passed on. What we open is not either, which is Python's own rule (PEP 446)."""
    for entry in Path("/proc/self/fd").iterdir():
        if int(entry.name) > 2:
            with suppress(OSError):  # the one that lists them is gone
                os.set_inheritable(int(entry.name), False)


def _pidfd(pid: int) -> int | None:
    """Something to wait on; None on a kernel, or behind a filter, that does not offer it."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def _lower_priority(group: int, nice: int) -> None:
    with suppress(OSError):  # it may be over already
        os.setpriority(os.PRIO_PGRP, group, os.getpriority(os.PRIO_PROCESS, 0) + nice)
    # Where the kernel groups by session, the nice value counts only within one: the session has a value of its own.
    with suppress(OSError):
        autogroup = os.open(f"/proc/{group}/autogroup", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(autogroup, b"%d" % nice)
        finally:
            os.close(autogroup)


def _exists(group: int) -> bool:
    """Whether anyone is left in a process group whose leader is gone."""
    with suppress(ChildProcessError):
        os.waitpid(
            -group, os.WNOHANG
        )  # as process 1 of a container we inherit what tasks leave, and must ask for its exit
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _why_not(spec: Spec, error: OSError | ValueError) -> tuple[int, str]:
    """The exit code a shell would give, and a line for a person."""
    command = spec.argv[0] if spec.argv else ""
    if not spec.cwd.is_dir():
        return NOT_EXECUTABLE, f"cannot run {command}: its directory {spec.cwd} does not exist"
    if isinstance(error, ValueError):  # a NUL in an argument
        return NOT_EXECUTABLE, f"cannot run {command!r}: {error}"
    match error.errno:
        case errno.ENOENT if "/" in command:
            return NOT_FOUND, f"{command}: no such file, or the interpreter in its first line is missing"
        case errno.ENOENT:
            return NOT_FOUND, f"{command}: command not found; PATH is {spec.env.get('PATH', os.defpath)}"
        case errno.EACCES:
            return NOT_EXECUTABLE, f"{command}: permission denied; is it executable (chmod +x)?"
        case errno.ENOEXEC:
            return NOT_EXECUTABLE, f"{command}: not a program for this machine; does a script lack its `#!` line?"
        case _:
            return NOT_EXECUTABLE, f"cannot run {command}: {(error.strerror or str(error)).lower()}"
