"""The nx that is kept running in one workspace: worker.cjs as a process, and requests to it, any number at once.

It is started when it is first needed, or before. Where it is lost, whoever waits for it is told, and the next `start` makes another.
"""

import os
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import trio
from msgspec import Struct, field

from mesh.adapters.nx.environment import WORKER
from mesh.adapters.nx.errors import WorkerError
from mesh.adapters.nx.link import LineReader, listen
from mesh.exec.cookie import COOKIE_VARIABLE, new_cookie
from mesh.exec.ending import end_processes
from mesh.wire import canonical

START_MAX_MS: Final = 300_000
"""A cold nx on a machine that is busy with everything else takes minutes, if rarely."""
GRACE_MS: Final = 2_000
LAST_WORDS_BYTES: Final = 8 * 1024
LAST_WORDS_MS: Final = 500
REAP_MS: Final = 1_000


def _nobody(_: str) -> None:
    """Nobody listens."""


class _Call(Struct):
    said: Callable[[str], None]
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
        self._loading: trio.CancelScope | None = None
        self._process: _Process | None = None
        self.generation = 0
        """How often it has been started: what a process was told is gone with it."""

    async def start(self) -> None:
        """Have nx loaded. Raises `WorkerError` where it cannot be."""
        async with self._starting:
            if self._process is not None and self._process.lost.is_set():
                await self._end(self._process)
                self._process = None
            if self._process is None:
                with trio.CancelScope() as self._loading:
                    self._process = await self._started()
                    self.generation += 1
                if self._loading.cancelled_caught:
                    raise WorkerError("nx was ended in this workspace before it was ready")

    async def request(self, message: Mapping[str, Any], said: Callable[[str], None] = _nobody) -> Mapping[str, Any]:
        """Ask the running worker; `said` is told what it says before its reply. Raises `WorkerError` where it is gone, goes meanwhile, or cannot do what it is asked."""
        process = self._process
        if process is None:
            raise WorkerError("nx is not running in this workspace")
        return await process.request(message, said)

    async def end(self) -> None:
        """End it, and everything it started, or was about to. Whoever waits for a reply gets `WorkerError`."""
        if self._loading is not None:
            self._loading.cancel()
        async with self._starting:
            process, self._process = self._process, None
            if process is not None:
                await self._end(process)

    async def _started(self) -> "_Process":
        async with listen() as (path, listener):
            process = _Process(_spawn(self._workspace, self._environment, path))
            self._nursery.start_soon(process.listen)
            try:
                with trio.move_on_after(START_MAX_MS / 1_000):
                    await process.meet(listener)
                    self._nursery.start_soon(process.read)
                    await process.wait_ready()
                    return process
                raise process.gone(f"and was not ready within {START_MAX_MS // 1_000} s")
            except BaseException:
                with trio.CancelScope(shield=True):
                    await self._end(process)
                raise

    async def _end(self, process: "_Process") -> None:
        process.close()
        await end_processes(self.cookie, process.pid, GRACE_MS)
        await process.reap()


class _Process:
    """One start of it, from `meet` to `lost`."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdout is not None
        self._child = child
        # trio reads from a descriptor of its own: Popen would close this one behind its back.
        self._output = trio.lowlevel.FdStream(os.dup(child.stdout.fileno()))
        child.stdout.close()
        self._link: trio.SocketStream | None = None
        self._last_words: deque[bytes] = deque()
        self._sending = trio.Lock()
        self._ready = trio.Event()
        self._silent = trio.Event()
        self._calls: dict[int, _Call] = {}
        self._next = 0
        self._refusal = ""
        self.pid: Final = child.pid
        self.lost = trio.Event()

    async def meet(self, listener: trio.SocketListener) -> None:
        """Have it connect. Raises `WorkerError` where it ends before that."""
        async with trio.open_nursery() as nursery:

            async def give_up() -> None:
                await self._silent.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(give_up)
            self._link = await listener.accept()
            nursery.cancel_scope.cancel()
        if self._link is None:
            raise self.gone("before it was ready")

    async def wait_ready(self) -> None:
        """Until nx has loaded the workspace. Raises `WorkerError` where it cannot."""
        await self._ready.wait()
        if self._refusal:
            raise WorkerError(f"nx cannot load this workspace: {self._refusal}")
        if self.lost.is_set():
            raise self.gone("before it was ready")

    async def request(self, message: Mapping[str, Any], said: Callable[[str], None]) -> Mapping[str, Any]:
        if self.lost.is_set():
            raise self.gone("unexpectedly")
        self._next += 1
        number, call = self._next, _Call(said)
        self._calls[number] = call
        try:
            async with self._sending:
                await self._send(canonical.encode({**message, "call": number}) + b"\n")
            await call.done.wait()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise self.gone("unexpectedly") from None
        finally:
            del self._calls[number]
        if call.reply is None:
            raise self.gone("unexpectedly")
        if "error" in call.reply:
            raise WorkerError(f"nx could not do it: {call.reply['error']}")
        return call.reply

    async def _send(self, line: bytes) -> None:
        assert self._link is not None
        try:
            await self._link.send_all(line)
        except BaseException:
            self.close()  # half a line would garble every later one
            raise

    async def read(self) -> None:
        """Give each reply to who waits for it, until the process is gone."""
        assert self._link is not None
        lines = LineReader(self._link)
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while (message := await lines.next()) is not None:
                if "ready" in message:
                    self._refusal = message.get("error", "")
                    self._ready.set()
                elif "said" in message:
                    if call := self._calls.get(message["said"]):
                        call.said(message["text"])
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
        if self._link is not None:
            self._link.socket.close()

    async def reap(self) -> None:
        with trio.move_on_after(REAP_MS / 1_000):
            await trio.to_thread.run_sync(self._child.wait, abandon_on_cancel=True)
        await self._output.aclose()

    def gone(self, how: str) -> WorkerError:
        """The error that says so, with what it printed last."""
        words = b"".join(self._last_words)[-LAST_WORDS_BYTES:].decode(errors="replace").strip()
        return WorkerError(
            f"the nx kept running in this workspace ended {how}" + (f"; it last said:\n{words}" if words else "")
        )


def _spawn(workspace: Path, environment: Mapping[str, str], path: str) -> "subprocess.Popen[bytes]":
    node = shutil.which("node", path=environment.get("PATH"))
    if node is None:
        raise WorkerError("node was not found on PATH; install Node.js on this machine to run nx tasks here")
    return subprocess.Popen(
        # It connects by itself: a descriptor that it was given, every task of it would have as well.
        [node, str(WORKER), path],
        cwd=workspace,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
