"""Addresses as people write them, "HOST:PORT", with brackets around an IPv6 host."""

import re
import socket
from typing import Final

import psutil

from mesh.errors import UsageError

PORT_MAX: Final = 65_535
_ADDRESS: Final = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+(?:%\w+)?)\]|(?P<host>[^\[\]:/\s]*)):(?P<port>[0-9]{1,5})")


def split_address(address: str) -> tuple[str, int]:
    """Host and port. Raises `UsageError`."""
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match["port"]) > PORT_MAX:
        raise UsageError(
            f"{address!r} is no address: HOST:PORT is expected, such as 10.0.0.7:7946, main.local:7946 or [::1]:7946"
        )
    return match["ipv6"] or match["host"], int(match["port"])


def join_address(host: str, port: int) -> str:
    """What `split_address` splits."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def machine_hosts(family: socket.AddressFamily) -> list[str]:
    """The addresses of this machine that others may reach it by; loopback is last, for those on the same machine."""
    found = dict.fromkeys(
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        # A link-local address means nothing without the name of the reader's own interface.
        if address.family == family and not address.address.startswith(("fe80:", "169.254."))
    )
    return sorted(found, key=is_loopback)


def is_loopback(host: str) -> bool:
    """Whether only this machine itself can reach `host`."""
    return host == "::1" or host.startswith("127.")
