"""The one port on 127.0.0.1 where every tool finds its remote cache, each below a path of its own: `/nx`, `/turbo`, …

A tool can be told of it, and may ask, before it is served: then it waits.
"""

import secrets
import socket
from typing import Final

LOOPBACK: Final = "127.0.0.1"
TOKEN_BYTES: Final = 24
BACKLOG: Final = 128

NX: Final = "nx"
TURBO: Final = "turbo"


class LoopbackPort:
    """The port, and the session's random token that every request to it must carry: a run's tasks are other people's code on the same machine."""

    def __init__(self) -> None:
        self.token: Final = secrets.token_urlsafe(TOKEN_BYTES)
        self.socket: Final = socket.create_server((LOOPBACK, 0), backlog=BACKLOG)
        self._number: Final[int] = self.socket.getsockname()[1]

    def url(self, tool: str) -> str:
        """Where `tool` is to be told that its cache is."""
        return f"http://{LOOPBACK}:{self._number}/{tool}"

    def close(self) -> None:
        """Free it."""
        self.socket.close()
