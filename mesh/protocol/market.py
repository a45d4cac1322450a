"""The leader's half of the contract net: open tasks by rank, standing bids, awards under (epoch, seq).

    waiting --all dependencies done--> ready --award--> awarded --started--> running --result--> done
       ^                                 ^                 |                    |                 |
       +-- an output was lost -----------+-- declined, agent lost, failed with retries left ------+

A task goes to the agent that is expected to complete it first: when a slot is free there + its own estimate. Among ready tasks the one with the
longest path to the end of the graph goes first. Every slot may hold one task in advance, so that no message lies between two tasks; an award that
has not started is taken back when somebody else is idle.

The main job is an agent like the others, with the difference that it takes only what it must (`_main_may`): what is bound to it, what no agent can
do, and everything while there are no agents.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from mesh.graph import Graph, Task
from mesh.protocol.estimate import GUESS_MS, Estimator, lookup_ms
from mesh.protocol.facts import whole
from mesh.types import Instant, NodeId, TaskId, after
from mesh.wire.messages import Bid, Hello, Record

GIVE_UP_MS: Final = 120_000
"""How much longer a task that even the main job cannot do is kept open for an agent that can."""

DECIDE_MAX_MS: Final = 60_000
"""How long an agent may compare its checkout with a graph while tasks that only it might take wait for it."""

TAKE_BACK_MIN_MS: Final = 200
"""An award is taken back only where somebody else would be done at least so much earlier: moving it costs a round trip."""
TAKE_BACKS_MAX: Final = 3
"""How often one task is moved: estimates that change with every result must not make it wander for ever."""


class Phase(IntEnum):
    """Where a task is, as the leader sees it."""

    WAITING = 0
    READY = 1
    AWARDED = 2
    RUNNING = 3
    DONE = 4


@dataclass(slots=True)
class TaskState:
    """One task of the run."""

    task: Task
    graph: int
    """Which announced graph it came with, from 1."""
    waits_for: dict[TaskId, None]
    phase: Phase = Phase.WAITING
    rank_ms: int = 0
    order: int = 0
    ready_at: Instant = Instant(0)
    attempt: int = 0
    """Numbers its awards, so that a message about an earlier one is known for that."""
    taken_back: int = 0
    """How many of these were taken back before they started."""
    in_doubt: bool = False
    """It failed where nothing has succeeded yet: where no other agent can try it at once, the main job does."""
    failed: dict[tuple[NodeId, int], None] = field(default_factory=dict)
    """Attempts that failed while retries were left: where, and which. The same failure may be told twice."""
    agent: NodeId | None = None
    awarded_at: Instant = Instant(0)
    started_at: Instant = Instant(0)
    withdrawing: bool = False
    not_on: dict[NodeId, str] = field(default_factory=dict)
    handed: dict[NodeId, int] = field(default_factory=dict)
    """How often each agent has handed it back for some trouble of its own."""
    record: Record | None = None
    settled: bool = False
    """Its outputs are in the main job's workspace (or it has none to bring)."""

    @property
    def attempts(self) -> int:
        """How often it was really tried."""
        return self.attempt - self.taken_back

    @property
    def stops(self) -> bool:
        """It is done, but not in a way that lets anything behind it start."""
        record = self.record
        allowed = record is not None and record.status == "failure" and self.task.allow_failure
        return record is not None and record.status != "success" and not allowed


@dataclass(slots=True)
class Agent:
    """One bidder."""

    node: NodeId
    name: str
    slots: int
    labels: tuple[str, ...] = ()
    memory_bytes: int = 0
    gpu: int = 0
    shares_main: bool = False
    held_back: bool = False
    """It is given nothing for now: what failed there is being tried elsewhere."""
    joined_at: Instant = Instant(0)
    bid: Bid | None = None
    estimates: dict[str, int] = field(default_factory=dict)
    """Of all its bids: a later one only tells what has changed."""
    jobs: dict[TaskId, None] = field(default_factory=dict)
    """Awarded to it and not done, in order."""
    load: int = 0
    """Slots that its jobs take, those in advance included."""

    @classmethod
    def of(cls, node: NodeId, hello: Hello, main_workspace: str) -> "Agent":
        """Who has introduced itself so."""
        memory_bytes, gpu = (whole(hello.facts.get(name, "")) for name in ("memory_bytes", "gpu"))
        shares_main = hello.workspace == main_workspace != ""
        return cls(node, hello.name, hello.slots, hello.labels, memory_bytes, gpu, shares_main)


@dataclass(slots=True)
class Market:
    """All tasks and all bidders; says who gets what, and changes nothing outside itself."""

    main: NodeId
    main_slots: int
    """How many tasks the main job takes beside agents; 0: only what it must."""
    wait_ms: int
    """How long agents are waited for before the main job does what none of them can."""
    started: Instant
    tasks: dict[TaskId, TaskState] = field(default_factory=dict)
    dependents: dict[TaskId, list[TaskId]] = field(default_factory=dict)
    agents: dict[NodeId, Agent] = field(default_factory=dict)
    ready: list[tuple[int, int, TaskId]] = field(default_factory=list)
    """A heap of (-rank, order, id); entries that are not ready any more are dropped when met."""
    for_main: list[tuple[int, int, TaskId]] = field(default_factory=list)
    """The same for what only the main job can do, as far as is known."""
    held_mutexes: dict[str, TaskId] = field(default_factory=dict)
    estimates: Estimator = field(default_factory=Estimator)
    left: int = 0
    """Tasks that are not done."""
    last_join: Instant | None = None
    looked_at: Instant = Instant(-1)
    """When awards were given out last: what had become possible by then has been done."""

    # --- tasks ---------------------------------------------------------------------------------------

    def add(self, graph: Graph, number: int, now: Instant) -> list[TaskId]:
        """New tasks, of graph `number`; returns those that are ready at once. A task that is known already is not added again."""
        fresh = [task for task in graph.tasks.values() if task.id not in self.tasks]
        for task in fresh:
            waits = {dep: None for dep in task.deps if dep not in self.tasks or self.tasks[dep].phase is not Phase.DONE}
            self.tasks[task.id] = TaskState(task, number, waits, order=len(self.tasks))
            self.dependents.setdefault(task.id, [])
            for dep in dict.fromkeys(task.deps):
                self.dependents[dep].append(task.id)
        self.left += len(fresh)
        for task in reversed(fresh):
            below = max((self.tasks[dependent].rank_ms for dependent in self.dependents[task.id]), default=0)
            self.tasks[task.id].rank_ms = below + self.estimate_ms(task.id, None)
        return [task.id for task in fresh if self._become_ready(self.tasks[task.id], now)]

    def _become_ready(self, state: TaskState, now: Instant) -> bool:
        if state.waits_for or state.phase is not Phase.WAITING:
            return False
        state.phase = Phase.READY
        state.ready_at = now
        self._queue(state)
        return True

    def _queue(self, state: TaskState) -> None:
        main = self.agents[self.main]
        only_main = state.task.where == "main" or (main.bid is not None and state.task.id in main.bid.cached)
        if state.in_doubt and self.able(state, main):
            only_main = not any(self.able(state, agent) and agent.load < agent.slots for agent in self.others())
        heapq.heappush(self.for_main if only_main else self.ready, (-state.rank_ms, state.order, state.task.id))

    def estimate_ms(self, task: TaskId, agent: Agent | None) -> int:
        """How long `task` should take on `agent`: its own word, else what this run has seen, else a guess."""
        if agent is not None and agent.bid is not None:
            if task in agent.bid.cached:
                return 0
            own = lookup_ms(agent.estimates, task)
            if own is not None:
                return own
        return self.estimates.estimate_ms(task) or GUESS_MS

    def done(self, state: TaskState, record: Record, now: Instant) -> list[TaskId]:
        """`state` is finished for good; returns the tasks that have become ready through it."""
        self.release(state)
        state.phase = Phase.DONE
        state.record = record
        self.left -= 1
        return [] if state.stops else self._unblock(state, now)

    def _unblock(self, state: TaskState, now: Instant) -> list[TaskId]:
        fresh = []
        for dependent in self.dependents[state.task.id]:
            other = self.tasks[dependent]
            if state.task.id in other.waits_for:
                del other.waits_for[state.task.id]
                if self._become_ready(other, now):
                    fresh.append(dependent)
        return fresh

    def downstream(self, task: TaskId) -> list[TaskId]:
        """All that depends on `task`, directly or not, and is not done."""
        found: dict[TaskId, None] = {}
        stack = list(self.dependents[task])
        while stack:
            dependent = stack.pop()
            if dependent not in found and self.tasks[dependent].phase is not Phase.DONE:
                found[dependent] = None
                stack.extend(self.dependents[dependent])
        return sorted(found, key=lambda other: self.tasks[other].order)

    def release(self, state: TaskState) -> None:
        """It is nobody's any more."""
        agent = self.agents.get(state.agent) if state.agent is not None else None
        if agent is not None and state.task.id in agent.jobs:
            del agent.jobs[state.task.id]
            agent.load -= self._cpu(state.task, agent)
        if self.held_mutexes.get(state.task.mutex) == state.task.id:
            del self.held_mutexes[state.task.mutex]
        state.agent = None
        state.withdrawing = False

    def requeue(self, state: TaskState, now: Instant) -> None:
        """An award or a result came to nothing: it is to be run again."""
        self.release(state)
        if state.phase is Phase.DONE:
            self.left += 1
            state.record = None
            state.settled = False
            self._block_dependents(state.task.id)
        # While it ran, outputs that it needs may have been lost.
        state.waits_for |= {dep: None for dep in state.task.deps if self.tasks[dep].phase is not Phase.DONE}
        state.phase = Phase.WAITING
        self._become_ready(state, now)

    def _block_dependents(self, task: TaskId) -> None:
        """Its outputs are lost: what has not started must wait for them again."""
        for dependent in self.dependents[task]:
            other = self.tasks[dependent]
            if other.phase in (Phase.WAITING, Phase.READY, Phase.AWARDED):
                other.waits_for[task] = None
                if other.phase is Phase.READY:
                    other.phase = Phase.WAITING

    def upstream(self, state: TaskState) -> dict[TaskId, None]:
        """All that it depends on, directly or not."""
        found: dict[TaskId, None] = {}
        stack = list(state.task.deps)
        while stack:
            dep = stack.pop()
            if dep not in found:
                found[dep] = None
                stack.extend(self.tasks[dep].task.deps)
        return found

    def wait_for(self, state: TaskState, task: TaskId) -> None:
        """`task`, which stands somewhere before `state`, is made again: until then there is no use in trying."""
        state.waits_for[task] = None
        if state.task.id not in self.dependents[task]:
            self.dependents[task].append(state.task.id)

    # --- agents --------------------------------------------------------------------------------------

    def join(self, agent: Agent, now: Instant) -> None:
        """A new bidder, or one that is back."""
        self.agents[agent.node] = agent
        agent.joined_at = now
        if agent.node != self.main:
            self.last_join = now
            self.look_again()

    def resize(self, agent: Agent, slots: int) -> None:
        """A bidder has other slots than before."""
        agent.slots = slots
        agent.load = sum(self._cpu(self.tasks[task].task, agent) for task in agent.jobs)

    def leave(self, node: NodeId) -> list[TaskState]:
        """A bidder is gone; returns what it had."""
        agent = self.agents.pop(node, None)
        return [] if agent is None else [self.tasks[task] for task in agent.jobs]

    def others(self) -> list[Agent]:
        """All bidders but the main job."""
        return [agent for agent in self.agents.values() if agent.node != self.main]

    def look_again(self) -> None:
        """What no agent could do may now find one: bids or agents have changed."""
        waiting, self.for_main = self.for_main, []
        for _, _, task in waiting:
            if self.tasks[task].phase is Phase.READY:
                self._queue(self.tasks[task])

    # --- clearing ------------------------------------------------------------------------------------

    def clear(self, now: Instant) -> list[tuple[TaskState, Agent]]:
        """Give out what can be given now: (task, agent) in the order of the awards."""
        self.looked_at = now
        bidders = [a for a in self.agents.values() if a.slots > 0 and (a.node != self.main or self.main_slots > 0)]
        awards = self._clear_among(bidders, now)
        if self.for_main and self.main_takes(now):
            awards += self._clear_main(now)
        elif self.for_main:
            awards += self._clear_main(now, bound_only=True)
        return awards

    def _clear_among(self, bidders: list[Agent], now: Instant) -> list[tuple[TaskState, Agent]]:
        awards: list[tuple[TaskState, Agent]] = []
        unplaced: list[tuple[int, int, TaskId]] = []
        # Each slot may hold one task in advance; beyond that nobody can take anything, and the rest need not be looked at.
        room = sum(max(0, 2 * agent.slots - agent.load) for agent in bidders)
        while self.ready and (room > 0 or not bidders):
            item = heapq.heappop(self.ready)
            state = self.tasks[item[2]]
            if state.phase is not Phase.READY:
                continue
            if not any(self.able(state, agent) or self._undecided(state, agent, now) for agent in bidders):
                heapq.heappush(self.for_main, item)
                continue
            agent = self._best(state, bidders, now)
            if agent is None:
                unplaced.append(item)
                continue
            self._award(state, agent, now)
            room -= self._cpu(state.task, agent)
            awards.append((state, agent))
        for item in unplaced:
            heapq.heappush(self.ready, item)
        return awards

    def _clear_main(self, now: Instant, *, bound_only: bool = False) -> list[tuple[TaskState, Agent]]:
        """Tasks for the main job itself; with `bound_only` just those that could never go elsewhere."""
        main = self.agents[self.main]
        awards: list[tuple[TaskState, Agent]] = []
        unplaced: list[tuple[int, int, TaskId]] = []
        while self.for_main and main.load < 2 * main.slots:
            item = heapq.heappop(self.for_main)
            state = self.tasks[item[2]]
            if state.phase is not Phase.READY:
                continue
            cached = main.bid is not None and state.task.id in main.bid.cached
            bound = state.task.where == "main" or state.in_doubt or cached
            if (bound_only and not bound) or not self.able(state, main) or self._best(state, [main], now) is None:
                unplaced.append(item)
                continue
            self._award(state, main, now)
            awards.append((state, main))
        for item in unplaced:
            heapq.heappush(self.for_main, item)
        return awards

    def main_begins(self) -> Instant:
        """When the main job may do what no agent can. Agents that are all gone are not waited for again."""
        if self.last_join is None:
            return after(self.started, self.wait_ms)
        return after(self.last_join, self.wait_ms) if self.others() else self.last_join

    def main_takes(self, now: Instant) -> bool:
        """Whether that time has come."""
        return now >= self.main_begins()

    def nobody_came(self, now: Instant) -> bool:
        """Whether agents were waited for, and none has come."""
        return self.wait_ms > 0 and self.last_join is None and self.main_takes(now)

    def hopeless(self, now: Instant) -> list[TaskState]:
        """Ready tasks that neither an agent nor the main job can do, after a last wait for somebody who can."""
        if now < after(self.main_begins(), GIVE_UP_MS):
            return []
        main = self.agents[self.main]
        states = [self.tasks[task] for _, _, task in self.for_main]
        return [state for state in states if state.phase is Phase.READY and not self.able(state, main)]

    def deadline(self) -> Instant | None:
        """When what waits for an agent falls to the main job, or is given up; None where it has."""
        times: list[Instant] = []
        if self.ready:
            first = self.tasks[self.ready[0][2]]
            undecided = [agent for agent in self.others() if self._undecided(first, agent, self.looked_at)]
            times += [self._decides_by(first, agent) for agent in undecided]
        if self.for_main:
            begins = self.main_begins()
            times += [begins, after(begins, GIVE_UP_MS)]
        return min((time for time in times if self.looked_at < time), default=None)

    def _award(self, state: TaskState, agent: Agent, now: Instant) -> None:
        state.phase = Phase.AWARDED
        state.agent = agent.node
        state.attempt += 1
        state.awarded_at = now
        agent.jobs[state.task.id] = None
        agent.load += self._cpu(state.task, agent)
        if state.task.mutex:
            self.held_mutexes[state.task.mutex] = state.task.id

    def _best(self, state: TaskState, bidders: list[Agent], now: Instant) -> Agent | None:
        """Who is expected to complete it first; ties go to the one with less to do, then by node id, so that it is decided."""
        if state.task.mutex and state.task.mutex in self.held_mutexes:
            return None
        best: Agent | None = None
        best_key: tuple[int, int, str] | None = None
        for agent in bidders:
            if not self._has_room(state.task, agent) or not self.able(state, agent) or not self._in_reach(state, agent):
                continue
            key = (self.free_at(agent, now) + self.estimate_ms(state.task.id, agent), agent.load, agent.node)
            if best_key is None or key < best_key:
                best, best_key = agent, key
        return best

    def _cpu(self, task: Task, agent: Agent) -> int:
        return min(task.resources.cpu, agent.slots)

    def _has_room(self, task: Task, agent: Agent) -> bool:
        if any(self.tasks[other].task.whole_agent for other in agent.jobs):
            return False
        if task.whole_agent:
            return not agent.jobs
        return agent.load + self._cpu(task, agent) <= 2 * agent.slots

    def able(self, state: TaskState, agent: Agent) -> bool:
        """Whether this agent could run it at all."""
        task, bid = state.task, agent.bid
        if (
            bid is None
            or not bid.open
            or agent.held_back
            or state.graph > bid.graphs
            or task.id in bid.cannot
            or agent.node in state.not_on
        ):
            return False
        if agent.slots < 1 or task.resources.memory_bytes > agent.memory_bytes or task.resources.gpu > agent.gpu:
            return False
        if (task.where == "main") != (agent.node == self.main) and task.where != "any":
            return False
        return all(label in agent.labels for label in task.runs_on)

    def _in_reach(self, state: TaskState, agent: Agent) -> bool:
        """In the main job's own workspace an agent restores nothing: the main job does, once for all who work there."""
        return not agent.shares_main or all(self.tasks[dep].settled for dep in state.task.deps)

    def may_come_to(self, state: TaskState, agent: Agent, now: Instant) -> bool:
        """Whether this agent could run it, or may turn out to be able to."""
        return self.able(state, agent) or self._undecided(state, agent, now)

    def _undecided(self, state: TaskState, agent: Agent, now: Instant) -> bool:
        """It is still comparing its checkout: what it can do is not known yet."""
        comparing = agent.bid is None or (not agent.bid.reason and agent.bid.graphs < state.graph)
        return comparing and now < self._decides_by(state, agent)

    def _decides_by(self, state: TaskState, agent: Agent) -> Instant:
        return after(max(agent.joined_at, state.ready_at), DECIDE_MAX_MS)

    def free_at(self, agent: Agent, now: Instant) -> int:
        """When the agent should have a slot free (an instant; now where it has one)."""
        if agent.load < agent.slots:
            return now
        work = 0
        for task in agent.jobs:
            state = self.tasks[task]
            estimate = self.estimate_ms(task, agent)
            work += max(1, estimate - (now - state.started_at)) if state.phase is Phase.RUNNING else estimate
        return now + work // max(1, agent.slots)

    def take_back(self, now: Instant) -> list[TaskState]:
        """Awards that wait on one agent while another is idle."""
        if any(self.tasks[item[2]].phase is Phase.READY for item in self.ready[:1]):
            return []
        idle = [a for a in self.agents.values() if a.load < a.slots and (a.node != self.main or self.main_slots > 0)]
        if not idle:
            return []
        taken: list[TaskState] = []
        spare = {agent.node: agent.slots - agent.load for agent in idle}
        for victim in self.agents.values():
            for state, done_there in self._in_advance(victim, now):
                taker = next((a for a in idle if spare[a.node] > 0 and self._gains(state, a, done_there, now)), None)
                if taker is not None:
                    spare[taker.node] -= 1
                    state.withdrawing = True
                    taken.append(state)
        return taken

    def _gains(self, state: TaskState, taker: Agent, done_there: int, now: Instant) -> bool:
        """Whether the idle `taker` would have it done clearly earlier than where it waits."""
        if state.taken_back >= TAKE_BACKS_MAX or not self.able(state, taker) or not self._in_reach(state, taker):
            return False
        return now + self.estimate_ms(state.task.id, taker) + TAKE_BACK_MIN_MS <= done_there

    def _in_advance(self, agent: Agent, now: Instant) -> Iterator[tuple[TaskState, int]]:
        """Its awards that cannot have started, those behind the first `slots` slots' worth, and when each should be done there."""
        if agent.load <= agent.slots:
            return
        used, work_ms = 0, 0
        for task in agent.jobs:
            state = self.tasks[task]
            estimate_ms = self.estimate_ms(task, agent)
            used += self._cpu(state.task, agent)
            if used > agent.slots and state.phase is Phase.AWARDED and not state.withdrawing:
                yield state, now + work_ms // max(1, agent.slots) + estimate_ms
            started = state.phase is Phase.RUNNING
            work_ms += max(1, estimate_ms - (now - state.started_at)) if started else estimate_ms
