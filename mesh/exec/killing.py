"""SIGKILL to all that carries a cookie, with nothing but the standard library: for a signal handler, which may interrupt whatever is being loaded."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from mesh.exec.cookie import COOKIE_VARIABLE

WAIT_MS: Final = 10_000
"""How long that may take. Only a process that hangs in the kernel, or one of another user, is still there after it."""
_POLL_MS: Final = 1


def kill_everything(cookie: str) -> None:
    """End every process that carries `cookie` or an extension of it, those that are started meanwhile as well; returns when they are gone."""
    deadline = time.monotonic() + WAIT_MS / 1_000
    while (found := [*_carriers(cookie)]) and time.monotonic() < deadline:
        for pid in found:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_POLL_MS / 1_000)  # nobody tells of the end of a process that is not our child


def _carriers(cookie: str) -> Iterator[int]:
    """Those that live: one that has ended has no environment any more."""
    whole = f"{COOKIE_VARIABLE}={cookie}".encode()
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            with suppress(OSError):
                variables = (place / "environ").read_bytes().split(b"\0")
                if any(each == whole or each.startswith(whole + b"/") for each in variables):
                    yield int(place.name)
