"""When the run should be over: all that is left is placed once, as if nothing unexpected happened any more.

Tasks go by rank to where they are done first, each behind what it waits for (HEFT without insertion; Topcuoglu et al. 2002), on slots that are free when what runs there should be done. That
is coarser than what the market does, and costs a look at every task that is left; but the critical path and all the work on all slots would be less than it takes where a graph is narrow in parts.
"""

import heapq

from mesh.protocol.clearing import outlook
from mesh.protocol.market import SPEED_CLASSES, Agent, Market
from mesh.protocol.standing import Phase
from mesh.types import Instant, TaskId


def remaining_ms(market: Market, now: Instant) -> int | None:
    """What the tasks that are left should take from `now` on; None while nothing is known of any of them, or nobody is here who could do them."""
    bidders = _bidders(market, now)
    if not bidders or not market.forecast.evidence:
        return None
    ends, slots = _running(market, bidders, now)
    left = [state for state in market.tasks.values() if state.phase is not Phase.DONE and state.task.id not in ends]
    left.sort(key=lambda state: -state.rank_ms)
    for state in left:
        ready_at = max((ends.get(dep, 0) for dep in state.waits_for), default=0)
        takes_ms = market.forecast.average_ms(state.task.id)
        end, kind = min((max(heap[0], ready_at) + takes_ms / speed, speed) for speed, heap in slots.items())
        heapq.heapreplace(slots[kind], end)
        ends[state.task.id] = end
    return round(max(ends.values(), default=0))


def _bidders(market: Market, now: Instant) -> list[Agent]:
    """Who does what is left: the main job only where it takes more than it must."""
    open_bids = [agent for agent in market.agents.values() if agent.bid is not None and agent.bid.open and agent.slots]
    others = [agent for agent in open_bids if agent.node != market.main and agent.bid is not None and agent.bid.graphs]
    takes = market.main_slots > 0 or (not others and market.main_takes(now))
    return others + [agent for agent in open_bids if agent.node == market.main and takes]


def _running(
    market: Market, bidders: list[Agent], now: Instant
) -> tuple[dict[TaskId, float], dict[float, list[float]]]:
    """When what has been awarded should be done, and by speed a heap of when each slot is free; both from `now` on."""
    ends: dict[TaskId, float] = {}
    slots: dict[float, list[float]] = {}
    for agent in bidders:
        heap = slots.setdefault(2 ** (agent.speed_class / SPEED_CLASSES), [])
        for slot in outlook(market, agent):
            heapq.heappush(heap, max(0, slot.late(now).free_at - now))
        for task, ends_at in agent.ends_at.items():
            end = abs(ends_at - now)  # what is late is as late again, as in `Slot.late`
            ends[task] = min(end, ends.get(task, end))
    return ends, slots
