import socket

import pytest

from mesh.errors import UsageError
from mesh.net.address import join_address, split_address
from mesh.net.hosts import is_loopback, machine_hosts


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("10.0.0.7:7946", ("10.0.0.7", 7946)),
        ("main.local:0", ("main.local", 0)),
        ("[::1]:65535", ("::1", 65535)),
        ("[fe80::1%eth0]:1", ("fe80::1%eth0", 1)),
        (":7946", ("", 7946)),
    ],
)
def test_an_address_is_host_and_port(address, parts):
    assert split_address(address) == parts
    assert join_address(*parts) == address


@pytest.mark.parametrize(
    "address",
    [
        "",
        "host",
        "host:",
        "host:65536",
        "host:-1",
        "::1:80",
        "[::1]",
        "http://host:1",
        "a b:1",
        "host:1x",
        "a..b:1",
        f"{64 * 'a'}:1",
    ],
)
def test_what_is_no_address_is_refused_with_an_example(address):
    with pytest.raises(UsageError, match="HOST:PORT is expected, such as"):
        split_address(address)


def test_loopback_is_the_last_address_of_this_machine():
    hosts = machine_hosts(socket.AF_INET)
    assert "127.0.0.1" in hosts
    assert [is_loopback(host) for host in hosts] == sorted(is_loopback(host) for host in hosts)
