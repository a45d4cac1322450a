"""Links between two real nodes: frames, ends, and peers that do not read."""

from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from mesh.errors import UsageError
from mesh.net.dialer import dial
from mesh.net.errors import UnreachableError, UntrustedError
from mesh.net.http import Response
from mesh.net.link import Link, accept_link, dial_link
from mesh.net.listener import Listener
from mesh.net.tls import accept, connect
from mesh.wire.frames import FRAME_BYTES_MAX


async def no_http(request) -> Response:
    return Response(404)


@pytest.fixture
def listening(main_node):
    """A node that gives its links to `on_link`; yields its address and the errors of those who did not come in."""

    @asynccontextmanager
    async def open_listener(on_link):
        refused = []
        with trio.fail_after(8):
            listener = await Listener.bind(["127.0.0.1:0"], main_node.tls)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(listener.serve, on_link, no_http, refused.append)
                yield listener.addresses[0], refused
                nursery.cancel_scope.cancel()

    return open_listener


async def echo(link: Link) -> None:
    async for frame in link.frames():
        link.send(frame)


def test_frames_of_every_size_come_back_in_order(listening, agent, main_node):
    async def main() -> None:
        frames = [b"%d" % number * size for number, size in enumerate([1, 100, 20_000, 3, 300_000, 7])]
        frames.append(b"x" * FRAME_BYTES_MAX)
        async with listening(echo) as (address, _), dial_link(address, agent.tls) as link:
            assert link.peer == main_node.node_id
            for frame in frames:
                link.send(frame)
            received = [await anext(link.frames()) for _ in frames]
            assert received == frames

    trio.run(main)


def test_many_small_frames_go_out_in_few_writes(listening, agent, monkeypatch):
    async def main() -> None:
        async with listening(echo) as (address, _), dial_link(address, agent.tls) as link:
            writes = []
            send_all = link._stream.send_all

            async def counted(data) -> None:
                writes.append(len(data))
                await send_all(data)

            monkeypatch.setattr(link._stream, "send_all", counted)
            for number in range(10_000):
                link.send(b"%d" % number)
            for number in range(10_000):
                assert await anext(link.frames()) == b"%d" % number
            assert len(writes) <= 3

    trio.run(main)


def test_leaving_the_block_sends_what_was_sent_and_closes_in_good_order(listening, agent):
    async def main() -> None:
        got = []
        over = trio.Event()

        async def collect(link: Link) -> None:
            got.extend([frame async for frame in link.frames()])
            got.append(link.reason)
            over.set()

        async with listening(collect) as (address, _):
            async with dial_link(address, agent.tls) as link:
                for _ in range(200):
                    link.send(b"y" * 10_000)
            await over.wait()
            assert got[:-1] == [b"y" * 10_000] * 200
            assert got[-1].endswith("closed the link")

    trio.run(main)


def test_a_link_that_is_closed_here_ends_its_reader_and_drops_what_is_sent_later(listening, agent):
    async def main() -> None:
        async with listening(echo) as (address, _), dial_link(address, agent.tls) as link:
            async with trio.open_nursery() as nursery:

                async def read() -> None:
                    assert [frame async for frame in link.frames()] == []

                nursery.start_soon(read)
                await trio.testing.wait_all_tasks_blocked()
                link.close("enough")
                link.close("too late to matter")
            link.send(b"dropped")
            assert link.reason == "enough"

    trio.run(main)


def test_a_peer_that_does_not_read_costs_its_link_and_nobody_waits(listening, agent, socket_pair):
    async def never_read(link: Link) -> None:
        await trio.sleep_forever()

    async def main() -> None:
        async with listening(never_read) as (address, _), dial_link(address, agent.tls) as link:
            start = trio.current_time()
            for _ in range(40):
                link.send(b"z" * 1_000_000)
                await trio.lowlevel.checkpoint()
            assert trio.current_time() - start < 2
            assert "does not read" in link.reason
            assert [frame async for frame in link.frames()] == []

    trio.run(main)


def test_a_peer_that_is_cut_off_ends_the_link_with_a_reason(listening, agent):
    async def main() -> None:
        ended = []
        over = trio.Event()

        async def collect(link: Link) -> None:
            ended.extend([[frame async for frame in link.frames()], link.reason])
            over.set()

        async with listening(collect) as (address, _):
            stream = await dial(address, agent.tls)
            await stream.receive_some()  # The greeting: closing on unread bytes would be another kind of cut.
            await stream.send_all(b"\0\0\0\2ok\0\0\0\5hal")
            stream.abort()
            await over.wait()
            assert ended[0] == [b"ok"]
            assert "without closing it" in ended[1]

    trio.run(main)


@pytest.mark.parametrize(
    ("said", "reason"),
    [(b"\0\0\0\2ok\x7f\0\0\0", "frame-too-large"), (b"\0\0\0\2ok\0\0\0\5hal", "inside a frame")],
)
def test_a_bad_frame_ends_the_link_behind_the_good_ones(listening, agent, said, reason):
    async def main() -> None:
        ended = []
        over = trio.Event()

        async def collect(link: Link) -> None:
            ended.extend([[frame async for frame in link.frames()], link.reason])
            over.set()

        async with listening(collect) as (address, _):
            stream = await dial(address, agent.tls)
            await stream.send_all(said)
            await stream.aclose()
            await over.wait()
            assert ended[0] == [b"ok"]
            assert reason in ended[1]

    trio.run(main)


def test_the_dialler_has_a_link_only_when_it_was_taken_in(listening, main_node, stranger):
    async def main() -> None:
        impostor = type(stranger.tls).of(
            type(stranger.credentials)(
                stranger.credentials.chain_pem, stranger.credentials.key_pem, main_node.credentials.anchor_pem, ()
            )
        )
        linked = []

        async def on_link(link: Link) -> None:
            linked.append(link)

        async with listening(on_link) as (address, refused):
            for tls in (impostor, stranger.tls):
                with pytest.raises(UntrustedError, match=address):
                    async with dial_link(address, tls):
                        pytest.fail("a link to a node that has refused us")
            with trio.fail_after(3):
                while len(refused) < 2:  # noqa: ASYNC110 - the other side sees it when it sees it
                    await trio.sleep(0.01)
            assert [type(error) for error in refused] == [UntrustedError, UntrustedError]
            assert not linked

    trio.run(main)


def test_a_listener_that_never_takes_us_in_is_given_up(socket_pair, agent, main_node):
    async def main() -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        streams = []

        async def handshake_only() -> None:
            accepted = await listener.accept()
            streams.append(await accept(accepted.socket, main_node.tls, "agent:1"))

        async with listener, trio.open_nursery() as nursery:
            nursery.start_soon(handshake_only)
            port = listener.socket.getsockname()[1]
            with pytest.raises(UnreachableError, match="did not take us in"):
                async with dial_link(f"127.0.0.1:{port}", agent.tls, timeout_ms=300):
                    pytest.fail("no greeting, no link")
        streams[0].abort()

    trio.run(main)


def test_an_error_inside_the_block_comes_out_as_it_is(listening, agent):
    async def main() -> None:
        async with listening(echo) as (address, _):
            with pytest.raises(UsageError, match="mine"):
                async with dial_link(address, agent.tls):
                    raise UsageError("mine")

    trio.run(main)


def test_cancelling_a_link_ends_both_sides(listening, agent):
    async def main() -> None:
        reasons = []
        over = trio.Event()

        async def collect(link: Link) -> None:
            async for _ in link.frames():
                pass
            reasons.append(link.reason)
            over.set()

        async with listening(collect) as (address, _):
            with trio.CancelScope() as scope:
                async with dial_link(address, agent.tls) as link:
                    scope.cancel()
                    await trio.sleep_forever()
            assert link.reason
            await over.wait()
            assert "without closing it" in reasons[0]

    trio.run(main)


def test_a_slow_link_does_not_slow_the_others(listening, agent, main_node):
    async def main() -> None:
        first = True

        async def on_link(link: Link) -> None:
            nonlocal first
            if first:
                first = False
                await trio.sleep_forever()
            await echo(link)

        async with (
            listening(on_link) as (address, _),
            dial_link(address, agent.tls) as slow,
            dial_link(address, agent.tls) as quick,
        ):
            for number in range(15):
                slow.send(b"w" * 1_000_000)
                quick.send(b"%d" % number)
                with trio.fail_after(1):
                    assert await anext(quick.frames()) == b"%d" % number
            assert not slow.reason
            slow.close("enough")

    trio.run(main)


def test_a_link_can_be_made_over_any_proven_stream(socket_pair, agent, main_node):
    async def main() -> None:
        near, far = await socket_pair()

        async def listen_side() -> None:
            async with accept_link(await accept(far, main_node.tls, "agent:1")) as link:
                link.send(b"hello")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen_side)
            stream = await connect(near, agent.tls, "dte/1", "main:1")
            data = b""
            while part := await stream.receive_some():
                data += part
            assert data == b"\0\0\0\0\0\0\0\5hello"
            await stream.aclose()

    trio.run(main)
