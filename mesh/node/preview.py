"""What a command or native tasks would run, without running it: what `dte plan` predicts from."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import trio
from msgspec import Struct

from mesh.adapters.native.affected import Range
from mesh.adapters.native.plan import plan as native_plan
from mesh.adapters.nx.plan import nx_id
from mesh.adapters.nx.session import NxSession, serve
from mesh.adapters.turbo.call import TurboCall, serve_calls
from mesh.adapters.turbo.command import TurboCommand, direct, program
from mesh.adapters.turbo.launch import as_by_the_user
from mesh.adapters.turbo.plan import plan as turbo_plan
from mesh.cache.nx import NxCache
from mesh.errors import UsageError
from mesh.graph import Graph
from mesh.node.headstart import HeadStart, head_start
from mesh.store.blobs import BlobStore
from mesh.store.home import home
from mesh.types import TaskId


class Preview(Struct, frozen=True):
    """All tasks of it; `cached` are those whose result is on this machine already."""

    graph: Graph
    cached: frozenset[TaskId] = frozenset()
    notices: tuple[str, ...] = ()


def preview(
    workspace: Path, command: tuple[str, ...], tasks: tuple[str, ...], range_: Range | None, environ: Mapping[str, str]
) -> Preview:
    """Raises `UsageError` where there is nothing that could be planned."""
    if not command:
        planned = native_plan(workspace, tasks, environ=environ, affected=range_)
        return Preview(planned.graph, notices=planned.notices)
    turbo = direct(command, workspace)
    if turbo is not None:
        return trio.run(_of_turbo, turbo, workspace, environ)
    with head_start(command, workspace, environ, sys.stderr.fileno(), whole=True) as started:
        return trio.run(_of_any, command[0], workspace, started, environ)


async def _of_turbo(turbo: TurboCommand, workspace: Path, environ: Mapping[str, str]) -> Preview:
    planned = await turbo_plan(turbo, workspace, environ)
    if planned.objection:
        raise UsageError(f"turbo would run everything on this machine: {planned.objection}")
    return Preview(planned.to_graph(), frozenset(TaskId(task) for task in planned.local()), planned.notices)


async def _of_any(name: str, workspace: Path, started: HeadStart, environ: Mapping[str, str]) -> Preview:
    process = started.process
    if isinstance(process, OSError):
        raise UsageError(f"{name}: {os.strerror(process.errno or 0)}")
    found: list[Preview] = []

    async def handle(session: NxSession) -> None:
        notices = (session.plan.objection,) if session.plan.objection else ()
        graph = session.plan.to_graph(session.prefix, whole=True)
        cached = frozenset(task.id for task in graph.tasks.values() if nx_id(task) in session.plan.local)
        found.append(Preview(graph, cached, notices))
        await session.leave()

    async def handle_turbo(call: TurboCall) -> None:
        users = as_by_the_user(call.environment, started.environ, dict(environ))
        turbo = call.command(workspace) if call.cwd == workspace else None
        if turbo is None:
            await call.run(program(call.cwd, users), users)
            return
        planned = await turbo_plan(turbo, workspace, users)
        prefix = f"{len(found) + 1}/" if found else ""
        local = frozenset(TaskId(prefix + task) for task in planned.local())
        found.append(Preview(planned.to_graph(prefix=prefix), local, (*planned.notices, planned.objection)))
        await call.leave()

    turbos_listener = trio.SocketListener(trio.socket.from_stdlib_socket(started.turbos_door.socket))
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(started.door.socket))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, listener, NxCache(BlobStore(home() / "blobs")), handle, handle)
        nursery.start_soon(serve_calls, turbos_listener, handle_turbo)
        code = await trio.to_thread.run_sync(process.wait, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()
    if not found:
        raise UsageError(f"no nx or turbo under `{name}` told of its tasks (exit code {code})")
    tasks = [task for each in found for task in each.graph.tasks.values()]
    notices = tuple(dict.fromkeys(notice for each in found for notice in each.notices if notice))
    return Preview(Graph.of(tasks), frozenset().union(*(each.cached for each in found)), notices)
