"""One run folded from its news: who is here, what each task went through, how far it is, and the `--json` of the end (design, section 7).

`apply` is told each item with the milliseconds since the run began; every number here is one of those, or a difference of two.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from msgspec import Struct, field

from mesh.errors import Exit
from mesh.protocol.news import (
    AgentJoined,
    AgentLeft,
    CheckpointMade,
    GraphAdded,
    News,
    Notice,
    RunEnded,
    TaskAwarded,
    TaskDelivered,
    TaskEnded,
    TaskReady,
    TaskRequeued,
    TaskStarted,
    Verdict,
)
from mesh.report.paths import longest_path
from mesh.types import NodeId, TaskId, UnixMs

JSON_VERSION: Final = 1


class Progress(Struct, frozen=True):
    """How far a run is. `done` counts every task that needs no more work, however it ended; `failed` those that make the run fail."""

    done: int
    total: int
    running: int
    failed: int
    agents: int


class Lane(Struct, frozen=True):
    """One agent that is here, and what it runs: each task with the instant it was started."""

    name: str
    slots: int
    running: tuple[tuple[TaskId, int], ...]


class _Task(Struct):
    deps: tuple[TaskId, ...] = ()
    ready_ms: int | None = None
    awarded_ms: int | None = None
    started_ms: int | None = None
    ended_ms: int | None = None
    attempts: int = 0
    end: TaskEnded | None = None
    on: dict[NodeId, int] = field(default_factory=dict)
    """Where it is running, and since when; two places where it is copied."""
    awards: dict[NodeId, int] = field(default_factory=dict)
    failed: dict[int, TaskRequeued] = field(default_factory=dict)
    """Attempts that failed and were not the last, by number."""

    @property
    def measured_ms(self) -> int:
        """What it cost this run: nothing where the result was there or nobody ran it."""
        end = self.end
        return end.duration_ms if end and end.cache == "none" and end.status in ("success", "failure") else 0


class _Agent(Struct):
    name: str
    slots: int
    joined_ms: int
    left_ms: int | None = None
    busy_ms: int = 0
    tasks: int = 0
    running: dict[TaskId, int] = field(default_factory=dict)


class Summary:
    """The fold. One per run and reader; it keeps a few hundred bytes per task."""

    def __init__(self, run_id: str = "", started_ms: UnixMs = UnixMs(0)) -> None:  # noqa: B008  # a plain int
        self._run_id = run_id
        self._started_ms = started_ms
        self._tasks: dict[TaskId, _Task] = {}
        self._agents: dict[NodeId, _Agent] = {}
        self._notices: list[str] = []
        self._alike: Counter[str] = Counter()
        self._checkpoint: CheckpointMade | None = None
        self._verdict: Verdict | None = None
        self._now_ms = 0
        self._graph_ms: int | None = None
        self._ended_ms: int | None = None
        self._slots = 0
        self._slots_peak = 0
        self._done = 0
        self._failed = 0
        self._running: dict[TaskId, None] = {}

    # --- the fold ----------------------------------------------------------------------------------

    def apply(self, item: News, t_ms: int) -> None:
        """Take one item of news, told `t_ms` after the run began. Never raises: the news is what it is."""
        self._now_ms = max(self._now_ms, t_ms)
        match item:
            case AgentJoined():
                self._joined(item, t_ms)
            case AgentLeft():
                self._left(item, t_ms)
            case GraphAdded():
                self._graph(item, t_ms)
            case TaskReady():
                self._task(item.task).ready_ms = t_ms
            case TaskAwarded():
                task = self._task(item.task)
                task.attempts = max(task.attempts, item.attempt)
                task.awarded_ms = task.awards[item.node] = t_ms
            case TaskStarted():
                self._started(item, t_ms)
            case TaskRequeued():
                self._requeued(item, t_ms)
            case TaskEnded():
                self._ended(item, t_ms)
            case TaskDelivered():
                pass
            case CheckpointMade():
                self._checkpoint = item
            case Notice():
                self._notices.append(item.text)
                self._alike[item.alike] += bool(item.alike)
            case RunEnded():
                self._verdict, self._ended_ms = item.verdict, t_ms

    def _task(self, task_id: TaskId) -> _Task:
        return self._tasks.setdefault(task_id, _Task())

    def _joined(self, item: AgentJoined, t_ms: int) -> None:
        agent = self._agents.get(item.node)
        if agent is None:
            agent = self._agents[item.node] = _Agent(item.name, 0, t_ms)
        elif agent.left_ms is not None:
            agent.left_ms, agent.slots = None, 0
        self._slots += item.slots - agent.slots
        self._slots_peak = max(self._slots_peak, self._slots)
        agent.name, agent.slots = item.name, item.slots

    def _left(self, item: AgentLeft, t_ms: int) -> None:
        agent = self._agents.get(item.node)
        if agent is None or agent.left_ms is not None:
            return
        for task_id in list(agent.running):
            self._stopped(task_id, item.node, t_ms)
        agent.left_ms = t_ms
        self._slots -= agent.slots

    def _graph(self, item: GraphAdded, t_ms: int) -> None:
        if self._graph_ms is None:
            # Slots that were gone before there was work could not have done any.
            self._graph_ms, self._slots_peak = t_ms, self._slots
        for task_id, deps in item.tasks:
            self._task(task_id).deps = deps

    def _started(self, item: TaskStarted, t_ms: int) -> None:
        task = self._task(item.task)
        task.attempts = max(task.attempts, item.attempt)
        task.started_ms = task.on[item.node] = t_ms
        self._running[item.task] = None
        if item.node in self._agents:
            self._agents[item.node].running[item.task] = t_ms

    def _stopped(self, task_id: TaskId, node: NodeId, t_ms: int, duration_ms: int | None = None) -> None:
        """The task runs no more at `node`: the slot was busy for `duration_ms` where that was measured, else until now."""
        task = self._task(task_id)
        since_ms = task.on.pop(node, None)
        if not task.on:
            self._running.pop(task_id, None)
        agent = self._agents.get(node)
        if agent is not None and since_ms is not None:
            agent.running.pop(task_id, None)
            agent.busy_ms += t_ms - since_ms if duration_ms is None else duration_ms

    def _requeued(self, item: TaskRequeued, t_ms: int) -> None:
        task = self._task(item.task)
        if item.exit_code is not None:
            task.failed[item.attempt] = item
        for node in [node for node in task.on if self._name(node) == item.agent]:
            self._stopped(item.task, node, t_ms)
        self._settle(task, None)
        task.ended_ms = None

    def _ended(self, item: TaskEnded, t_ms: int) -> None:
        task = self._task(item.task)
        self._settle(task, item)
        task.ended_ms = t_ms
        task.attempts = max(task.attempts, item.attempts)
        winner = self._winner(task, item.agent)
        if winner in task.on:
            # Of several copies it is the winner's times that count.
            task.started_ms, task.awarded_ms = task.on[winner], task.awards.get(winner)
            if item.cache == "none":
                # That a task of a moment has started is told together with its end.
                task.started_ms = max(task.awarded_ms or 0, min(task.started_ms, t_ms - item.duration_ms))
        task.awards.clear()
        for node in list(task.on):
            self._stopped(item.task, node, t_ms, item.duration_ms if node == winner else None)
        if winner is not None and item.status in ("success", "failure"):
            self._agents[winner].tasks += 1

    def _winner(self, task: _Task, name: str) -> NodeId | None:
        """The node that ended the task; of several that had one name, the one that was running it, or else the latest."""
        running = [node for node in task.on if self._name(node) == name]
        found = running or [node for node, agent in self._agents.items() if agent.name == name]
        return found[-1] if found else None

    def _settle(self, task: _Task, end: TaskEnded | None) -> None:
        """Set how the task ended, and keep the counts in step."""
        for one, sign in ((task.end, -1), (end, 1)):
            if one is not None:
                self._done += sign
                self._failed += sign * is_failure(one)
        task.end = end

    def _name(self, node: NodeId) -> str:
        agent = self._agents.get(node)
        return agent.name if agent is not None else ""

    # --- how far it is -----------------------------------------------------------------------------

    def progress(self) -> Progress:
        """How far the run is."""
        here = [agent for agent in self._agents.values() if agent.left_ms is None and agent.slots]
        return Progress(self._done, len(self._tasks), len(self._running), self._failed, len(here))

    def alike(self) -> Mapping[str, int]:
        """How many tasks were told of alike, by what of."""
        return self._alike

    def lanes(self) -> Iterator[Lane]:
        """The agents that are here and can run tasks, in order of arrival."""
        for agent in self._agents.values():
            if agent.left_ms is None and (agent.slots or agent.running):
                yield Lane(agent.name, agent.slots, tuple(agent.running.items()))

    def failures(self) -> list[TaskEnded]:
        """The tasks that make the run fail, in the order in which they failed."""
        ended = [task for task in self._tasks.values() if task.end is not None and is_failure(task.end)]
        return [task.end for task in sorted(ended, key=lambda task: task.ended_ms or 0) if task.end is not None]

    def ends(self) -> Iterator[TaskEnded]:
        """How each finished task ended, in graph order."""
        return (task.end for task in self._tasks.values() if task.end is not None)

    def flaky(self) -> list[TaskId]:
        """The tasks that failed and then went well, in graph order."""
        return [task_id for task_id, task in self._tasks.items() if task.end is not None and task.end.flaky]

    def succeeded(self, task_id: TaskId) -> bool:
        """Whether the task is done and well."""
        task = self._tasks.get(task_id)
        return task is not None and task.end is not None and task.end.status == "success"

    @property
    def over(self) -> bool:
        """Whether every task is accounted for."""
        return self._verdict is not None

    @property
    def stopped(self) -> bool:
        """Whether it did not come to its end by itself."""
        return self._verdict in (None, "cancelled")

    # --- the end -----------------------------------------------------------------------------------

    @property
    def distributed(self) -> bool:
        """Whether the mesh was given any tasks."""
        return self._graph_ms is not None

    def makespan_ms(self) -> int:
        """From the first graph to the end of the run, or to the last news of it."""
        if self._graph_ms is None:
            return 0
        return max((self._now_ms if self._ended_ms is None else self._ended_ms) - self._graph_ms, 0)

    def work_ms(self) -> int:
        """What one slot would have taken for it all."""
        return sum(task.measured_ms for task in self._tasks.values())

    def critical_path(self) -> tuple[int, list[TaskId]]:
        """The longest chain of tasks by measured durations."""
        return longest_path(
            {task_id: task.deps for task_id, task in self._tasks.items()},
            lambda task_id: self._tasks[task_id].measured_ms,
        )

    def lower_bound_ms(self) -> int:
        """No schedule of these tasks on the slots that were here together can be faster."""
        return max(self.critical_path()[0], self.work_ms() // max(self._slots_peak, 1))

    def agents_seen(self) -> int:
        """How many agents with slots took part, those that left included."""
        return sum(1 for agent in self._agents.values() if agent.slots)

    def to_json(self, exit_code: int, *, ledger_final: bool = False) -> dict[str, Any]:
        """The object of `--json`. `ledger_final`: a majority of the sealed roster has cosigned the last checkpoint."""
        checkpoint = self._checkpoint
        return {
            "version": JSON_VERSION,
            "run_id": self._run_id,
            "verdict": self._final_verdict(exit_code),
            "exit_code": exit_code,
            "started_ms": self._started_ms,
            "makespan_ms": self.makespan_ms(),
            "lower_bound_ms": self.lower_bound_ms(),
            "critical_path": self.critical_path()[1],
            "agents": [_agent_json(node, agent, self._now_ms) for node, agent in self._agents.items()],
            "tasks": [_task_json(task_id, task) for task_id, task in self._tasks.items()],
            "ledger": {
                "size": checkpoint.size if checkpoint else 0,
                "root": checkpoint.root if checkpoint else "",
                "cosignatures": checkpoint.cosignatures if checkpoint else 0,
                "final": ledger_final,
            },
            "notices": list(self._notices),
        }

    def _final_verdict(self, exit_code: int) -> Verdict:
        """What the mesh said, unless the exit code says worse: a wrapped command may fail after all its tasks went well."""
        if self._verdict is not None and (exit_code == 0 or self._verdict != "success"):
            return self._verdict
        match exit_code:
            case Exit.OK:
                return "success"
            case Exit.USAGE | Exit.MESH:
                return "error"
            case Exit.HUNG_UP | Exit.INTERRUPTED | Exit.TERMINATED:
                return "cancelled"
            case _:
                return "failure"


def is_failure(end: TaskEnded) -> bool:
    """Whether the task makes the run fail."""
    return end.status == "failure" and not end.allowed_to_fail


def _agent_json(node: NodeId, agent: _Agent, now_ms: int) -> Mapping[str, Any]:
    return {
        "name": agent.name,
        "node_id": node,
        "slots": agent.slots,
        "joined_ms": agent.joined_ms,
        "left_ms": agent.left_ms,
        "busy_ms": agent.busy_ms + sum(now_ms - since_ms for since_ms in agent.running.values()),
        "tasks": agent.tasks,
    }


def _task_json(task_id: TaskId, task: _Task) -> Mapping[str, Any]:
    """A task that never ended was cancelled with its run; what never happened to a task is null."""
    end = task.end
    return {
        "id": task_id,
        "status": end.status if end else "cancelled",
        "where": end.agent if end else "",
        "attempts": task.attempts,
        "flaky": end.flaky if end else False,
        "failed_attempts": [
            {
                "attempt": one.attempt,
                "where": one.agent,
                "exit_code": one.exit_code,
                "log_digest": one.log.digest if one.log else None,
            }
            for one in task.failed.values()
        ],
        "cache": end.cache if end else "none",
        "trust": end.trust if end else "run",
        "exit_code": end.exit_code if end else None,
        "ready_ms": task.ready_ms,
        "awarded_ms": task.awarded_ms,
        "started_ms": task.started_ms,
        "ended_ms": task.ended_ms,
        "outputs_digest": end.outputs.digest if end and end.outputs else None,
        "log_digest": end.log.digest if end and end.log else None,
        "ledger_index": end.ledger_index if end else None,
        "max_rss_bytes": end.max_rss_bytes if end else 0,
    }
