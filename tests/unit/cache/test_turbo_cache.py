"""turbo's cache protocol over real HTTP on the loopback: what is held, what is given back word for word, and who may put what."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
import trio

from mesh.cache.server import LoopbackCache
from mesh.cache.turbo import TurboCache, Visit, parse_artifact
from mesh.errors import CorruptError, StorageError
from mesh.store.blobs import BlobStore
from mesh.types import Blob, Digest

BODY = b"\x28\xb5\x2f\xfd" + bytes(range(256)) * 2_000
SAID = {"x-artifact-duration": "1234", "x-artifact-tag": "abc=", "x-artifact-sha": "f00"}
HASH = "00000000000000aa"
OTHER = "00000000000000bb"


def headed(head: bytes) -> bytes:
    """An artifact with this head, and nothing behind it."""
    return len(head).to_bytes(4, "big") + head


Talk = Callable[[httpx.AsyncClient, TurboCache, Visit, BlobStore], Awaitable[None]]


def talk(tmp_path: Path, conversation: Talk, token: str = "", expected: tuple[str, ...] = (HASH,)) -> None:
    """Have `conversation` as a turbo that was started for `expected`."""

    async def main() -> None:
        blobs = BlobStore(tmp_path)
        cache = TurboCache(blobs)
        server = LoopbackCache({"turbo": cache})
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve)
            visit = cache.open(expected)
            headers = {"Authorization": f"Bearer {token or server.token}"}
            url = f"{server.url('turbo')}/{visit.name}/v8/artifacts"
            with trio.fail_after(60):
                async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=60) as client:
                    await conversation(client, cache, visit, blobs)
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_what_was_put_is_got_with_all_that_was_said_of_it(tmp_path: Path):
    async def conversation(client, cache, visit, blobs):
        assert (await client.get(f"/{HASH}?slug=dte")).status_code == 404
        answer = await client.put(f"/{HASH}?slug=dte", content=BODY, headers={**SAID, "x-other": "1"})
        assert (answer.status_code, answer.json()) == (202, {"urls": []})
        answer = await client.get(f"/{HASH}?slug=dte")
        assert (answer.status_code, answer.content) == (200, BODY)
        assert {name: value for name, value in answer.headers.items() if name.startswith("x-")} == SAID
        head = await client.head(f"/{HASH}")
        assert (head.status_code, head.headers["content-length"]) == (200, str(len(BODY)))
        assert visit.put(HASH) == ""
        assert visit.missed == {HASH: None}

    talk(tmp_path, conversation)


def test_an_artifact_travels_as_one_blob(tmp_path: Path):
    async def conversation(client, cache, visit, blobs):
        await client.put(f"/{HASH}", content=BODY, headers=SAID)
        there = BlobStore(tmp_path / "there")
        blob = cache.stored(HASH)
        assert there.put(blobs.find(blob.digest).read_bytes()) == blob
        assert dict(parse_artifact(there.find(blob.digest)).headers) == SAID
        elsewhere = TurboCache(there)
        elsewhere.offer(HASH, blob)
        body, artifact = elsewhere.archive(HASH)
        assert (body.length, artifact.duration_ms) == (len(BODY), 1234)
        assert body.path.read_bytes()[body.offset :] == BODY

    talk(tmp_path, conversation)


def test_a_held_read_waits_until_it_is_released_and_then_gets_what_there_is(tmp_path: Path):
    async def conversation(client, cache, visit, blobs):
        await client.put(f"/{HASH}", content=BODY)
        blob = cache.stored(HASH)
        cache._index.clear()
        visit.hold(HASH)
        visit.hold(OTHER)
        got: dict[str, httpx.Response] = {}

        async def read(name: str) -> None:
            got[name] = await client.get(f"/{name}")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, HASH)
            nursery.start_soon(read, OTHER)
            while len(visit._held) < 2:  # noqa: ASYNC110 - what is held tells nobody
                await trio.sleep(0.01)
            assert not got
            cache.offer(HASH, blob)
            visit.release(HASH)
            while HASH not in got:  # noqa: ASYNC110
                await trio.sleep(0.01)
            assert got[HASH].content == BODY
            assert OTHER not in got
            visit.release(OTHER)
        assert got[OTHER].status_code == 404
        assert (await client.head(f"/{OTHER}")).status_code == 404

    talk(tmp_path, conversation)


def test_whoever_waits_longest_is_let_on_first(tmp_path: Path):
    async def conversation(client, cache, visit, blobs):
        for name in (HASH, OTHER, "cc"):
            visit.hold(name)
        assert visit.release_longest_held() == ""  # nobody waits yet
        order: list[str] = []

        async def read(name: str) -> None:
            await client.get(f"/{name}")
            order.append(name)

        async with trio.open_nursery() as nursery:
            for waiting, name in enumerate((OTHER, HASH), start=1):
                nursery.start_soon(read, name)
                while len(visit._held) < waiting:  # noqa: ASYNC110
                    await trio.sleep(0.01)
            assert visit.release_longest_held({OTHER, HASH}) == ""  # not instead of those
            assert visit.release_longest_held({"cc"}) == OTHER
            while not order:  # noqa: ASYNC110
                await trio.sleep(0.01)
            assert visit.release_longest_held() == HASH
        assert order == [OTHER, HASH]
        visit.release_all()
        assert (await client.get("/cc")).status_code == 404

    talk(tmp_path, conversation)


def test_what_a_turbo_was_not_started_for_is_not_kept_but_known(tmp_path: Path):
    async def conversation(client, cache, visit, blobs):
        assert (await client.put(f"/{OTHER}", content=BODY)).status_code == 202
        assert cache.stored(OTHER) is None
        assert visit.put(OTHER) is None
        assert visit.strays == {OTHER: None}

    talk(tmp_path, conversation)


def test_the_first_artifact_of_a_hash_stays(tmp_path: Path):
    async def conversation(client, cache, visit, blobs):
        await client.put(f"/{HASH}", content=BODY)
        await client.put(f"/{HASH}", content=BODY + b"other")
        assert (await client.get(f"/{HASH}")).content == BODY

    talk(tmp_path, conversation)


def test_a_full_disk_is_no_error_to_turbo_but_is_known(tmp_path: Path):
    async def conversation(client, cache, visit, blobs):
        def full():
            raise StorageError("no space left")

        blobs.writer = full
        assert (await client.put(f"/{HASH}", content=BODY)).status_code == 202
        assert cache.stored(HASH) is None
        assert visit.put(HASH) == "no space left"

    talk(tmp_path, conversation)


def test_half_an_upload_is_not_kept(tmp_path: Path):
    async def conversation(client, cache, visit, blobs):
        async def half():
            yield BODY[:100]
            raise trio.BrokenResourceError

        with pytest.raises(trio.BrokenResourceError):
            await client.put(f"/{HASH}", content=half(), headers={"Content-Length": str(len(BODY))})
        assert (await client.get("/status")).json() == {"status": "enabled"}
        assert cache.stored(HASH) is None
        assert visit.put(HASH) is None

    talk(tmp_path, conversation)


def test_what_the_store_has_lost_is_a_miss_and_can_be_put_again(tmp_path: Path):
    async def conversation(client, cache, visit, blobs):
        await client.put(f"/{HASH}", content=BODY)
        blobs.path(cache.stored(HASH).digest).unlink()
        assert cache.stored(HASH) is None
        assert (await client.get(f"/{HASH}")).status_code == 404
        await client.put(f"/{HASH}", content=BODY + b"other")
        assert (await client.get(f"/{HASH}")).content == BODY + b"other"

    talk(tmp_path, conversation)


def test_questions_before_a_run_are_answered(tmp_path: Path):
    async def conversation(client, cache, visit, blobs):
        everything = str(client.base_url).rstrip("/")
        await client.put(f"/{HASH}", content=BODY, headers=SAID)
        answer = await client.post(everything, json={"hashes": [HASH, OTHER]})
        assert answer.json() == {
            HASH: {"size": len(BODY), "taskDurationMs": 1234},
            OTHER: {"error": {"message": "not found"}},
        }
        assert (await client.post(everything, content=b"no json")).status_code == 400
        assert (await client.post("/events", json=[{"event": "MISS"}])).status_code == 200
        preflight = await client.options(f"/{HASH}")
        assert (preflight.status_code, "Authorization" in preflight.headers["access-control-allow-headers"]) == (
            200,
            True,
        )
        assert (await client.delete(f"/{HASH}")).status_code == 404

    talk(tmp_path, conversation)


def test_without_the_token_nothing_is_there_and_nothing_is_kept(tmp_path: Path):
    async def conversation(client, cache, visit, blobs):
        assert (await client.get(f"/{HASH}")).status_code == 403
        assert (await client.put(f"/{HASH}", content=BODY)).status_code == 403
        assert cache.stored(HASH) is None

    talk(tmp_path, conversation, token="another")


def test_a_visit_that_is_over_is_not_heard(tmp_path: Path):
    async def conversation(client, cache, visit, blobs):
        await visit.aclose()
        assert (await client.put(f"/{HASH}", content=BODY)).status_code == 404
        assert cache.stored(HASH) is None

    talk(tmp_path, conversation)


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\0\0\0",
        b"\0\0\0\x05{}",
        b"\xff\xff\xff\xff{}",
        headed(b"{}"),
        headed(b"hello"),
        headed(b'{"hash":"00000000000000aa","headers":{"set-cookie":"x"}}'),
        headed(b'{"hash":"00000000000000aa","headers":{"x-artifact-tag":"x\\n"}}'),
    ],
)
def test_what_is_no_artifact_is_not_offered(tmp_path: Path, bad: bytes):
    blobs = BlobStore(tmp_path)
    with pytest.raises(CorruptError):
        TurboCache(blobs).offer(HASH, blobs.put(bad))


def test_an_artifact_answers_only_for_its_own_hash(tmp_path: Path):
    blobs = BlobStore(tmp_path)
    cache = TurboCache(blobs)
    good = blobs.put(headed(b'{"hash":"00000000000000aa","headers":{"x-artifact-tag":"x"}}') + BODY)
    cache.offer(HASH, good)
    assert cache.stored(HASH) == good
    with pytest.raises(CorruptError, match="not of 00000000000000bb"):
        cache.offer(OTHER, good)
    with pytest.raises(CorruptError, match="not in the blob store"):
        cache.offer(HASH, Blob(Digest(f"sha256:{'0' * 64}"), 1))


def test_turbos_own_archive_on_this_machine_can_be_taken_in(tmp_path: Path):
    async def main() -> None:
        cache = TurboCache(BlobStore(tmp_path / "store"))
        archive = tmp_path / "x.tar.zst"
        archive.write_bytes(BODY)
        assert await cache.adopt(HASH, archive, 77) == cache.stored(HASH)
        body, artifact = cache.archive(HASH) or pytest.fail("it is gone")
        assert artifact.duration_ms == 77
        assert body.path.read_bytes()[body.offset :] == BODY
        with pytest.raises(StorageError, match="cannot read"):
            await cache.adopt(OTHER, tmp_path / "missing", 0)

    trio.run(main)
