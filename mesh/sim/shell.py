"""What every simulated shell of the core shares: one heap of timed happenings, machines with a node on each, and links between them.

How long things take, and what goes wrong, is for a `World` to say: `cluster.py` draws both from a seed, `schedule.py` knows them beforehand.
"""

import hashlib
import heapq
from collections.abc import Callable
from typing import Protocol, assert_never

from msgspec import Struct, field

from mesh.protocol import effects as fx
from mesh.protocol import events as ev
from mesh.protocol import news
from mesh.protocol.node import Node
from mesh.types import Blob, Digest, Instant, NodeId, TaskId
from mesh.wire.messages import Message


class Machine(Struct):
    """One simulated computer with one node on it."""

    node: Node
    up: bool = True
    ended: fx.End | None = None
    wake_at: Instant | None = None
    links: dict[NodeId, int] = field(default_factory=dict)
    """Generation of the link to each peer; a message of an older generation is lost."""
    blobs: dict[Digest, bytes] = field(default_factory=dict)
    running: dict[TaskId, int] = field(default_factory=dict)
    """Attempt, of what has been started and not ended."""

    @property
    def here(self) -> bool:
        """Whether anything can still happen to it."""
        return self.up and self.ended is None


class World(Protocol):
    """What a simulated world does in answer to effects, and how long each thing takes there."""

    def stepped(self, machine: Machine, event: ev.Event, effects: list[fx.Effect]) -> None:
        """A node has taken in `event`."""

    def send(self, one: NodeId, other: NodeId, message: Message) -> None:
        """`message` is under way from `one` to `other`, if there is a link."""

    def not_there(self, one: NodeId, other: NodeId) -> None:
        """`one` wants a link to a machine that is gone."""

    def disconnect(self, one: NodeId, other: NodeId, reason: str) -> None:
        """`one` has found that `other` breaks the protocol."""

    def fetch_graph(self, at: NodeId, effect: fx.FetchGraph) -> None:
        """Leads to `GraphFetched` or `GraphUnfetched`."""

    def check(self, at: NodeId, effect: fx.Check) -> None:
        """Leads to `Checked`."""

    def prepare(self, at: NodeId, effect: fx.Prepare) -> None:
        """Leads to `Prepared` or `Handed`."""

    def execute(self, at: NodeId, effect: fx.Execute) -> None:
        """Leads to `TaskRunning` and `TaskFinished`."""

    def kill(self, at: NodeId, effect: fx.Kill) -> None:
        """Leads to `TaskKilled`, unless the task ends first."""

    def deliver(self, at: NodeId, effect: fx.Deliver) -> None:
        """Leads to `Delivered` or `Undelivered`."""

    def write_ledger(self, effect: fx.WriteLedger) -> None:
        """Files of the ledger have changed."""

    def tell(self, at: NodeId, item: news.News, /) -> None:
        """News from the node `at`."""

    def end(self, at: NodeId, verdict: news.Verdict | None) -> None:
        """A node is done."""


class Undisturbed:
    """What a world is made of in which every link holds: a base for those without faults."""

    shell: "Shell"
    graph_bytes: bytes

    def not_there(self, one: NodeId, other: NodeId) -> None:
        """Nobody is dialled in vain for longer than it takes to come."""

    def disconnect(self, one: NodeId, other: NodeId, reason: str) -> None:
        """Nobody has a reason to."""
        raise AssertionError(f"{one} cut {other} off: {reason}")

    def fetch_graph(self, at: NodeId, effect: fx.FetchGraph) -> None:
        """It is there at once."""
        self.shell.happen(at, ev.GraphFetched(effect.blob, self.graph_bytes))


class Shell:
    """Simulated time, and the machines in it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.now = Instant(0)
        self.queue: list[tuple[int, int, Callable[[], None]]] = []
        self.pushed = 0
        self.steps = 0
        self.machines: dict[NodeId, Machine] = {}

    # --- time ----------------------------------------------------------------------------------------

    def at(self, at_ms: int, action: Callable[[], None]) -> None:
        """`action` happens at that time; what is put down for one time happens in the order in which it was put down."""
        self.pushed += 1
        heapq.heappush(self.queue, (max(at_ms, self.now), self.pushed, action))

    def live(self, until_ms: int, steps_max: int) -> None:
        """Go on until every machine is gone, or nothing more happens, or it takes too long."""
        for node, machine in self.machines.items():
            self._rearm(node, machine)
        while self.queue and self.now < until_ms and self.steps < steps_max:
            at_ms, _, action = heapq.heappop(self.queue)
            self.now = Instant(at_ms)
            action()
            if not any(machine.here for machine in self.machines.values()):
                break

    # --- nodes ---------------------------------------------------------------------------------------

    def happen(self, at: NodeId, event: ev.Event) -> None:
        """One step of one node, and the beginning of all that it wants done."""
        machine = self.machines[at]
        if not machine.here:
            return
        self.steps += 1
        effects = machine.node.step(event, self.now)
        self.world.stepped(machine, event, effects)
        for effect in effects:
            self._perform(at, machine, effect)
        self._rearm(at, machine)

    def _rearm(self, at: NodeId, machine: Machine) -> None:
        deadline = machine.node.deadline(self.now)
        if deadline is None or deadline == machine.wake_at:
            return
        machine.wake_at = deadline

        def wake() -> None:
            if machine.wake_at == deadline:
                machine.wake_at = None
                self.happen(at, ev.Tick())

        self.at(deadline, wake)

    def _perform(self, at: NodeId, machine: Machine, effect: fx.Effect) -> None:
        match effect:
            case fx.Send(peer, message):
                self.world.send(at, peer, message)
            case fx.Connect(peer, _):
                self.connect(at, peer)
            case fx.Disconnect(peer, reason):
                self.world.disconnect(at, peer, reason)
            case fx.FetchGraph():
                self.world.fetch_graph(at, effect)
            case fx.Check():
                self.world.check(at, effect)
            case fx.Prepare():
                self.world.prepare(at, effect)
            case fx.Execute():
                self.world.execute(at, effect)
            case fx.Kill():
                self.world.kill(at, effect)
            case fx.Deliver():
                self.world.deliver(at, effect)
            case fx.FetchLog() | fx.LookAtLog():
                pass  # nobody reads logs here
            case fx.WriteLedger():
                self.world.write_ledger(effect)
            case fx.Keep():
                pass
            case fx.Tell(item):
                self.world.tell(at, item)
            case fx.End(verdict, _):
                machine.ended = effect
                self.world.end(at, verdict)
            case _:
                assert_never(effect)

    # --- links ---------------------------------------------------------------------------------------

    def connect(self, one: NodeId, other: NodeId) -> None:
        """A link stands, where both are there and have none."""
        a, b = self.machines[one], self.machines[other]
        if one == other or other in a.links or not a.here:
            return
        if not b.here:
            self.world.not_there(one, other)
            return
        self.pushed += 1
        a.links[other] = b.links[one] = self.pushed
        certificate = b.node.config.chain[0], a.node.config.chain[0]
        self.happen(one, ev.LinkUp(other, "10.0.0.1", certificate[0]))
        self.happen(other, ev.LinkUp(one, "10.0.0.1", certificate[1]))

    def drop(self, one: NodeId, other: NodeId) -> None:
        """The link, if there is one, is gone."""
        if self.machines[one].links.pop(other, None) is not None:
            self.machines[other].links.pop(one, None)
            self.happen(one, ev.LinkDown(other, "closed"))
            self.happen(other, ev.LinkDown(one, "closed"))


def blob_of(data: bytes) -> Blob:
    """The name of some content."""
    return Blob(Digest("sha256:" + hashlib.sha256(data).hexdigest()), len(data))
