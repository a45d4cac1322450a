"""Asks nx what it would do, and by which inputs it would know each task again, without having it run anything."""

import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import trio

from mesh.adapters.nx.environment import main_environment
from mesh.adapters.nx.errors import WorkerError
from mesh.adapters.nx.link import LineReader, listen
from mesh.adapters.nx.plan import MARK_CHARS, Plan
from mesh.wire import canonical
from mesh.wire.canonical import Reader

ASK_MS: Final = 300_000
"""A cold nx on a machine that is busy with everything else takes minutes, if rarely."""
NOWHERE: Final = "http://127.0.0.1:9"
"""No cache is asked: nx is sent away before it would."""


async def ask(
    workspace: Path, arguments: tuple[str, ...], environ: Mapping[str, str]
) -> tuple[Plan, dict[str, dict[str, str]]]:
    """Nx's plan for `nx ARGUMENTS`, and for each task its inputs: name → what stands for its value in `Plan.inputs`.

    Raises `WorkerError` where nx cannot say, and `RemoteError` where it says something that is no plan.
    """
    async with listen() as (path, listener):
        child = await trio.lowlevel.open_process(
            [os.fspath(workspace / "node_modules/.bin/nx"), *arguments],
            cwd=workspace,
            env={**main_environment(environ, path, NOWHERE, "none"), "DTE_NX_INPUTS": "named"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            with trio.fail_after(ASK_MS / 1_000):
                async with await _met(listener, child) as stream:
                    said = Reader(await LineReader(stream).next(), "nx").table("plan")
                    await stream.send_all(canonical.encode({"do": "leave"}) + b"\n")
                    await child.wait()
        except trio.TooSlowError:
            raise WorkerError(f"nx {arguments[0]} had no plan within {ASK_MS // 1_000} s") from None
        finally:
            if child.returncode is None:
                os.killpg(child.pid, signal.SIGKILL)
    plan, names = Plan.from_json(said), Reader(Reader(said, "plan").table("input_names"), "plan.input_names")
    return plan, {task: dict(zip(names.texts(task), _marks(marks), strict=True)) for task, marks in plan.inputs.items()}


def differing(inputs: Mapping[str, str], marks: str) -> list[str]:
    """The names of those `inputs` that another plan, whose `Plan.inputs` for the task are `marks`, does not have, or has with another value."""
    known = {*_marks(marks)}
    return [name for name, mark in inputs.items() if mark not in known]


def _marks(marks: str) -> list[str]:
    return [marks[at : at + MARK_CHARS] for at in range(0, len(marks), MARK_CHARS)]


async def _met(listener: trio.SocketListener, child: trio.Process) -> trio.SocketStream:
    stream = None
    async with trio.open_nursery() as nursery:

        async def give_up() -> None:
            await child.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(give_up)
        stream = await listener.accept()
        nursery.cancel_scope.cancel()
    if stream is None:
        raise WorkerError(f"nx ended with {child.returncode} before it had a plan: run it by hand to see why")
    return stream
