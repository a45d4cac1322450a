"""Slots of all agents, kept from one reckoning to the next: what has not changed is not looked at again, however many agents there are.

A slot that is expected to be free at some time never becomes free earlier by the mere passing of time: what runs there ends, which changes the agent, or is late. So a heap of what was
expected when it was looked at last has the first slot on top as soon as its top is what is expected now.
"""

import heapq
from collections.abc import Iterator
from typing import Final, NamedTuple

from msgspec import Struct, field

from mesh.types import NodeId

NEVER: Final = 2**62
OLD_MAX: Final = 64
"""So many old entries a heap may always have; more than a few for each bidder are thrown out, so that it does not grow with the run."""


class Slot(NamedTuple):
    """When a slot is expected to be free, and from when on it may be given its next task in advance; an idle one is since ever."""

    free_at: int
    soon_at: int
    then_ms: int = 0
    """The rank of the most urgent task that may become ready with the end of what runs there: the slot is best left to that."""
    left_ms: int = 0
    """How long that will run still, at least."""
    kept_from: int = NEVER
    """Until when it may be used by something else than what it is kept for: a more urgent task that is not ready yet."""
    kept_until: int = 0
    """When that should be done."""

    def late(self, now: int) -> "Slot":
        """What runs there is never all but over: of what is late nobody knows how late it will be, and as late again is the least wrong. What is late for long will not be free soon."""
        if self is IDLE or self.free_at - now >= self.left_ms:
            return self
        late_ms = now - self.free_at
        soon_at = self.soon_at if late_ms <= self.free_at - self.soon_at else NEVER
        return Slot(now + max(late_ms, self.left_ms) + 1, soon_at, self.then_ms, self.left_ms)

    def begins_at(self, duration_ms: int, at: int) -> int:
        """When something that takes so long could begin here, then or later: before what the slot is kept for, or behind it."""
        at = max(at, self.free_at)
        return at if at + duration_ms <= self.kept_from else max(at, self.kept_until)

    def keep(self, begins_at: int, ends_at: int) -> "Slot":
        """Kept for one more task. What lies between two of them is not used."""
        return self._replace(kept_from=min(begins_at, self.kept_from), kept_until=max(ends_at, self.kept_until))


IDLE: Final = Slot(-1, -1)


class Entry(NamedTuple):
    """In a heap: an agent, and when its first slot was expected to be free. It is old where the agent has changed since."""

    free_at: int
    load: int
    node: NodeId
    version: int


class Stock(Struct):
    """The slots of all bidders, as their awards let them be expected; but for agents that have been touched since."""

    touched: dict[NodeId, None] = field(default_factory=dict)
    """Agents that have changed since they were looked at last."""
    ahead: dict[NodeId, None] = field(default_factory=dict)
    """Agents with more awards than slots."""
    comparing: dict[NodeId, None] = field(default_factory=dict)
    """Bidders that may still compare a graph."""
    slots: dict[NodeId, list[Slot]] = field(default_factory=dict)
    idle: int = 0
    """Slots where nothing runs."""
    spare: dict[NodeId, None] = field(default_factory=dict)
    """Bidders with such a slot."""
    classes: dict[int, list[Entry]] = field(default_factory=dict)
    """By class of speed, a heap."""
    pace: dict[int, int] = field(default_factory=dict)
    """By class of speed, how many slots."""
    _class_of: dict[NodeId, int] = field(default_factory=dict)
    _versions: dict[NodeId, int] = field(default_factory=dict)
    _changes: int = 0
    _later: list[tuple[int, NodeId, int]] = field(default_factory=list)
    """A heap: when a slot that runs something may be given its next task, whose it is, and the agent's version."""
    _soon: dict[NodeId, None] = field(default_factory=dict)
    """Those of which one could be, when they were looked at last."""

    def put(self, node: NodeId, slots: list[Slot], load: int, speed_class: int) -> None:
        """A bidder that is new, or has changed. `slots` are in order, at least one."""
        self.drop(node)
        self._changes += 1
        version = self._versions[node] = self._changes
        self.slots[node] = slots
        idle = slots.count(IDLE)
        self.idle += idle
        self.pace[speed_class] = self.pace.get(speed_class, 0) + len(slots)
        self._class_of[node] = speed_class
        if idle:
            self.spare[node] = None
        heap = self.classes.setdefault(speed_class, [])
        if len(heap) > OLD_MAX + 4 * len(self.slots):
            heap[:] = filter(self.holds, heap)
            heapq.heapify(heap)
        heapq.heappush(heap, Entry(slots[0].free_at, load, node, version))
        for slot in slots[idle:]:
            if slot.soon_at < NEVER:
                heapq.heappush(self._later, (slot.soon_at, node, version))

    def drop(self, node: NodeId) -> None:
        """It bids no more."""
        if node in self.slots:
            slots = self.slots.pop(node)
            self.idle -= slots.count(IDLE)
            speed_class = self._class_of.pop(node)
            self.pace[speed_class] -= len(slots)
            if not self.pace[speed_class]:
                del self.pace[speed_class]
            del self._versions[node]
            self.spare.pop(node, None)
            self._soon.pop(node, None)

    def holds(self, entry: Entry) -> bool:
        """Whether its agent is as it was."""
        return self._versions.get(entry.node) == entry.version

    def soon(self, now: int) -> Iterator[Slot]:
        """Slots that run something and may be given their next task now."""
        while self._later and self._later[0][0] <= now:
            _, node, version = heapq.heappop(self._later)
            if self._versions.get(node) == version:
                self._soon[node] = None
        for node in list(self._soon):
            found = [slot for slot in (slot.late(now) for slot in self.slots[node]) if slot is not IDLE]
            if not any(slot.soon_at < NEVER for slot in found):
                del self._soon[node]
            yield from (slot for slot in found if slot.soon_at <= now)

    def next_at(self) -> int:
        """When the next one may, of those that have not been looked at; `NEVER` for none."""
        while self._later and self._versions.get(self._later[0][1]) != self._later[0][2]:
            heapq.heappop(self._later)
        return self._later[0][0] if self._later else NEVER
