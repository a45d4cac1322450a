"""When the run should be over: all that is left is placed once, as if nothing unexpected happened any more.

Tasks go by rank to where they are done first, each behind what it waits for (HEFT without insertion; Topcuoglu et al. 2002), on slots that are free when what runs there should be done. What has been
given out and has not begun is placed with the others. That is coarser than what the market does, and costs a look at every task that is left; but the critical path and all the work on all slots would be less than it
takes where a graph is narrow in parts.
"""

import heapq

from mesh.protocol.bidder import SPEED_CLASSES, Agent
from mesh.protocol.clearing import needs_of
from mesh.protocol.market import Market
from mesh.protocol.standing import Phase
from mesh.types import Instant, NodeId, TaskId


def remaining_ms(market: Market, now: Instant) -> int | None:
    """What the tasks that are left should take from `now` on; None while nothing is known of any of them, or nobody is here who could do them."""
    bidders = _bidders(market, now)
    if not bidders or not market.forecast.evidence:
        return None
    ends: dict[TaskId, float] = {}
    slots: dict[float, list[float]] = {}
    for agent in market.agents.values():
        running = _running(market, agent, now)
        for task, end in running.items():
            ends[task] = min(end, ends.get(task, end))
        if agent.node in bidders:
            busy = [end for task, end in running.items() for _ in range(needs_of(market, market.tasks[task], agent))]
            free: list[float] = [0] * (agent.slots - len(busy))
            slots.setdefault(2 ** (agent.speed_class / SPEED_CLASSES), []).extend(busy + free)
    for heap in slots.values():
        heapq.heapify(heap)
    left = [state for state in market.tasks.values() if state.phase is not Phase.DONE and state.task.id not in ends]
    left.sort(key=lambda state: -state.rank_ms)
    for state in left:
        ready_at = max((ends.get(dep, 0) for dep in state.waits_for), default=0)
        takes_ms = market.forecast.average_ms(state.task.id)
        end, speed = min((max(heap[0], ready_at) + takes_ms / speed, speed) for speed, heap in slots.items())
        heapq.heapreplace(slots[speed], end)
        ends[state.task.id] = end
    return round(max(ends.values(), default=0))


def _bidders(market: Market, now: Instant) -> dict[NodeId, None]:
    """Who does what is left: the main job only where it takes more than it must."""
    able = [agent for agent in market.agents.values() if agent.slots and (bid := agent.bid) and bid.open and bid.graphs]
    others = [agent for agent in able if agent.node != market.main]
    chosen = able if market.main_slots > 0 or (not others and market.main_takes(now)) else others
    return {agent.node: None for agent in chosen}


def _running(market: Market, agent: Agent, now: Instant) -> dict[TaskId, float]:
    """When what runs there should be done, from `now` on. What is late is as late again, as in `Slot.late`."""
    began = ((task, market.tasks[task].lives[agent.node].started_at) for task in agent.jobs)
    return {
        task: abs(at + market.forecast.average_ms(task) / agent.speed - now) for task, at in began if at is not None
    }
