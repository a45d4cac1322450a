"""A command of the user's, wrapped: it has the terminal, prints and exits; what it wants done, the mesh does.

turbo      the command names turbo: dte plans by turbo's own dry run, and holds turbo's reads of its cache until the results are there
nx         any other command: every nx under it hands over its plan, and waits for results
neither    it runs as if dte were not there, and a notice says so
"""

import os
import subprocess
from collections.abc import Callable, Mapping
from typing import Final

import trio

from mesh.adapters.nx.session import MainRunner, NxSession, serve
from mesh.adapters.turbo import environment as turbo_environment
from mesh.adapters.turbo.command import TurboCommand, find
from mesh.adapters.turbo.plan import TurboPlan, plan
from mesh.adapters.turbo.session import MainTurboRunner, TurboSession
from mesh.cache.nx_chain import NxChain
from mesh.exec.cookie import COOKIE_VARIABLE
from mesh.exec.ending import end_everything
from mesh.graph import Graph
from mesh.node.headstart import HeadStart, start
from mesh.node.outlets import NxOutlet, TurboOutlet
from mesh.node.peer import Peer
from mesh.protocol import events as ev
from mesh.protocol.news import Notice

GRACE_MS: Final = 5_000
SETTLE_MS: Final = 5_000
"""How long results may still be on their way when the command that wanted them has ended well."""
LAST_WORDS_MS: Final = 60_000
"""How long a turbo that is to end may take to run the tasks that failed on agents, and to show their logs."""
LOOK_MS: Final = 200
NOT_FOUND: Final = 127
CANNOT_RUN: Final = 126

Adjust = Callable[[Graph], Graph]


class Command:
    """One wrapped command. `exit_code` is its own, None while it has not ended."""

    def __init__(self, argv: tuple[str, ...], adjust: Adjust, started: HeadStart | None = None) -> None:
        self.exit_code: int | None = None
        self._started = started
        self._argv = argv
        self._adjust = adjust
        self._planned = 0
        self._objections: list[str] = []
        """What nx was told, which says it to the user itself."""

    async def run(self, peer: Peer) -> None:
        """Run it, and close the run when it has ended."""
        if self._started is not None:
            await self._run_nx(peer, self._started)
        else:
            turbo = find(self._argv, peer.settings.workspace)
            assert turbo is not None, "what names no turbo has been started already"
            await self._run_turbo(peer, turbo)
        await self._close(peer)

    # --- nx ------------------------------------------------------------------------------------------

    async def _run_nx(self, peer: Peer, started: HeadStart) -> None:
        loopback = await peer.tools.nx_cache()

        async def handle(session: NxSession, chain: NxChain) -> None:
            await session.accept()
            session.take(
                await chain.fetch(task.key for task in session.graph.tasks.values() if task.cache and task.key)
            )
            graph = self._adjust(session.graph)
            self._planned += len(graph.tasks)
            runner = await peer.tools.nx()
            runner.load(graph)
            peer.tools.bind(graph.tasks, MainRunner(runner, session))
            outlet = NxOutlet(session, peer.tools, peer.store, peer.work.restoring, chain)
            await peer.plan(graph, outlet)
            await peer.shell.until_ended()

        async def objected(session: NxSession) -> None:
            self._objections.append(session.plan.objection)
            await session.decline(session.plan.objection)

        listener = trio.SocketListener(trio.socket.from_stdlib_socket(started.door.socket))
        async with (
            NxChain.open(peer.tools.archives, peer.store, peer.task_environ) as chain,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(serve, listener, loopback.archives, lambda session: handle(session, chain), objected)
            self.exit_code = await self._ended(peer, started.process)
            nursery.cancel_scope.cancel()

    # --- turbo ---------------------------------------------------------------------------------------

    async def _run_turbo(self, peer: Peer, turbo: TurboCommand) -> None:
        planned = await plan(turbo, peer.settings.workspace, peer.task_environ)
        for notice in planned.notices:
            peer.observer.news(Notice(notice))
        if planned.objection:
            peer.observer.news(Notice(f"turbo runs everything on this machine: {planned.objection}"))
            self.exit_code = await self._execute(peer, _without_ours(peer.task_environ))
            return
        await self._run_planned_turbo(peer, planned)

    async def _run_planned_turbo(self, peer: Peer, planned: TurboPlan) -> None:
        loopback = await peer.tools.turbo_cache()
        async with TurboSession.open(peer.nursery, planned, loopback) as session:
            graph = self._adjust(session.graph)
            self._planned += len(graph.tasks)
            peer.tools.bind(graph.tasks, MainTurboRunner(session, peer.settings.workspace))
            leader = peer.shell.node.leader
            assert leader is not None
            outlet = TurboOutlet(session, lambda: leader.brake.pulled)
            await peer.plan(graph, outlet)
            env = turbo_environment.main_environment(peer.task_environ, session.url, loopback.token)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._give_up, peer, session, outlet)
                code = await self._execute(peer, env, session.let_go)
                nursery.cancel_scope.cancel()
            # Of a turbo that was ended the code says nothing, and the verdict does.
            self.exit_code = 0 if outlet.given_up.is_set() else code
            session.command_ended(self.exit_code)
        for task in session.recovered():
            peer.observer.news(
                Notice(f"{task} failed on an agent and passed on the main job: it is flaky, or the machines differ")
            )
        for task in session.not_taken():
            peer.observer.news(
                Notice(f"{task} was done by an agent, and turbo did it again: do both have the same signature key?")
            )

        if went_on := session.ran_all_the_same(peer.settings.workspace):
            peer.observer.news(
                Notice(
                    f"turbo --continue: {', '.join(went_on)} ran on the main job, behind a failure; counted as skipped"
                )
            )

    async def _give_up(self, peer: Peer, session: TurboSession, outlet: TurboOutlet) -> None:
        """When the run has stopped early: let turbo run what failed, so that it shows that log, and end it."""
        await outlet.given_up.wait()
        with trio.move_on_after(LAST_WORDS_MS / 1000) as limit:
            # Nobody tells when a process that turbo has started is over.
            while not await session.have_ended(session.failed, peer.settings.workspace):  # noqa: ASYNC110
                await trio.sleep(LOOK_MS / 1000)
        if limit.cancelled_caught:
            text = f"turbo was ended before it had run {', '.join(session.failed)} itself; `dte logs TASK` has the log"
            peer.observer.news(Notice(text))
        await end_everything(peer.cookie)

    # --- both ----------------------------------------------------------------------------------------

    async def _close(self, peer: Peer) -> None:
        """The command has ended: so does the run, as soon as every task is accounted for."""
        leader = peer.shell.node.leader
        assert leader is not None
        if not self._planned and not self._objections:
            name = self._argv[0]
            peer.observer.news(Notice(f"nothing was distributed: no nx or turbo under `{name}` ran tasks through dte"))
        peer.shell.happen(ev.GraphsClosed())
        with trio.move_on_after(SETTLE_MS / 1000 if self.exit_code == 0 else 0):
            await peer.shell.until_ended()
        # Whoever wanted the rest is gone.
        peer.shell.happen(ev.Stop("the end of the command", unwanted=True))

    async def _execute(
        self, peer: Peer, env: Mapping[str, str], before_ending: Callable[[], None] = lambda: None
    ) -> int:
        return await self._ended(peer, start(self._argv, peer.settings.workspace, env), before_ending)

    async def _ended(
        self, peer: Peer, child: "subprocess.Popen[bytes] | OSError", before_ending: Callable[[], None] = lambda: None
    ) -> int:
        """The exit code of `child`, or of a shell that could not start it."""
        if isinstance(child, OSError):
            if isinstance(child, FileNotFoundError):
                peer.observer.news(Notice(f"{self._argv[0]}: command not found"))
                return NOT_FOUND
            peer.observer.news(Notice(f"{self._argv[0]}: {os.strerror(child.errno or 0)}"))
            return CANNOT_RUN
        try:
            code = await _wait(child)
        except trio.Cancelled:
            before_ending()
            await _end(child, peer.cookie)
            raise
        return code if code >= 0 else 128 - code


def _without_ours(environ: Mapping[str, str]) -> dict[str, str]:
    """The user's own environment, and the cookie by which what it starts is found again."""
    return {name: value for name, value in environ.items() if not name.startswith("DTE_") or name == COOKIE_VARIABLE}


async def _wait(child: "subprocess.Popen[bytes]") -> int:
    return await trio.to_thread.run_sync(child.wait, abandon_on_cancel=True)


async def _end(child: "subprocess.Popen[bytes]", cookie: str) -> None:
    with trio.CancelScope(shield=True):
        if child.poll() is None:
            child.terminate()
            with trio.move_on_after(GRACE_MS / 1000):
                await _wait(child)
        await end_everything(cookie)
        if child.poll() is None:
            child.kill()
            await _wait(child)
