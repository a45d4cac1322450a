"""Which running tasks are to be looked at, since nothing may have been heard of them for long: told once for each attempt.

watched --its time has come--> looked at --it was quiet for so long--> told
^                    |
+--it has spoken-----+
"""

import heapq

from msgspec import Struct, field

from mesh.protocol.events import Heard
from mesh.types import Instant, TaskId, after


class Watch(Struct):
    """One attempt, how long it may be quiet, and when it is looked at next; None while the answer is under way."""

    attempt: int
    quiet_max_ms: int
    look_at: Instant | None


class Stalls(Struct):
    """Of one run."""

    after_ms: int = 0
    """How long a task may be quiet; 0: for ever."""
    watched: dict[TaskId, Watch] = field(default_factory=dict)
    _looks: list[tuple[Instant, TaskId, int]] = field(default_factory=list)
    """A heap: when to look at which attempt; what is not watched for that any more is dropped when it is met."""

    def begin(self, task: TaskId, attempt: int, usual_ms: int, now: Instant) -> None:
        """It has started. One that usually takes long may be quiet for as long as that."""
        if self.after_ms:
            quiet_max_ms = max(self.after_ms, usual_ms)
            self.watched[task] = Watch(attempt, quiet_max_ms, None)
            self._look_later(task, self.watched[task], after(now, quiet_max_ms))

    def _look_later(self, task: TaskId, watch: Watch, at: Instant) -> None:
        watch.look_at = at
        heapq.heappush(self._looks, (at, task, watch.attempt))

    def end(self, task: TaskId) -> None:
        """It runs no more."""
        self.watched.pop(task, None)

    def due(self, now: Instant) -> list[tuple[TaskId, int]]:
        """Those to be looked at now, with their attempts."""
        found: list[tuple[TaskId, int]] = []
        while (at := self.deadline()) is not None and at <= now:
            _, task, attempt = heapq.heappop(self._looks)
            self.watched[task].look_at = None
            found.append((task, attempt))
        return found

    def has_stalled(self, task: TaskId, attempt: int, quiet_ms: int, now: Instant) -> bool:
        """It was quiet for so long: whether that is to be told, which happens once."""
        watch = self.watched.get(task)
        if watch is None or watch.attempt != attempt:
            return False
        if quiet_ms >= watch.quiet_max_ms:
            del self.watched[task]
            return True
        self._look_later(task, watch, after(now, watch.quiet_max_ms - quiet_ms))
        return False

    def heard(self, event: Heard, began_at: Instant, agent: str, now: Instant) -> str:
        """When a task that runs on `agent` was last heard of: what a person is told of that, "" where it is nothing special."""
        quiet_ms = now - began_at if event.quiet_ms is None else event.quiet_ms
        if not self.has_stalled(event.task, event.attempt, quiet_ms, now):
            return ""
        return stall_text(event.task, agent, quiet_ms, event.last_line)

    def deadline(self) -> Instant | None:
        """When the next one is to be looked at."""
        while self._looks:
            at, task, attempt = self._looks[0]
            watch = self.watched.get(task)
            if watch is not None and (watch.look_at, watch.attempt) == (at, attempt):
                return at
            heapq.heappop(self._looks)
        return None


def stall_text(task: TaskId, agent: str, quiet_ms: int, last_line: str) -> str:
    """What a person is told."""
    last = f"; its last line: {last_line}" if last_line else " since it started"
    return f"nothing was heard of {task} on {agent} for {quiet_ms // 1000} s{last}"
