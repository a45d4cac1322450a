"""The nx that is kept running in one workspace: worker.cjs as a process, and requests to it, any number at once.

stopped ──▶ starting ──▶ ready ──▶ lost ──▶ (at the next request) starting …
                └──▶ failed: nx cannot load this workspace, which is said to every caller
"""

import os
import shutil
import socket
import subprocess
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import trio

from mesh.adapters.nx.environment import WORKER
from mesh.adapters.nx.errors import WorkerError
from mesh.adapters.nx.lines import LineReader
from mesh.exec.ending import COOKIE_VARIABLE, end_processes, new_cookie
from mesh.wire import canonical

START_MAX_MS: Final = 300_000
"""A cold nx on a machine that is busy with everything else takes minutes, if rarely."""
GRACE_MS: Final = 2_000
LAST_WORDS_BYTES: Final = 8 * 1024
LAST_WORDS_MS: Final = 500
REAP_MS: Final = 1_000


@dataclass(slots=True)
class _Call:
    done: trio.Event = field(default_factory=trio.Event)
    reply: Mapping[str, Any] | None = None


class NxWorker:
    """One nx process, and the next one where it is lost. `nursery` holds what reads from it."""

    def __init__(self, nursery: trio.Nursery, workspace: Path, environment: Mapping[str, str]) -> None:
        self._nursery = nursery
        self._workspace = workspace
        self.cookie: Final = new_cookie(environment)
        self._environment = {**environment, COOKIE_VARIABLE: self.cookie}
        self._starting = trio.Lock()
        self._process: _Process | None = None
        self.generation = 0
        """How often it has been started: what a process was told is gone with it."""

    async def start(self) -> None:
        """Have nx loaded. Raises `WorkerError` where it cannot be."""
        async with self._starting:
            if self._process is None or self._process.lost.is_set():
                if self._process is not None:
                    await self._end(self._process)
                    self._process = None
                process = _Process.start(self._workspace, self._environment)
                self._nursery.start_soon(process.read)
                self._nursery.start_soon(process.listen)
                try:
                    await process.wait_ready()
                except BaseException:
                    with trio.CancelScope(shield=True):
                        await self._end(process)
                    raise
                self._process = process
                self.generation += 1

    async def request(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        """Ask the running worker. Raises `WorkerError` where it is gone, goes meanwhile, or cannot do what it is asked."""
        process = self._process
        if process is None:
            raise WorkerError("nx is not running in this workspace")
        return await process.request(message)

    async def end(self) -> None:
        """End it, and everything it started. Whoever waits for a reply gets `WorkerError`."""
        async with self._starting:
            process, self._process = self._process, None
            if process is not None:
                await self._end(process)

    async def _end(self, process: "_Process") -> None:
        process.close()
        await end_processes(self.cookie, process.pid, GRACE_MS)
        await process.reap()


class _Process:
    def __init__(self, child: subprocess.Popen[bytes], link: trio.SocketStream, output: trio.abc.ReceiveStream) -> None:
        self._child = child
        self._link = link
        self._output = output
        self._last_words: deque[bytes] = deque()
        self._sending = trio.Lock()
        self._ready = trio.Event()
        self._silent = trio.Event()
        self._calls: dict[int, _Call] = {}
        self._next = 0
        self._refusal = ""
        self.pid: Final = child.pid
        self.lost = trio.Event()

    @classmethod
    def start(cls, workspace: Path, environment: Mapping[str, str]) -> "_Process":
        node = shutil.which("node", path=environment.get("PATH"))
        if node is None:
            raise WorkerError("node was not found on PATH; install Node.js on this machine to run nx tasks here")
        ours, theirs = socket.socketpair()
        output, write_end = os.pipe()
        try:
            child = subprocess.Popen(
                [node, str(WORKER), str(theirs.fileno())],
                cwd=workspace,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            os.close(output)
            raise
        finally:
            theirs.close()
            os.close(write_end)
        return cls(child, trio.SocketStream(trio.socket.from_stdlib_socket(ours)), trio.lowlevel.FdStream(output))

    async def wait_ready(self) -> None:
        with trio.move_on_after(START_MAX_MS / 1_000):
            await self._ready.wait()
            if self._refusal:
                raise WorkerError(f"nx cannot load this workspace: {self._refusal}")
            if self.lost.is_set():
                raise self._gone("before it was ready")
            return
        raise self._gone(f"and was not ready within {START_MAX_MS // 1_000} s")

    async def request(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        if self.lost.is_set():
            raise self._gone("unexpectedly")
        self._next += 1
        number, call = self._next, _Call()
        self._calls[number] = call
        try:
            async with self._sending:
                await self._send(canonical.encode({**message, "call": number}) + b"\n")
            await call.done.wait()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise self._gone("unexpectedly") from None
        finally:
            del self._calls[number]
        if call.reply is None:
            raise self._gone("unexpectedly")
        if "error" in call.reply:
            raise WorkerError(f"nx could not do it: {call.reply['error']}")
        return call.reply

    async def _send(self, line: bytes) -> None:
        try:
            await self._link.send_all(line)
        except BaseException:
            self.close()  # half a line would garble every later one
            raise

    async def read(self) -> None:
        """Give each reply to who waits for it, until the process is gone."""
        lines = LineReader(self._link)
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while (message := await lines.next()) is not None:
                if "ready" in message:
                    self._refusal = message.get("error", "")
                    self._ready.set()
                elif call := self._calls.get(message["reply"]):
                    call.reply = message
                    call.done.set()
        with trio.move_on_after(LAST_WORDS_MS / 1_000):
            await self._silent.wait()
        self.lost.set()
        self._ready.set()
        for call in self._calls.values():
            call.done.set()

    async def listen(self) -> None:
        """Keep the last of what it prints: where it breaks, that is the reason."""
        size = 0
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await self._output.receive_some(LAST_WORDS_BYTES):
                self._last_words.append(bytes(data))
                size += len(data)
                while size - len(self._last_words[0]) >= LAST_WORDS_BYTES:
                    size -= len(self._last_words.popleft())
        self._silent.set()

    def close(self) -> None:
        """Let go of it, which it takes as the word to end."""
        self._link.socket.close()

    async def reap(self) -> None:
        with trio.move_on_after(REAP_MS / 1_000):
            await trio.to_thread.run_sync(self._child.wait, abandon_on_cancel=True)
        await self._output.aclose()

    def _gone(self, how: str) -> WorkerError:
        words = b"".join(self._last_words)[-LAST_WORDS_BYTES:].decode(errors="replace").strip()
        return WorkerError(
            f"the nx kept running in this workspace ended {how}" + (f"; it last said:\n{words}" if words else "")
        )
