"""Addresses as people write them, "HOST:PORT", with brackets around an IPv6 host."""

import re
from typing import Final

from mesh.errors import UsageError

PORT_MAX: Final = 65_535
_ADDRESS: Final = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+(?:%\w+)?)\]|(?P<host>[^\[\]:/\s]*)):(?P<port>[0-9]{1,5})")


def split_address(address: str) -> tuple[str, int]:
    """Host and port. Raises `UsageError`."""
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match["port"]) > PORT_MAX or not _may_be_name(match["host"] or ""):
        raise UsageError(
            f"{address!r} is no address: HOST:PORT is expected, such as 10.0.0.7:7946, main.local:7946 or [::1]:7946"
        )
    return match["ipv6"] or match["host"], int(match["port"])


def _may_be_name(host: str) -> bool:
    """Not one with an empty label, or one that is too long: to look it up would raise."""
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return True


def check_peer(text: str) -> str:
    """`text`, if it is an address that can be dialled: HOST:PORT with both. Raises `UsageError`."""
    host, port = split_address(text)
    if not host or not port:
        raise UsageError(f"{text!r} is no address of a peer: HOST:PORT was expected, with a port that is not 0")
    return text


def join_address(host: str, port: int) -> str:
    """What `split_address` splits."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
