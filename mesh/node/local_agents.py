"""`--agents N`: agents on this machine, each a process of its own that joins like any other.

Each has a cookie of its own (exec/cookie.py): where one is killed, what it ran would go on in the directory in which the others run it again.
"""

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import trio

from mesh.errors import StorageError
from mesh.exec.cookie import COOKIE_VARIABLE, new_cookie
from mesh.exec.ending import end_everything

LEAVE_MS: Final = 1_500
STOP_MS: Final = 8_000


class LocalAgents:
    """Child processes running `dte join`. Their own output goes to `log_dir`, one file for each."""

    def __init__(self, environ: Mapping[str, str], log_dir: Path, notice: Callable[[str], None]) -> None:
        # Beside the cookie of the main job's own tasks and not below it: these may be ended while agents go on.
        self._environ = {**environ, COOKIE_VARIABLE: new_cookie(environ)}
        self._log_dir = log_dir
        self._notice = notice
        self._children: dict[str, trio.Process] = {}
        self._cookies: dict[str, str] = {}

    async def start(self, count: int, workspaces: list[Path], arguments: list[str]) -> None:
        """Start `count` agents; each works in its entry of `workspaces`. Raises `StorageError`."""
        try:
            self._log_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot write {self._log_dir}: {error.strerror}") from None
        for number in range(count):
            name = f"agent-{number + 1}"
            cookie = self._cookies[name] = new_cookie(self._environ)
            with (self._log_dir / f"{name}.log").open("wb") as log:
                self._children[name] = await trio.lowlevel.open_process(
                    [sys.executable, "-m", "mesh", "join", "--name", name, *arguments],
                    cwd=workspaces[number],
                    env={**self._environ, COOKIE_VARIABLE: cookie},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    # A Ctrl-C in the terminal reaches the main job alone, which ends its agents in order.
                    start_new_session=True,
                )

    async def watch(self) -> None:
        """Say when one dies before its time, and end what it ran, until cancelled."""
        async with trio.open_nursery() as nursery:
            for name, child in self._children.items():
                nursery.start_soon(self._watch, name, child)

    async def _watch(self, name: str, child: trio.Process) -> None:
        code = await child.wait()
        if code != 0:
            # At once: its link has ended with it, and after the grace that links have its tasks run elsewhere.
            await end_everything(self._cookies[name], grace_ms=0)
            self._notice(f"{name} on this machine ended with {code}; see {self._log_dir / f'{name}.log'}")

    async def end(self) -> None:
        """Let them leave, and see to it that they do, with all that they ran."""
        with trio.CancelScope(shield=True):
            # One that has joined knows that the run is over; one that has not would wait for a main job.
            for patience_ms in (LEAVE_MS, STOP_MS):
                with trio.move_on_after(patience_ms / 1000):
                    for child in self._children.values():
                        await child.wait()
                for child in self._children.values():
                    if child.returncode is None:
                        child.terminate()
            for child in self._children.values():
                if child.returncode is None:
                    child.kill()
                    await child.wait()
            if any(child.returncode for child in self._children.values()):
                await end_everything(self._environ[COOKIE_VARIABLE])
