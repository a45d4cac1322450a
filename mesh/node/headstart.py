"""A wrapped command runs while the rest of dte is still being loaded: nx takes longer to read a workspace than Python takes for the mesh.

Whatever the command asks before the mesh is there waits, at sockets that exist already. So nothing here may import what takes long.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from mesh.adapters.nx.command import runs_once
from mesh.adapters.nx.door import Door
from mesh.adapters.nx.environment import main_environment
from mesh.adapters.nx.node_options import node_first
from mesh.adapters.turbo.launch import asking_environment
from mesh.cache.port import NX, LoopbackPort
from mesh.exec.cookie import COOKIE_VARIABLE, new_cookie
from mesh.exec.killing import kill_everything


@dataclass(slots=True)
class HeadStart:
    """A command that has been started, and where it finds us."""

    cookie: str
    """What it and all that it starts carry."""
    door: Door
    turbos_door: Door
    port: LoopbackPort
    environ: dict[str, str]
    """What it was started with."""
    process: "subprocess.Popen[bytes] | OSError"
    """It, or why there is none."""
    at_s: float = field(default_factory=time.monotonic)
    """When that was, on the clock that never goes back."""


@contextmanager
def head_start(
    argv: tuple[str, ...],
    workspace: Path,
    environ: Mapping[str, str],
    stdout: int | None = None,
    *,
    whole: bool = False,
) -> Iterator[HeadStart]:
    """Start `argv` with what any nx or turbo under it needs in order to find dte; whatever of it is left at the end is ended. `whole`: each nx is to
    tell of all its tasks, though nothing may be left to do.
    """
    with Door() as door, Door() as turbos_door:
        cookie, port = new_cookie(environ), LoopbackPort()
        env = main_environment({**environ, COOKIE_VARIABLE: cookie}, door.path, port.url(NX), port.token)
        env |= asking_environment(turbos_door.path) | ({"DTE_NX_WHOLE": "1"} if whole else {})
        if not runs_once(argv):
            env |= node_first(Path(door.path), env)
        before = {
            number: signal.signal(number, lambda number, _: _killed((door, turbos_door), cookie, number))
            for number in ending_signals()
        }
        process = start(argv, workspace, env, stdout)
        try:
            yield HeadStart(cookie, door, turbos_door, port, env, process)
        finally:
            if not isinstance(process, OSError) and process.poll() is None:
                _end(process, cookie)
            port.close()
            for number, handler in before.items():
                signal.signal(number, handler)


def start(
    argv: tuple[str, ...], workspace: Path, env: Mapping[str, str], stdout: int | None = None
) -> "subprocess.Popen[bytes] | OSError":
    """The command, with this process's own terminal and files, but for `stdout`; or why it cannot be started."""
    try:
        return subprocess.Popen(argv, cwd=workspace, env=env, stdout=stdout)
    except OSError as error:
        return error


def ending_signals() -> tuple[signal.Signals, ...]:
    """What asks this process to end, beside a person's Ctrl-C. Not the end of its terminal where it was told to outlive that, as by nohup."""
    outlives = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return (signal.SIGTERM,) if outlives else (signal.SIGTERM, signal.SIGHUP)


def _killed(doors: tuple[Door, ...], cookie: str, number: int) -> NoReturn:
    """Until the mesh itself listens for signals. An exception would be no way out: trio takes one that it did not expect for its own fault."""
    kill_everything(cookie)
    for door in doors:
        door.close()
    os._exit(128 + number)


def _end(process: "subprocess.Popen[bytes]", cookie: str) -> None:
    """End what the mesh did not come to end, since it did not come into being."""
    import trio  # noqa: PLC0415 - as is said above

    from mesh.exec.ending import end_everything  # noqa: PLC0415 - as is said above

    with suppress(ProcessLookupError):
        process.terminate()
    trio.run(end_everything, cookie)
    process.wait()
