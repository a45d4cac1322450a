"""HTTP/1.1 over real loopback sockets, asked by hand, by httpx and by curl."""

import logging
from collections.abc import Awaitable, Callable
from functools import partial

import httpx
import pytest
import trio
import trio.testing

from mesh.net.http import CHUNK_BYTES, HEAD_BYTES_MAX, FileBody, Handler, Request, Response, serve_http


async def echo(request: Request) -> Response:
    body = b"".join([data async for data in request.body])
    return Response(
        200, {"X-Method": request.method, "X-Target": request.target, "X-Length": str(request.length)}, body
    )


async def ignore_body(request: Request) -> Response:
    return Response(403, {}, b"no\n")


def on_server(handler: Handler, client: Callable[[int], Awaitable[None]], body_bytes_max: int = 10_000_000) -> None:
    """Run `client(port)` against `handler`, and hold that every connection ends once the client has gone."""

    async def main() -> None:
        async def serve(stream: trio.SocketStream) -> None:
            await serve_http(stream, handler, request_body_bytes_max=body_bytes_max)

        with trio.fail_after(8):
            async with trio.open_nursery() as connections, trio.open_nursery() as listening:
                start = partial(trio.serve_tcp, serve, 0, host="127.0.0.1", handler_nursery=connections)
                (listener,) = await listening.start(start)
                await client(listener.socket.getsockname()[1])
                listening.cancel_scope.cancel()

    trio.run(main)


async def exchange(port: int, data: bytes) -> bytes:
    """What comes back for `data` until the server closes."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(data)
        await stream.send_eof()
        return b"".join([bytes(part) async for part in stream])


def test_one_connection_carries_many_requests():
    async def client(port: int) -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            for number in range(3):
                await stream.send_all(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number)
                answer = await stream.receive_some()
                assert b"HTTP/1.1 200 OK" in answer
                assert b"X-Target: /%d" % number in answer

    on_server(echo, client)


def test_pipelined_requests_are_answered_in_order_whatever_their_framing():
    async def client(port: int) -> None:
        answer = await exchange(
            port,
            b"POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\none"
            b"POST /2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n"
            b"GET /3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET /4 HTTP/1.1\r\nHost: x\r\n\r\n",
        )
        assert answer.count(b"HTTP/1.1 200 OK") == 3
        assert answer.index(b"\r\n\r\none") < answer.index(b"\r\n\r\ntwo") < answer.index(b"X-Target: /3")

    on_server(echo, client)


def test_a_body_in_chunks_has_no_length_and_arrives_whole():
    async def client(port: int) -> None:
        async with httpx.AsyncClient(trust_env=False) as http:
            parts = [bytes([number]) * 100_000 for number in range(20)]

            async def generate():
                for part in parts:
                    yield part

            answer = await http.put(f"http://127.0.0.1:{port}/", content=generate())
            assert answer.content == b"".join(parts)
            assert answer.headers["x-length"] == "None"

    on_server(echo, client)


def test_a_long_body_of_known_length_arrives_whole():
    async def client(port: int) -> None:
        async with httpx.AsyncClient(trust_env=False) as http:
            content = bytes(range(256)) * 20_000
            for _ in range(2):
                answer = await http.put(f"http://127.0.0.1:{port}/a?b=c", content=content)
                assert answer.content == content
                assert (answer.headers["x-length"], answer.headers["x-target"]) == (str(len(content)), "/a?b=c")

    on_server(echo, client)


def test_a_head_request_is_told_the_length_and_sent_no_body():
    async def handler(request: Request) -> Response:
        return Response(200, {}, b"12345")

    async def client(port: int) -> None:
        answer = await exchange(port, b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"Content-Length: 5\r\n" in answer
        assert answer.endswith(b"\r\n\r\n")

    on_server(handler, client)


def test_a_part_of_a_file_is_sent_as_it_is(tmp_path):
    content = bytes(range(256)) * (CHUNK_BYTES // 100)
    (tmp_path / "file").write_bytes(content)

    async def handler(request: Request) -> Response:
        return Response(200, {}, FileBody(tmp_path / "file", 7, len(content) - 10))

    async def client(port: int) -> None:
        async with httpx.AsyncClient(trust_env=False) as http:
            for _ in range(2):
                assert (await http.get(f"http://127.0.0.1:{port}/")).content == content[7:-3]

    on_server(handler, client)


def test_a_file_that_went_between_answer_and_sending_is_a_404(tmp_path):
    async def handler(request: Request) -> Response:
        return Response(200, {}, FileBody(tmp_path / "gone", 0, 10))

    async def client(port: int) -> None:
        assert (await exchange(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")).startswith(b"HTTP/1.1 404 ")

    on_server(handler, client)


def test_a_file_that_shrank_ends_the_connection_and_is_never_padded(tmp_path):
    (tmp_path / "file").write_bytes(b"short")

    async def handler(request: Request) -> Response:
        return Response(200, {}, FileBody(tmp_path / "file", 0, 10))

    async def client(port: int) -> None:
        async with httpx.AsyncClient(trust_env=False) as http:
            with pytest.raises(httpx.RemoteProtocolError):
                await http.get(f"http://127.0.0.1:{port}/")

    on_server(handler, client)


def test_curl_waits_for_100_continue_and_gets_it():
    async def client(port: int) -> None:
        command = ["curl", "-sv", "-H", "Expect: 100-continue", "--data-binary", "@-", f"http://127.0.0.1:{port}/"]
        ended = await trio.run_process(command, stdin=b"x" * 100_000, capture_stdout=True, capture_stderr=True)
        assert ended.stdout == b"x" * 100_000
        assert b"< HTTP/1.1 100" in ended.stderr

    on_server(echo, client)


def test_a_refused_upload_is_not_sent_by_a_client_that_asks_first():
    async def client(port: int) -> None:
        command = ["curl", "-sv", "-H", "Expect: 100-continue", "--data-binary", "@-", f"http://127.0.0.1:{port}/"]
        ended = await trio.run_process(command, stdin=b"x" * 100_000, capture_stdout=True, capture_stderr=True)
        assert ended.stdout == b"no\n"
        assert b"< HTTP/1.1 100" not in ended.stderr

    on_server(ignore_body, client)


def test_an_answer_before_the_body_was_read_reaches_a_client_that_sends_on():
    async def client(port: int) -> None:
        command = [
            "curl",
            "-s",
            "-H",
            "Expect:",
            "-w",
            "%{http_code}",
            "--data-binary",
            "@-",
            f"http://127.0.0.1:{port}/",
        ]
        ended = await trio.run_process(command, stdin=b"x" * 8_000_000, capture_stdout=True)
        assert ended.stdout == b"no\n403"

    on_server(ignore_body, client)


def test_a_connection_that_is_to_close_is_closed_by_us_at_once():
    async def client(port: int) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            start = trio.current_time()
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert b"Connection: close" in b"".join([bytes(part) async for part in stream])
            assert trio.current_time() - start < 1

    on_server(echo, client)


def test_chunks_win_over_a_length_and_cannot_smuggle_a_request():
    async def client(port: int) -> None:
        answer = await exchange(
            port,
            b"POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            b"GET /2 HTTP/1.1\r\nHost: x\r\n\r\n",
        )
        assert answer.count(b"HTTP/1.1 200") == 2
        assert b"X-Length: None" in answer

    on_server(echo, client)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * HEAD_BYTES_MAX * 2, 431),
        (b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n", 413),
        (
            b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"y" * 1001 + b"\r\n0\r\n\r\n",
            413,
        ),
        (b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nshort", 400),
        (b"GET / HTTP/1.1\r\nHos", 400),
    ],
)
def test_a_bad_request_gets_its_status_and_the_connection_ends(request_bytes, status):
    async def client(port: int) -> None:
        answer = await exchange(port, request_bytes)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert b"Connection: close" in answer

    on_server(echo, client, body_bytes_max=1000)


def test_a_peer_that_says_nothing_is_let_go():
    async def client(port: int) -> None:
        assert await exchange(port, b"") == b""

    on_server(echo, client)


def test_a_failing_handler_is_logged_here_and_the_peer_learns_nothing_of_it(caplog):
    async def handler(request: Request) -> Response:
        raise ZeroDivisionError("secret detail")

    async def client(port: int) -> None:
        answer = await exchange(port, b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert b"secret" not in answer
        assert b"Traceback" not in answer

    with caplog.at_level(logging.ERROR):
        on_server(handler, client)
    assert "secret detail" in caplog.text


def test_an_answer_that_cannot_be_written_ends_only_its_connection(caplog):
    async def handler(request: Request) -> Response:
        return Response(200, {"X": "a\r\nSet-Cookie: b"} if request.target == "/bad" else {}, b"")

    async def client(port: int) -> None:
        assert await exchange(port, b"GET /bad HTTP/1.1\r\nHost: x\r\n\r\n") == b""
        assert (await exchange(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")).startswith(b"HTTP/1.1 200 ")

    with caplog.at_level(logging.ERROR):
        on_server(handler, client)


def test_cancelling_the_server_closes_the_connection():
    async def main() -> None:
        ours, theirs = trio.testing.memory_stream_pair()
        with trio.fail_after(3):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve_http, ours, echo)
                await theirs.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert b"200" in await theirs.receive_some()
                nursery.cancel_scope.cancel()
            assert await theirs.receive_some() == b""

    trio.run(main)


def test_a_reader_that_stands_still_does_not_hold_the_connection_for_ever():
    async def main() -> None:
        ours, theirs = trio.testing.memory_stream_pair()

        async def never(data: object = None) -> None:
            await trio.sleep_forever()

        ours.send_stream.send_all_hook = never
        await theirs.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with trio.fail_after(1000):
            await serve_http(ours, echo)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
