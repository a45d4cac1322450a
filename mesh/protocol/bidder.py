"""One agent as the leader sees it: what it has said of itself, and what it has been given."""

import math
from typing import Final

from msgspec import Struct, field

from mesh.protocol.facts import whole
from mesh.protocol.slots import Slot
from mesh.types import Instant, NodeId, TaskId
from mesh.wire.messages import Bid, Hello

SPEED_CLASSES: Final = 8
"""Agents whose speeds differ by less than a factor of 2 ^ 1/8 are taken for equally fast."""


class Agent(Struct):
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
    estimates_max: int = 0
    """Of how many tasks of each graph its estimates are enough; 0: they are wanted of all."""
    bid: Bid | None = None
    cannot: dict[TaskId, str] = field(default_factory=dict)
    """What it must not be given, and why."""
    cached: dict[TaskId, None] = field(default_factory=dict)
    """What it has the result of."""
    speed: float = 1
    """How many times as fast as the common measure."""
    speed_class: int = 0
    """Agents of one class are taken for equally fast."""
    jobs: dict[TaskId, None] = field(default_factory=dict)
    """Awarded to it and not done, in order."""
    load: int = 0
    """Slots that its jobs take, those in advance included."""
    outlook: list[Slot] | None = None
    """When its slots will be free, as far as that was reckoned since its jobs changed last."""
    ends_at: dict[TaskId, int] = field(default_factory=dict)
    """When its jobs should be done, of the same reckoning."""

    def runs_at(self, speed: float) -> None:
        """It has turned out to be so fast."""
        self.speed, self.speed_class = speed, round(math.log2(speed) * SPEED_CLASSES)

    @classmethod
    def of(cls, node: NodeId, hello: Hello, main_workspace: str) -> "Agent":
        """Who has introduced itself so."""
        memory_bytes, gpu = (whole(hello.facts.get(name, "")) for name in ("memory_bytes", "gpu"))
        shares_main = hello.workspace == main_workspace != ""
        return cls(node, hello.name, hello.slots, hello.labels, memory_bytes, gpu, shares_main)
