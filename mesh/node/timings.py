"""What this machine knows of how long tasks take: told to the core when a graph comes, and added to when the run is over."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import trio

from mesh.exec.machine import machine_class
from mesh.graph import Graph
from mesh.protocol.events import Execution
from mesh.protocol.news import News, TaskEnded
from mesh.store.history import History, Sample, seed_from_nx, unix_now, workspace_id
from mesh.types import Quantiles, TaskId

FILE: Final = "history.sqlite3"
KEEP_MAX_S: Final = 5.0


class Timings:
    """One run's part of the history. Whatever is wrong with it is a notice, and no more."""

    def __init__(self, data_dir: Path, workspace: Path, notice: Callable[[str], None]) -> None:
        self._path = data_dir / FILE
        self._workspace = workspace
        self._notice = notice
        self._new: list[tuple[TaskId, int, bool]] = []

    async def estimates(self, graph: Graph) -> dict[TaskId, Quantiles]:
        """For the tasks of `graph` that something is known of."""
        found, notice = await trio.to_thread.run_sync(self._read, graph)
        if notice:
            self._notice(notice)
        return found

    def _read(self, graph: Graph) -> tuple[dict[TaskId, Quantiles], str]:
        workspace = workspace_id(self._workspace)
        with History(self._path) as history:
            if any(task.tool == "nx" for task in graph.tasks.values()) and not history.samples(workspace):
                seeds, _ = seed_from_nx(self._workspace, machine_class())
                history.record(seeds)
            known = history.estimates(workspace, graph.tasks, machine_class())
            return {task: Quantiles(found.p50_ms, found.p90_ms) for task, found in known.items()}, history.notice

    def ran(self, task: TaskId, run: Execution) -> None:
        """This node has run a task."""
        if run.cache == "none":
            self._new.append((task, run.ended_ms - run.started_ms, run.status == "success"))

    def hear(self, item: News) -> None:
        """The main job learns from all agents, so that it can plan."""
        if (
            isinstance(item, TaskEnded)
            and item.cache == "none"
            and item.agent
            and item.status in {"success", "failure"}
        ):
            self._new.append((item.task, item.duration_ms, item.status == "success"))

    async def keep(self) -> None:
        """Write down what this run has shown."""
        if self._new:
            with trio.move_on_after(KEEP_MAX_S):
                await trio.to_thread.run_sync(self._write, abandon_on_cancel=True)

    def _write(self) -> None:
        workspace, machine, now = workspace_id(self._workspace), machine_class(), unix_now()
        with History(self._path) as history:
            history.record(
                Sample(workspace, task, machine, duration_ms, now, "success" if good else "failure")
                for task, duration_ms, good in self._new
            )
