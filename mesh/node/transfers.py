"""Blobs into this node's store, from whichever peer has them, each one verified before it is seen."""

from collections.abc import Callable, Sequence
from typing import Final

import trio
from msgspec import Struct, field

from mesh.errors import CorruptError, RemoteError, StorageError
from mesh.net.blobs import BlobClient
from mesh.net.errors import NetError
from mesh.store.blobs import BlobStore
from mesh.types import Blob, Digest, NodeId

AT_ONCE_MAX: Final = 16


class MissingError(Exception):
    """Nobody who should have a blob could give it; the text says who was asked and what came of it."""


class _UnderWay(Struct):
    done: trio.Event = field(default_factory=trio.Event)
    problem: Exception | None = None


class Transfers:
    """Fetches. Several callers that want one blob at the same time share one transfer."""

    def __init__(self, store: BlobStore, client: BlobClient, addresses: Callable[[NodeId], Sequence[str]]) -> None:
        self.store = store
        self._client = client
        self._addresses = addresses
        self._under_way: dict[Digest, _UnderWay] = {}
        self._limit = trio.CapacityLimiter(AT_ONCE_MAX)

    def has(self, blob: Blob) -> bool:
        """Whether it is here."""
        return self.store.find(blob.digest) is not None

    async def ensure(self, blob: Blob, holders: Sequence[NodeId]) -> None:
        """Have `blob` in the store. Raises `MissingError`, or `StorageError` where this machine cannot hold it."""
        while not self.has(blob):
            other = self._under_way.get(blob.digest)
            if other is None:
                await self._fetch_once(blob, holders)
                return
            await other.done.wait()
            if isinstance(other.problem, StorageError):
                raise other.problem

    async def _fetch_once(self, blob: Blob, holders: Sequence[NodeId]) -> None:
        mine = self._under_way[blob.digest] = _UnderWay()
        try:
            async with self._limit:
                await self._fetch(blob, holders)
        except (MissingError, StorageError) as error:
            mine.problem = error
            raise
        finally:
            del self._under_way[blob.digest]
            mine.done.set()

    async def _fetch(self, blob: Blob, holders: Sequence[NodeId]) -> None:
        problems = []
        for holder in holders:
            for address in self._addresses(holder):
                try:
                    with self.store.writer() as writer:
                        await self._client.fetch(address, blob.digest, blob.size, writer.write)
                        writer.finish(blob.digest, blob.size)
                    return
                except (NetError, CorruptError, RemoteError) as error:
                    problems.append(str(error))
        asked = "; ".join(problems[:4]) or "no peer is known to have it"
        raise MissingError(f"{blob.digest[:19]}… ({blob.size} bytes) could not be fetched: {asked}")
