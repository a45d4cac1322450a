"""Blobs between two real nodes, and as curl sees them from outside."""

import hashlib
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing

from mesh.errors import CorruptError, RemoteError
from mesh.net import blobs as blobs_module
from mesh.net.blobs import BlobClient, blob_handler
from mesh.net.errors import BrokenStreamError, NetError, NotHereError, UnreachableError, UntrustedError
from mesh.net.http import Response
from mesh.net.listener import Listener
from mesh.net.tls import accept
from mesh.node.transfers import MissingError, Transfers
from mesh.store.blobs import BlobStore
from mesh.types import Blob

CONTENT = bytes(range(256)) * 9_000
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
PATH = f"/blob/{DIGEST.replace(':', '/')}"


async def ignore(link) -> None:
    pass


@pytest.fixture
def blob(tmp_path):
    path = tmp_path / "blob"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def serving(main_node):
    """A node that serves with `handler`; yields its address and the errors of those who did not come in."""

    @asynccontextmanager
    async def open_listener(handler):
        refused = []
        with trio.fail_after(8):
            listener = await Listener.bind(["127.0.0.1:0"], main_node.tls)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(listener.serve, ignore, handler, refused.append)
                yield listener.addresses[0], refused
                nursery.cancel_scope.cancel()

    return open_listener


@pytest.fixture
def scripted(main_node):
    """A proven peer that takes one connection after the other and does `script(stream)`; yields its address."""

    @asynccontextmanager
    async def open_listener(script):
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")

        async def take(tcp: trio.SocketStream) -> None:
            stream = await accept(tcp.socket, main_node.tls, "client:1")
            try:
                await script(stream)
            finally:
                stream.abort()

        with trio.fail_after(8):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.serve_listeners, take, [listener])
                yield f"127.0.0.1:{listener.socket.getsockname()[1]}"
                nursery.cancel_scope.cancel()

    return open_listener


def lookup_of(path):
    return lambda digest: path if digest == DIGEST else None


def test_a_blob_arrives_whole_and_one_connection_serves_many_fetches(serving, blob, agent):
    async def main() -> None:
        async with serving(blob_handler(lookup_of(blob))) as (address, _):
            client = BlobClient(agent.tls)
            for size in (len(CONTENT), None, len(CONTENT)):
                got = bytearray()
                assert await client.fetch(address, DIGEST, size, got.extend) == len(CONTENT)
                assert got == CONTENT
                assert len(client._idle) == 1
            client.close()

    trio.run(main)


def test_fetches_at_the_same_time_do_not_mix(serving, blob, agent):
    async def main() -> None:
        async with serving(blob_handler(lookup_of(blob))) as (address, _):
            client = BlobClient(agent.tls)
            sinks = [bytearray() for _ in range(6)]
            async with trio.open_nursery() as nursery:
                for sink in sinks:
                    nursery.start_soon(client.fetch, address, DIGEST, None, sink.extend)
            assert all(sink == CONTENT for sink in sinks)
            assert len(client._idle) == len(sinks)
            client.close()

    trio.run(main)


def test_connections_that_nobody_uses_are_bounded_in_number_and_in_age(serving, blob, agent, monkeypatch):
    async def main() -> None:
        async with serving(blob_handler(lookup_of(blob))) as (address, _):
            client = BlobClient(agent.tls)

            async def fetch_at_once(count: int) -> None:
                async with trio.open_nursery() as nursery:
                    for _ in range(count):
                        nursery.start_soon(client.fetch, address, DIGEST, None, bytearray().extend)

            monkeypatch.setattr(blobs_module, "POOL_MAX", 3)
            await fetch_at_once(5)
            assert len(client._idle) == 3
            monkeypatch.setattr(blobs_module, "POOL_IDLE_MS", -1)
            await fetch_at_once(1)
            assert not client._idle

    trio.run(main)


@pytest.mark.parametrize(("offset", "length"), [(0, 1), (1_000_000, 1_048_576), (len(CONTENT) - 5, 5), (7, None)])
def test_a_piece_of_a_blob_is_exactly_that(serving, blob, agent, offset, length):
    async def main() -> None:
        async with serving(blob_handler(lookup_of(blob))) as (address, _):
            client = BlobClient(agent.tls)
            got = bytearray()
            await client.fetch(address, DIGEST, len(CONTENT), got.extend, offset=offset, length=length)
            assert got == CONTENT[offset : None if length is None else offset + length]
            client.close()

    trio.run(main)


def test_an_empty_blob_arrives(serving, agent, tmp_path):
    (tmp_path / "empty").touch()

    async def main() -> None:
        async with serving(blob_handler(lambda digest: tmp_path / "empty")) as (address, _):
            client = BlobClient(agent.tls)
            assert await client.fetch(address, DIGEST, 0, pytest.fail) == 0
            client.close()

    trio.run(main)


def test_what_is_not_here_is_told_apart_from_what_went_wrong(serving, blob, agent):
    async def main() -> None:
        async with serving(blob_handler(lookup_of(blob))) as (address, _):
            client = BlobClient(agent.tls)
            with pytest.raises(NotHereError, match="does not have sha256:00"):
                await client.fetch(address, f"sha256:{'0' * 64}", 1, pytest.fail)
            with pytest.raises(CorruptError):
                await client.fetch(address, DIGEST, 1, pytest.fail)
            with pytest.raises(NetError, match="status 416"):
                await client.fetch(address, DIGEST, None, pytest.fail, offset=len(CONTENT) + 1, length=1)
            assert not client._idle

        with pytest.raises(UnreachableError):
            await client.fetch(address, DIGEST, 1, pytest.fail)

    trio.run(main)


def test_a_client_that_cannot_prove_itself_gets_no_byte_and_learns_why(serving, blob, main_node, stranger):
    async def main() -> None:
        asked = []

        def lookup(digest):
            asked.append(digest)
            return blob

        impostor = type(stranger.tls).of(
            type(stranger.credentials)(
                stranger.credentials.chain_pem, stranger.credentials.key_pem, main_node.credentials.anchor_pem, ()
            )
        )
        async with serving(blob_handler(lookup)) as (address, refused):
            for tls in (impostor, stranger.tls):
                with pytest.raises(UntrustedError, match="does not share this run's secret"):
                    await BlobClient(tls).fetch(address, DIGEST, None, pytest.fail)
            assert not asked
            with trio.fail_after(3):
                while len(refused) < 2:  # noqa: ASYNC110 - the other side sees it when it sees it
                    await trio.sleep(0.01)

    trio.run(main)


def test_a_connection_that_ended_while_nobody_used_it_is_replaced(scripted, agent):
    async def main() -> None:
        async def answer_once(stream) -> None:
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nblob")
            await stream.aclose()

        async with scripted(answer_once) as address:
            client = BlobClient(agent.tls)
            for _ in range(3):
                got = bytearray()
                await client.fetch(address, DIGEST, 4, got.extend)
                assert got == b"blob"
                await trio.sleep(0.02)
            client.close()

    trio.run(main)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", BrokenStreamError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nblo", BrokenStreamError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nblobs", RemoteError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nblob\r\n0\r\n\r\n", RemoteError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nblobs", CorruptError),
        (b"SSH-2.0-OpenSSH\r\n\r\n", RemoteError),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000, RemoteError),
        (b"HTTP/1.1 206 Partial Content\r\nContent-Length: 4\r\n\r\nblob", NetError),
        (b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n", NetError),
    ],
)
def test_an_answer_that_is_none_is_an_error_and_its_connection_is_not_used_again(scripted, agent, answer, error):
    async def main() -> None:
        async def script(stream) -> None:
            await stream.receive_some()
            await stream.send_all(answer)
            await stream.aclose()

        async with scripted(script) as address:
            client = BlobClient(agent.tls)
            with pytest.raises(error):
                await client.fetch(address, DIGEST, 4, bytearray().extend)
            assert not client._idle

    trio.run(main)


def test_a_node_asks_the_next_one_where_a_peer_answers_nonsense(scripted, serving, blob, agent, tmp_path):
    async def main() -> None:
        async def script(stream) -> None:
            await stream.receive_some()
            await stream.send_all(b"SSH-2.0-OpenSSH\r\n\r\n")
            await stream.aclose()

        store = BlobStore(tmp_path / "store")
        wanted = Blob(DIGEST, len(CONTENT))
        async with scripted(script) as odd, serving(blob_handler(lookup_of(blob))) as (good, _):
            client = BlobClient(agent.tls)
            transfers = Transfers(store, client, {"odd": [odd], "good": [good]}.__getitem__)
            with pytest.raises(MissingError, match="did not answer in HTTP"):
                await transfers.ensure(wanted, ["odd"])
            await transfers.ensure(wanted, ["odd", "good"])
            assert transfers.has(wanted)
            client.close()

    trio.run(main)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbl"])
def test_a_peer_that_falls_silent_is_given_up(scripted, agent, answer, monkeypatch):
    monkeypatch.setattr(blobs_module, "STALL_MS", 200)

    async def main() -> None:
        async def script(stream) -> None:
            await stream.send_all(answer)
            await trio.sleep_forever()

        async with scripted(script) as address:
            with pytest.raises(UnreachableError, match="sent nothing of sha256"):
                await BlobClient(agent.tls).fetch(address, DIGEST, 4, bytearray().extend)

    trio.run(main)


def test_a_fetch_that_is_cancelled_or_whose_sink_fails_leaves_no_half_read_connection(serving, blob, agent):
    async def main() -> None:
        async with serving(blob_handler(lookup_of(blob))) as (address, _):
            client = BlobClient(agent.tls)

            def full(view) -> None:
                raise OSError("disk full")

            with pytest.raises(OSError, match="disk full"):
                await client.fetch(address, DIGEST, None, full)
            with trio.CancelScope() as scope:
                await client.fetch(address, DIGEST, None, lambda view: scope.cancel())
            assert scope.cancelled_caught
            got = bytearray()
            await client.fetch(address, DIGEST, None, got.extend)
            assert got == CONTENT
            client.close()

    trio.run(main)


def test_other_targets_are_left_to_the_next_handler(serving, blob, agent, pem):
    async def status(request) -> Response:
        return Response(200, {}, f"{request.target} for {request.peer}".encode())

    async def main() -> None:
        async with serving(blob_handler(lookup_of(blob), status)) as (address, _):
            assert (await curl(address, "/status", pem(agent))).stdout == f"/status for {agent.node_id}".encode()

    trio.run(main)


async def curl(address, path, paths, *options):
    chain, key, anchor = paths
    host, port = address.split(":")
    words = (
        f"curl -s --max-time 5 --cert {chain} --key {key} --cacert {anchor} --connect-to dte.invalid:443:{host}:{port}"
    )
    command = [*words.split(), *options, f"https://dte.invalid{path}"]
    return await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)


def test_curl_with_exported_pem_files_is_a_client(serving, blob, agent, pem):
    async def main() -> None:
        async with serving(blob_handler(lookup_of(blob))) as (address, _):
            ask = partial(curl, address, PATH, pem(agent))
            assert (await ask()).stdout == CONTENT
            assert (await ask("-r", "5-9")).stdout == CONTENT[5:10]
            assert (await ask("-r", "-7")).stdout == CONTENT[-7:]
            assert (await ask("-r", f"{len(CONTENT) - 3}-")).stdout == CONTENT[-3:]
            head = (await ask("-I")).stdout.decode()
            assert "HTTP/1.1 200" in head
            assert f"Content-Length: {len(CONTENT)}\r\n" in head
            assert "Accept-Ranges: bytes\r\n" in head
            assert f'ETag: "{DIGEST[7:]}"\r\n' in head

    trio.run(main)


@pytest.mark.parametrize(
    ("wanted", "status", "content_range"),
    [
        ("bytes=0-0", 206, f"bytes 0-0/{len(CONTENT)}"),
        ("bytes=5-99999999999", 206, f"bytes 5-{len(CONTENT) - 1}/{len(CONTENT)}"),
        (f"bytes={len(CONTENT)}-", 416, f"bytes */{len(CONTENT)}"),
        ("bytes=-0", 416, f"bytes */{len(CONTENT)}"),
        ("bytes=9-5", 200, None),
        ("bytes=a-b", 200, None),
        ("bytes=-", 200, None),
        ("bytes=0-1,5-6", 200, None),
        ("lines=0-1", 200, None),
    ],
)
def test_a_range_is_served_refused_or_ignored_as_http_says(serving, blob, agent, pem, wanted, status, content_range):
    async def main() -> None:
        async with serving(blob_handler(lookup_of(blob))) as (address, _):
            ended = await curl(address, PATH, pem(agent), "-H", f"Range: {wanted}", "-D", "-", "-o", "/dev/null")
            head = ended.stdout.decode()
            assert head.startswith(f"HTTP/1.1 {status} ")
            assert (f"Content-Range: {content_range}\r\n" in head) == (content_range is not None)

    trio.run(main)


@pytest.mark.parametrize(
    ("path", "options", "status"),
    [
        (PATH, ["-X", "DELETE"], "405"),
        (PATH.upper(), [], "404"),
        (f"{PATH}0", [], "404"),
        ("/blob/sha256/../../etc/passwd", ["--path-as-is"], "404"),
        ("/", [], "404"),
        (PATH, ["-T", "/proc/self/cmdline"], "405"),
    ],
)
def test_curl_gets_a_plain_status_for_what_cannot_be(serving, blob, agent, pem, path, options, status):
    async def main() -> None:
        async with serving(blob_handler(lookup_of(blob))) as (address, _):
            ended = await curl(address, path, pem(agent), *options, "-o", "/dev/null", "-w", "%{http_code}")
            assert ended.stdout.decode() == status

    trio.run(main)


def test_curl_with_the_wrong_certificate_or_none_gets_nothing(serving, blob, main_node, stranger, pem):
    async def main() -> None:
        async with serving(blob_handler(lookup_of(blob))) as (address, refused):
            chain, key, _ = pem(stranger)
            ended = await curl(address, PATH, (chain, key, pem(main_node)[2]))
            assert ended.returncode != 0
            assert ended.stdout == b""
            with trio.fail_after(3):
                while not refused:  # noqa: ASYNC110 - the other side sees it when it sees it
                    await trio.sleep(0.01)
            assert isinstance(refused[0], UntrustedError)

    trio.run(main)


def test_a_node_takes_a_curl_that_names_no_protocol_for_http(serving, blob, agent, pem):
    async def main() -> None:
        async with serving(blob_handler(lookup_of(blob))) as (address, _):
            assert (await curl(address, PATH, pem(agent), "--no-alpn")).stdout == CONTENT

    trio.run(main)
