"""What a simulated schedule is made for: tasks and their true durations, agents and their speeds, and what these agents know beforehand.

    {"version": 1,
     "tasks": [{"id": "p1:build", "deps": [], "duration_ms": 4000, "actual_ms": 32000, "output_bytes": 1000000}],
     "agents": [{"name": "a1", "slots": 2, "speed": 1.5}],
     "estimates": {"p1:build": {"a1": 4200}}}

`duration_ms` is the truth at speed 1. `actual_ms`, where it is given, is what the first execution takes; every later one takes `duration_ms`. An estimate is a
number of milliseconds, taken to be off as most are, or two of them: what the task takes no longer than half of the times, and nine of ten times.
"""

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final, cast

from msgspec import Struct, field

from mesh.errors import RemoteError, UsageError
from mesh.graph import Graph, Task
from mesh.protocol.estimate import usual
from mesh.types import SLOTS_MAX, Quantiles, TaskId
from mesh.wire import canonical

VERSION: Final = 1
AGENTS_MAX: Final = 10_000
TIME_MAX_MS: Final = 10**12
"""Thirty years: what is longer is a mistake in a unit."""


class SimTask(Struct, frozen=True):
    """One task: what it waits for, and how long it takes at speed 1."""

    id: TaskId
    deps: tuple[TaskId, ...] = ()
    duration_ms: int = 0
    actual_ms: int | None = None
    """What its first execution takes, where that is another time: a straggler."""
    output_bytes: int = 0


class SimAgent(Struct, frozen=True):
    """One agent: a task takes its duration ÷ `speed` here."""

    name: str
    slots: int = 1
    speed: float = 1.0
    joins_ms: int = 0


class Scenario(Struct, frozen=True, dict=True):
    """All of it. `estimates` are by task and agent; where one is missing that agent knows nothing of the task, and one number is as good as most are."""

    tasks: tuple[SimTask, ...]
    agents: tuple[SimAgent, ...]
    estimates: Mapping[TaskId, Mapping[str, int | Quantiles]] = field(default_factory=dict)

    @cached_property
    def graph(self) -> Graph:
        """The tasks as the core takes them. Raises `RemoteError` for what is no graph."""
        return Graph.of(
            Task(id=task.id, tool="sim", deps=task.deps, outputs=("**",) if task.output_bytes else ())
            for task in self.tasks
        )

    def known(self, agent: str) -> dict[TaskId, Quantiles]:
        """What this agent bids."""
        rows = ((task, row[agent]) for task, row in self.estimates.items() if agent in row)
        return {task: usual(found) if isinstance(found, int) else found for task, found in rows}

    @cached_property
    def critical_path(self) -> tuple[TaskId, ...]:
        """The longest chain by true durations."""
        duration = {task.id: task.duration_ms for task in self.tasks}
        reached: dict[TaskId, int] = {}
        before: dict[TaskId, TaskId | None] = {}
        for task in self.graph.tasks.values():
            last = max(task.deps, key=reached.__getitem__, default=None)
            before[task.id] = last
            reached[task.id] = duration[task.id] + (0 if last is None else reached[last])
        path: list[TaskId] = []
        at = max(reached, key=reached.__getitem__, default=None)
        while at is not None:
            path.append(at)
            at = before[at]
        return tuple(reversed(path))

    @property
    def lower_bound_ms(self) -> int:
        """No schedule is faster: neither than the critical path on the fastest agent, nor than all the work on all slots."""
        duration = {task.id: task.duration_ms for task in self.tasks}
        path_ms = sum(duration[task] for task in self.critical_path) / max(agent.speed for agent in self.agents)
        capacity = sum(agent.slots * agent.speed for agent in self.agents)
        return math.ceil(max(path_ms, sum(duration.values()) / capacity) - 1e-6)


def read_scenario(data: bytes, where: str) -> Scenario:
    """The scenario of a graph file. Raises `UsageError`, which names the file, the place in it, and what was expected there."""
    try:
        value = canonical.decode(data)
    except RemoteError as error:
        raise UsageError(f"{where}: {error}") from None
    top = _Object(value, where)
    version = top.field("version")
    if version != VERSION:
        raise UsageError(f"{where}: version {version!r}; this dte reads graph files of version {VERSION}")
    tasks = tuple(_task(_Object(item, f"{where}: tasks[{n}]")) for n, item in enumerate(top.list("tasks")))
    agents = tuple(_agent(_Object(item, f"{where}: agents[{n}]")) for n, item in enumerate(top.list("agents")))
    if not 0 < len(agents) <= AGENTS_MAX:
        raise UsageError(f"{where}: {len(agents)} agents; 1 to {AGENTS_MAX} were expected")
    names = [agent.name for agent in agents]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{where}: two agents are named {name!r}")
    scenario = Scenario(tasks, agents, _estimates(top, {task.id: None for task in tasks}, dict.fromkeys(names), where))
    try:
        assert len(scenario.graph.tasks) == len(tasks)
    except RemoteError as error:
        raise UsageError(f"{where}: {error}") from None
    return scenario


def _task(read: "_Object") -> SimTask:
    deps = read.list("deps", default=[])
    if not all(isinstance(dep, str) for dep in deps):
        raise read.wrong("deps", "a list of task ids")
    duration_ms = read.time("duration_ms")
    actual = read.time("actual_ms") if read.has("actual_ms") else None
    output_bytes = round(read.number("output_bytes", 0, 2**50)) if read.has("output_bytes") else 0
    return SimTask(TaskId(read.name("id")), tuple(TaskId(dep) for dep in deps), duration_ms, actual, output_bytes)


def _agent(read: "_Object") -> SimAgent:
    name = read.name("name")
    if name == "main":
        raise read.wrong("name", 'another name than that of the main job, "main",')
    slots = read.number("slots", 1, SLOTS_MAX)
    if slots != round(slots):
        raise read.wrong("slots", "a whole number")
    speed = read.number("speed", 0.001, 1000) if read.has("speed") else 1
    return SimAgent(name, round(slots), float(speed))


def _estimates(
    top: "_Object", tasks: Mapping[TaskId, None], agents: Mapping[str, None], where: str
) -> dict[TaskId, dict[str, int | Quantiles]]:
    table = top.field("estimates") if top.has("estimates") else {}
    found: dict[TaskId, dict[str, int | Quantiles]] = {}
    for task, by_agent in _Object(table, f"{where}: estimates").items():
        if task not in tasks:
            raise UsageError(f"{where}: estimates.{task}: no task has this id")
        row = _Object(by_agent, f"{where}: estimates.{task}")
        unknown = [agent for agent, _ in row.items() if agent not in agents]
        if unknown:
            raise UsageError(f"{where}: estimates.{task}.{unknown[0]}: no agent has this name")
        found[TaskId(task)] = {agent: row.estimate(agent) for agent, _ in row.items()}
    return found


class _Object:
    """A JSON object; every mistake in it is a `UsageError` with its place. Numbers may have fractions, as generators of such files write them."""

    def __init__(self, value: Any, where: str) -> None:
        if type(value) is not dict:
            raise UsageError(f"{where}: an object was expected")
        self._fields = cast("dict[str, Any]", value)
        self._where = where

    def wrong(self, name: str, expected: str) -> UsageError:
        """The error for one field."""
        return UsageError(f"{self._where}.{name}: {expected} was expected, not {str(self._fields.get(name))[:80]}")

    def has(self, name: str) -> bool:
        return self._fields.get(name) is not None

    def items(self) -> list[tuple[str, Any]]:
        return list(self._fields.items())

    def field(self, name: str) -> Any:
        return self._fields.get(name)

    def list(self, name: str, *, default: Any = None) -> list[Any]:
        value = self._fields.get(name, default)
        if type(value) is not list:
            raise self.wrong(name, "a list")
        return value

    def name(self, name: str) -> str:
        value = self._fields.get(name)
        if type(value) is not str or not 0 < len(value) <= 200:
            raise self.wrong(name, "a name of 1 to 200 characters")
        return value

    def number(self, name: str, low: float, high: float) -> float:
        value = self._fields.get(name)
        if type(value) not in (int, float) or not low <= cast("float", value) <= high:
            raise self.wrong(name, f"a number from {low:g} to {high:g}")
        return cast("float", value)

    def time(self, name: str) -> int:
        return round(self.number(name, 0, TIME_MAX_MS))

    def estimate(self, name: str) -> int | Quantiles:
        pair = self._fields.get(name)
        if type(pair) is not list:
            return self.time(name)
        both = _Object(dict(zip(("p50", "p90"), pair, strict=False)), f"{self._where}.{name}")
        if len(pair) != 2 or both.time("p90") < both.time("p50"):
            raise self.wrong(name, "a number, or two of which the second one is no less,")
        return Quantiles(both.time("p50"), both.time("p90"))
