"""How a task's processes are found and ended: all of them, those that left for a session of their own too.

Each task's first process leads a session, and carries a *cookie* in its environment (cookie.py), which its children inherit. Whoever is in the
session or carries the cookie belongs to the task.
"""

import os
import signal
from contextlib import suppress
from typing import Final

import psutil
import trio

from mesh.exec.cookie import COOKIE_VARIABLE

KILL_WAIT_MS: Final = 10_000
"""How long SIGKILL may take. Only a process that hangs in the kernel, or one of another user, is still there after it."""

_POLL_FIRST_MS: Final = 1
_POLL_MAX_MS: Final = 50
_NO_SESSION: Final = -1


async def end_everything(cookie: str, *, grace_ms: int = 2_000) -> tuple[str, ...]:
    """End every process that carries `cookie` or an extension of it: what a node calls before it exits. Returns what could not be ended."""
    _, left = await end_processes(cookie, _NO_SESSION, grace_ms)
    return left


async def end_processes(cookie: str, session: int, grace_ms: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """SIGTERM, `grace_ms` later SIGKILL, to all with this `cookie` and all in this `session`; returns when they are gone.

    Cancellation does not interrupt it, and it is bounded by `grace_ms + KILL_WAIT_MS`. Returns the names of those it found, and of those
    that are still there.
    """
    with trio.CancelScope(shield=True):
        found = _members(cookie, session)
        names = tuple(_describe(process) for process in found)
        _signal(found, signal.SIGTERM)
        with trio.move_on_after(grace_ms / 1_000):
            while found:
                await _gone(found)
                # Again, since one that got the signal may have started another before it went.
                found = _members(cookie, session)
                _signal(found, signal.SIGTERM)
        with trio.move_on_after(KILL_WAIT_MS / 1_000):
            while found := _members(cookie, session):
                _signal(found, signal.SIGKILL)
                await _gone(found)
    return names, tuple(_describe(process) for process in found)


def _members(cookie: str, session: int) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if _belongs(process, cookie, session) and _lives(process)]


def _belongs(process: psutil.Process, cookie: str, session: int) -> bool:
    try:
        if os.getsid(process.pid) == session:
            return True
        carried = process.environ().get(COOKIE_VARIABLE, "")
    except (psutil.Error, OSError):
        return False  # gone, or another user's
    return carried == cookie or carried.startswith(f"{cookie}/")


def _lives(process: psutil.Process) -> bool:
    # A zombie has ended; that nobody has asked for its exit code is not its fault.
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(number)


async def _gone(processes: list[psutil.Process]) -> None:
    pause_ms = _POLL_FIRST_MS
    while any(map(_lives, processes)):
        await trio.sleep(pause_ms / 1_000)
        pause_ms = min(2 * pause_ms, _POLL_MAX_MS)


def _describe(process: psutil.Process) -> str:
    try:
        return f"{process.name()} ({process.pid})"
    except psutil.Error:
        return str(process.pid)
