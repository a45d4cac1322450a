"""For a wrapped tool that prints its tasks itself: only what it cannot know, which is the mesh, on the error stream."""

from collections.abc import Iterable

from mesh.protocol.news import News, TaskEnded
from mesh.report import telling, words
from mesh.report.foresight import Foresees, nobody_knows
from mesh.report.logs import Logs
from mesh.report.pen import Pen
from mesh.report.plain import STATUS_MS
from mesh.report.summary import Summary
from mesh.types import TaskId


class QuietReporter:
    """Notices, who came and went, a sign of life, and at the end the logs that the tool has not shown, and one account. `wrapped`: as in `telling.closing_lines`."""

    def __init__(self, pen: Pen, *, wrapped: bool, colour: bool) -> None:
        self._pen = pen
        self._wrapped = wrapped
        self._colour = colour
        self.foresees: Foresees = nobody_knows
        self._summary = Summary()
        self._logs = Logs()
        self._status_ms = 0
        self._closed = False

    def news(self, item: News, t_ms: int) -> None:
        """Something has happened."""
        self._summary.apply(item, t_ms)
        if isinstance(item, TaskEnded) and item.status == "failure" and item.problem:
            # The tool shows the log; this is what the log does not say.
            self._pen.line(f"dte: {words.one_line(item.task)}: {words.one_line(item.problem)}")
        else:
            for line in telling.mesh_lines(item, self._summary):
                self._pen.line(line)

    def log(self, task: TaskId, attempt: int, data: bytes) -> None:
        """The tool prints it."""

    def unseen(self, task: TaskId, log: Iterable[bytes]) -> None:
        """The tool has not printed it."""
        for data in log:
            self._logs.add(task, 1, data)

    def tick(self, t_ms: int) -> None:
        """Time has passed."""
        if t_ms - self._status_ms >= STATUS_MS and not self._summary.over:
            self._status_ms = t_ms
            self._pen.line(telling.status_line(self._summary.progress(), self.foresees()))

    def close(self, exit_code: int) -> None:
        """The run is over."""
        if not self._closed:
            self._closed = True
            for end in self._summary.failures():
                if end.task in self._logs:
                    self._pen.line()
                    self._pen.line(telling.task_line(end))
                    telling.write_log(self._pen, self._logs, end.task, colour=self._colour)
            for line in telling.closing_lines(self._summary, exit_code, wrapped=self._wrapped):
                self._pen.line(line)
            self._logs.close()
