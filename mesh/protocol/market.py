"""The leader's book of the contract net: which tasks are open, who bids, and what has been awarded to whom.

    waiting --all dependencies done--> ready --award--> awarded --started--> running --result--> done
       ^                                 ^                 |                    |                 |
       +-- an output was lost -----------+-- declined, agent lost, failed with retries left ------+

Among ready tasks the one with the longest path to the end of the graph goes first (its rank). Who gets it is decided in `clearing.py`. A task may have two live
awards: one that takes much longer than it should is copied, and the first result counts.

The main job is an agent like the others, with the difference that it takes only what it must (`main_takes`): what is bound to it, what no agent can
do, and everything while there are no agents.
"""

import heapq
from bisect import insort
from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

from mesh.graph import Graph, Task
from mesh.protocol.bidder import Agent
from mesh.protocol.estimate import Forecast
from mesh.protocol.locality import Locality
from mesh.protocol.slots import Stock
from mesh.protocol.standing import Live, Phase, TaskState
from mesh.protocol.width import Width
from mesh.types import Instant, NodeId, TaskId, after
from mesh.wire.messages import Bid, Record

GIVE_UP_MS: Final = 120_000
"""How much longer a task that even the main job cannot do is kept open for an agent that can."""

AWARDS_PER_SLOT: Final = 2
"""What runs, and one in advance."""

MOMENTS_PER_SLOT: Final = 8
"""Of tasks of a moment so many, given out together when only `AWARDS_PER_SLOT` of them are left: else the mesh would spend more on each than the task takes."""

DECIDE_MAX_MS: Final = 60_000
"""How long an agent may compare its checkout with a graph while tasks that only it might take wait for it."""

ALL_SAY_MAX: Final = 256
"""So many agents say what they expect of every task. What comes to more is said by those who come later of a sample: a task's duration is known well enough by then."""

SAMPLE_TASKS: Final = 64
"""Of each graph; three times what counts for an agent's speed, since others need not know the same tasks."""


class Market(Struct):
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
    """By urgency, sorted; entries that are not ready any more are dropped when met."""
    coming: list[tuple[int, int, TaskId]] | None = None
    """By urgency, what waits for other tasks, as ranks were made last; entries that do not wait any more are dropped when met. None until somebody asks."""
    arrivals: int = 0
    """How many tasks have become ready."""
    for_main: list[tuple[int, int, TaskId]] = field(default_factory=list)
    """A heap of the same, for what only the main job can do, as far as is known."""
    held_mutexes: dict[str, TaskId] = field(default_factory=dict)
    cached: dict[TaskId, None] = field(default_factory=dict)
    """What at least one bidder has the result of."""
    forecast: Forecast = field(default_factory=Forecast)
    locality: Locality = field(default_factory=Locality)
    ranks_due: int = 0
    """With so much evidence ranks are worth being made anew."""
    watch: list[tuple[Instant, int, TaskId, int]] = field(default_factory=list)
    """A heap of running attempts: when each becomes slow or overdue, order, id and attempt."""
    slow: dict[TaskId, None] = field(default_factory=dict)
    """Running for somewhat longer than they should: copied where a slot is idle anyway."""
    overdue: dict[TaskId, None] = field(default_factory=dict)
    """Running for much longer than they should."""
    late: dict[NodeId, None] = field(default_factory=dict)
    """Where something has become overdue since awards were taken back last."""
    left: int = 0
    """Tasks that are not done."""
    left_ms: int = 0
    """What they should take at speed 1, one after the other."""
    graphs: int = 0
    """How many have been planned: who has compared fewer still compares."""
    stock: Stock = field(default_factory=Stock)
    """The slots of all bidders, as they were looked at last."""
    sharing: dict[NodeId, None] = field(default_factory=dict)
    """Agents that work in the main job's own workspace."""
    _width: Width | None = None
    """Of what is left, once somebody has asked."""
    last_join: Instant | None = None
    last_leave: Instant = Instant(0)
    changed: bool = True
    """Since awards were given out last something has become possible."""
    looked_at: Instant = Instant(-1)
    """When awards were given out last: what had become possible by then has been done."""
    wake_at: Instant | None = None
    """When awards may become possible though nothing happens: a slot will be free soon, or an agent is waited for no longer."""

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
        self.graphs = number
        self._width = None
        self.rank()
        return [task.id for task in fresh if self._become_ready(self.tasks[task.id], now)]

    @property
    def width(self) -> Width:
        """How many of the tasks that are left can run at one time."""
        if self._width is None:
            self._width = Width.of(state.task for state in self.tasks.values() if state.phase is not Phase.DONE)
        return self._width

    def rank(self) -> None:
        """Reckon anew what every open task should take, and how far it is from the end of the graph."""
        forecast = self.forecast
        self.ranks_due = forecast.evidence + max(1, forecast.evidence // 4)
        self.left_ms = 0
        expect = forecast.expectations()
        moved = False
        for state in reversed(self.tasks.values()):
            if state.phase is not Phase.DONE:
                before = state.rank_ms, state.guessed
                state.duration_ms, state.sure, state.moment = expect(state.task.id)
                self.left_ms += state.duration_ms
                longest: TaskState | None = None
                for dependent in self.dependents[state.task.id]:
                    other = self.tasks[dependent]
                    if longest is None or other.rank_ms > longest.rank_ms:
                        longest = other
                state.rank_ms, state.guessed = state.duration_ms, state.task.id not in forecast.tasks
                if longest is not None:
                    state.rank_ms += longest.rank_ms
                    state.guessed |= longest.guessed
                moved |= before != (state.rank_ms, state.guessed)
        for agent in self.agents.values():
            agent.runs_at(forecast.speed(agent.node))
            self.touch(agent)
        self.changed = True
        self.coming = None
        if moved:
            self._sort_ready()

    def _sort_ready(self) -> None:
        waiting = [state for _, _, task in self.ready if (state := self.tasks[task]).phase is Phase.READY]
        self.ready = sorted(state.urgency for state in waiting if not state.in_doubt)
        for state in waiting:
            if state.in_doubt:
                self._queue(state)

    def next_up(self, most: int) -> list[TaskState]:
        """The most urgent of the tasks that wait for others."""
        if self.coming is None:
            self.coming = sorted(state.urgency for state in self.tasks.values() if state.phase is Phase.WAITING)
        found: list[tuple[int, int, TaskId]] = []
        looked_at = 0
        for item in self.coming:
            if len(found) == most:
                break
            looked_at += 1
            if self.tasks[item[2]].phase is Phase.WAITING:
                found.append(item)
        self.coming[:looked_at] = found
        return [self.tasks[task] for _, _, task in found]

    def _become_ready(self, state: TaskState, now: Instant) -> bool:
        if state.waits_for or state.phase is not Phase.WAITING:
            return False
        state.phase = Phase.READY
        state.ready_at = now
        if not state.arrival:
            self.arrivals = state.arrival = self.arrivals + 1
        self.changed = True
        self._queue(state)
        return True

    def _queue(self, state: TaskState) -> None:
        main = self.agents[self.main]
        only_main = state.task.where == "main" or state.task.id in main.cached
        only_main |= state.here_only and not self.sharing
        if state.in_doubt and self.able(state, main):
            only_main = not any(self.able(state, agent) and agent.load < agent.slots for agent in self.others())
        if only_main:
            heapq.heappush(self.for_main, state.urgency)
        else:
            insort(self.ready, state.urgency)

    def estimate_ms(self, state: TaskState, agent: Agent) -> int:
        """How long it should take there."""
        if state.task.id in agent.cached:
            return 0
        return max(1, round(state.duration_ms / agent.speed))

    def fetch_ms(self, state: TaskState, agent: Agent) -> int:
        """How long what it lacks of its inputs should take to arrive there. In the main job's workspace everything is there, or will be without it."""
        if agent.shares_main or state.task.id in agent.cached:
            return 0
        return self.locality.fetch_ms(self.locality.missing_bytes(state.task, agent.node), agent.node)

    def bid(self, agent: Agent, bid: Bid) -> None:
        """A standing bid, or an amendment of one."""
        # What it says of each task is kept beside: a bid only adds to that, and takes nothing back.
        graphs = max(bid.graphs, agent.bid.graphs if agent.bid is not None else 0)
        agent.bid = replace(bid, graphs=graphs, cannot={}, cached=(), estimates={})
        agent.cannot |= bid.cannot
        cached = dict.fromkeys(bid.cached)
        agent.cached |= cached
        self.cached |= cached
        self.forecast.bid(agent.node, bid.estimates)
        agent.runs_at(self.forecast.speed(agent.node))
        self.resize(agent, bid.slots)

    def learn(self, task: TaskId, node: NodeId, duration_ms: int) -> None:
        """An execution took this long there."""
        self.forecast.learn(task, node, duration_ms)
        if node in self.agents:
            self.agents[node].runs_at(self.forecast.speed(node))
            self.touch(self.agents[node])

    def done(self, state: TaskState, record: Record, now: Instant) -> list[TaskId]:
        """`state` is finished for good; returns the tasks that have become ready through it."""
        self.release(state)
        state.phase = Phase.DONE
        state.record = record
        if record.outputs is not None:
            self.locality.made(state.task.id, record.outputs.size, record.holders)
        elif record.status == "success" and state.task.leaves_something:
            self._keep_here(state.task.id)
        self.left -= 1
        self.left_ms -= state.duration_ms
        if self._width is not None:
            self._width.done(state.task.id)
        return [] if state.stops else self._unblock(state, now)

    def _keep_here(self, task: TaskId) -> None:
        """What is behind it, directly or not, finds what it has left in the main job's workspace alone."""
        stack = [task]
        while stack:
            for dependent in self.dependents[stack.pop()]:
                if not self.tasks[dependent].here_only:
                    self.tasks[dependent].here_only = True
                    stack.append(dependent)

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

    def award(self, state: TaskState, agent: Agent, now: Instant) -> None:
        """It is given to `agent`; where it has a live award already this is a copy."""
        state.attempt += 1
        state.copies += bool(state.lives)
        if state.phase is Phase.READY:
            state.phase = Phase.AWARDED
        at_once = agent.load + self.cpu(state.task, agent) <= agent.slots and not agent.shares_main
        lacks = self.locality.missing_bytes(state.task, agent.node) if at_once else 0
        agent.jobs[state.task.id] = None
        self._occupy(state, agent, Live(agent.node, state.attempt, now, fetch_bytes=lacks))

    def take_up(self, state: TaskState, node: NodeId, attempt: int, since: Instant) -> Live | None:
        """An attempt runs there `since` then, though its award was given up, or what ended it was lost on its way. It counts again, and is ahead of any new one. None where it
        must be ended, since it is of no more use, or is beside another one that it must not meet.
        """
        agent = self.agents.get(node)
        alone = not state.lives and state.task.mutex not in self.held_mutexes
        copy = len(state.lives) == 1 and state.may_be_copied
        given = attempt <= state.attempt and state.numbered(attempt) is None and (node, attempt) not in state.failed
        awaited = state.phase in (Phase.READY, Phase.AWARDED, Phase.RUNNING)
        if agent is None or not given or not awaited or not (alone or copy):
            return None
        state.copies += copy
        agent.jobs = {state.task.id: None, **agent.jobs}
        self._occupy(state, agent, Live(node, attempt, since))
        return state.lives[node]

    def _occupy(self, state: TaskState, agent: Agent, live: Live) -> None:
        state.lives[agent.node] = live
        agent.load += self.cpu(state.task, agent)
        self.touch(agent)
        if state.task.mutex:
            self.held_mutexes[state.task.mutex] = state.task.id

    def begins(self, state: TaskState, live: Live, now: Instant) -> None:
        """Its process runs: it is looked at again when it should be done by far."""
        live.started_at = now
        live.withdrawing = False
        if live.fetch_bytes:
            self.locality.fetched(live.node, live.fetch_bytes, now - live.awarded_at)
        self.locality.brought(state.task, live.node)
        state.phase = Phase.RUNNING
        self.touch(self.agents[live.node])
        if state.may_be_copied:
            self.watch_out(state, live, self.forecast.slow_ms(state.task.id))

    def watch_out(self, state: TaskState, live: Live, takes_ms: int) -> None:
        """Look at it again when it has run for what takes so long at speed 1."""
        # What was looked at by then is not looked at again: an entry of that time would hide those behind it.
        due = max(self.runs_until(live, takes_ms), after(self.looked_at, 1))
        heapq.heappush(self.watch, (due, state.order, state.task.id, live.attempt))

    def runs_until(self, live: Live, takes_ms: int) -> Instant:
        """When it has."""
        began = live.awarded_at if live.started_at is None else live.started_at
        return after(began, round(takes_ms / self.agents[live.node].speed))

    def overdue_at(self, state: TaskState, live: Live) -> Instant:
        """When a running attempt takes much longer than it should."""
        return self.runs_until(live, self.forecast.overdue_ms(state.task.id))

    def drop(self, state: TaskState, node: NodeId) -> None:
        """The award that `node` has came to nothing."""
        live = state.lives.pop(node, None)
        agent = self.agents.get(node)
        supplied = False
        if live is not None and agent is not None and state.task.id in agent.jobs:
            del agent.jobs[state.task.id]
            agent.load -= self.cpu(state.task, agent)
            self.touch(agent)
            supplied = agent.load >= AWARDS_PER_SLOT * agent.slots and not state.task.mutex
        # Who has enough of what takes a moment is given nothing more before that is done.
        self.changed = self.changed or not supplied
        if state.lives and state.phase is Phase.RUNNING and all(one.started_at is None for one in state.lives.values()):
            state.phase = Phase.AWARDED
        if not state.lives and self.held_mutexes.get(state.task.mutex) == state.task.id:
            del self.held_mutexes[state.task.mutex]

    def hand_back(self, state: TaskState, node: NodeId, *, asked: bool) -> None:
        """The award that `node` has is handed back, as it was asked or for some reason of its own. A copy that never started is none."""
        self.drop(state, node)
        runs_elsewhere = bool(state.lives)
        if asked or runs_elsewhere:
            state.taken_back += 1
        if asked and runs_elsewhere:
            state.copies -= 1

    def release(self, state: TaskState) -> None:
        """It is nobody's any more."""
        for node in list(state.lives):
            self.drop(state, node)
        self.slow.pop(state.task.id, None)
        self.overdue.pop(state.task.id, None)

    def requeue(self, state: TaskState, now: Instant) -> None:
        """An award or a result came to nothing: it is to be run again."""
        self.release(state)
        if state.phase is Phase.DONE:
            self.left += 1
            self.left_ms += state.duration_ms
            if self._width is not None and not self._width.again(state.task.id):
                self._width = None
            state.record = None
            state.remade = True
            state.settled = False
            self.locality.gone(state.task.id)
            self._block_dependents(state.task.id)
        # While it ran, outputs that it needs may have been lost.
        state.waits_for |= {dep: None for dep in state.task.deps if self.tasks[dep].phase is not Phase.DONE}
        state.phase = Phase.WAITING
        self._become_ready(state, now)

    def has_failed(self) -> bool:
        """A task behind an allowed failure is no failure; one that was skipped stands behind a real one, which is found itself."""
        return any(
            state.record is not None and state.record.status != "success" and not state.task.allow_failure
            for state in self.tasks.values()
        )

    def settle(self, state: TaskState) -> None:
        """All that it left is in the main job's workspace: who works there may have waited for it."""
        state.settled = True
        somebody = self.main_slots > 0 or bool(self.for_main) or bool(self.sharing)
        self.changed = self.changed or somebody

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
        if len(self.agents) > ALL_SAY_MAX:  # the main job is one of them
            agent.estimates_max = SAMPLE_TASKS
        self.agents[agent.node] = agent
        agent.joined_at = now
        self.touch(agent)
        self.changed = True
        if agent.node != self.main:
            self.last_join = now
            if agent.shares_main:
                self.sharing[agent.node] = None
            self.look_again()

    def resize(self, agent: Agent, slots: int) -> None:
        """A bidder has other slots than before."""
        agent.slots = slots
        agent.load = sum(self.cpu(self.tasks[task].task, agent) for task in agent.jobs)
        self.touch(agent)
        self.changed = True

    def touch(self, agent: Agent) -> None:
        """It has changed: its slots are looked at anew."""
        agent.outlook = None
        self.stock.touched[agent.node] = None

    def leave(self, node: NodeId) -> list[TaskState]:
        """A bidder is gone; returns what it had."""
        agent = self.agents.pop(node, None)
        self.locality.left(node)
        self.sharing.pop(node, None)
        self.stock.touched[node] = None
        self.changed = True
        return [] if agent is None else [self.tasks[task] for task in agent.jobs]

    def others(self) -> list[Agent]:
        """All bidders but the main job."""
        return [agent for agent in self.agents.values() if agent.node != self.main]

    def name(self, node: NodeId) -> str:
        """What people are told of it: its name, or the beginning of its id where it bids no more."""
        agent = self.agents.get(node)
        return agent.name if agent is not None else node[:8]

    @property
    def alone(self) -> bool:
        """Whether there is no bidder but the main job."""
        return len(self.agents) == (self.main in self.agents)

    def look_again(self) -> None:
        """What no agent could do may now find one: bids or agents have changed."""
        self.changed = True
        waiting, self.for_main = self.for_main, []
        for _, _, task in waiting:
            if self.tasks[task].phase is Phase.READY:
                self._queue(self.tasks[task])

    def main_begins(self) -> Instant:
        """When the main job may do what no agent can. Agents that are all gone are not waited for again."""
        if self.last_join is None:
            return after(self.started, self.wait_ms)
        return after(self.last_join, self.wait_ms) if not self.alone else self.last_join

    def main_takes(self, now: Instant) -> bool:
        """Whether that time has come."""
        return now >= self.main_begins()

    def nobody_came(self, now: Instant) -> bool:
        """Whether agents were waited for, and none has come."""
        return self.wait_ms > 0 and self.last_join is None and self.main_takes(now)

    def hopeless(self, now: Instant) -> list[TaskState]:
        """Ready tasks that neither an agent nor the main job can do, after a last wait for somebody who can."""
        if now < self.gives_up():
            return []
        ready = [state for _, _, task in self.for_main if (state := self.tasks[task]).phase is Phase.READY]
        return [state for state in ready if not any(self.suits(state, agent) for agent in self.agents.values())]

    def gives_up(self) -> Instant:
        """When that wait is over: who is gone may be replaced, as who is late may come."""
        return after(max(self.main_begins(), self.last_leave), GIVE_UP_MS)

    def deadline(self) -> Instant | None:
        """When something may become possible though nothing happens: `looked_at` says what has been done about by now."""
        times = [] if self.wake_at is None else [self.wake_at]
        if self.watch:
            times.append(self.watch[0][0])
        if self.for_main:
            times += [self.main_begins(), self.gives_up()]
        return min((time for time in times if self.looked_at < time), default=None)

    # --- who may -------------------------------------------------------------------------------------

    def cpu(self, task: Task, agent: Agent) -> int:
        """How many of its slots it takes."""
        return min(task.resources.cpu, agent.slots)

    def has_room(self, task: Task, agent: Agent) -> bool:
        """Whether it may be given to it, to run or in advance."""
        if any(self.tasks[other].task.whole_agent for other in agent.jobs):
            return False
        if task.whole_agent:
            return not agent.jobs
        fits = agent.load + self.cpu(task, agent) <= self.most(self.tasks[task.id], agent)
        return fits and self._has_left(task, agent)

    def most(self, state: TaskState, agent: Agent) -> int:
        """How many slots' worth of awards this agent may hold with that one."""
        return (MOMENTS_PER_SLOT if state.of_a_moment else AWARDS_PER_SLOT) * agent.slots

    def _has_left(self, task: Task, agent: Agent) -> bool:
        """Whether the memory and the GPUs that it asks for are not asked for by others there: a slot can be shared in time, these cannot."""
        asked = task.resources
        if not asked.memory_bytes and not asked.gpu:
            return True
        others = [self.tasks[other].task.resources for other in agent.jobs]
        memory_bytes = asked.memory_bytes + sum(other.memory_bytes for other in others)
        gpu = asked.gpu + sum(other.gpu for other in others)
        return memory_bytes <= agent.memory_bytes and gpu <= agent.gpu

    def able(self, state: TaskState, agent: Agent) -> bool:
        """Whether this agent may be given it."""
        return not agent.held_back and self.suits(state, agent)

    def suits(self, state: TaskState, agent: Agent) -> bool:
        """Whether this agent could run it at all."""
        task, bid = state.task, agent.bid
        if (
            bid is None
            or not bid.open
            or state.graph > bid.graphs
            or task.id in agent.cannot
            or agent.node in state.not_on
            or (state.here_only and not agent.shares_main)
        ):
            return False
        if agent.slots < 1 or task.resources.memory_bytes > agent.memory_bytes or task.resources.gpu > agent.gpu:
            return False
        if task.where != "any" and (task.where == "main") != (agent.node == self.main):
            return False
        return not task.runs_on or all(label in agent.labels for label in task.runs_on)

    def in_reach(self, state: TaskState, agent: Agent) -> bool:
        """In the main job's own workspace an agent restores nothing: the main job does, once for all who work there. And what is made once more would be taken away
        from under what reads it there.
        """
        if state.remade and any(state.task.id in self.upstream(self.tasks[task]) for task in agent.jobs):
            return False
        return not agent.shares_main or all(self.tasks[dep].settled for dep in state.task.deps)

    def may_come_to(self, state: TaskState, agent: Agent, now: Instant) -> bool:
        """Whether this agent could run it, or may turn out to be able to."""
        return self.able(state, agent) or self.undecided(state, agent, now)

    def nobody_can(self, state: TaskState, now: Instant) -> bool:
        """Whether there is nobody here who could run it, or may turn out to be able to."""
        agents = self.agents.values()
        return not any(self.suits(state, agent) or self.undecided(state, agent, now) for agent in agents)

    def undecided(self, state: TaskState, agent: Agent, now: Instant) -> bool:
        """It is still comparing its checkout: what it can do is not known yet."""
        comparing = agent.bid is None or (not agent.bid.reason and agent.bid.graphs < state.graph)
        return comparing and now < self.decides_by(state, agent)

    def decides_by(self, state: TaskState, agent: Agent) -> Instant:
        """How long that is believed."""
        return after(max(agent.joined_at, state.ready_at), DECIDE_MAX_MS)
