"""nx's cache protocol over real HTTP on the loopback: only answers that nx survives."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
import trio

from mesh.cache.nx import NxCache
from mesh.cache.server import LoopbackCache
from mesh.errors import StorageError
from mesh.store.blobs import BlobStore
from mesh.types import Blob, Digest
from tests.unit.cache.test_nx_archive import packed

GOOD = packed(("dist/index.js", b"x"))
OTHER = packed(("dist/index.js", b"y"))
FAILED = packed(code=b"\x00\x00\x00\x01")


def spoil_by_length(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(GOOD[:-9])


def spoil_by_kind(path: Path) -> None:
    path.unlink()
    path.mkdir()


def talk(
    tmp_path: Path, conversation: Callable[[httpx.AsyncClient, NxCache, BlobStore], Awaitable[None]], token: str = ""
) -> None:
    """Have `conversation` with a cache that is being served."""

    async def main() -> None:
        blobs = BlobStore(tmp_path)
        cache = NxCache(blobs)
        server = LoopbackCache({"nx": cache})
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve)
            headers = {"Authorization": f"Bearer {token or server.token}"}
            async with httpx.AsyncClient(base_url=server.url("nx"), headers=headers, trust_env=False) as client:
                await conversation(client, cache, blobs)
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_what_was_put_is_got(tmp_path: Path):
    async def conversation(client, cache, blobs):
        assert (await client.get("/v1/cache/42")).status_code == 404
        assert (await client.put("/v1/cache/42", content=GOOD)).status_code == 200
        answer = await client.get("/v1/cache/42")
        assert answer.content == GOOD
        assert blobs.find(cache.stored("42").digest).read_bytes() == GOOD

    talk(tmp_path, conversation)


def test_what_was_fetched_from_a_peer_is_got(tmp_path: Path):
    async def conversation(client, cache, blobs):
        cache.offer("7", blobs.put(GOOD))
        assert (await client.get("/v1/cache/7")).content == GOOD

    talk(tmp_path, conversation)


def test_the_first_archive_of_a_hash_stays(tmp_path: Path):
    async def conversation(client, cache, blobs):
        assert (await client.put("/v1/cache/42", content=GOOD)).status_code == 200
        assert (await client.put("/v1/cache/42", content=OTHER)).status_code == 409
        assert (await client.put("/v1/cache/42", content=GOOD)).status_code == 200
        assert (await client.get("/v1/cache/42")).content == GOOD

    talk(tmp_path, conversation)


def test_a_failed_task_is_neither_kept_nor_served(tmp_path: Path):
    async def conversation(client, cache, blobs):
        assert (await client.put("/v1/cache/42", content=FAILED)).status_code == 403
        assert cache.stored("42") is None
        assert "exit code 1" in cache.not_kept("42")
        cache.offer("43", blobs.put(FAILED))
        assert (await client.get("/v1/cache/43")).status_code == 404

    talk(tmp_path, conversation)


def test_a_corrupt_archive_is_a_miss_and_not_an_error(tmp_path: Path):
    async def conversation(client, cache, blobs):
        cache.offer("1", blobs.put(GOOD[:-9]))
        cache.offer("2", Blob(Digest(f"sha256:{'0' * 64}"), 12))
        assert [(await client.get(f"/v1/cache/{number}")).status_code for number in (1, 2)] == [404, 404]

    talk(tmp_path, conversation)


def test_a_full_disk_does_not_fail_the_task_but_is_known(tmp_path: Path):
    async def conversation(client, cache, blobs):
        def full():
            raise StorageError("no space left")

        blobs.writer = full
        assert (await client.put("/v1/cache/42", content=GOOD)).status_code == 403
        assert cache.stored("42") is None
        assert "no space left" in cache.not_kept("42")

    talk(tmp_path, conversation)


def test_what_the_store_has_lost_is_a_miss_and_can_be_put_again(tmp_path: Path):
    async def conversation(client, cache, blobs):
        await client.put("/v1/cache/42", content=GOOD)
        blobs.path(cache.stored("42").digest).unlink()
        assert cache.stored("42") is None
        assert (await client.get("/v1/cache/42")).status_code == 404
        assert (await client.put("/v1/cache/42", content=OTHER)).status_code == 200
        assert (await client.get("/v1/cache/42")).content == OTHER

    talk(tmp_path, conversation)


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("spoil", [spoil_by_length, spoil_by_kind])
def test_what_the_disk_has_spoilt_is_a_miss_whether_it_was_checked_before_or_not(tmp_path: Path, spoil, checked: bool):
    async def conversation(client, cache, blobs):
        archive = blobs.put(GOOD)
        cache.offer("42", archive)
        if checked:
            assert (await client.get("/v1/cache/42")).status_code == 200
        spoil(blobs.path(archive.digest))
        assert (await client.get("/v1/cache/42")).status_code == 404

    talk(tmp_path, conversation)


def test_without_the_token_nothing_is_there_and_nothing_is_kept(tmp_path: Path):
    async def conversation(client, cache, blobs):
        cache.offer("7", blobs.put(GOOD))
        assert (await client.get("/v1/cache/7")).status_code == 404
        assert (await client.put("/v1/cache/8", content=GOOD)).status_code == 403
        assert cache.stored("8") is None

    talk(tmp_path, conversation, token="another")


def test_other_paths_are_misses(tmp_path: Path):
    async def conversation(client, cache, blobs):
        for path in ("/v1/cache/abc", "/v1/cache/", "/v2/cache/1", "/v1/cache/1/2"):
            assert (await client.get(path)).status_code == 404
        assert (await client.get(f"http://127.0.0.1:{client.base_url.port}/turbo/x")).status_code == 404

    talk(tmp_path, conversation)
