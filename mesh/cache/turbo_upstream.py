"""The remote cache that the user of turbo has already, behind ours: asked for what the run would make, and given what it has made.

It is another's machine, and only saves time: whatever it answers, or does not, the run goes on. After some failures in a row it is left alone.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import trio

HAVE_MS: Final = 15_000
"""How long a run may wait for the answer to what is there already."""
CONNECT_MS: Final = 5_000
STALL_MS: Final = 30_000
AT_ONCE_MAX: Final = 16
FAILURES_MAX: Final = 3

_READ_BYTES: Final = 256 * 1024
_log = logging.getLogger(__name__)

Keep = Callable[[Mapping[str, str], AsyncIterator[bytes]], Awaitable[None]]
"""Takes what turbo says of an artifact, and its archive."""


class Upstream:
    """`remote`: `api_url` and `token`, and where they are set `team_slug`, `team_id`."""

    def __init__(self, remote: Mapping[str, str]) -> None:
        team = {"slug": remote.get("team_slug"), "teamId": remote.get("team_id")}
        self._client = httpx.AsyncClient(
            # Not compressed once more: turbo's archive is kept as it is.
            headers={"Authorization": f"Bearer {remote['token']}", "Accept-Encoding": "identity"},
            params={name: value for name, value in team.items() if value},
            timeout=httpx.Timeout(STALL_MS / 1_000, connect=CONNECT_MS / 1_000),
            follow_redirects=True,
        )
        self._url = f"{remote['api_url'].rstrip('/')}/v8/artifacts"
        self._failures = 0

    async def have(self, hashes: Iterable[str]) -> tuple[str, ...]:
        """Which of `hashes` are there, as far as it says so in time."""
        wanted = list(dict.fromkeys(hashes))
        there: dict[str, None] = {}
        limit = trio.CapacityLimiter(AT_ONCE_MAX)

        async def ask(turbo_hash: str) -> None:
            async with limit:
                if self._gone:
                    return
                with self._forgiving():
                    answer = await self._client.head(f"{self._url}/{turbo_hash}")
                    if _answered(answer):
                        there[turbo_hash] = None

        with trio.move_on_after(HAVE_MS / 1_000):
            async with trio.open_nursery() as nursery:
                for turbo_hash in wanted:
                    nursery.start_soon(ask, turbo_hash)
        return tuple(turbo_hash for turbo_hash in wanted if turbo_hash in there)

    async def get(self, turbo_hash: str, keep: Keep) -> None:
        """Give `keep` the artifact, if it is there."""
        if self._gone:
            return
        with self._forgiving():
            async with self._client.stream("GET", f"{self._url}/{turbo_hash}") as answer:
                if _answered(answer):
                    await keep(dict(answer.headers), answer.aiter_raw(_READ_BYTES))

    async def put(self, turbo_hash: str, headers: Mapping[str, str], path: Path, offset: int, size: int) -> None:
        """Store `size` bytes of the file at `path`, from `offset`."""
        if self._gone:
            return

        async def pieces() -> AsyncIterator[bytes]:
            left = size
            with path.open("rb") as file:
                file.seek(offset)
                while left and (piece := file.read(min(left, _READ_BYTES))):
                    left -= len(piece)
                    yield piece

        said = {**headers, "Content-Type": "application/octet-stream", "Content-Length": str(size)}
        with self._forgiving():
            _answered(await self._client.put(f"{self._url}/{turbo_hash}", content=pieces(), headers=said))

    async def aclose(self) -> None:
        """Close its connections."""
        with trio.CancelScope(shield=True):
            await self._client.aclose()

    @property
    def _gone(self) -> bool:
        return self._failures >= FAILURES_MAX

    @contextmanager
    def _forgiving(self) -> Iterator[None]:
        try:
            yield
        except (httpx.HTTPError, OSError) as error:
            self._failures += 1
            more = "; it is not asked again in this run" if self._failures == FAILURES_MAX else ""
            _log.warning("turbo's remote cache: %s%s", str(error) or type(error).__name__, more)
        else:
            self._failures = 0


def _answered(answer: httpx.Response) -> bool:
    """Whether it is there. Raises `httpx.HTTPStatusError` where it does not say."""
    if answer.status_code == httpx.codes.NOT_FOUND:
        return False
    answer.raise_for_status()
    return True
