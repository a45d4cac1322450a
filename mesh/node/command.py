"""A command of the user's, wrapped: it has the terminal, prints and exits; what it wants done, the mesh does.

turbo      the command is turbo itself: dte plans by turbo's own dry run, and holds turbo's reads of its cache until the results are there
any other  every nx under it hands over its plan, and waits for results; every turbo under it asks first, and then the same is done
neither    it runs as if dte were not there, and a notice says so
"""

import os
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

from mesh.adapters.nx.command import runs_once
from mesh.adapters.nx.environment import as_nx_has_it
from mesh.adapters.nx.errors import WorkerError
from mesh.adapters.nx.session import ByItself, MainRunner, NxSession, serve
from mesh.adapters.turbo import environment as turbo_environment
from mesh.adapters.turbo.call import TurboCall, serve_calls
from mesh.adapters.turbo.command import TurboCommand, direct, find, program
from mesh.adapters.turbo.launch import as_by_the_user
from mesh.adapters.turbo.plan import plan
from mesh.adapters.turbo.session import MainTurboRunner, TurboSession
from mesh.cache.nx_chain import NxChain
from mesh.errors import Exit, RemoteError
from mesh.exec.ending import end_everything
from mesh.exec.environment import without_ours
from mesh.graph import Graph
from mesh.node.headstart import HeadStart, start
from mesh.node.outlets import NxOutlet, TurboOutlet
from mesh.node.peer import Peer
from mesh.protocol import events as ev
from mesh.protocol.news import Notice, TaskEnded, TaskStatus
from mesh.types import TaskId

GRACE_MS: Final = 5_000
SETTLE_MS: Final = 5_000
"""How long results may still be on their way when the command that wanted them has ended well."""
LAST_WORDS_MS: Final = 60_000
"""How long a turbo that is to end may take to run the tasks that failed on agents, and to show their logs."""
LOOK_MS: Final = 200
ENDING_LOOK_MS: Final = 20
NOT_FOUND: Final = 127
CANNOT_RUN: Final = 126

Adjust = Callable[[Graph, Mapping[str, str] | None], Graph]
"""Gives tasks what the command line says, and variables; the other argument is what their nx was started with."""
Execute = Callable[[Mapping[str, str], Callable[[], None], Sequence[str]], Awaitable[int]]
"""Starts a command with an environment, and returns its exit code; the second argument is to be called before it is ended early, and the last is what turbo
is to be started with, nothing for what it is started with anyway.
"""


class Command:
    """One wrapped command. `exit_code` is its own, None while it has not ended."""

    def __init__(self, argv: tuple[str, ...], adjust: Adjust, started: HeadStart | None = None) -> None:
        self.exit_code: int | None = None
        self._started = started
        self._argv = argv
        self._adjust = adjust
        self._one_nx = runs_once(argv)
        self._planned = 0
        self._objections: list[str] = []
        """Why what it started was not distributed; the user has been told."""
        self._failed: list[TaskId] = []
        """Tasks that a turbo has failed for, and which nobody was given."""
        self._gave_up = False
        """A turbo, and all that started it, was ended because the run had stopped early."""
        self._calls = 0
        self._waiting: dict[TurboCall, Callable[[], None]] = {}
        """Turbos at work, each with what has to be done before it is ended."""

    async def run(self, peer: Peer) -> None:
        """Run it, and close the run when it has ended."""
        if self._started is not None:
            await self._run_any(peer, self._started)
        else:
            turbo = direct(self._argv, peer.settings.workspace)
            assert turbo is not None, "what names no turbo has been started already"
            await self._run_turbo(peer, turbo)
        await self._close(peer)

    # --- whatever is under it ------------------------------------------------------------------------

    async def _run_any(self, peer: Peer, started: HeadStart) -> None:
        loopback = await peer.tools.nx_cache()

        def told(done: ByItself) -> None:
            peer.observer.news(_by_itself(done.task, done.status, done.took_ms, cached=done.cached))

        async def handle(session: NxSession, chain: NxChain) -> None:
            await session.accept()
            session.take(
                await chain.fetch(task.key for task in session.graph.tasks.values() if task.cache and task.key)
            )
            by_the_user = as_by_the_user(session.plan.environment, started.environ, peer.task_environ)
            environ = as_nx_has_it(by_the_user, peer.task_environ)
            graph = self._adjust(session.graph, environ)
            self._planned += len(graph.tasks)
            runner = await peer.tools.nx()
            runner.load(graph, environ)
            peer.tools.bind(graph.tasks, MainRunner(runner, session))
            outlet = NxOutlet(session, peer.tools, peer.store, peer.work.restoring, chain)
            bail = "nx was told to stop then (--nxBail)" if session.plan.bail else ""
            await peer.plan(graph, outlet, bail, last=self._one_nx)
            session.tell_shown(told)
            await peer.shell.until_ended()

        async def objected(session: NxSession) -> None:
            self._object(peer, session.plan.objection, last=self._one_nx)
            await session.decline(session.plan.objection)
            with suppress(WorkerError, RemoteError):  # it may well end before it has come to its tasks' end
                await session.hear_out(told)

        listener = trio.SocketListener(trio.socket.from_stdlib_socket(started.door.socket))
        turbos_listener = trio.SocketListener(trio.socket.from_stdlib_socket(started.turbos_door.socket))
        async with (
            NxChain.open(peer.tools.archives, peer.store, peer.task_environ) as chain,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(serve, listener, loopback.archives, lambda session: handle(session, chain), objected)
            nursery.start_soon(serve_calls, turbos_listener, lambda call: self._called(peer, started, call))
            code = await self._ended(peer, started.process, self._let_go)
            self.exit_code = 0 if self._gave_up else code
            nursery.cancel_scope.cancel()

    # --- turbo ---------------------------------------------------------------------------------------

    async def _run_turbo(self, peer: Peer, turbo: TurboCommand) -> None:
        async def execute(env: Mapping[str, str], before_ending: Callable[[], None], arguments: Sequence[str]) -> int:
            argv = (self._argv[0], *arguments) if arguments else self._argv
            return await self._ended(peer, start(argv, peer.settings.workspace, env), before_ending)

        self.exit_code = await self._turbo(peer, turbo, peer.task_environ, execute, last=True)

    async def _called(self, peer: Peer, started: HeadStart, call: TurboCall) -> None:
        """A turbo somewhere under the command; the first one's tasks have their own names, later ones' a number before them, as in `2/p1#build`."""
        environ = as_by_the_user(call.environment, started.environ, peer.task_environ)
        workspace = peer.settings.workspace
        turbo = call.command(workspace)
        if turbo is not None and call.cwd != workspace:
            # It would choose other tasks than the same words where the agents work.
            peer.observer.news(Notice(f"turbo runs everything on this machine: it was started in {call.cwd}"))
            self._objections.append(str(call.cwd))
            turbo = None
        found = program(call.cwd, environ)
        if turbo is None:
            await call.run(found, without_ours(environ, cookie=True))
            return

        async def execute(env: Mapping[str, str], before_ending: Callable[[], None], arguments: Sequence[str]) -> int:
            self._waiting[call] = before_ending
            try:
                return await call.run(found, env, arguments)
            finally:
                del self._waiting[call]

        self._calls += 1
        prefix = f"{self._calls}/" if self._calls > 1 else ""
        await self._turbo(peer, turbo, environ, execute, prefix, last=find(self._argv, workspace) is not None)

    def _let_go(self) -> None:
        for let_go in self._waiting.values():
            let_go()

    async def _turbo(
        self,
        peer: Peer,
        turbo: TurboCommand,
        environ: Mapping[str, str],
        execute: Execute,
        prefix: str = "",
        *,
        last: bool = False,
    ) -> int:
        """Plan one turbo command, have `execute` start it, and give it what the mesh does meanwhile; returns its exit code. `last`: it is the only one."""
        planned = await plan(turbo, peer.settings.workspace, environ)
        for notice in planned.notices:
            peer.observer.news(Notice(notice))
        if planned.objection:
            peer.observer.news(Notice(f"turbo runs everything on this machine: {planned.objection}"))
            self._object(peer, planned.objection, last=last)
            code = await execute(without_ours(environ, cookie=True), lambda: None, ())
            for task in planned.at_hand() if code == 0 else ():
                peer.observer.news(_by_itself(TaskId(prefix + task), "success", 0, cached=True))
            return code
        loopback = await peer.tools.turbo_cache()
        async with TurboSession.open(peer.nursery, planned, loopback, prefix) as session:
            graph = self._adjust(session.graph, None)
            self._planned += len(graph.tasks)
            peer.tools.bind(graph.tasks, MainTurboRunner(session, peer.settings.workspace))
            leader = peer.shell.node.leader
            assert leader is not None
            session.elsewhere = lambda: [
                task for agent in leader.market.others() for task in agent.jobs if task in graph.tasks
            ]
            outlet = TurboOutlet(session, lambda: bool(leader.brakes.pulled()))
            await peer.plan(graph, outlet, last=last)
            env = turbo_environment.main_environment(environ, session.url, loopback.token)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._give_up, peer, session, outlet)
                if not planned.goes_on:
                    nursery.start_soon(_let_stop, session, peer.settings.workspace)
                code = await execute(
                    env, session.let_go, turbo.printing_all().arguments() if session.all_is_new() else ()
                )
                nursery.cancel_scope.cancel()
            # Of what was ended the code says nothing, and the verdict does.
            exit_code = 0 if self._gave_up else code
            session.command_ended(exit_code)
            self._failed += session.failed_by_themselves(peer.settings.workspace)
        for notice in session.afterwards(peer.settings.workspace):
            peer.observer.news(Notice(notice))
        recovered = session.recovered()
        for task, log in outlet.failed.items():
            if task in recovered or not session.has_run(task, peer.settings.workspace):
                peer.observer.unseen(task, peer.logs.pieces(log))
        return exit_code

    async def _give_up(self, peer: Peer, session: TurboSession, outlet: TurboOutlet) -> None:
        """When the run has stopped early: let turbo run what failed, so that it shows that log, and end it."""
        await outlet.given_up.wait()
        self._gave_up = True
        with trio.move_on_after(LAST_WORDS_MS / 1000) as limit:
            # Nobody tells when a process that turbo has started is over.
            while not await session.have_ended(session.failed, peer.settings.workspace):  # noqa: ASYNC110
                await trio.sleep(LOOK_MS / 1000)
        if limit.cancelled_caught:
            text = f"turbo was ended before it had run {', '.join(session.failed)} itself; `dte logs TASK` has the log"
            peer.observer.news(Notice(text))
        await end_everything(peer.cookie)

    # --- both ----------------------------------------------------------------------------------------

    def _object(self, peer: Peer, objection: str, *, last: bool) -> None:
        """What it started is not distributed; where nothing else is expected (`last`), no agent has to wait for the end of it."""
        self._objections.append(objection)
        if last:
            peer.shell.happen(ev.NothingToGive())

    async def _close(self, peer: Peer) -> None:
        """The command has ended: so does the run, as soon as every task is accounted for."""
        if self.exit_code == 0:
            for text in peer.work.remarks.missing():
                peer.observer.news(Notice(text, alike="left files among others' outputs that are not here"))
        leader = peer.shell.node.leader
        assert leader is not None
        if not self._planned and not self._objections:
            name = self._argv[0]
            peer.observer.news(
                Notice(
                    f"nothing was distributed: no nx or turbo under `{name}` ran tasks through dte{self._hint(peer)}"
                )
            )
        peer.shell.happen(ev.GraphsClosed(self.exit_code or 0))
        with trio.move_on_after(SETTLE_MS / 1000 if self.exit_code == 0 else 0):
            await peer.shell.until_ended()
        # Whoever wanted the rest is gone.
        peer.shell.happen(ev.Stop("the end of the command", unwanted=True, failed=tuple(self._failed)))

    def _hint(self, peer: Peer) -> str:
        """What may have kept an nx from being found."""
        if self._one_nx or not (peer.settings.workspace / "nx.json").is_file():
            return ""
        add = 'NODE_OPTIONS="$NODE_OPTIONS --max-old-space-size=8192"'
        return f"\nif a script sets NODE_OPTIONS anew for nx, have it add to them: {add}"

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
        except ChildProcessError:
            peer.observer.news(Notice(f"{self._argv[0]}: its exit code is not known: somebody else has asked for it"))
            return int(Exit.MESH)
        except trio.Cancelled:
            before_ending()
            await _end(child, peer.cookie)
            raise
        return code if code >= 0 else 128 - code


async def _let_stop(session: TurboSession, workspace: Path) -> None:
    """Turbo ends at its first failure, but not while one of its reads is held: when a task has failed on an agent and here too, nothing is held any more."""
    before: frozenset[TaskId] = frozenset()
    while True:
        await trio.sleep(LOOK_MS / 1000)
        begun = [task for task in session.failed if session.came_to_nothing(task, workspace)]
        over = frozenset([task for task in begun if await session.have_ended((task,), workspace)])
        # Twice, since between turbo's first line of a log and its process there is a moment.
        if over & before:
            session.let_go()
            return
        before = over


def _by_itself(task: TaskId, status: TaskStatus, took_ms: int, *, cached: bool) -> TaskEnded:
    """What nx or turbo did on the main job without the mesh, as people are told of it."""
    ran = status in ("success", "failure") and not cached
    return TaskEnded(
        task=task,
        status=status,
        agent="main" if ran or cached else "",
        attempts=int(ran),
        cache="hit" if cached else "none",
        exit_code=int(status == "failure"),
        duration_ms=took_ms,
        outputs=None,
        log=None,
        ledger_index=None,
        max_rss_bytes=0,
        problem="",
    )


async def _wait(child: "subprocess.Popen[bytes]") -> int:
    """Raises `ChildProcessError` where nobody can say how it ended, which Popen itself takes for 0."""

    def wait() -> int:
        if child.returncode is None:
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        return child.wait()

    return await trio.to_thread.run_sync(wait, abandon_on_cancel=True)


async def _end(child: "subprocess.Popen[bytes]", cookie: str) -> None:
    with trio.CancelScope(shield=True):
        if child.poll() is None:
            child.terminate()
            with trio.move_on_after(GRACE_MS / 1000):
                await _gone(child)
        await end_everything(cookie)
        if child.poll() is None:
            child.kill()
            await _gone(child)


async def _gone(child: "subprocess.Popen[bytes]") -> None:
    """Looked at and not waited for: a thread may still be waiting, and who asks second for an exit code is told that there is no such process."""
    while True:
        if child.poll() is not None:
            return
        await trio.sleep(ENDING_LOOK_MS / 1000)
