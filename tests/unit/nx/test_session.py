"""The conversation with an nx process, with a stand-in for main.cjs that speaks its lines."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from mesh.adapters.nx.errors import RestoreError, WorkerError
from mesh.adapters.nx.link import LineReader
from mesh.adapters.nx.session import ByItself, Delivery, NxSession, listen, serve
from mesh.errors import CorruptError
from mesh.types import Blob, Digest, TaskId
from mesh.wire import canonical
from tests.unit.nx.test_plan import message, raw

ARCHIVE = Blob(Digest(f"sha256:{'a' * 64}"), 10)


class Archives:
    def __init__(self) -> None:
        self.offered: dict[str, Blob] = {}
        self.broken = False

    def offer(self, nx_hash: str, archive: Blob) -> None:
        self.offered[nx_hash] = archive

    def stored(self, nx_hash: str) -> Blob | None:
        return self.offered.get(nx_hash)

    def not_kept(self, nx_hash: str) -> str:
        return ""

    async def check(self, archive: Blob) -> None:
        if self.broken:
            raise CorruptError("cut")


class Nx:
    """The other end."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._lines = LineReader(stream)

    async def send(self, value: Any) -> None:
        await self._stream.send_all(canonical.encode(value) + b"\n")

    async def next(self) -> dict[str, Any] | None:
        return await self._lines.next()

    async def leave(self) -> None:
        await self._stream.aclose()


def converse(
    nx: Callable[[Nx], Awaitable[None]],
    handle: Callable[[NxSession], Awaitable[None]],
    archives: Archives | None = None,
    objected: Callable[[NxSession], Awaitable[None]] | None = None,
) -> None:
    async def main() -> None:
        async with listen() as (path, listener), trio.open_nursery() as nursery:
            nursery.start_soon(serve, listener, archives or Archives(), handle, objected)
            with trio.fail_after(5):
                stream = await trio.open_unix_socket(path)
                async with stream:
                    await nx(Nx(stream))
            nursery.cancel_scope.cancel()

    trio.run(main)


def a_plan(**more: Any) -> dict[str, Any]:
    return {"do": "plan", "plan": message([raw("p0:build"), raw("p1:build")], **more)}


async def nobody(session: NxSession) -> None:
    raise AssertionError("not to be asked")


def test_results_are_shown_one_after_the_other_and_then_it_is_over():
    archives = Archives()

    async def nx(other: Nx) -> None:
        await other.send(a_plan())
        assert await other.next() == {"do": "accept"}
        await other.send({"do": "begun"})
        result = await other.next()
        assert (result["id"], result["restore"], result["output"]) == ("p0:build", True, "built")
        assert archives.offered == {"77": ARCHIVE}
        await other.send({"do": "shown", "id": "p0:build"})
        result = await other.next()
        assert (result["id"], result["status"], result["restore"]) == ("p1:build", "skipped", False)
        await other.send({"do": "shown", "id": "p1:build"})
        assert await other.next() == {"do": "finish"}

    async def handle(session: NxSession) -> None:
        await session.accept()
        build = TaskId("p0:build")
        await session.deliver(Delivery(build, "success", 0, b"built", hash="77", archive=ARCHIVE))
        await session.wait_delivered(build)
        await session.deliver(Delivery(TaskId("p1:build"), "cancelled"))
        await session.finish()

    converse(nx, handle, archives)


def test_what_nx_could_not_restore_may_be_delivered_again():
    async def nx(other: Nx) -> None:
        await other.send(a_plan())
        for answer in ("missed", "shown"):
            await other.next()
            await other.send({"do": answer, "id": "p0:build"})
        await other.next()

    async def handle(session: NxSession) -> None:
        delivery = Delivery(TaskId("p0:build"), "success", hash="77", archive=ARCHIVE)
        with pytest.raises(RestoreError, match="p0:build"):
            await session.deliver(delivery)
        await session.deliver(delivery)
        await session.finish()

    converse(nx, handle)


def test_nx_is_told_what_restoring_a_directory_would_wipe_of_others():
    narrow, wide, same = (
        raw("p0:build", outputs=["dist/p0"]),
        raw("p1:build", outputs=["dist"]),
        raw("p2:build", outputs=["dist"]),
    )
    its_own, anybodys = {"outputs": ["dist/p0"], "whole": True}, {"outputs": ["dist"], "whole": False}

    async def nx(other: Nx) -> None:
        await other.send({"do": "plan", "plan": message([narrow, wide, same])})
        for others in ([], [its_own], [its_own, anybodys]):
            assert (await other.next())["others"] == others
            await other.send({"do": "shown"})
        assert await other.next() == {"do": "finish"}

    async def handle(session: NxSession) -> None:
        for name in ("p0:build", "p1:build", "p2:build"):
            await session.deliver(Delivery(TaskId(name), "success", hash="77", archive=ARCHIVE))
        await session.finish()

    converse(nx, handle)


def test_a_broken_archive_never_reaches_nx():
    archives = Archives()
    archives.broken = True

    async def nx(other: Nx) -> None:
        await other.send(a_plan())
        assert (await other.next())["do"] == "finish"

    async def handle(session: NxSession) -> None:
        with pytest.raises(CorruptError):
            await session.deliver(Delivery(TaskId("p0:build"), "success", hash="77", archive=ARCHIVE))
        await session.finish()

    converse(nx, handle, archives)


def test_an_nx_that_goes_is_missed():
    async def nx(other: Nx) -> None:
        await other.send(a_plan())
        await other.next()
        await other.leave()

    async def handle(session: NxSession) -> None:
        with pytest.raises(WorkerError, match="ended before"):
            await session.deliver(Delivery(TaskId("p0:build"), "failure", 1, b"no"))

    converse(nx, handle)


def test_if_this_side_stops_the_connection_closes():
    async def nx(other: Nx) -> None:
        await other.send(a_plan())
        assert await other.next() == {"do": "accept"}
        await other.send({"do": "begun"})
        assert await other.next() is None

    async def handle(session: NxSession) -> None:
        await session.accept()

    converse(nx, handle)


def test_what_nx_has_in_its_own_cache_it_shows_itself_and_is_never_given():
    mine = [raw("p0:build"), raw("p1:build"), raw("p2:build")]
    plan = message(mine, local=["p0:build", "p1:build"], settled=["p0:build"], dependencies={"p2:build": ["p0:build"]})

    async def nx(other: Nx) -> None:
        await other.send({"do": "plan", "plan": plan})
        assert await other.next() == {"do": "accept"}
        await other.send({"do": "begun"})
        assert await other.next() == {"do": "local", "id": "p1:build", "others": []}
        await other.send({"do": "shown", "id": "p1:build"})
        assert await other.next() == {"do": "finish"}

    async def handle(session: NxSession) -> None:
        assert {task: one.where for task, one in session.graph.tasks.items()} == {
            "p0:build": "main",
            "p1:build": "main",
            "p2:build": "any",
        }
        await session.accept()
        for name in ("p0:build", "p1:build"):
            await session.show_local(session.graph.tasks[TaskId(name)])
            await session.wait_delivered(TaskId(name))
            await session.deliver(Delivery(TaskId(name), "success"))
        await session.finish()

    converse(nx, handle)


def test_what_has_gone_from_nx_own_cache_is_said():
    async def nx(other: Nx) -> None:
        await other.send({"do": "plan", "plan": message([raw("p0:build"), raw("p1:build")], local=["p0:build"])})
        await other.next()
        await other.send({"do": "begun"})
        await other.next()
        await other.send({"do": "missed", "id": "p0:build"})
        await other.next()

    async def handle(session: NxSession) -> None:
        await session.accept()
        with pytest.raises(RestoreError, match="gone from nx's cache"):
            await session.show_local(session.graph.tasks[TaskId("p0:build")])
        await session.finish()

    converse(nx, handle)


def test_what_dte_cannot_do_is_declined_with_the_reason():
    async def nx(other: Nx) -> None:
        await other.send(a_plan(skip_cache=True))
        answer = await other.next()
        assert answer["do"] == "decline"
        assert "cache" in answer["reason"]
        assert await other.next() is None

    converse(nx, nobody)


def test_what_an_nx_that_was_declined_did_by_itself_is_told():
    found: list[ByItself] = []

    async def nx(other: Nx) -> None:
        await other.send(a_plan(skip_cache=True))
        await other.next()
        ended = {"p0:build": "local-cache", "p1:build": "failure", "p2:build": "stopped", "p3:build": "success"}
        await other.send({"do": "over", "tasks": {task: {"status": said, "ms": 7} for task, said in ended.items()}})
        assert await other.next() == {"do": "noted"}

    async def objected(session: NxSession) -> None:
        await session.decline(session.plan.objection)
        await session.hear_out(found.append)

    converse(nx, nobody, objected=objected)
    assert [(done.task, done.status, done.cached, done.took_ms) for done in found] == [
        ("p0:build", "success", True, 7),
        ("p1:build", "failure", False, 7),
        ("p2:build", "cancelled", False, 7),
        ("p3:build", "success", False, 7),
    ]


def test_what_nx_shows_at_once_is_told_unless_it_is_a_task_of_the_graph():
    found: list[ByItself] = []
    chain = {"p2:build": ["p1:build"]}
    tasks = [raw("p0:build"), raw("p1:build"), raw("p2:build")]
    here = ["p0:build", "p1:build"]

    async def nx(other: Nx) -> None:
        await other.send({"do": "plan", "plan": message(tasks, local=here, settled=here, dependencies=chain)})
        await other.next()
        await other.send({"do": "begun"})
        await other.next()

    async def handle(session: NxSession) -> None:
        await session.accept()
        session.tell_shown(found.append)
        await session.finish()

    converse(nx, handle)
    assert found == [ByItself(TaskId("p0:build"), "success", cached=True, took_ms=0)]


def test_whoever_is_no_nx_is_turned_away():
    async def nx(other: Nx) -> None:
        await other.send({"hello": "world"})
        assert await other.next() is None

    converse(nx, nobody)
