"""`dte run`: plan, lead, show; and end with the exit code that one machine would have ended with."""

from collections.abc import Mapping
from dataclasses import replace

import trio

from mesh.adapters.native.plan import plan
from mesh.adapters.nx.environment import forwarded, set_by_script
from mesh.adapters.nx.plan import TOOL as NX
from mesh.cache.server import LoopbackCache
from mesh.errors import Exit, StorageError
from mesh.exec.environment import without_ours
from mesh.exec.passing import RUN_ENV, shipped
from mesh.graph import Graph
from mesh.net.address import join_address, split_address
from mesh.net.hosts import is_loopback
from mesh.node.board import Board
from mesh.node.command import Command
from mesh.node.headstart import HeadStart
from mesh.node.local_agents import LocalAgents
from mesh.node.peer import MANIFEST, Outcome, Peer
from mesh.node.settings import LISTEN_DEFAULT, Request, Settings
from mesh.node.shelf import LOGS
from mesh.node.shell import now_instant
from mesh.protocol import events as ev
from mesh.protocol.eta import remaining_ms
from mesh.protocol.news import Notice, Verdict
from mesh.store.runs import Runs, begin_here
from mesh.wire import canonical


async def run(settings: Settings, request: Request, board: Board, started: HeadStart | None = None) -> int:
    """Lead the run to its end and return its exit code; `started` is the command, where it runs already. Raises `UsageError` or `StorageError` where it cannot begin."""
    graph: Graph | None = None
    manifest: Mapping[str, str] = {}
    if not request.command:
        planned = await trio.to_thread.run_sync(
            lambda: plan(settings.workspace, request.tasks, environ=settings.environ, affected=request.affected)
        )
        for notice in planned.notices:
            board.news(Notice(notice))
        graph, manifest = planned.graph, planned.manifest
    command = Command(request.command, lambda graph, environ: _adjusted(graph, request, settings, environ), started)

    async def body(peer: Peer) -> None:
        leader = peer.shell.node.leader
        assert leader is not None
        board.foresee(lambda: remaining_ms(leader.market, now_instant()))
        peer.nursery.start_soon(board.tick)
        runs = Runs(settings.data_dir)
        pages = LoopbackCache({LOGS: peer.shelf})
        await peer.nursery.start(pages.serve)
        known = begin_here(settings.run_id, settings.workspace, pages.url(LOGS), pages.token)
        place = runs.begin(known)
        agents = LocalAgents(_agent_environment(peer), runs.agents_of(place), lambda text: board.news(Notice(text)))
        try:
            if request.agents:
                workspaces = list(request.agent_workspaces) or [settings.workspace] * request.agents
                await agents.start(request.agents, workspaces, ["--slots", str(request.agent_slots)])
                peer.nursery.start_soon(agents.watch)
            if graph is not None:
                await peer.plan(_adjusted(_with_manifest(graph, manifest, peer), request, settings))
                peer.shell.happen(ev.GraphsClosed())
            else:
                await command.run(peer)
            await peer.shell.until_ended()
        finally:
            try:
                runs.write(place, known.ended(peer.shelf.attempts))
            except StorageError as error:
                # What the run was for is done.
                board.news(Notice(f"`dte logs` will not know of this run: {error}"))
            finally:
                await agents.end()

    outcome = await Peer(settings, board, ledger=request.ledger, started=started).live(body)
    return exit_code_of(outcome, command.exit_code)


def exit_code_of(outcome: Outcome, command: int | None) -> int:
    """The command's own code, never 0 where a task failed or something is missing; a signal has the last word."""
    if outcome.signal:
        return 128 + outcome.signal
    if outcome.problem is not None:
        return int(outcome.problem.exit_code)
    if command:
        return command
    codes: dict[Verdict | None, Exit] = {"success": Exit.OK, "failure": Exit.TASK_FAILED, "error": Exit.MESH}
    return int(codes.get(outcome.end.verdict, Exit.MESH))


def _with_manifest(graph: Graph, manifest: Mapping[str, str], peer: Peer) -> Graph:
    """So that an agent whose checkout differs can say in which files."""
    blob = peer.store.put(canonical.encode(dict(manifest)))
    named = {"digest": blob.digest, "size": blob.size}
    return Graph.of(replace(task, payload={**task.payload, MANIFEST: named}) for task in graph.tasks.values())


def _adjusted(graph: Graph, request: Request, settings: Settings, environ: Mapping[str, str] | None = None) -> Graph:
    """Retries and time-outs of the command line, for tasks that have none of their own; and the variables that all are to have. `environ`: what their nx
    was started with.
    """
    named = shipped(settings.environ, request.pass_env)
    of_nx = settings.environ if environ is None else environ
    names = (*request.pass_env, *forwarded(of_nx), *set_by_script(of_nx, settings.environ))
    for_nx = shipped(of_nx, names)
    tasks = []
    for task in graph.tasks.values():
        retries = task.retries or request.retries or 0
        timeout_ms = task.timeout_ms or request.task_timeout_ms or 0
        variables = for_nx if task.tool == NX else named
        payload = {**task.payload, RUN_ENV: variables} if any(variables.values()) else task.payload
        tasks.append(replace(task, retries=retries, timeout_ms=timeout_ms, payload=payload))
    return Graph.of(tasks)


def _agent_environment(peer: Peer) -> dict[str, str]:
    kept = without_ours(peer.settings.environ, cookie=True)
    address = peer.listener.addresses[-1]
    host, _ = split_address(address)
    return {
        **kept,
        "DTE_SECRET": peer.secret.decode(errors="surrogateescape"),
        "DTE_RUN_ID": peer.settings.run_id,
        "DTE_PEER": address,
        "DTE_LISTEN": join_address(host, 0) if is_loopback(host) else LISTEN_DEFAULT,
        "DTE_DATA_DIR": str(peer.settings.data_dir),
    }
