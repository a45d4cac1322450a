"""Where this machine can be reached."""

import socket

import psutil


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
