"""The TLS pump over real sockets: who gets in, what arrives, and what breaks."""

import ssl
import subprocess
from functools import partial

import pytest
import trio
import trio.testing

from mesh.net import tls as tls_module
from mesh.net.errors import BrokenStreamError, NetError, NotDteError, UnreachableError, UntrustedError
from mesh.net.tls import ALPN_HTTP, ALPN_LINK, accept, connect


def run(test, *args):
    async def bounded() -> None:
        with trio.fail_after(8):
            await test(*args)

    trio.run(bounded)


@pytest.fixture
def pair(socket_pair):
    """Both ends of a connection after the handshake: dialler, listener."""

    async def make(dialler, listener, alpn=ALPN_LINK):
        near, far = await socket_pair()
        streams = {}

        async def dial_side() -> None:
            streams["near"] = await connect(near, dialler.tls, alpn, "listener:1")

        async def listen_side() -> None:
            streams["far"] = await accept(far, listener.tls, "dialler:1")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(dial_side)
            nursery.start_soon(listen_side)
        return streams["near"], streams["far"]

    return make


async def outcome(call, *args) -> object:
    """What `call` returns, or the `NetError` it raises."""
    try:
        return await call(*args)
    except NetError as error:
        return error


async def receive_exactly(stream, count: int) -> bytes:
    data = b""
    while len(data) < count and (part := await stream.receive_some(count - len(data))):
        data += part
    return data


@pytest.mark.parametrize("alpn", [ALPN_LINK, ALPN_HTTP])
def test_both_sides_know_each_other_by_key_and_agree_on_what_they_speak(pair, main_node, agent, alpn):
    async def test() -> None:
        near, far = await pair(agent, main_node, alpn)
        assert (near.peer, far.peer) == (main_node.node_id, agent.node_id)
        assert (near.alpn, far.alpn) == (alpn, alpn)
        await near.send_all(b"ping")
        assert await far.receive_some() == b"ping"
        await far.send_all(b"pong")
        assert not near.proven
        assert await near.receive_some() == b"pong"
        assert near.proven
        near.abort()
        far.abort()

    run(test)


def test_megabytes_in_both_directions_at_once_arrive_whole(pair, main_node, agent):
    async def test() -> None:
        near, far = await pair(agent, main_node)
        content = bytes(range(256)) * 40_000

        async def expect(stream) -> None:
            assert await receive_exactly(stream, len(content)) == content

        async with trio.open_nursery() as nursery:
            for stream in (near, far):
                nursery.start_soon(stream.send_all, content)
                nursery.start_soon(expect, stream)
        near.abort()
        far.abort()

    run(test)


def test_all_records_that_have_arrived_are_taken_at_once(pair, main_node, agent):
    async def test() -> None:
        near, far = await pair(agent, main_node)
        for _ in range(10):
            await near.send_all(b"x" * 10_000)
        buffer = memoryview(bytearray(200_000))
        got = await far.receive_into(buffer)
        assert got > 16_384  # One record is at most that.
        near.abort()
        far.abort()

    run(test)


def test_a_listener_that_closes_right_behind_its_first_words_has_proven_itself_by_them(pair, main_node, agent):
    async def test() -> None:
        near, far = await pair(agent, main_node)
        async with trio.open_nursery() as nursery:
            await far.send_all(b"all I have to say")
            nursery.start_soon(far.aclose)
            await trio.testing.wait_all_tasks_blocked()
            assert not near.proven
            assert await near.receive_some() == b"all I have to say"
            assert near.proven
            assert await near.receive_some() == b""
            near.abort()

    run(test)


def test_sends_of_several_tasks_do_not_mix(pair, main_node, agent):
    async def test() -> None:
        near, far = await pair(agent, main_node)
        size = 1_000_000
        async with trio.open_nursery() as nursery:
            for letter in (b"a", b"b", b"c"):
                nursery.start_soon(near.send_all, letter * size)
            data = await receive_exactly(far, 3 * size)
        assert {data[start : start + size] for start in range(0, 3 * size, size)} == {
            x * size for x in (b"a", b"b", b"c")
        }
        near.abort()
        far.abort()

    run(test)


def test_a_close_is_told_from_a_cut(pair, main_node, agent):
    async def test() -> None:
        near, far = await pair(agent, main_node)
        async with trio.open_nursery() as nursery:
            await near.send_all(b"last words")
            nursery.start_soon(near.aclose)
            assert await far.receive_some() == b"last words"
            assert await far.receive_some() == b""
            assert await far.receive_some() == b""
            await far.aclose()

        near, far = await pair(agent, main_node)
        await near.send_all(b"last words")
        near.abort()
        assert await far.receive_some() == b"last words"
        for _ in range(2):
            with pytest.raises(BrokenStreamError, match="without closing it"):
                await far.receive_some()
        far.abort()

    run(test)


def test_a_forged_record_is_refused_and_its_sender_is_told(pair, main_node, agent):
    async def test() -> None:
        near, far = await pair(agent, main_node)
        await near.send_all(b"good")
        await near._socket.send(b"\x17\x03\x03\x00\x20" + b"f" * 32)
        assert await far.receive_some() == b"good"
        with pytest.raises(BrokenStreamError, match="broke the connection"):
            await far.receive_some()
        with pytest.raises(BrokenStreamError, match="bad record mac"):
            await near.receive_some()
        near.abort()
        far.abort()

    run(test)


def test_a_handshake_that_is_cancelled_leaves_nothing_open(socket_pair, main_node, agent):
    async def test() -> None:
        # Nobody answers on the other end of either.
        near, near_end = await socket_pair()
        far, far_end = await socket_pair()
        for connection, call in ((near, connect), (far, accept)):
            arguments = (agent.tls, ALPN_LINK, "main:1") if call is connect else (main_node.tls, "agent:1")
            with trio.move_on_after(0.05) as scope:
                await call(connection, *arguments)
            assert scope.cancelled_caught
            assert connection.fileno() == -1
        near_end.close()
        far_end.close()

    run(test)


def test_last_words_arrive_though_the_peer_has_sent_what_nobody_reads(pair, main_node, agent):
    async def test() -> None:
        near, far = await pair(agent, main_node)
        await far.send_all(b"unread" * 1000)
        async with trio.open_nursery() as nursery:
            await near.send_all(b"last words")
            nursery.start_soon(near.aclose)
            await trio.testing.wait_all_tasks_blocked(0.02)
            assert await far.receive_some() == b"last words"
            assert await far.receive_some() == b""
            await far.aclose()

    run(test)


def test_closing_ends_in_bounded_time_where_the_peer_says_nothing(pair, main_node, agent):
    async def test() -> None:
        near, far = await pair(agent, main_node)
        start = trio.current_time()
        await near.aclose()
        await near.aclose()
        assert trio.current_time() - start < 3 * tls_module.PART_MS / 1000
        far.abort()

    run(test)


def test_a_dialler_with_another_secret_is_refused_and_both_sides_say_so(socket_pair, main_node, stranger):
    async def test() -> None:
        near, far = await socket_pair()

        async def dial_side() -> None:
            # TLS 1.3: this may succeed, since the refusal comes after the dialler's last message.
            stream = await outcome(connect, near, stranger.tls, ALPN_HTTP, "main:1")
            if not isinstance(stream, NetError):
                await outcome(stream.send_all, b"GET / HTTP/1.1\r\n\r\n")
                assert not stream.proven
                with pytest.raises(UntrustedError, match="main:1 does not share this run's secret and run id"):
                    await stream.receive_some()
                stream.abort()
            else:
                assert isinstance(stream, UntrustedError)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(dial_side)
            with pytest.raises(UntrustedError, match="agent:1 does not share this run's secret and run id"):
                await accept(far, main_node.tls, "agent:1")

    # A dialler of another authority refuses first; one that trusts ours has to be refused by us.
    run(test)


def test_a_dialler_that_trusts_us_and_cannot_prove_itself_learns_it_at_its_first_read(socket_pair, main_node, stranger):
    async def test() -> None:
        impostor = tls_module.Tls.of(
            type(stranger.credentials)(
                stranger.credentials.chain_pem, stranger.credentials.key_pem, main_node.credentials.anchor_pem, ()
            )
        )
        near, far = await socket_pair()
        async with trio.open_nursery() as nursery:
            refused = []

            async def listen_side() -> None:
                refused.append(await outcome(accept, far, main_node.tls, "agent:1"))

            nursery.start_soon(listen_side)
            stream = await connect(near, impostor, ALPN_HTTP, "main:1")
            await stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
            with pytest.raises(UntrustedError, match="it refused our certificate"):
                await stream.receive_some()
            stream.abort()
        assert isinstance(refused[0], UntrustedError)

    run(test)


def test_another_run_of_the_same_secret_is_a_stranger(socket_pair, main_node, make):
    async def test() -> None:
        near, far = await socket_pair()
        other = make("agent", run_id="run-2")
        results = []

        async def listen_side() -> None:
            results.append(await outcome(accept, far, main_node.tls, "agent:1"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen_side)
            results.append(await outcome(connect, near, other.tls, ALPN_LINK, "main:1"))
        assert [type(result) for result in results] == [UntrustedError, UntrustedError]

    run(test)


def refused_by_listener(main_node, socket_pair, speak) -> NetError:
    """What the listener says to a dialler that does `speak(socket)`."""
    errors = []

    async def test() -> None:
        near, far = await socket_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(speak, trio.SocketStream(near))
            errors.append(await outcome(accept, far, main_node.tls, "who:1"))

    run(test)
    return errors[0]


def test_a_dialler_without_a_certificate_is_refused(main_node, socket_pair):
    async def speak(tcp: trio.SocketStream) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        stream = trio.SSLStream(tcp, context)
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        await trio.aclose_forcefully(stream)

    error = refused_by_listener(main_node, socket_pair, speak)
    assert isinstance(error, UntrustedError)
    assert "it showed no certificate" in str(error)


def test_an_old_tls_is_refused_with_what_was_expected(main_node, socket_pair):
    async def speak(tcp: trio.SocketStream) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        stream = trio.SSLStream(tcp, context)
        with pytest.raises(trio.BrokenResourceError):
            await stream.do_handshake()
        await trio.aclose_forcefully(stream)

    error = refused_by_listener(main_node, socket_pair, speak)
    assert isinstance(error, NotDteError)
    assert "TLS 1.3 was expected" in str(error)


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\0" * 5000,
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x16\x03\x01\xff\xff" + b"\xff" * 70_000,
    ],
)
def test_what_is_not_tls_is_named_so(main_node, socket_pair, said):
    async def speak(tcp: trio.SocketStream) -> None:
        await tcp.send_all(said)
        await trio.aclose_forcefully(tcp) if said[0] == 0 else await tcp.aclose()

    assert isinstance(refused_by_listener(main_node, socket_pair, speak), NotDteError)


def test_a_port_scanner_is_named_so(main_node, socket_pair):
    error = refused_by_listener(main_node, socket_pair, trio.aclose_forcefully)
    assert isinstance(error, NotDteError)
    assert "before it had proven who it is" in str(error)


def test_a_service_that_is_not_dte_is_named_so_to_the_dialler(agent, socket_pair):
    async def test() -> None:
        near, far = await socket_pair()
        await trio.SocketStream(far).send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.SocketStream(far).receive_some)
            with pytest.raises(NotDteError, match="web:80 is not a dte node"):
                await connect(near, agent.tls, ALPN_LINK, "web:80")
        far.close()

    run(test)


def test_a_listener_that_says_nothing_is_given_up(agent, socket_pair):
    async def test() -> None:
        near, far = await socket_pair()
        with pytest.raises(UnreachableError, match=r"did not finish the TLS handshake in 0\.1 s"):
            await connect(near, agent.tls, ALPN_LINK, "main:1", timeout_ms=100)
        far.close()

    run(test)


def test_a_dialler_that_says_nothing_is_given_up(main_node, socket_pair):
    async def test() -> None:
        near, far = await socket_pair()
        stream = tls_module.TlsStream(far, main_node.tls.server, "agent:1", server=True)
        with pytest.raises(NotDteError, match=r"did not finish the TLS handshake in 0\.1 s"):
            await stream.open(100)
        near.close()

    run(test)


def test_a_peer_without_our_major_version_is_named_so(agent, main_node, socket_pair, monkeypatch):
    async def test() -> None:
        near, far = await socket_pair()
        context = main_node.tls.server
        other = tls_module.Tls(
            tls_module._context(main_node.credentials, ssl.PROTOCOL_TLS_SERVER, "dte/2"), context, context
        )
        async with trio.open_nursery() as nursery:

            async def listen_side() -> None:
                (await accept(far, other, "agent:1")).abort()

            nursery.start_soon(listen_side)
            with pytest.raises(NotDteError, match="does not speak dte/1"):
                await connect(near, agent.tls, ALPN_LINK, "main:1")

    run(test)


def test_a_send_that_is_cancelled_halfway_breaks_the_stream_and_the_peer_sees_no_good_end(pair, main_node, agent):
    async def test() -> None:
        near, far = await pair(agent, main_node)
        content = bytes(range(256)) * 100_000
        with trio.move_on_after(0.1) as scope:
            await near.send_all(content)
        assert scope.cancelled_caught
        with pytest.raises(BrokenStreamError, match="was cancelled"):
            await near.send_all(b"more")
        await near.aclose()
        data = bytearray()

        async def read_to_the_end() -> None:
            while part := await far.receive_some():
                data.extend(part)

        with pytest.raises(BrokenStreamError):
            await read_to_the_end()
        assert content.startswith(data)
        assert len(data) < len(content)
        far.abort()

    run(test)


def test_a_send_that_is_cancelled_before_it_began_leaves_the_stream_whole(pair, main_node, agent):
    async def test() -> None:
        near, far = await pair(agent, main_node)
        with trio.CancelScope() as scope:
            scope.cancel()
            await near.send_all(b"never")
        await near.send_all(b"then")
        assert await far.receive_some() == b"then"
        near.abort()
        far.abort()

    run(test)


def test_receives_that_are_cancelled_again_and_again_lose_nothing(pair, main_node, agent):
    async def test() -> None:
        near, far = await pair(agent, main_node)
        content = bytes(range(256)) * 20_000
        data = b""
        cancelled = 0
        async with trio.open_nursery() as nursery:

            async def send_slowly() -> None:
                for start in range(0, len(content), 64_000):
                    await near.send_all(content[start : start + 64_000])
                    await trio.sleep(0.002)

            nursery.start_soon(send_slowly)
            while len(data) < len(content):
                with trio.move_on_after(0.0002) as scope:
                    data += await far.receive_some()
                cancelled += scope.cancelled_caught
        assert data == content
        assert cancelled > 10
        near.abort()
        far.abort()

    run(test)


@pytest.mark.parametrize("command", [b"k", b"K"], ids=["without an answer", "with an answer"])
def test_openssl_may_change_its_keys_in_the_middle(main_node, agent, pem, command):
    async def test() -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        chain, key, anchor = pem(agent)
        port = listener.socket.getsockname()[1]
        words = f"openssl s_client -connect 127.0.0.1:{port} -cert {chain} -key {key} -CAfile {anchor} -partial_chain"
        arguments = [*words.split(), "-cert_chain", str(chain), "-verify_return_error", "-alpn", ALPN_LINK]
        async with trio.open_nursery() as nursery:
            start = partial(
                trio.run_process,
                arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                check=False,
            )
            client = await nursery.start(start)
            accepted = await listener.accept()
            far = await accept(accepted.socket, main_node.tls, "openssl:1")
            assert far.peer == agent.node_id
            seen = b""
            for number in range(3):
                # s_client takes a line that begins with its command letter for the command.
                await client.stdin.send_all(command + b"\n")
                await trio.sleep(0.05)
                await client.stdin.send_all(b"line %d\n" % number)
                assert await receive_exactly(far, 7) == b"line %d\n" % number
                await far.send_all(b"reply %d\n" % number)
                while b"reply %d" % number not in seen:
                    seen += await client.stdout.receive_some()
            await client.stdin.aclose()
            while await far.receive_some():
                pass
            await far.aclose()
            client.stdout.close()
            nursery.cancel_scope.cancel()
        await listener.aclose()

    run(test)
