"""All that is shown and written of one run on the main job: the display, `--events`, and `--json` at the end."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Final

import trio
from msgspec.structs import replace

from mesh.errors import StorageError, readable
from mesh.protocol.news import News, Notice
from mesh.report.events import event_line
from mesh.report.foresight import Foresees, NowAndThen
from mesh.report.reporter import Reporter
from mesh.report.summary import Summary
from mesh.store.files import write_atomically
from mesh.types import TaskId, UnixMs
from mesh.wire import canonical

TICK_MS: Final = 250


class Board:
    """An observer (see `peer`) that everything is told to."""

    def __init__(self, run_id: str, reporter: Reporter, json: Path | None) -> None:
        self._began_ns = time.monotonic_ns()
        self.summary = Summary(run_id, UnixMs(time.time_ns() // 1_000_000))
        self._reporter = reporter
        self._events: IO[bytes] | None = None
        self._json = json
        if json is not None:
            # Now, and not after an hour of work.
            try:
                json.parent.mkdir(parents=True, exist_ok=True)
                json.touch()
            except OSError as error:
                raise _unwritable("--json", json, error) from None

    def tell_events(self, name: str) -> None:
        """Write what happens to a file as well, or to standard output for "-". Raises `StorageError`."""
        if name == "-":
            self._events = open(1, "wb", buffering=0, closefd=False)  # noqa: SIM115  closed with the board
            return
        try:
            self._events = Path(name).open("wb")  # noqa: SIM115  closed with the board
        except OSError as error:
            raise _unwritable("--events", Path(name), error) from None

    def _t_ms(self) -> int:
        return (time.monotonic_ns() - self._began_ns) // 1_000_000

    def foresee(self, remaining_ms: Foresees) -> None:
        """From now on what is shown says how long what is left should take."""
        self._reporter.foresees = NowAndThen(remaining_ms, self._t_ms, self.summary)

    def news(self, item: News) -> None:
        """Fold it, show it, write it."""
        t_ms = self._t_ms()
        if isinstance(item, Notice):  # it may name what is in the workspace
            item = replace(item, text=readable(item.text))
        self.summary.apply(item, t_ms)
        self._reporter.news(item, t_ms)
        if self._events is not None:
            try:
                self._events.write(event_line(item, t_ms))
                self._events.flush()
            except OSError as error:
                self._events = None
                self.news(Notice(f"--events has ended: {error}"))

    def log(self, task: TaskId, attempt: int, data: bytes) -> None:
        """Show it."""
        self._reporter.log(task, attempt, data)

    def unseen(self, task: TaskId, log: Iterable[bytes]) -> None:
        """Show it at the end."""
        self._reporter.unseen(task, log)

    def failed(self, reason: str) -> None:
        """The run could not begin: `--json` has the reason, and it is for the caller to tell the person."""
        self.summary.apply(Notice(reason), self._t_ms())

    async def tick(self) -> None:
        """Keep what is shown in time, until cancelled."""
        while True:
            await trio.sleep(TICK_MS / 1000)
            self._reporter.tick(self._t_ms())

    def close(self, exit_code: int) -> None:
        """The run is over; `--json` is written whatever came before. Raises `StorageError`."""
        self._reporter.close(exit_code)
        if self._events is not None:
            self._events.close()
        if self._json is not None:
            write_atomically(self._json, canonical.encode(self.summary.to_json(exit_code)) + b"\n")


def _unwritable(option: str, path: Path, error: OSError) -> StorageError:
    what = (error.strerror or type(error).__name__).lower()
    return StorageError(f"cannot write {path}: {what}; choose another place with {option}, or make this one writable")
