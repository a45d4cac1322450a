"""The loop around the core: each thing that happens becomes an event, and the effects are performed at once and in order.

`happen` is synchronous: between a frame that was read and the frame that answers it there is no task switch. What takes time runs in a task of its own
and comes back as another event.
"""

from collections import deque
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import IO

import trio

from mesh.protocol import effects as fx
from mesh.protocol import events as ev
from mesh.protocol.node import Node
from mesh.store.files import storing
from mesh.types import Instant

Perform = Callable[[fx.Effect], None]


def now_instant() -> Instant:
    """Monotonic milliseconds, as the core takes them."""
    return Instant(int(trio.current_time() * 1000))


class Shell:
    """Owns the core. `perform` carries out every effect but `End`, and neither waits nor raises."""

    def __init__(self, node: Node, perform: Perform, trace: Path | None = None) -> None:
        self.node = node
        self.ended: fx.End | None = None
        self.lingering = False
        """After the end, events are still taken: a peer that comes late has to hear that it is late."""
        self._perform = perform
        self._queue: deque[ev.Event] = deque()
        self._stepping = False
        self._over = trio.Event()
        self._alarm = trio.CancelScope()
        self._armed_for: float = inf
        self._trace: IO[str] | None = None
        if trace is not None:
            with storing(trace):
                self._trace = trace.open("a", buffering=1, encoding="utf-8")

    def happen(self, event: ev.Event) -> None:
        """Something happened. May be called by what an effect does: then it happens next."""
        self._queue.append(event)
        if self._stepping:
            return
        self._stepping = True
        try:
            while self._queue:
                self._step(self._queue.popleft())
        finally:
            self._stepping = False
        deadline = self.node.deadline(now_instant())
        if deadline is not None and deadline < self._armed_for:
            self._arm(deadline)

    def _arm(self, deadline: Instant | None) -> None:
        self._armed_for = inf if deadline is None else deadline
        # A millisecond late rather than a fraction of one early, which would be a step for nothing.
        self._alarm.deadline = inf if deadline is None else (deadline + 1) / 1000

    def _step(self, event: ev.Event) -> None:
        if self.ended is not None and not self.lingering:
            return
        now = now_instant()
        effects = self.node.step(event, now)
        if self._trace is not None:
            self._trace.write(f"{now} {event!r} -> {effects!r}\n")
        for effect in effects:
            if isinstance(effect, fx.End):
                self.ended = effect
                self._over.set()
            else:
                self._perform(effect)

    async def until_ended(self) -> fx.End:
        """The core has ended: what remains is to let go of the world."""
        await self._over.wait()
        assert self.ended is not None
        return self.ended

    async def clock(self) -> None:
        """Tell the core when its deadline has come, and how late, until cancelled."""
        now = now_instant()
        while True:
            with trio.CancelScope() as self._alarm:
                # As of before the last step: one that took long makes the next tick late.
                self._arm(self.node.deadline(now))
                await trio.sleep_forever()
            now = now_instant()
            deadline = self.node.deadline(now)
            if deadline is not None and now >= deadline:
                self.happen(ev.Tick(int(now - self._armed_for)))

    def close(self) -> None:
        """Let go of the trace."""
        if self._trace is not None:
            self._trace.close()
