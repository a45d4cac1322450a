"""The nx cache that the user has already, behind a run: what it holds is not run again, and what the run makes is given to it.

Only the main job asks it. Agents need no access to it, and get from the main job what it had.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import trio

from mesh.cache.nx import NxCache
from mesh.errors import CorruptError, StorageError
from mesh.store.blobs import BlobStore
from mesh.types import Blob

if TYPE_CHECKING:
    from mesh.cache.upstream import Upstream

PUSHES_MAX: Final = 100_000
"""Archives that wait for their way there."""
FLUSH_MS: Final = 60_000
"""How long it may take at the end for what it has not taken yet."""


class NxChain:
    """What goes between the two. Without a cache of the user's nothing does."""

    def __init__(self, cache: NxCache, blobs: BlobStore, upstream: "Upstream | None") -> None:
        self._cache = cache
        self._blobs = blobs
        self._upstream = upstream
        self._publish, self._published = trio.open_memory_channel[tuple[str, Blob]](PUSHES_MAX)
        self._asked: dict[str, None] = {}
        self._known: dict[str, None] = {}
        """What it has, or is being given."""

    @classmethod
    @asynccontextmanager
    async def open(cls, cache: NxCache, blobs: BlobStore, environ: Mapping[str, str]) -> "AsyncIterator[NxChain]":
        """For as long as the command runs; what is published is then given some time to arrive. `environ` is the user's own."""
        if not environ.get("NX_SELF_HOSTED_REMOTE_CACHE_SERVER"):
            yield cls(cache, blobs, None)
            return
        # Here, since httpx takes a tenth of a second to load, and few have a remote cache.
        from mesh.cache.upstream import of_nx  # noqa: PLC0415 - httpx, for those who have such a cache

        chain = cls(cache, blobs, of_nx(environ))
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(chain._push)
                cache.behind = chain
                try:
                    yield chain
                finally:
                    cache.behind = None
                    chain._publish.close()
                    nursery.cancel_scope.deadline = trio.current_time() + FLUSH_MS / 1_000
        finally:
            if chain._upstream is not None:
                await chain._upstream.aclose()

    async def fetch(self, hashes: Iterable[str]) -> tuple[str, ...]:
        """Bring here what the user's cache has of `hashes`, as far as that takes no longer than a run may wait; returns those. It is asked for
        each one once.
        """
        fresh = [name for name in dict.fromkeys(hashes) if name not in self._asked]
        if self._upstream is None or not fresh:
            return ()
        self._asked.update(dict.fromkeys(fresh))
        from mesh.cache.upstream import each  # noqa: PLC0415 - loaded already

        await each(fresh, self._fetch)
        return tuple(name for name in fresh if name in self._known)

    async def _fetch(self, nx_hash: str) -> None:
        assert self._upstream is not None

        async def keep(headers: Mapping[str, str], body: AsyncIterator[bytes]) -> None:
            del headers
            await self._cache.keep(nx_hash, body)

        with suppress(CorruptError, StorageError):  # a miss: it is run
            await self._upstream.get(nx_hash, keep)
            if self._cache.stored(nx_hash) is not None:
                self._known[nx_hash] = None

    def publish(self, nx_hash: str, archive: Blob) -> None:
        """Give `archive` to the user's cache too, unless it came from there."""
        if self._upstream is not None and nx_hash not in self._known:
            self._known[nx_hash] = None
            with suppress(trio.WouldBlock, trio.ClosedResourceError):
                self._publish.send_nowait((nx_hash, archive))

    async def _push(self) -> None:
        assert self._upstream is not None
        async for nx_hash, archive in self._published:
            try:
                await self._cache.check(archive)
            except CorruptError:
                continue
            await self._upstream.put(nx_hash, {}, self._blobs.path(archive.digest), 0, archive.size)
