"""The user's own remote cache behind ours: used where it answers, forgotten where it does not, never a reason to fail."""

import gzip
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import trio

from mesh.cache.server import LoopbackCache
from mesh.cache.turbo import TurboCache
from mesh.cache.upstream import FAILURES_MAX
from mesh.net.http import Request, Response
from mesh.store.blobs import BlobStore

BODY = b"turbo's archive"
HASH, OTHER = "aa", "bb"


class Shelf:
    """A user's cache; what it does can be made worse."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[dict[str, str], bytes]] = {}
        self.asked: list[str] = []
        self.status = 0
        self.elsewhere = ""

    async def answer(self, request: Request, path: str) -> Response:
        body = b"".join([piece async for piece in request.body])
        self.asked.append(f"{request.method} {path}")
        name = path.partition("?")[0].removeprefix("/v8/artifacts/")
        if self.status:
            return Response(self.status)
        if request.method == "PUT":
            self.kept[name] = (dict(request.headers), body)
            return Response(200)
        if self.elsewhere and not name.startswith("moved-"):
            return Response(302, {"Location": f"{self.elsewhere}/v8/artifacts/moved-{name}"})
        found = self.kept.get(name.removeprefix("moved-"))
        return Response(200, found[0], found[1]) if found else Response(404)

    async def refuse(self, request: Request) -> Response:
        return Response(401)


Scene = Callable[[TurboCache, Shelf, dict[str, str]], Awaitable[None]]


def with_shelf(tmp_path: Path, scene: Scene) -> None:
    """Play `scene` with a cache behind which there is a shelf; its address and token are the last argument."""

    async def main() -> None:
        shelf = Shelf()
        server = LoopbackCache({"shelf": shelf})
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve)
            remote = {"api_url": server.url("shelf"), "token": server.token, "team_slug": "us"}
            with trio.fail_after(60):
                await scene(TurboCache(BlobStore(tmp_path)), shelf, remote)
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_what_is_there_is_known_and_fetched_with_what_is_said_of_it(tmp_path: Path):
    async def scene(cache, shelf, remote):
        shelf.kept[HASH] = ({"x-artifact-duration": "5", "x-artifact-tag": "t", "x-served-by": "me"}, BODY)
        visit = cache.open((HASH, OTHER), remote)
        assert await visit.have((OTHER, HASH, OTHER)) == (HASH,)
        assert await visit.fetch(HASH) == cache.stored(HASH) is not None
        assert await visit.fetch(OTHER) is None
        body, artifact = cache.archive(HASH)
        assert dict(artifact.headers) == {"x-artifact-duration": "5", "x-artifact-tag": "t"}
        assert body.path.read_bytes()[body.offset :] == BODY
        assert all(asked.endswith("?slug=us") for asked in shelf.asked)
        await visit.aclose()

    with_shelf(tmp_path, scene)


def test_a_redirect_to_a_store_is_followed_and_nothing_is_unpacked(tmp_path: Path):
    async def scene(cache, shelf, remote):
        packed = gzip.compress(BODY)
        shelf.kept[HASH] = ({"Content-Encoding": "gzip"}, packed)
        shelf.elsewhere = remote["api_url"]
        visit = cache.open((), remote)
        assert await visit.fetch(HASH) is not None
        body, _ = cache.archive(HASH)
        assert body.path.read_bytes()[body.offset :] == packed
        await visit.aclose()

    with_shelf(tmp_path, scene)


def test_what_is_published_is_put_there(tmp_path: Path):
    async def scene(cache, shelf, remote):
        async def body():
            yield BODY

        await cache.keep(HASH, {"x-artifact-duration": "9", "other": "x"}, body())
        visit = cache.open((), remote)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(visit.push)
            visit.publish(HASH)
            visit.publish(OTHER)  # not here
            visit.finish()
            visit.publish(HASH)  # too late
            await visit.wait_pushed()
        said, kept = shelf.kept[HASH]
        assert (kept, said["x-artifact-duration"], said["content-length"]) == (BODY, "9", str(len(BODY)))
        assert "other" not in said
        assert list(shelf.kept) == [HASH]
        await visit.aclose()

    with_shelf(tmp_path, scene)


def test_a_cache_that_only_fails_is_left_alone(tmp_path: Path):
    async def scene(cache, shelf, remote):
        shelf.status = 500
        visit = cache.open((), remote)
        for _ in range(FAILURES_MAX + 5):
            assert await visit.fetch(HASH) is None
        assert len(shelf.asked) == FAILURES_MAX
        assert await visit.have([HASH]) == ()
        assert len(shelf.asked) == FAILURES_MAX
        await visit.aclose()

    with_shelf(tmp_path, scene)


def test_nobody_at_its_address_is_a_miss(tmp_path: Path):
    async def scene(cache, shelf, remote):
        visit = cache.open((), {**remote, "api_url": "http://127.0.0.1:9"})
        assert await visit.have([HASH]) == ()
        assert await visit.fetch(HASH) is None
        await visit.aclose()

    with_shelf(tmp_path, scene)


def test_without_one_nothing_is_asked(tmp_path: Path):
    async def scene(cache, shelf, remote):
        visit = cache.open(())
        assert await visit.have([HASH]) == ()
        assert await visit.fetch(HASH) is None
        visit.publish(HASH)
        assert shelf.asked == []
        await visit.aclose()

    with_shelf(tmp_path, scene)


def test_what_was_not_planned_is_read_through_and_put_through(tmp_path: Path):
    async def scene(cache, shelf, remote):
        shelf.kept[OTHER] = ({}, BODY)
        server = LoopbackCache({"turbo": cache})
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve)
            visit = cache.open((HASH,), remote)
            nursery.start_soon(visit.push)
            url = f"{server.url('turbo')}/{visit.name}/v8/artifacts"
            headers = {"Authorization": f"Bearer {server.token}"}
            async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as client:
                assert (await client.get(f"/{OTHER}")).content == BODY
                assert (
                    await client.get(f"/{HASH}")
                ).status_code == 404  # planned: it has been asked for before the run
                assert (await client.put("/cc", content=BODY)).status_code == 202
            visit.finish()
            await visit.wait_pushed()
            assert shelf.kept["cc"][1] == BODY
            await visit.aclose()
            nursery.cancel_scope.cancel()

    with_shelf(tmp_path, scene)
