"""One turbo that was started somewhere under the user's command, and asks how.

shim.py asks ──▶ `run`: with this environment and these arguments; its exit code comes back
             └─▶ `leave`: not at all
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

from mesh.adapters.nx.link import LineReader
from mesh.adapters.turbo.command import TurboCommand, find
from mesh.errors import RemoteError
from mesh.wire import canonical
from mesh.wire.canonical import Reader

_GONE: Final = 137
"""Its exit code where it was killed, and could not tell."""
_ASK_MS: Final = 10_000
_INSIDE: Final = "TURBO_HASH"
"""Set for every task of turbo's."""
_TRUE: Final = "/bin/true"


class TurboCall:
    """`environment` is what it was started with."""

    def __init__(self, stream: trio.abc.Stream, lines: LineReader, asked: Mapping[str, object]) -> None:
        read = Reader(dict(asked), "call")
        self.argv: Final = read.texts("argv")
        self.cwd: Final = Path(read.text("cwd"))
        self.environment: Final[dict[str, str]] = dict(read.string_table("environment"))
        self._stream = stream
        self._lines = lines

    def command(self, workspace: Path) -> TurboCommand | None:
        """What it says to turbo; None where that is no run, or one inside a task of turbo's."""
        return None if _INSIDE in self.environment else find(("turbo", *self.argv), workspace)

    async def run(self, program: Path | None, environment: Mapping[str, str], arguments: Sequence[str] = ()) -> int:
        """Have it run `program`, or turbo's own script where it is not known, with its own arguments unless others are given; returns its exit code."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError, RemoteError):
            answer = {
                "program": str(program or ""),
                "environment": dict(environment),
                "arguments": list(arguments),
            }
            await self._stream.send_all(canonical.encode(answer) + b"\n")
            ended = await self._lines.next()
            if ended is not None:
                return Reader(ended, "end").number("exit_code")
        return _GONE

    async def leave(self) -> None:
        """Have it end well without having done anything."""
        await self.run(Path(_TRUE), {})


async def serve_calls(listener: trio.SocketListener, handle: Callable[[TurboCall], Awaitable[None]]) -> None:
    """Have `handle` answer each turbo that asks, until cancelled."""

    async def connected(stream: trio.SocketStream) -> None:
        lines = LineReader(stream)
        with suppress(RemoteError, trio.BrokenResourceError):
            with trio.move_on_after(_ASK_MS / 1_000):
                asked = await lines.next()
                if asked is None:
                    return
                call = TurboCall(stream, lines, asked)
            await handle(call)

    await trio.serve_listeners(connected, [listener])
