"""The one port of a node, and dialling it."""

import socket

import pytest
import trio

from mesh.errors import UsageError
from mesh.net import listener as listener_module
from mesh.net.address import split_address
from mesh.net.dialer import dial, resolve
from mesh.net.errors import NetError, NotDteError, UnreachableError, UntrustedError
from mesh.net.hosts import is_loopback
from mesh.net.http import Response
from mesh.net.link import dial_link
from mesh.net.listener import Listener


async def answer(request) -> Response:
    return Response(200, {}, str(request.peer).encode())


async def greet(link) -> None:
    link.send(link.peer.encode())
    async for _ in link.frames():
        pass


def on_listener(tls, test, addresses=("127.0.0.1:0",)) -> list[NetError]:
    """Run `test(listener)` while it serves; the errors of those who did not come in."""
    refused: list[NetError] = []

    async def main() -> None:
        with trio.fail_after(8):
            listener = await Listener.bind(addresses, tls)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(listener.serve, greet, answer, refused.append)
                await test(listener)
                nursery.cancel_scope.cancel()

    trio.run(main)
    return refused


async def linked(address, node) -> None:
    """Hold that a link to `address` works."""
    async with dial_link(address, node.tls) as link:
        assert await anext(link.frames()) == node.node_id.encode()


def test_what_both_sides_speak_decides_who_serves_the_connection(main_node, agent):
    async def test(listener) -> None:
        (address,) = listener.addresses
        await linked(address, agent)
        stream = await dial(address, agent.tls, "http/1.1")
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert agent.node_id.encode() in await stream.receive_some()
        await stream.aclose()

    assert on_listener(main_node.tls, test) == []


def test_several_addresses_and_both_families_are_served(main_node, agent):
    async def test(listener) -> None:
        assert len(listener.addresses) == 3
        for address in listener.addresses:
            await linked(address, agent)

    on_listener(main_node.tls, test, ["127.0.0.1:0", "127.0.0.2:0", "[::1]:0"])


def test_a_node_on_every_interface_advertises_each_and_loopback_last(main_node, agent):
    async def test(listener) -> None:
        hosts = [split_address(address)[0] for address in listener.addresses]
        assert "0.0.0.0" not in hosts
        assert is_loopback(hosts[-1])
        assert [is_loopback(host) for host in hosts] == sorted(is_loopback(host) for host in hosts)
        await linked(listener.addresses[0], agent)

    on_listener(main_node.tls, test, ["0.0.0.0:0"])


def test_a_port_that_is_taken_is_named(main_node):
    async def test(listener) -> None:
        (address,) = listener.addresses
        with pytest.raises(UsageError, match=f"cannot listen on {address}: another process does"):
            await Listener.bind(["127.0.0.1:0", address], main_node.tls)

    on_listener(main_node.tls, test)


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("192.0.2.1:0", "this machine has no such address; it has .*127.0.0.1"),
        ("no-such-host.invalid:0", "no name that this machine knows"),
        ("7946", "HOST:PORT is expected"),
    ],
)
def test_an_address_that_cannot_be_ours_is_named(main_node, address, problem):
    with pytest.raises(UsageError, match=problem):
        trio.run(Listener.bind, [address], main_node.tls)


def test_half_open_connections_keep_nobody_out(main_node, agent, monkeypatch):
    monkeypatch.setattr(listener_module, "HANDSHAKES_MAX", 5)

    async def test(listener) -> None:
        (address,) = listener.addresses
        silent = [await trio.open_tcp_stream(*split_address(address)) for _ in range(20)]
        for stream in silent[::2]:
            await stream.send_all(b"\x16\x03\x01\x02")
        with trio.fail_after(2):
            await linked(address, agent)
        for stream in silent:
            await stream.aclose()

    refused = on_listener(main_node.tls, test)
    assert len([error for error in refused if "was dropped" in str(error)]) >= 15
    assert {type(error) for error in refused} == {NotDteError}


def test_many_nodes_may_come_at_once(main_node, make):
    async def test(listener) -> None:
        (address,) = listener.addresses
        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(linked, address, make(f"agent-{number}"))

    assert on_listener(main_node.tls, test) == []


def test_who_is_refused_is_told_of_with_its_address(main_node, stranger):
    async def test(listener) -> None:
        (address,) = listener.addresses
        with pytest.raises(UntrustedError, match=f"{address} does not share this run's secret and run id"):
            await dial(address, stranger.tls)
        async with await trio.open_tcp_stream(*split_address(address)) as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await stream.send_eof()
            assert b"HTTP" not in b"".join([bytes(part) async for part in stream])

    refused = on_listener(main_node.tls, test)
    assert [type(error) for error in refused] == [UntrustedError, NotDteError]
    assert all(error.remote.startswith("127.0.0.1:") for error in refused)


def test_a_listener_that_has_closed_frees_its_port(main_node):
    async def main() -> None:
        listener = await Listener.bind(["127.0.0.1:0"], main_node.tls)
        await listener.aclose()
        again = await Listener.bind(listener.addresses, main_node.tls)
        await again.aclose()

    trio.run(main)


def test_a_refused_connection_is_told_with_what_to_check(agent):
    async def main() -> None:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{bound.getsockname()[1]}"
            with pytest.raises(UnreachableError, match=f"{address} refused the connection: nothing listens there"):
                await dial(address, agent.tls)

    trio.run(main)


@pytest.mark.parametrize("call", [dial, lambda address, tls: resolve(address)])
@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("no-such-host.invalid:1", "cannot be resolved to an address: check the name"),
        ("nonsense from a peer", "cannot be dialled"),
        ("a..b:1", "cannot be dialled"),
        ("\u2603\u200d.example:1", "is no host name"),
    ],
)
def test_a_name_that_leads_nowhere_is_told(agent, call, address, problem):
    async def main() -> None:
        with pytest.raises(UnreachableError, match=problem):
            await call(address, agent.tls)

    trio.run(main)


def test_a_node_that_does_not_answer_is_given_up_in_time(agent):
    async def main() -> None:
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            address = f"127.0.0.1:{full.getsockname()[1]}"
            with pytest.raises(UnreachableError, match=r"TLS handshake in|did not answer in"):
                await dial(address, agent.tls, timeout_ms=200)

    trio.run(main)


def test_every_address_behind_a_name_is_found_once():
    async def main() -> None:
        assert await resolve("127.0.0.1:5") == ["127.0.0.1:5"]
        assert set(await resolve("localhost:5")) <= {"127.0.0.1:5", "[::1]:5"}

    trio.run(main)


def test_a_name_with_a_dead_address_still_leads_to_the_living_one(main_node, agent, monkeypatch):
    async def test(listener) -> None:
        (address,) = listener.addresses
        port = split_address(address)[1]

        class TwoAddresses(trio.abc.HostnameResolver):
            async def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):  # noqa: A002 - its name in the interface
                tcp = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
                return [(*tcp, ("127.0.0.9", port)), (*tcp, ("127.0.0.1", port))]

            async def getnameinfo(self, sockaddr, flags):
                raise NotImplementedError

        trio.socket.set_custom_hostname_resolver(TwoAddresses())
        assert await resolve(f"peers.example:{port}") == [f"127.0.0.9:{port}", f"127.0.0.1:{port}"]
        await linked(f"peers.example:{port}", agent)

    on_listener(main_node.tls, test)
