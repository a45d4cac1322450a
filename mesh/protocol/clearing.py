"""Who gets what: ready tasks by rank, each to the agent that is expected to complete it first.

Expected completion is when a slot is free and the inputs are there + what the task should take there. So a task may be held for a fast agent that is busy, where that beats a slow one
that is idle; what is held takes that slot in the reckoning, and the slow one gets a task of lower rank. Where agents differ in speed, slots are kept likewise for urgent tasks that will be
ready soon, from when they should be (HEFT's insertion; Topcuoglu et al. 2002). Nothing is kept of a reckoning: the next one begins
anew with what has happened meanwhile.

A slot that will be free soon is given its next task in advance, so that no message lies between two tasks. Not before: an award binds, and what becomes
ready meanwhile may be more urgent. An award that has not started is taken back when somebody else is idle and would be done clearly earlier.

A task that has run for much longer than it should is given to a second agent, as if it were ready, by its rank: the first result counts. Most of such tasks will
be done in a moment, a few take many times as long, and nobody can tell which.
"""

import heapq
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from mesh.protocol.bidder import SPEED_CLASSES, Agent
from mesh.protocol.market import AWARDS_PER_SLOT, Market
from mesh.protocol.slots import IDLE, NEVER, Entry, Slot
from mesh.protocol.standing import Live, Phase, TaskState
from mesh.types import Instant, NodeId, TaskId, after

SOON_MIN_MS: Final = 20
SOON_MAX_MS: Final = 1_000
SOON_PERCENT: Final = 25
"""A slot will be free soon when so much is left of the time that its task takes, within these limits."""

LEFT_PERCENT: Final = 10
"""What runs is expected to run for so much of its time still, however long it has: estimates are not better than that."""

HELD_MAX: Final = 64
"""So many tasks are held for somebody faster; the one behind them goes to whoever is idle. It bounds the work of one reckoning."""

COMING_MAX: Final = 16
"""For so many tasks that are not ready yet slots are kept at most, the most urgent ones."""

COMING_PERCENT: Final = 50
"""And only for those whose way to the end is at least so much of the time in which all agents could do all that is left: where that decides when the run ends, a slot that is kept is lost."""

GAIN_PERCENT: Final = 10
"""A task is held only where it would be done earlier by so much of what it takes: estimates are not better than that."""

SETTLE_MS: Final = 100
"""How long the first awards wait for agents that are here and still compare: what they can is worth knowing."""

TAKE_BACK_MIN_MS: Final = 200
"""An award is taken back only where somebody else would be done at least so much earlier: moving it costs a round trip."""
TAKE_BACKS_MAX: Final = 3
"""How often one task is moved: estimates that change with every result must not make it wander for ever."""
COPIES_MAX: Final = 2
"""How often one task is copied, one copy after the other."""


def outlook(market: Market, agent: Agent) -> list[Slot]:
    """The slots of an agent as its awards let them be expected, the first free one first."""
    if agent.outlook is not None:
        return agent.outlook
    slots = [IDLE] * agent.slots
    agent.ends_at = {}
    for task in agent.jobs:
        state = market.tasks[task]
        live = state.lives[agent.node]
        duration_ms = market.estimate_ms(state, agent)
        needs = needs_of(market, state, agent)
        waits = slots[needs - 1] is not IDLE
        fetched_at = live.awarded_at + market.locality.fetch_ms(live.fetch_bytes, agent.node)
        began_at = slots[needs - 1].free_at if waits else fetched_at if live.started_at is None else live.started_at
        slot = _behind(began_at + duration_ms, duration_ms, state)
        agent.ends_at[task] = slot.free_at
        if (waits and not state.of_a_moment) or state.task.whole_agent:
            slot = Slot(slot.free_at, NEVER)
        slots[:needs] = [slot] * needs
        slots.sort()
    if agent.load >= AWARDS_PER_SLOT * agent.slots:
        slots = _closed(slots)
    agent.outlook = slots
    return slots


def _closed(slots: list[Slot]) -> list[Slot]:
    """Of an agent that may be given nothing more. While a slot counts as open, ready tasks are looked at, one after the other."""
    return [slot if slot is IDLE else slot._replace(soon_at=NEVER) for slot in slots]


def needs_of(market: Market, state: TaskState, agent: Agent) -> int:
    """How many slots of this agent a task takes."""
    return agent.slots if state.task.whole_agent else market.cpu(state.task, agent)


def _behind(ends_at: int, duration_ms: int, state: TaskState) -> Slot:
    """A slot that runs a task until then. Where that is a guess nothing is given to it in advance: it might wait for long, while others become free."""
    soon_ms = min(max(duration_ms * SOON_PERCENT // 100, SOON_MIN_MS), SOON_MAX_MS)
    soon_at = ends_at - soon_ms if state.sure else NEVER
    return Slot(ends_at, soon_at, state.rank_ms - state.duration_ms, duration_ms * LEFT_PERCENT // 100)


class Place(Struct):
    """Where a task may be done, and when."""

    agent: Agent
    ready: bool
    """It may be awarded now: to run, or in advance."""
    free_at: int
    ends_at: int
    numbers: tuple[int, ...]
    """Of the slots that it takes."""

    def order(self) -> tuple[int, int, NodeId]:
        """The least is the best one."""
        return self.ends_at, self.agent.load, self.agent.node


class Reckoning:
    """One look at everything: what can be given out now, and to whom."""

    def __init__(self, market: Market, now: Instant) -> None:
        self.market = market
        self.now = now
        self._most_ms = market.tasks[market.ready[0][2]].rank_ms if market.ready else 0
        self._slots: dict[NodeId, list[Slot]] = {}
        """Of agents that have been looked at, with what was taken."""
        self._kept: dict[NodeId, None] = {}
        """Agents that keep a slot for a task that is not ready yet."""
        self._ends_at: dict[TaskId, int] = {}
        """When tasks should be done that are given out here, or for which a slot is kept."""
        self.open = self.idle = market.stock.idle
        """Slots that can be given something, to run or in advance, and those of them where it would run at once."""
        for slot in market.stock.soon(now):
            self._count(slot, 1)
        self.soon_at = market.stock.next_at()
        """When the next one can."""

    def slots(self, node: NodeId) -> list[Slot]:
        """Of one bidder, the first free one first."""
        if node not in self._slots:
            self._slots[node] = sorted(slot.late(self.now) for slot in self.market.stock.slots[node])
        return self._slots[node]

    def _count(self, slot: Slot, number: int) -> None:
        if slot.soon_at <= self.now and slot.then_ms <= self._most_ms:
            self.open += number
        if slot.free_at <= self.now and slot.kept_from == NEVER:
            self.idle += number

    def place(self, state: TaskState, *, may_wait: bool = True) -> Place | None:
        """Where it should go: to somebody who can take it now, or somewhere where it is worth waiting, if it may wait; None where nobody can do it at all."""
        places = list(self._places(state))
        if len(places) == 1:
            return places[0]
        best = min(places, key=Place.order, default=None)
        ready = [place for place in places if place.ready]
        # Whoever can begin at once comes before a slot that will be free soon: that is a guess.
        best_now = min([place for place in ready if place.free_at <= self.now] or ready, key=Place.order, default=None)
        if best is None or best_now is None:
            return best
        if not may_wait:
            return best_now
        gain_ms = best_now.ends_at - best.ends_at
        return best if gain_ms * 100 > (best_now.ends_at - best_now.free_at) * GAIN_PERCENT else best_now

    def _places(self, state: TaskState, at: int = 0) -> Iterator[Place]:
        """Where it could be done, beginning then at the earliest; of agents that are as good as each other only the first."""
        return (self._at(state, agent, at) for agent in self._candidates(state))

    def _candidates(self, state: TaskState) -> Iterator[Agent]:
        task, bidders = state.task, self.market.stock.slots
        agents = self.market.agents
        if task.whole_agent or task.resources.cpu > 1:
            yield from (agents[node] for node in bidders if self._may(state, agents[node]))
            return
        for heap in self.market.stock.classes.values():
            first = self._first(heap, state)
            if first is not None:
                yield first
        known = (*self._kept, *self._cached(task.id), *self.market.locality.holders(task))
        yield from (agents[node] for node in known if node in bidders and self._may(state, agents[node]))

    def _cached(self, task: TaskId) -> list[NodeId]:
        """Who has its result."""
        if task not in self.market.cached:
            return []
        return [node for node in self.market.stock.slots if task in self.market.agents[node].cached]

    def _may(self, state: TaskState, agent: Agent) -> bool:
        if agent.node in state.lives or (state.lives and agent.shares_main):
            return False
        return self.market.able(state, agent) and self.market.in_reach(state, agent)

    def _first(self, heap: list[Entry], state: TaskState) -> Agent | None:
        """The agent of one class that has a slot first, of those that can run it."""
        passed: list[Entry] = []
        found: Agent | None = None
        while heap and found is None:
            entry = heap[0]
            if not self.market.stock.holds(entry):
                heapq.heappop(heap)
                continue
            agent = self.market.agents[entry.node]
            free_at = self.slots(entry.node)[0].free_at
            if (free_at, agent.load) != (entry.free_at, entry.load):
                heapq.heapreplace(heap, Entry(free_at, agent.load, entry.node, entry.version))
            elif entry.node not in self._kept and self._may(state, agent):
                found = agent
            else:
                passed.append(heapq.heappop(heap))
        for item in passed:
            heapq.heappush(heap, item)
        return found

    def _at(self, state: TaskState, agent: Agent, at: int) -> Place:
        """What comes of it there, if it may begin then."""
        slots = self.slots(agent.node)
        needs = needs_of(self.market, state, agent)
        duration_ms = self.market.estimate_ms(state, agent)
        at = max(at, self.now)
        if agent.node in self._kept:
            begins = sorted((slot.begins_at(duration_ms, at), number) for number, slot in enumerate(slots))[:needs]
            free_at, numbers = begins[-1][0], tuple(number for _, number in begins)
        else:
            free_at, numbers = max(slots[needs - 1].free_at, at), tuple(range(needs))
        ends_at = max(free_at, self.now + self.market.fetch_ms(state, agent)) + duration_ms
        taken = [slots[number] for number in numbers]
        fits = all(
            slot.soon_at <= self.now and slot.then_ms <= state.rank_ms and ends_at <= slot.kept_from for slot in taken
        )
        return Place(agent, fits and self.market.has_room(state.task, agent), free_at, ends_at, numbers)

    def take(self, state: TaskState, place: Place) -> None:
        """Its slots are taken in the reckoning, whether it is awarded or held."""
        slots = list(self.slots(place.agent.node))
        slot = _behind(place.ends_at, place.ends_at - place.free_at, state)
        in_advance = place.free_at > self.now and not state.of_a_moment
        if not place.ready or in_advance or state.task.whole_agent:
            slot = Slot(slot.free_at, NEVER)
        for number in place.numbers:
            old = slots[number]
            before = place.ends_at <= old.kept_from
            slots[number] = (
                slot._replace(kept_from=old.kept_from, kept_until=old.kept_until)
                if before
                else old.keep(place.free_at, place.ends_at)
            )
        if place.ready and place.agent.load + len(place.numbers) >= self.market.most(state, place.agent):
            slots = _closed(slots)
        self._put(place.agent.node, slots)
        self._ends_at[state.task.id] = place.ends_at

    def keep(self, state: TaskState) -> None:
        """Slots are kept for a task that is not ready yet, from when it should be: what would still run there then goes elsewhere."""
        ready_at: int = self.now
        for dep in state.waits_for:
            ends_at = self._ends_at[dep] if dep in self._ends_at else self._done_at(self.market.tasks[dep])
            if ends_at is None:
                return
            ready_at = max(ready_at, ends_at)
        place = min(self._places(state, ready_at), key=Place.order, default=None)
        if place is None:
            return
        slots = list(self.slots(place.agent.node))
        for number in place.numbers:
            slots[number] = slots[number].keep(place.free_at, place.ends_at)
        self._put(place.agent.node, slots)
        self._kept[place.agent.node] = None
        self._ends_at[state.task.id] = place.ends_at
        # Where it is not ready by then, what it waits for is late: another look, or its slot would be idle for as long as that is.
        self.soon_at = min(self.soon_at, place.free_at + 1)

    def _done_at(self, state: TaskState) -> int | None:
        """When something should be done that somebody is at."""
        agents = [self.market.agents[node] for node in state.lives if node in self.market.agents]
        ends = (agent.ends_at.get(state.task.id) for agent in agents)
        left_ms = state.duration_ms * LEFT_PERCENT // 100
        return min((Slot(at, NEVER, 0, left_ms).late(self.now).free_at for at in ends if at is not None), default=None)

    def _put(self, node: NodeId, slots: list[Slot]) -> None:
        """Instead of those that it had in this reckoning."""
        # The heaps of the stock now have what was taken here, and nothing is kept of a reckoning: the next one looks at this agent anew.
        self.market.stock.touched[node] = None
        for old in self._slots[node]:
            self._count(old, -1)
        self._slots[node] = sorted(slots)
        for new in slots:
            self._count(new, 1)
            if new.soon_at > self.now:
                self.soon_at = min(self.soon_at, new.soon_at)


def clear(market: Market, now: Instant) -> list[tuple[TaskState, Live]]:
    """Give out what can be given now, in the order of the awards."""
    due = market.deadline()
    if not market.changed and (due is None or now < due):
        return []
    market.looked_at, market.wake_at, market.changed = now, None, False
    if market.forecast.evidence >= market.ranks_due:
        market.rank()
    _look(market)
    awards = _clear_among(market, now)
    return awards + _clear_main(market, now, bound_only=not market.main_takes(now))


def _look(market: Market) -> None:
    """Take in how agents have changed."""
    for node in market.stock.touched:
        agent = market.agents.get(node)
        market.stock.drop(node)
        for found in (market.stock.ahead, market.stock.comparing):
            found.pop(node, None)
        if agent is None or agent.slots < 1:
            continue
        if agent.load > agent.slots:
            market.stock.ahead[node] = None
        if node == market.main and market.main_slots < 1:
            continue
        bid = agent.bid
        # Before it has compared a graph it can be given nothing, and its idle slots are none.
        if bid is not None and bid.open and bid.graphs > 0:
            market.stock.put(node, outlook(market, agent), agent.load, agent.speed_class)
        if bid is None or (not bid.reason and bid.graphs < market.graphs):
            market.stock.comparing[node] = None
    market.stock.touched.clear()


def _clear_among(market: Market, now: Instant) -> list[tuple[TaskState, Live]]:
    overdue = _overdue(market, now)
    if not market.ready and not overdue:
        return []
    if market.ready and (settled_at := _settles_at(market, now)) is not None:
        market.wake_at = settled_at
        return []
    awards: list[tuple[TaskState, Live]] = []
    reckoning = Reckoning(market, now)
    held, index = 0, 0
    coming = _coming(market) if reckoning.open else []
    while (reckoning.open > 0 or not market.stock.slots) and (overdue or index < len(market.ready)):
        item = market.ready[index] if index < len(market.ready) else None
        if overdue and (item is None or overdue[0] < item):
            state = market.tasks[overdue.pop(0)[2]]
            place = reckoning.place(state)
            # In advance only where the slot would go to a less urgent task: a copy may turn out not to be needed.
            if place is not None and place.ready and (place.free_at <= now or item is not None):
                awards.append(_award(market, reckoning, state, place, now))
            continue
        assert item is not None
        while coming and coming[0].urgency < item:
            reckoning.keep(coming.pop(0))
        state = market.tasks[item[2]]
        if state.phase is not Phase.READY:
            del market.ready[index]
        elif state.task.mutex and state.task.mutex in market.held_mutexes:
            index += 1
        elif (place := reckoning.place(state, may_wait=held < HELD_MAX and not state.of_a_moment)) is None:
            if any(market.may_come_to(state, market.agents[node], now) for node in _bidders(market)):
                if not market.stock.slots:
                    break  # all are still comparing: what waits here waits for them, and is not looked at one by one
                index += 1
            else:
                heapq.heappush(market.for_main, market.ready.pop(index))
        elif place.ready:
            del market.ready[index]
            awards.append(_award(market, reckoning, state, place, now))
        else:
            index += 1
            held += 1
            if held <= HELD_MAX:
                reckoning.take(state, place)
            elif not reckoning.idle:
                break
    if market.ready:
        market.wake_at = _undecided_until(market, now)
        if reckoning.soon_at < NEVER:
            soon_at = Instant(reckoning.soon_at)
            market.wake_at = soon_at if market.wake_at is None else min(market.wake_at, soon_at)
    return awards


def _coming(market: Market) -> list[TaskState]:
    """What fast agents are kept for, the most urgent first: nothing where all are equally fast."""
    speeds = {2 ** (number / SPEED_CLASSES): slots for number, slots in market.stock.pace.items()}
    if len(speeds) < 2:
        return []
    all_ms = market.left_ms / sum(speed * slots for speed, slots in speeds.items())
    coming = market.next_up(COMING_MAX)
    return [state for state in coming if state.rank_ms / max(speeds) * 100 >= all_ms * COMING_PERCENT]


def _award(
    market: Market, reckoning: Reckoning, state: TaskState, place: Place, now: Instant
) -> tuple[TaskState, Live]:
    reckoning.take(state, place)
    market.award(state, place.agent, now)
    return state, state.lives[place.agent.node]


def _bidders(market: Market) -> Iterator[NodeId]:
    yield from market.stock.comparing
    yield from market.stock.slots


def _undecided_until(market: Market, now: Instant) -> Instant | None:
    """When the first of those that still compare is waited for no longer."""
    first = market.tasks[market.ready[0][2]]
    comparing = [market.agents[node] for node in market.stock.comparing]
    waited_for = [market.decides_by(first, agent) for agent in comparing if market.undecided(first, agent, now)]
    return min(waited_for, default=None)


def _settles_at(market: Market, now: Instant) -> Instant | None:
    """While the tasks of a new graph have just become ready and somebody who is here still compares it: until when that is waited for."""
    first = market.tasks[market.ready[0][2]]
    until = after(first.ready_at, SETTLE_MS)
    if now < until and any(market.undecided(first, market.agents[node], now) for node in market.stock.comparing):
        return until
    return None


def _overdue(market: Market, now: Instant) -> list[tuple[int, int, TaskId]]:
    """Tasks that may be copied, by rank; those that are just slow, or of which nobody knew beforehand how long they take, only where nothing else is to be done."""
    while market.watch and market.watch[0][0] <= now:
        _, _, task, attempt = heapq.heappop(market.watch)
        state = market.tasks[task]
        live = state.numbered(attempt)
        if live is None or live.node not in market.agents:
            continue
        slow_ms, overdue_ms = market.forecast.slow_ms(task), market.forecast.overdue_ms(task)
        if market.runs_until(live, slow_ms) > now:
            market.watch_out(state, live, slow_ms)
        elif not market.agents[live.node].shares_main:
            market.slow[task] = None
            if market.runs_until(live, overdue_ms) > now:
                market.watch_out(state, live, overdue_ms)
            else:
                market.overdue[task] = market.late[live.node] = None
    found = [market.tasks[task] for task in market.slow]
    may = [
        state for state in found if len(state.lives) == 1 and state.copies < COPIES_MAX and _has_inputs(market, state)
    ]
    known, overdue = market.forecast.tasks, market.overdue
    late = ((state, state.task.id in known and state.task.id in overdue) for state in may)
    return sorted(state.urgency if urgent else (0, *state.urgency[1:]) for state, urgent in late)


def _has_inputs(market: Market, state: TaskState) -> bool:
    """Whether what a running task was started with is still to be had: outputs may have been lost since."""
    return all(market.tasks[dep].phase is Phase.DONE for dep in state.task.deps)


def _clear_main(market: Market, now: Instant, *, bound_only: bool) -> list[tuple[TaskState, Live]]:
    """Tasks for the main job itself; with `bound_only` just those that could never go elsewhere."""
    main = market.agents[market.main]
    awards: list[tuple[TaskState, Live]] = []
    unplaced: list[tuple[int, int, TaskId]] = []
    while market.for_main and main.load < 2 * main.slots:
        item = heapq.heappop(market.for_main)
        state = market.tasks[item[2]]
        if state.phase is not Phase.READY:
            continue
        # What somebody has refused who is here is not kept for who may yet come.
        mine = state.task.where == "main" or state.here_only or state.task.id in main.cached
        bound = mine or state.in_doubt or state.not_on
        fits = market.able(state, main) and market.has_room(state.task, main) and market.in_reach(state, main)
        if (bound_only and not bound) or not fits or state.task.mutex in market.held_mutexes:
            unplaced.append(item)
            continue
        market.award(state, main, now)
        awards.append((state, state.lives[main.node]))
    for item in unplaced:
        heapq.heappush(market.for_main, item)
    return awards


# --- taking back -------------------------------------------------------------------------------------


def take_back(market: Market, now: Instant) -> list[tuple[TaskState, Live]]:
    """Awards that wait on one agent and are better given to somebody else: their slots turn out to be taken for long, or another agent is idle."""
    taken = _behind_overdue(market, now)
    if not taken and not any(market.tasks[item[2]].phase is Phase.READY for item in market.ready[:1]):
        _look(market)
        taken = _for_idle(market, now)
    for _, live in taken:
        live.withdrawing = True
    return taken


def _behind_overdue(market: Market, now: Instant) -> list[tuple[TaskState, Live]]:
    """What was given in advance to a slot whose task is overdue: it would wait for nobody knows how long, whoever else becomes free."""
    taken: list[tuple[TaskState, Live]] = []
    for agent in [market.agents[node] for node in market.late if node in market.agents]:
        overdue = sum(market.cpu(market.tasks[task].task, agent) for task in agent.jobs if task in market.overdue)
        waiting = [(state, live) for state, live, _ in _in_advance(market, agent, now)]
        stuck = waiting[max(0, agent.slots - overdue) :]
        taken += [(state, live) for state, live in stuck if state.taken_back < TAKE_BACKS_MAX]
    market.late.clear()
    return taken


def _for_idle(market: Market, now: Instant) -> list[tuple[TaskState, Live]]:
    """Awards that wait on one agent while another is idle and there is nothing else for it."""
    idle = [market.agents[node] for node in market.stock.spare] if market.stock.ahead else []
    if not idle:
        return []
    taken: list[tuple[TaskState, Live]] = []
    spare = {agent.node: agent.slots - agent.load for agent in idle}
    for victim in [market.agents[node] for node in market.stock.ahead]:
        for state, live, done_there in _in_advance(market, victim, now):
            takers = (a for a in idle if spare[a.node] > 0 and _gains(market, state, a, done_there, now))
            if (taker := next(takers, None)) is not None:
                spare[taker.node] -= 1
                taken.append((state, live))
    return taken


def _gains(market: Market, state: TaskState, taker: Agent, done_there: int, now: Instant) -> bool:
    """Whether the idle `taker` would have it done clearly earlier than where it waits."""
    if state.taken_back >= TAKE_BACKS_MAX or taker.node in state.lives:
        return False
    if not market.able(state, taker) or not market.in_reach(state, taker):
        return False
    takes_ms = market.fetch_ms(state, taker) + market.estimate_ms(state, taker)
    return now + takes_ms + TAKE_BACK_MIN_MS <= done_there


def _in_advance(market: Market, agent: Agent, now: Instant) -> Iterator[tuple[TaskState, Live, int]]:
    """Its awards that cannot have started, those behind the first `slots` slots' worth, and when each should be done there."""
    used, work_ms = 0, 0
    for task in agent.jobs:
        state = market.tasks[task]
        live = state.lives[agent.node]
        duration_ms = market.estimate_ms(state, agent)
        used += market.cpu(state.task, agent)
        if used > agent.slots and live.started_at is None and not live.withdrawing:
            yield state, live, now + work_ms // agent.slots + duration_ms
        # What is late is taken to be as late again, as in `Slot.late`.
        work_ms += duration_ms if live.started_at is None else max(abs(live.started_at + duration_ms - now), 1)
