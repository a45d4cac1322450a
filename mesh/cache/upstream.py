"""The remote cache that the user of a tool has already, behind ours: asked for what the run would make, and given what it has made.

It is another's machine, and only saves time: whatever it answers, or does not, the run goes on. After some failures in a row it is left alone.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
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

_MAY_NOT_WRITE: Final = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)
_READ_BYTES: Final = 256 * 1024
_log = logging.getLogger(__name__)

Keep = Callable[[Mapping[str, str], AsyncIterator[bytes]], Awaitable[None]]
"""Takes what is said of an artifact, and the artifact."""


def of_turbo(remote: Mapping[str, str]) -> "Upstream":
    """Turborepo's: `api_url` and `token`, and where they are set `team_slug`, `team_id`."""
    team = {"slug": remote.get("team_slug"), "teamId": remote.get("team_id")}
    params = {name: value for name, value in team.items() if value}
    return Upstream("turbo", f"{remote['api_url'].rstrip('/')}/v8/artifacts", remote["token"], params)


def of_nx(environ: Mapping[str, str]) -> "Upstream | None":
    """Nx's own, where `environ` names a server for it."""
    server = environ.get("NX_SELF_HOSTED_REMOTE_CACHE_SERVER", "")
    token = environ.get("NX_SELF_HOSTED_REMOTE_CACHE_ACCESS_TOKEN", "")
    return Upstream("nx", f"{server.rstrip('/')}/v1/cache", token) if server else None


class Upstream:
    """One cache: everything is at `url`/HASH."""

    def __init__(self, tool: str, url: str, token: str, params: Mapping[str, str] | None = None) -> None:
        authorization = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.AsyncClient(
            # Not compressed once more: an archive is kept as it is.
            headers={**authorization, "Accept-Encoding": "identity"},
            params=dict(params or {}),
            timeout=httpx.Timeout(STALL_MS / 1_000, connect=CONNECT_MS / 1_000),
            follow_redirects=True,
        )
        self._tool = tool
        self._url = url
        self._failures = 0
        self._read_only = False

    async def have(self, names: Sequence[str]) -> tuple[str, ...]:
        """Which of `names` are there, as far as it says so in time."""
        there: dict[str, None] = {}

        async def ask(name: str) -> None:
            if self._gone:
                return
            with self._forgiving():
                if _answered(await self._client.head(f"{self._url}/{name}")):
                    there[name] = None

        await each(names, ask)
        return tuple(name for name in dict.fromkeys(names) if name in there)

    async def get(self, name: str, keep: Keep) -> None:
        """Give `keep` the artifact, if it is there."""
        if self._gone:
            return
        with self._forgiving():
            async with self._client.stream("GET", f"{self._url}/{name}") as answer:
                if _answered(answer):
                    await keep(dict(answer.headers), answer.aiter_raw(_READ_BYTES))

    async def put(self, name: str, headers: Mapping[str, str], path: Path, offset: int, size: int) -> None:
        """Store `size` bytes of the file at `path`, from `offset`; what is there already stays."""
        if self._gone or self._read_only:
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
            answer = await self._client.put(f"{self._url}/{name}", content=pieces(), headers=said)
            if answer.status_code in _MAY_NOT_WRITE:
                self._read_only = True
            elif answer.status_code != httpx.codes.CONFLICT:
                answer.raise_for_status()

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
            _log.warning("%s's remote cache: %s%s", self._tool, str(error) or type(error).__name__, more)
        else:
            self._failures = 0


async def each(names: Iterable[str], ask: Callable[[str], Awaitable[None]]) -> None:
    """`ask` for each of `names`, some at once, for as long as a run may wait for that."""
    limit = trio.CapacityLimiter(AT_ONCE_MAX)

    async def one(name: str) -> None:
        async with limit:
            await ask(name)

    with trio.move_on_after(HAVE_MS / 1_000):
        async with trio.open_nursery() as nursery:
            for name in dict.fromkeys(names):
                nursery.start_soon(one, name)


def _answered(answer: httpx.Response) -> bool:
    """Whether it is there. Raises `httpx.HTTPStatusError` where it does not say."""
    if answer.status_code == httpx.codes.NOT_FOUND:
        return False
    answer.raise_for_status()
    return True
