"""Which agents can no longer help. They are told so and leave: an agent that waits for nothing costs money.

No more graphs are expected, and what is left can never again keep all agents busy: of two agents for one chain of tasks, one has nothing to do until the
end. So many agents stay as tasks can still run at once (`width.py`), the fastest; the others go as soon as they are idle. An agent counts as one, however
many slots it has: tasks are spread over agents as long as there are enough, and a machine to itself is what makes each of them quick.

Some stay beyond that:

* who is one of few that can run some task (labels, resources, other inputs): each kind of task keeps agents of its own
* a second one for each kind of task that the main job could not do if the first one died, or that may be tried again elsewhere
* one more for each running task that may yet be copied and began while that agent still had work: what keeps others waiting at the end of a wide part of
  the graph may be a straggler. For what begins later, or had begun before it came, an agent stays no longer than STAY_MS, unless a copy has come first in
  this run before
* who has the result of something that is left from an earlier run, and who failed at something where it is not known yet whether that counts
* who has what the main job has not got yet, or what a task fetches that was awarded before the main job had it

The main job is everybody's stand-in: it takes over where the last agent dies, so that no machine has to wait for that. Who can run nothing at all leaves, too.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from msgspec import Struct, field

from mesh.protocol.bidder import Agent
from mesh.protocol.bulletin import Bulletin
from mesh.protocol.clearing import COPIES_MAX
from mesh.protocol.effects import Effect, Send, Tell
from mesh.protocol.market import Market
from mesh.protocol.news import AgentLeft
from mesh.protocol.standing import TaskState
from mesh.types import Instant, NodeId, TaskId, after
from mesh.wire.messages import Released

LOOK_MS: Final = 500
"""How often is looked for such agents, while there are more of them than can have work."""
TASKS_PER_MS: Final = 4
"""A look costs some microseconds for each task that is left: so much longer it is to the next one, which keeps that below a few hundredths of a processor."""
IDLE_MS: Final = 1_000
"""How long an agent has been of no use when it is told so: the log of what failed there may be on its way."""

STAY_MS: Final = 5_000
"""How long an agent that is of no use otherwise stays for the copy of a task that will be overdue by then."""


class Surplus(Struct):
    """Who is of no more use, and who has been told."""

    complete: bool = False
    """No more graphs are expected. One that comes all the same shows that this was wrong."""
    keep: bool = False
    """Somebody wants agents to stay, whatever is left to do."""
    released: dict[NodeId, str] = field(default_factory=dict)
    """Who was told to go, and why. It may not have heard."""
    copies_pay: bool = False
    """In this run a copy of a task has come before the first attempt at it."""
    _takes_nothing: dict[NodeId, None] = field(default_factory=dict)
    """Who can run no task of all that are not the main job's own."""
    _worked_until: dict[NodeId, Instant] = field(default_factory=dict)
    _idle_since: dict[NodeId, Instant] = field(default_factory=dict)
    _looked_at: Instant | None = None

    def compared(self, agent: Agent, market: Market) -> None:
        """It has said what it cannot run."""
        self._takes_nothing.pop(agent.node, None)
        offered = [task for task, state in market.tasks.items() if state.task.where != "main"]
        if offered and all(task in agent.cannot for task in offered):
            self._takes_nothing[agent.node] = None

    def busy(self, agent: NodeId) -> None:
        """It has been given something."""
        self._idle_since.pop(agent, None)

    def decided(self, state: TaskState, agent: NodeId, now: Instant) -> None:
        """The first result of a task, and so the one that counts, is this agent's."""
        self._worked_until[agent] = now
        if agent in state.lives and agent != next(iter(state.lives)):
            self.copies_pay = True

    def release(
        self, market: Market, bulletin: Bulletin, undelivered: Iterable[TaskId], graphs: int, now: Instant
    ) -> list[Effect]:
        """Tell those to go that are of no more use. `undelivered` tasks are done, but not on the main job; `graphs` have been announced."""
        if not self._may_find(market):
            self._idle_since.clear()
            return []
        if (due := self.deadline(market)) is not None and now < due:
            return []
        self._looked_at = now
        able = _Able(market, graphs)
        wanted = {**able.wanted(), **_holders(market, undelivered)}
        of_no_use = [agent for agent in able.decided if not agent.jobs and agent.node not in wanted]
        self._idle_since = {agent.node: self._idle_since.get(agent.node, now) for agent in of_no_use}
        oldest = _oldest_award(market, now)
        running = _may_be_copied(market)
        effects: list[Effect] = []
        for agent in of_no_use:
            since = self._idle_since[agent.node]
            if (live := self._may_copy(market, agent, running, now)) is not None:
                running.remove(live)
            elif now >= after(since, IDLE_MS) and since <= oldest:
                effects += self._let_go(agent, market, bulletin)
        return effects

    def _may_copy(self, market: Market, agent: Agent, running: "list[_Running]", now: Instant) -> "_Running | None":
        """What it stays for, of what runs and has nobody yet that would copy it."""
        worked_until = self._worked_until.get(agent.node, Instant(-1))
        until = after(self._idle_since[agent.node], STAY_MS)
        for one in running:
            soon = now <= until and one.overdue_at <= until
            waits = one.began_at < worked_until or soon or self.copies_pay
            if waits and not agent.shares_main and market.able(one.state, agent):
                return one
        return None

    def _let_go(self, agent: Agent, market: Market, bulletin: Bulletin) -> list[Effect]:
        market.leave(agent.node)
        bulletin.leave(agent.node)
        del self._idle_since[agent.node]
        tasks, agents = len(market.width.left), len(market.others())
        reason = f"{tasks} task{'s are' if tasks != 1 else ' is'} left for {agents} agent{'s' if agents != 1 else ''}"
        if agent.node in self._takes_nothing:
            reason = "it takes none of the tasks of this run"
        elif not market.tasks:
            reason = "the main job does everything itself"
        elif not market.width.chains:
            reason = "only the main job has tasks left"
        self.released[agent.node] = reason
        told = AgentLeft(agent.node, agent.name, f"it is not needed any more: {reason}", lost=False)
        return [Send(agent.node, Released(reason)), Tell(told)]

    def deadline(self, market: Market) -> Instant | None:
        """When the next look is due; None where there is nobody to look for."""
        if not self._may_find(market):
            return None
        pause_ms = LOOK_MS + len(market.width.left) // TASKS_PER_MS
        return Instant(0) if self._looked_at is None else after(self._looked_at, pause_ms)

    def _may_find(self, market: Market) -> bool:
        if not self.complete or self.keep:
            return False
        too_many = len(market.agents) - 1 > market.width.chains
        return too_many or any(node in market.agents for node in self._takes_nothing)


def _holders(market: Market, undelivered: Iterable[TaskId]) -> dict[NodeId, None]:
    """Who has what the main job has not got yet."""
    records = (market.tasks[task].record for task in undelivered)
    return {node: None for record in records if record is not None for node in record.holders}


def _oldest_award(market: Market, now: Instant) -> Instant:
    """When the oldest award was made that has not started: who got it was told who had its inputs then."""
    lives = (market.tasks[task].lives[agent.node] for agent in market.others() for task in agent.jobs)
    return min((live.awarded_at for live in lives if live.started_at is None), default=now)


class _Running(NamedTuple):
    """A running task of which a copy may be wanted."""

    state: TaskState
    began_at: Instant
    overdue_at: Instant


def _may_be_copied(market: Market) -> list[_Running]:
    found: list[_Running] = []
    for agent in market.others():
        for task in () if agent.shares_main else agent.jobs:
            state = market.tasks[task]
            live = state.lives[agent.node]
            if live.started_at is None or len(state.lives) > 1 or state.copies >= COPIES_MAX:
                continue
            if state.may_be_copied:
                found.append(_Running(state, live.started_at, market.overdue_at(state, live)))
    return found


class _Kind(Struct):
    """Tasks that the same agents can run."""

    agents: Mapping[NodeId, None]
    tasks: int = 0
    at_least: int = 1


class _Able:
    """Who can do what of all that is left."""

    def __init__(self, market: Market, graphs: int) -> None:
        self.market = market
        bids = [(agent, agent.bid) for agent in market.others()]
        # Who still compares its checkout may turn out to be of any use, or of none.
        self.decided = [
            agent
            for agent, bid in bids
            if bid is not None and bid.open and bid.graphs >= graphs and not agent.held_back
        ]
        # The fastest first; of equally fast ones those that have something, and those that came first.
        self.decided.sort(key=lambda agent: (-agent.speed_class, not agent.jobs))
        self.concerned: dict[NodeId, None] = {}
        """Those with the result of something that is left, and those of whose failure it is not known yet whether it counts."""

    def wanted(self) -> dict[NodeId, None]:
        """Agents that may still have work: for each kind of task the fastest of those that no other kind has taken, and all where these are too few."""
        wanted: dict[NodeId, None] = {}
        for kind in sorted(self._kinds(), key=lambda kind: len(kind.agents)):
            number = max(min(self.market.width.chains, kind.tasks), kind.at_least)
            free = [node for node in kind.agents if node not in wanted]
            wanted |= dict.fromkeys(free[:number] if number <= len(free) else kind.agents)
        return {**wanted, **self.concerned}

    def _kinds(self) -> list[_Kind]:
        market = self.market
        cannot: dict[TaskId, tuple[NodeId, ...]] = {}
        for agent in self.decided:
            for task in agent.cannot:
                if task in market.width.left:
                    cannot[task] = (*cannot.get(task, ()), agent.node)
        kinds: dict[tuple[NodeId, ...], _Kind] = {}
        alike: dict[tuple[object, ...], _Kind] = {}
        for task in market.width.left:
            state = market.tasks[task]
            asked = state.task.resources
            needs = (asked.memory_bytes, asked.gpu, state.task.where, state.task.runs_on)
            likeness = (*needs, tuple(state.not_on), cannot.get(task, ()))
            kind = alike.get(likeness)
            if kind is None:
                able = tuple(agent.node for agent in self.decided if market.able(state, agent))
                kind = alike[likeness] = kinds.setdefault(able, _Kind(dict.fromkeys(able)))
            self._add(kind, state)
        return list(kinds.values())

    def _add(self, kind: _Kind, state: TaskState) -> None:
        market = self.market
        kind.tasks += 1
        alone = not market.able(state, market.agents[market.main])
        if (alone and state.task.where != "main") or state.may_fail_again:
            kind.at_least = 2
        if state.in_doubt:
            self.concerned |= {node: None for node, _ in state.failed}
        if state.task.id in market.cached:
            self.concerned |= {agent.node: None for agent in self.decided if state.task.id in agent.cached}
