"""Who is here: by links, by beats, and by rumour.

    (unknown) --hello--> alive --leave--> left
                         alive --link down for LINK_GRACE_MS, or silent for SILENCE_MAX_MS--> dead
                         dead, left --hello--> alive

A machine at 100% CPU is normal in CI, so that silence alone is weak evidence: an open link that says nothing is believed for SILENCE_MAX_MS. The end
of a link is strong evidence (the kernel closes it when a process dies) and needs only the grace in which a peer may come back over a new one.
Time in which this node itself stood still counts for neither. What is learnt is passed on once, so that nodes which share no link hear of each other
(a first version of the rumours in docs/spec).
"""

from typing import Final

from msgspec import Struct, field

from mesh.protocol import parts
from mesh.types import Instant, NodeId, after
from mesh.wire.messages import ADDRESSES_MAX, Hello, Member, Members, Standing

BEAT_MS: Final = 500
LINK_GRACE_MS: Final = 2_500
SILENCE_MAX_MS: Final = 40_000
STOOD_STILL_MS: Final = 1_000
"""Whose tick comes so late did not hear others meanwhile, whatever they said."""

# A node must miss many beats before it is thought gone.
assert SILENCE_MAX_MS > 20 * BEAT_MS
# Nor may its grace pass in a time in which this node could not have taken it in again.
assert LINK_GRACE_MS > STOOD_STILL_MS


class Peer(Struct):
    """What this node knows of another."""

    member: Member
    hello: Hello | None = None
    """What it said itself, over a link of ours; None where it is known by rumour only."""
    certificate: bytes = b""
    linked: bool = False
    heard: Instant = Instant(0)


class Change(Struct, frozen=True):
    """A change of standing that the other machines act on. `lost` is false for a goodbye."""

    node: NodeId
    standing: Standing
    reason: str = ""


class Membership(Struct):
    """The members of one run, as one of them sees it."""

    me: NodeId
    peers: dict[NodeId, Peer] = field(default_factory=dict)
    next_beat: Instant = Instant(0)
    down: dict[NodeId, Instant] = field(default_factory=dict)
    """Those whose link is gone, and since when: they may be back in a moment."""

    def said_hello(self, node: NodeId, hello: Hello, host: str, certificate: bytes, now: Instant) -> Change | None:
        """`node` introduced itself over a link; a change where it was not alive before."""
        addresses = _reachable(hello.addresses, host)
        member = Member(node, hello.name, hello.role, hello.incarnation, "alive", addresses)
        before = self.peers.get(node)
        was_alive = before is not None and before.member.standing == "alive" and before.hello is not None
        self.peers[node] = Peer(member, hello, certificate, linked=True, heard=now)
        self.down.pop(node, None)
        return None if was_alive else Change(node, "alive")

    def link_down(self, node: NodeId, now: Instant) -> None:
        """The link is gone; the node may be back in a moment."""
        peer = self.peers.get(node)
        if peer is not None and peer.linked:
            peer.linked = False
            if peer.member.standing == "alive":
                self.down[node] = now

    def heard(self, node: NodeId, now: Instant) -> bool:
        """Any message of `node` shows that it is alive; True where it was taken for dead, over the link it speaks on."""
        peer = self.peers.get(node)
        if peer is None:
            return False
        peer.heard = now
        if not peer.linked or peer.member.standing != "dead":
            return False
        peer.member = _with(peer.member, "alive")
        return True

    def stood_still(self, late_ms: int, now: Instant) -> None:
        """This node did nothing for so long: what the others said is still to be read, and until then that time counts for nobody."""
        if late_ms < STOOD_STILL_MS:
            return
        for peer in self.peers.values():
            peer.heard = min(now, after(peer.heard, late_ms))
        for node, since in self.down.items():
            self.down[node] = min(now, after(since, late_ms))

    def introduced(self, node: NodeId) -> bool:
        """Whether it has said who it is, on some link of ours."""
        peer = self.peers.get(node)
        return peer is not None and peer.hello is not None

    def said_goodbye(self, node: NodeId, reason: str) -> Change | None:
        """It left on purpose."""
        peer = self.peers.get(node)
        if peer is None or peer.member.standing != "alive":
            return None
        peer.member = _with(peer.member, "left")
        self.down.pop(node, None)
        return Change(node, "left", reason)

    def cut_off(self, now: Instant) -> list[Change]:
        """Those whose link has not come back: they are taken for dead now."""
        gone = [(node, since) for node, since in self.down.items() if now >= after(since, LINK_GRACE_MS)]
        return [self._died(node, f"its connection is gone since {(now - since) / 1000:.1f} s") for node, since in gone]

    def silent(self, now: Instant) -> list[Change]:
        """Those that say nothing over a link that stands: they are taken for dead now."""
        quiet = [
            (node, peer.heard)
            for node, peer in self.peers.items()
            if peer.linked and peer.member.standing == "alive" and now >= after(peer.heard, SILENCE_MAX_MS)
        ]
        return [self._died(node, f"nothing was heard of it for {(now - at) / 1000:.0f} s") for node, at in quiet]

    def _died(self, node: NodeId, reason: str) -> Change:
        peer = self.peers[node]
        peer.member = _with(peer.member, "dead")
        self.down.pop(node, None)
        return Change(node, "dead", reason)

    def rumour(self, members: Members) -> list[Member]:
        """Take in what another node tells; returns what was new, to be passed on."""
        fresh = []
        for member in members.members:
            if member.node == self.me:
                continue
            known = self.peers.get(member.node)
            if known is None:
                self.peers[member.node] = Peer(member)
            # What a node says of itself over a link of ours is better than any rumour.
            elif known.linked or known.hello is not None or not _newer(member, known.member):
                continue
            else:
                known.member = member
            fresh.append(member)
        return fresh

    def known(self) -> list[Members]:
        """All that this node knows, for a peer that has just come."""
        return parts.of_members([peer.member for peer in self.peers.values() if peer.member.standing == "alive"])

    def linked(self) -> list[NodeId]:
        """Peers with a link, in the order in which they came."""
        return [node for node, peer in self.peers.items() if peer.linked]

    def addresses(self, node: NodeId) -> tuple[str, ...]:
        """Where `node` may be reached."""
        peer = self.peers.get(node)
        return () if peer is None else peer.member.addresses

    def deadline(self) -> Instant | None:
        """When a beat is due, or the grace of a broken link is over. Silence is looked for at each beat: that is often enough. As long as anybody is to be judged there
        are beats: only who is called often knows how long it has stood still.
        """
        times = [after(since, LINK_GRACE_MS) for since in self.down.values()]
        if self.down or any(peer.linked for peer in self.peers.values()):
            times.append(self.next_beat)
        return min(times, default=None)


def _with(member: Member, standing: Standing) -> Member:
    return Member(member.node, member.name, member.role, member.incarnation, standing, member.addresses)


def _newer(one: Member, other: Member) -> bool:
    ending = {"alive": 0, "left": 1, "dead": 1}
    return (one.incarnation, ending[one.standing]) > (other.incarnation, ending[other.standing])


def _reachable(addresses: tuple[str, ...], host: str) -> tuple[str, ...]:
    """The host a peer is seen from, with its own ports, comes before what it thinks of itself: it may stand behind a translation."""
    seen = f"[{host}]" if ":" in host else host
    ports = dict.fromkeys(address.rpartition(":")[2] for address in addresses)
    found = dict.fromkeys([*(f"{seen}:{port}" for port in ports if host), *addresses])
    return tuple(found)[:ADDRESSES_MAX]
