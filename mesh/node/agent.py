"""`dte join`: be an agent until the run ends, or the main job stays away."""

import sys
import time
from collections.abc import Iterable
from typing import TextIO

import trio

from mesh.errors import Exit
from mesh.node.peer import Outcome, Peer
from mesh.node.settings import Settings
from mesh.protocol.news import News, Notice
from mesh.report.pen import Pen
from mesh.types import TaskId

ALIVE_MS = 60_000
"""Some CI systems end a job that prints nothing for long."""


class AgentLog:
    """An observer that prints a line for everything a person may want to know of an agent."""

    def __init__(self, out: TextIO) -> None:
        self._pen = Pen(out)
        self._last = time.monotonic()

    def news(self, item: News) -> None:
        """Print it."""
        if isinstance(item, Notice):
            self.line(item.text)

    def log(self, task: TaskId, attempt: int, data: bytes) -> None:
        """Logs are shown where the run is."""

    def unseen(self, task: TaskId, log: Iterable[bytes]) -> None:
        """There is none."""

    def line(self, text: str) -> None:
        """One line, at once."""
        self._pen.line(f"dte: {text}")
        self._last = time.monotonic()

    async def still_here(self) -> None:
        """A line a minute where nothing else happens, until cancelled."""
        while True:
            await trio.sleep(ALIVE_MS / 1000 / 4)
            if time.monotonic() - self._last >= ALIVE_MS / 1000:
                self.line("still here")


async def join(settings: Settings) -> Outcome:
    """Live as an agent. Raises `UsageError` or `StorageError` where it cannot begin."""
    log = AgentLog(sys.stdout)

    async def body(peer: Peer) -> None:
        places = ", ".join(settings.peers) or str(settings.rendezvous)
        slots = f"{settings.slots} slot{'s' if settings.slots != 1 else ''}"
        log.line(
            f"agent {settings.name} ({slots}) looks for run {settings.run_id} at {places}; reachable at {peer.listener.addresses[0]}"
        )
        peer.nursery.start_soon(log.still_here)
        await peer.tools.warm_up()

    outcome = await Peer(settings, log).live(body)
    log.line(outcome.end.reason)
    return outcome


def exit_code_of(outcome: Outcome, *, exit_with_run: bool) -> int:
    """What `dte join` ends with: 0, but for a mistake of its own, a signal, or the run's result where that was asked for."""
    if outcome.problem is not None:
        return int(outcome.problem.exit_code)
    if outcome.signal:
        return 128 + outcome.signal
    if outcome.end.released:
        return int(Exit.OK)  # What comes of the run is not known yet, and no fault of this agent's.
    return int(Exit.TASK_FAILED if exit_with_run and outcome.end.verdict != "success" else Exit.OK)
