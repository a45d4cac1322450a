"""Plain lines, for a CI log: each finished task with its log under it, a sign of life every half minute, failures in full at the end."""

from collections.abc import Iterable
from typing import Final

from mesh.protocol.news import News, TaskDelivered, TaskEnded, TaskRequeued
from mesh.report import telling
from mesh.report.foresight import Foresees, nobody_knows
from mesh.report.groups import Groups
from mesh.report.logs import Logs
from mesh.report.pen import Pen
from mesh.report.summary import Summary, is_failure
from mesh.types import TaskId

STATUS_MS: Final = 30_000
"""CI services take a job that is silent for minutes for dead, and so do people."""


class PlainReporter:
    """Lines on `pen`; it never draws, so it suits any file, pipe and terminal."""

    def __init__(self, pen: Pen, groups: Groups, *, colour: bool) -> None:
        self._pen = pen
        self._groups = groups
        self._colour = colour
        self.foresees: Foresees = nobody_knows
        self._summary = Summary()
        self._logs = Logs()
        self._waiting: dict[TaskId, TaskEnded] = {}
        """Tasks that have ended, but whose log is not here in full."""
        self._groups_made = 0
        self._status_ms = 0
        self._closed = False

    def news(self, item: News, t_ms: int) -> None:
        """Something has happened."""
        self._summary.apply(item, t_ms)
        match item:
            case TaskEnded():
                self._ended(item)
            case TaskDelivered():
                self._tell(item.task)
            case TaskRequeued():
                self._waiting.pop(item.task, None)
                self._logs.came_to_nothing(
                    item.task, item.attempt, f"attempt {item.attempt} came to nothing: {item.reason}"
                )
                self._pen.line(telling.requeued_line(item))
            case _:
                for line in telling.mesh_lines(item, self._summary):
                    self._pen.line(line)

    def log(self, task: TaskId, attempt: int, data: bytes) -> None:
        """The next bytes of what an attempt of a task has written."""
        self._logs.add(task, attempt, data)
        end = self._waiting.get(task)
        if end is not None and self._has_all(end):
            self._tell(task)

    def unseen(self, task: TaskId, log: Iterable[bytes]) -> None:
        """Every log of a failed task is shown here."""

    def tick(self, t_ms: int) -> None:
        """Time has passed."""
        if t_ms - self._status_ms >= STATUS_MS and not self._summary.over:
            self._status_ms = t_ms
            self._pen.line(telling.status_line(self._summary.progress(), self.foresees()))

    def close(self, exit_code: int) -> None:
        """The run is over."""
        if self._closed:
            return
        self._closed = True
        for task in list(self._waiting):
            self._tell(task)
        telling.write_closing(self._pen, self._summary, self._logs, exit_code, self._groups, colour=self._colour)
        self._logs.close()

    def _ended(self, end: TaskEnded) -> None:
        if end.log is not None:
            self._logs.counts(end.task, end.attempt)
        if is_failure(end):
            # Its log is kept for the end, where a person looks first.
            later = "  (log at the end)" if end.log is not None or end.task in self._logs else ""
            self._pen.line(telling.task_line(end) + later)
            return
        self._waiting[end.task] = end
        if self._has_all(end):
            self._tell(end.task)

    def _has_all(self, end: TaskEnded) -> bool:
        return end.log is None or self._logs.size(end.task, end.attempt) >= end.log.size

    def _tell(self, task: TaskId) -> None:
        end = self._waiting.pop(task, None)
        if end is None:
            return
        if task not in self._logs:
            # When a run is cancelled, a line for each task that never ran would bury the rest.
            if end.status != "cancelled":
                self._pen.line(telling.task_line(end))
            return
        self._groups_made += 1
        self._pen.line(self._groups.begin(telling.task_line(end), self._groups_made, end.duration_ms))
        telling.write_log(self._pen, self._logs, task, colour=self._colour)
        if mark := self._groups.end(self._groups_made):
            self._pen.line(mark)
