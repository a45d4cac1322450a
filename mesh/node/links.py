"""One link to each peer that the core wants to talk to: dialled, accepted, and dialled again when it breaks.

Two nodes may dial each other at the same time. Then both keep the link that the one with the smaller id has dialled; of two links that the same side
has dialled the later one counts, since the earlier may be dead without anybody having noticed.
"""

from collections.abc import Callable, Sequence
from typing import Final

import trio
from msgspec import Struct

from mesh.net.dialer import resolve
from mesh.net.errors import NetError, UntrustedError
from mesh.net.link import Link, dial_link
from mesh.net.tls import Tls
from mesh.types import NodeId

RETRY_FIRST_MS: Final = 100
RETRY_MAX_MS: Final = 500
TELL_AFTER_MS: Final = 3_000
"""A peer that cannot be reached is told of after this long: at the start of a run others are often not there yet."""
TELL_AGAIN_MS: Final = 60_000


class _Current(Struct):
    link: Link
    dialled_by: NodeId


class Listeners(Struct, frozen=True):
    """Whom links tell. None of them waits or raises."""

    up: Callable[[Link], None]
    down: Callable[[NodeId, str], None]
    frame: Callable[[NodeId, bytes], None]
    notice: Callable[[str], None]
    refused: Callable[[NetError], None]
    """A peer that we dialled does not trust us, or we not it."""


class Links:
    """All links of one node."""

    def __init__(self, me: NodeId, tls: Tls, nursery: trio.Nursery, tell: Listeners) -> None:
        self._me = me
        self._tls = tls
        self._nursery = nursery
        self._tell = tell
        self._links: dict[NodeId, _Current] = {}
        self._kept: dict[str, None] = {}
        self._banned: dict[NodeId, None] = {}
        self.dialling = True
        """False once this node only ends what it has begun: then nobody is looked for any more."""

    def send(self, peer: NodeId, frame: bytes) -> None:
        """Over the link to `peer`; dropped where there is none."""
        current = self._links.get(peer)
        if current is not None:
            current.link.send(frame)

    def has_room(self, peer: NodeId) -> bool:
        """Whether bulk may be sent to `peer` without delaying what is sent after it."""
        current = self._links.get(peer)
        return current is not None and not current.link.is_congested

    def close(self, peer: NodeId, reason: str) -> None:
        """End the link to `peer`, for good."""
        self._banned[peer] = None
        current = self._links.get(peer)
        if current is not None:
            current.link.close(reason)

    async def flush(self) -> None:
        """Wait until what was sent has left, but not for long."""
        async with trio.open_nursery() as nursery:
            for current in list(self._links.values()):
                nursery.start_soon(current.link.flush)

    async def accepted(self, link: Link) -> None:
        """A peer has dialled us."""
        await self._hold(link, link.peer)

    def keep(self, address: str) -> None:
        """Have a link to whoever answers at `address`, from now on."""
        if address not in self._kept:
            self._kept[address] = None
            self._nursery.start_soon(self._keep, (address,), None)

    def keep_peer(self, peer: NodeId, addresses: Sequence[str]) -> None:
        """Have a link to `peer`, which says that it is at `addresses`."""
        if peer not in self._kept and peer != self._me and addresses:
            self._kept[peer] = None
            self._nursery.start_soon(self._keep, tuple(addresses), peer)

    async def _keep(self, addresses: tuple[str, ...], peer: NodeId | None) -> None:
        wait_ms = RETRY_FIRST_MS
        tell_at = trio.current_time() + TELL_AFTER_MS / 1000
        while True:
            for address in await self._places(addresses, peer):
                if not self.dialling:
                    return
                if peer is not None and (peer in self._links or peer in self._banned):
                    break
                try:
                    async with dial_link(address, self._tls) as link:
                        wait_ms = RETRY_FIRST_MS
                        if link.peer == self._me:
                            return
                        await self._hold(link, self._me)
                except UntrustedError as error:
                    self._tell.refused(error)
                except NetError as error:
                    if peer is None and trio.current_time() >= tell_at and not self._links:
                        tell_at = trio.current_time() + TELL_AGAIN_MS / 1000
                        self._tell.notice(f"{error} (still trying)")
            if peer is not None and peer in self._banned:
                return
            await trio.sleep(wait_ms / 1000)
            wait_ms = min(2 * wait_ms, RETRY_MAX_MS)

    async def _places(self, addresses: tuple[str, ...], peer: NodeId | None) -> list[str]:
        """Behind one name there may be many nodes (a headless service, a round robin): each is a peer of its own."""
        if peer is not None or len(addresses) != 1:
            return list(addresses)
        try:
            places = await resolve(addresses[0])
        except NetError:
            return list(addresses)
        for place in places[1:]:
            self.keep(place)
        return places[:1] or list(addresses)

    async def _hold(self, link: Link, dialled_by: NodeId) -> None:
        peer = link.peer
        if peer == self._me:
            return
        before = self._links.get(peer)
        if peer in self._banned or (before is not None and not self._replaces(dialled_by, before.dialled_by, peer)):
            link.close("there is a better link, or none is wanted")
            return
        self._links[peer] = _Current(link, dialled_by)
        if before is not None:
            before.link.close("a newer link has taken its place")
        self._tell.up(link)
        try:
            async for frame in link.frames():
                self._tell.frame(peer, frame)
                if self._links[peer].link is not link:
                    break
        finally:
            current = self._links.get(peer)
            if current is not None and current.link is link:
                del self._links[peer]
                self._tell.down(peer, link.reason)

    def _replaces(self, new: NodeId, old: NodeId, peer: NodeId) -> bool:
        return new == old or new == min(self._me, peer)
