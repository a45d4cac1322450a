"""One node of a run, put together: identity, port, links, store, core; and taken apart again in the right order.

meet ──▶ live until the core ends (or a person stops it) ──▶ end what runs here ──▶ flush the links ──▶ gone
"""

import hashlib
import secrets
import signal
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, assert_never, get_args

import trio
from msgspec import Struct
from msgspec.structs import replace

from mesh.adapters.native.drift import drift
from mesh.adapters.turbo.drift import drift as turbo_drift
from mesh.cache.port import TURBO
from mesh.errors import MeshError, RemoteError, StorageError, UsageError
from mesh.exec.cookie import COOKIE_VARIABLE, new_cookie
from mesh.exec.ending import end_everything
from mesh.exec.machine import memory_bytes
from mesh.exec.packages import package_facts
from mesh.exec.workspace import facts
from mesh.graph import Graph, Task
from mesh.identity.authority import Authority
from mesh.identity.keys import NodeKey
from mesh.net.address import split_address
from mesh.net.blobs import BlobClient, blob_handler
from mesh.net.errors import NetError
from mesh.net.http import Request, Response
from mesh.net.link import Link
from mesh.net.listener import Listener
from mesh.net.rendezvous import Rendezvous
from mesh.net.tls import Tls
from mesh.node.delivery import Deliveries
from mesh.node.headstart import HeadStart, ending_signals
from mesh.node.links import Links, Listeners
from mesh.node.logs import LogBook
from mesh.node.outlets import Outlet
from mesh.node.remarks import Remarks
from mesh.node.settings import Settings
from mesh.node.shelf import LOGS, LogShelf
from mesh.node.shell import Shell, now_instant
from mesh.node.targets import beside
from mesh.node.timings import Timings
from mesh.node.tools import Tools
from mesh.node.transfers import MissingError, Transfers
from mesh.node.work import Work
from mesh.protocol import effects as fx
from mesh.protocol import events as ev
from mesh.protocol.news import News, Notice, Verdict
from mesh.protocol.node import Config, Node
from mesh.store.blobs import BlobStore
from mesh.store.ledger_dir import LedgerDirectory
from mesh.store.results import Results
from mesh.types import Blob, Digest, NodeId, TaskId
from mesh.wire import canonical, codec
from mesh.wire.canonical import Reader
from mesh.wire.messages import Log

MANIFEST: Final = "manifest"
"""Where a native task's payload names the blob that lists the main job's files."""
RENDEZVOUS_MS: Final = 500
OPEN_MIN_MS: Final = 1_000
"""A main job that others may join is there for at least this long: twice the interval at which agents try."""
REFUSED_MAX_MS: Final = 15_000
"""A node that nobody trusts gives up after this long: a wrong secret does not become right."""


class Observer(Protocol):
    """Whoever is told of a run. Neither waits nor raises."""

    def news(self, item: News) -> None:
        """Something has happened."""

    def log(self, task: TaskId, attempt: int, data: bytes) -> None:
        """The next bytes of what an attempt of a task has written."""

    def unseen(self, task: TaskId, log: Iterable[bytes]) -> None:
        """What a failed task has written, and what the tool that was to print it has not."""


class Outcome(Struct):
    """How a node's life ended."""

    end: fx.End
    signal: int = 0
    """The signal that ended it, or 0."""
    problem: MeshError | None = None


class Identity(Struct):
    """Who a node is in its run."""

    authority: Authority
    key: NodeKey
    tls: Tls
    config: Config


@dataclass(slots=True)
class Peer:
    """A running node; `body` is what is done beside living: planning, for a main job."""

    settings: Settings
    observer: Observer
    ledger: Path | None = None
    started: HeadStart | None = None
    """A wrapped command that runs already."""
    identity: Identity = field(init=False)
    shell: Shell = field(init=False)
    links: Links = field(init=False)
    tools: Tools = field(init=False)
    transfers: Transfers = field(init=False)
    work: Work = field(init=False)
    deliveries: Deliveries = field(init=False)
    logs: LogBook = field(init=False)
    shelf: LogShelf = field(init=False)
    timings: Timings = field(init=False)
    listener: Listener = field(init=False)
    store: BlobStore = field(init=False)
    secret: bytes = field(init=False, repr=False)
    cookie: str = field(init=False)
    task_environ: dict[str, str] = field(init=False, repr=False)
    """What tools are started from: this node's own, with the cookie by which everything that was started is found."""
    nursery: trio.Nursery = field(init=False, repr=False)
    _ledger: LedgerDirectory | None = field(init=False, default=None)
    _refused: NetError | None = field(init=False, default=None)
    """Why the first peer that did not trust this agent said it would not."""
    _began: float = field(init=False, default=0.0)
    _met: bool = field(init=False, default=False)
    _outcome: Outcome | None = field(init=False, default=None)
    _told: dict[str, None] = field(init=False, default_factory=dict)

    async def live(self, body: Callable[["Peer"], Awaitable[None]]) -> Outcome:
        """Join the run, do `body`, and stay until it is over. Raises `UsageError` or `StorageError` where it cannot begin."""
        settings = self.settings
        self.secret = settings.secret if settings.secret is not None else secrets.token_hex(32).encode()
        self.cookie = self.started.cookie if self.started else new_cookie(settings.environ)
        self.store = BlobStore(settings.data_dir / "blobs")
        if self.ledger is not None:
            self._ledger = LedgerDirectory(self.ledger, settings.run_id)
        authority = Authority.derive(self.secret, settings.run_id)
        key = NodeKey.from_seed(secrets.token_bytes(32))
        credentials = authority.issue(key, settings.name)
        tls = Tls.of(credentials)
        self.listener = await Listener.bind(settings.listen, tls)
        async with trio.open_nursery() as outside:
            # Signals are heard to the very end: nothing that was started may outlive this process because somebody is impatient.
            outside.start_soon(self._signals)
            try:
                async with trio.open_nursery() as self.nursery:
                    self._put_together(authority, key, credentials.chain_der, tls)
                    await self._run(body)
            finally:
                with trio.CancelScope(shield=True):
                    await self._let_go()
            outside.cancel_scope.cancel()
        assert self._outcome is not None
        return self._outcome

    async def _let_go(self) -> None:
        """End and close everything, whatever state it is in."""
        await self.listener.aclose()
        self.shell.close()
        await self.timings.keep()
        await self.tools.aclose()
        await end_everything(self.cookie)

    def _put_together(self, authority: Authority, key: NodeKey, chain: tuple[bytes, ...], tls: Tls) -> None:
        settings, nursery = self.settings, self.nursery
        config = Config(
            run_id=settings.run_id,
            key=key,
            chain=chain,
            root_public=authority.root_public,
            name=settings.name,
            role=settings.role,
            slots=settings.slots,
            incarnation=1,
            addresses=self.listener.addresses,
            labels=settings.labels,
            facts=_facts(settings),
            workspace=_workspace_id(settings.workspace),
            wait_ms=settings.wait_ms,
            main_slots=settings.main_slots,
            fail_after=settings.fail_after,
            kill=settings.kill,
            stall_after_ms=settings.stall_after_ms,
            keep_agents=settings.keep_agents,
        )
        self.identity = Identity(authority, key, tls, config)
        node = Node(config, now_instant())
        self.shell = Shell(node, self._perform, settings.trace)
        tell = Listeners(self._link_up, self._link_down, self._frame, self._notice, self._was_refused)
        self.links = Links(key.node_id, tls, nursery, tell)
        self.transfers = Transfers(self.store, BlobClient(tls), node.membership.addresses)
        self.task_environ = {**settings.environ, COOKIE_VARIABLE: self.cookie}
        self.tools = Tools(
            nursery,
            settings.workspace,
            self.store,
            run_id=settings.run_id,
            cookie=self.cookie,
            environ=self.task_environ,
            port=self.started.port if self.started else None,
        )
        self.timings = Timings(settings.data_dir, settings.workspace, self._notice)
        # A secret that was made for one run signs nothing that a later run could check: such results stay this machine's own.
        domain = authority.root_public if settings.secret is not None else "local"
        results = Results(settings.data_dir / "results")
        self.work = Work(
            nursery,
            self._worked,
            self._told_as,
            self._send_log,
            self.tools,
            self.transfers,
            results,
            domain,
            lambda tasks: Remarks(
                settings.workspace, tasks, settings.role == "main", node.shares_main, node.works_alone
            ),
        )
        self.logs = LogBook(self.store, self.observer.log)
        self.shelf = LogShelf(self.store, self.logs.read)
        self.deliveries = Deliveries(nursery, self.shell.happen, self.tools, self.transfers, self.work, self.logs)

    async def _run(self, body: Callable[["Peer"], Awaitable[None]]) -> None:
        nursery = self.nursery
        ahead_s = time.monotonic() - self.started.at_s if self.started else 0
        self._began = trio.current_time() - ahead_s
        handler = blob_handler(self.store.find, self._status)
        async with trio.open_nursery() as port:
            port.start_soon(self.listener.serve, self.links.accepted, handler, self._stranger)
            nursery.start_soon(self.shell.clock)
            nursery.start_soon(self.work.send_logs)
            for address in self.settings.peers:
                self.links.keep(address)
            if self.settings.rendezvous is not None:
                nursery.start_soon(self._meet, Rendezvous(self.settings.rendezvous, run_tag(self.settings.run_id)))
            nursery.start_soon(self._body, body)
            end = await self.shell.until_ended()
            if self._outcome is None:
                # That nobody came in time is no good end where somebody was there and did not trust us.
                refused = None if self._met else self._refused
                self._outcome = Outcome(end)
                if refused is not None:
                    end = fx.End(end.verdict, f"{end.reason}; who was found does not trust this agent: {refused}")
                    self._outcome = Outcome(end, problem=UsageError(end.reason))
            await self._linger()
            await self.links.flush()
            port.cancel_scope.cancel()
        nursery.cancel_scope.cancel()

    async def _linger(self) -> None:
        """Agents that start together with a very short run would find nobody, and wait for a main job that has been and gone."""
        if self._leaves_word():
            return
        if self.settings.role == "main" and self.settings.secret is not None and self._outcome_is_calm():
            self.shell.lingering = True
            await self.links.flush()
            await trio.sleep_until(self._began + OPEN_MIN_MS / 1000)

    def _leaves_word(self) -> bool:
        """Whether those who come too late can read that this run is over. `local` is the name of every run that nobody has named: the next one must
        not be taken for this.
        """
        return self.settings.rendezvous is not None and self.settings.run_id.partition("/")[0] != "local"

    def _outcome_is_calm(self) -> bool:
        return self._outcome is not None and not self._outcome.signal and self._outcome.problem is None

    async def _body(self, body: Callable[["Peer"], Awaitable[None]]) -> None:
        try:
            await body(self)
        except MeshError as error:
            self._fail(error)

    def _fail(self, error: MeshError) -> None:
        """This node cannot go on: the run, or this agent's part in it, is stopped in the proper way."""
        if self._outcome is None:
            self._outcome = Outcome(
                fx.End("error" if self.settings.role == "main" else None, str(error)), problem=error
            )
            if self.settings.role == "main":
                # Now: once the run has ended nobody is told anything more.
                self.observer.news(Notice(str(error)))
        self.shell.happen(ev.Stop("an error", broken=True))

    # --- effects -------------------------------------------------------------------------------------

    def _perform(self, effect: fx.Effect) -> None:
        match effect:
            case fx.Send(peer, message):
                self.links.send(peer, codec.encode(message))
            case fx.Tell(news):
                self.timings.hear(news)
                self.shelf.hear(news)
                self.work.remarks.hear(news)
                self.observer.news(news)
            case fx.Prepare():
                self.work.prepare(effect)
            case fx.Execute():
                self.work.execute(effect)
            case fx.Deliver():
                self.deliveries.deliver(effect)
            case fx.LookAtLog(task, attempt):
                self.shell.happen(ev.Heard(task, attempt, *self.logs.last_of(task, attempt)))
            case fx.FetchLog():
                self.deliveries.fetch_log(effect)
            case fx.WriteLedger(files, removed):
                self._write_ledger(files, removed)
            case fx.Keep():
                self.work.keep(effect)
            case fx.Kill():
                self.work.kill(effect)
            case fx.Connect(peer, addresses):
                self.links.keep_peer(peer, addresses)
            case fx.Disconnect(peer, reason):
                self.links.close(peer, reason)
            case fx.FetchGraph():
                self.nursery.start_soon(self._fetch_graph, effect)
            case fx.Check():
                self.nursery.start_soon(self._check, effect)
            case fx.End():
                raise AssertionError("the shell keeps the end to itself")
            case _:
                assert_never(effect)

    def _worked(self, event: ev.Event) -> None:
        """An agent's own log shows what it does; on a main job the leader tells."""
        if self.settings.role == "agent":
            match event:
                case ev.TaskFinished(task, _, run):
                    self.timings.ran(task, run)
                    took_s = (run.ended_ms - run.started_ms) / 1000
                    how = "from an earlier run" if run.cache == "hit" else f"{took_s:.1f} s"
                    code = "" if run.status == "success" else f", exit code {run.exit_code}"
                    self.observer.news(
                        Notice(f"{task}: {run.status} ({how}{code}){': ' + run.problem if run.problem else ''}")
                    )
                case ev.Handed(task, _, reason):
                    self.observer.news(Notice(f"{task}: handed back: {reason}"))
                case _:
                    pass
        self.shell.happen(event)

    def _write_ledger(self, files: Mapping[str, bytes], removed: tuple[str, ...]) -> None:
        if self._ledger is None:
            return
        try:
            self._ledger.write(files, removed)
        except StorageError as error:
            # A run whose record cannot be kept is not the run that was asked for.
            self._ledger = None
            self._fail(error)

    async def _fetch_graph(self, effect: fx.FetchGraph) -> None:
        try:
            await self.transfers.ensure(effect.blob, effect.holders)
            path = self.store.find(effect.blob.digest)
            if path is None:
                raise MissingError("it has just been removed from the store")
            data = path.read_bytes()
        except MissingError as error:
            self.shell.happen(ev.GraphUnfetched(effect.blob, str(error)))
        except StorageError as error:
            self._fail(error)
        else:
            self.shell.happen(ev.GraphFetched(effect.blob, data))

    async def _check(self, effect: fx.Check) -> None:
        """Compare a graph with this checkout. A main job has made it from its own, and only looks for stored results."""
        graph = effect.graph
        self.work.know(graph)
        cannot: dict[TaskId, str] = {}
        if self.settings.role == "agent":
            cannot = {**await self._drift(graph), **await self._turbo_drift(graph), **await self.tools.load(graph)}
            cannot |= self._beside(graph)
        cached = await trio.to_thread.run_sync(self.work.cached, graph)
        estimates = await self.timings.estimates(graph)
        self.shell.happen(ev.Checked(effect.digest, cannot, cached, estimates))

    def _beside(self, graph: Graph) -> dict[TaskId, str]:
        targets = self.settings.targets
        found = beside(targets, graph.tasks)
        if len(found) == len(graph.tasks) > 0:
            tasks = f"none of the {len(found)} tasks" if len(found) > 1 else f"not the one task, {next(iter(found))},"
            self._notice(f"{tasks} of the main job is meant by --targets {','.join(targets)}")
        return found

    async def _drift(self, graph: Graph) -> dict[TaskId, str]:
        native = [task for task in graph.tasks.values() if task.tool == "native"]
        if not native:
            return {}
        try:
            differing = await self._compare(graph, None)
            return await self._compare(graph, await self._manifest(native[0])) if differing else {}
        except MeshError as error:
            return {task.id: str(error) for task in native}

    async def _turbo_drift(self, graph: Graph) -> dict[TaskId, str]:
        tasks = [task.id for task in graph.tasks.values() if task.tool == TURBO]
        if not tasks:
            return {}
        if self.shell.node.shares_main():
            why = "turbo rewrites restored files in place, and this agent works in the main job's own checkout"
            return dict.fromkeys(tasks, why)
        try:
            return await turbo_drift(self.settings.workspace, graph, self.task_environ)
        except MeshError as error:
            return dict.fromkeys(tasks, str(error))

    async def _compare(self, graph: Graph, manifest: Mapping[str, str] | None) -> dict[TaskId, str]:
        environ = dict(self.settings.environ)
        return await trio.to_thread.run_sync(lambda: drift(self.settings.workspace, graph, manifest, environ=environ))

    async def _manifest(self, task: Task) -> Mapping[str, str] | None:
        """The main job's files, to say which differ; without it the difference is told all the same, less exactly."""
        main = self.shell.node.main
        named = task.payload.get(MANIFEST)
        if main is None or not isinstance(named, dict):
            return None
        try:
            blob = Blob(Digest(Reader(named, MANIFEST).text("digest")), Reader(named, MANIFEST).number("size"))
            await self.transfers.ensure(blob, (main,))
            path = self.store.find(blob.digest)
            return (
                None
                if path is None
                else Reader({"files": canonical.decode(path.read_bytes())}, MANIFEST).string_table("files")
            )
        except (MissingError, StorageError, RemoteError):
            return None

    # --- what a main job plans -----------------------------------------------------------------------

    async def plan(self, graph: Graph, outlet: Outlet | None = None, bail: str = "", *, last: bool = False) -> None:
        """Take a graph into the run; `outlet` is the tool that wants its results, if there is one, `bail` why its first failure is its end, and `last`
        says that no other is expected.
        """
        if outlet is not None:
            self.deliveries.through(outlet, graph.tasks)
        if not graph.tasks:
            return
        blob = self.store.put(graph.encode())
        self.work.know(graph)
        self.shell.happen(ev.GraphPlanned(blob, graph, bail, last))

    # --- peers ---------------------------------------------------------------------------------------

    def _link_up(self, link: Link) -> None:
        self._met = True
        host, _ = split_address(link.remote)
        self.shell.happen(ev.LinkUp(link.peer, host, link.certificate))

    def _link_down(self, peer: NodeId, reason: str) -> None:
        self.links.dialling = not self.shell.node.leaving
        self.shell.happen(ev.LinkDown(peer, reason))

    def _frame(self, peer: NodeId, frame: bytes) -> None:
        try:
            message = codec.decode(frame)
        except RemoteError as error:
            self.links.close(peer, str(error))
            self._notice(f"peer {peer[:8]} was cut off: {error}")
            return
        if isinstance(message, Log):
            # The core hears that its sender is there, and nothing else of it.
            self.shell.happen(ev.Received(peer, replace(message, data="")))
            self._show_log(peer, message)
        elif message is not None:
            self.shell.happen(ev.Received(peer, message))

    def _show_log(self, node: NodeId, message: Log) -> None:
        """What comes late, of an attempt that does not count any more, would be taken for more of a task that is over."""
        leader = self.shell.node.leader
        state = leader.market.tasks.get(message.task) if leader is not None else None
        if state is not None and state.live(node, message.attempt) is not None:
            self.logs.piece(message)

    def _told_as(self, task: TaskId) -> int:
        """The main job knows what runs here by the award that is valid now. What it cannot be told at once waits here, and delays neither beats nor results."""
        job, main = self.shell.node.worker.jobs.get(task), self.shell.node.main
        if job is None or main is None or (main != self.identity.key.node_id and not self.links.has_room(main)):
            return 0
        return job.award.attempt

    def _send_log(self, message: Log) -> None:
        main, me = self.shell.node.main, self.identity.key.node_id
        if main == me:
            self._show_log(me, message)
        elif main is not None:
            self.links.send(main, codec.encode(message))

    def _notice(self, text: str) -> None:
        if text not in self._told:
            self._told[text] = None
            self.observer.news(Notice(text))

    def _stranger(self, error: NetError) -> None:
        """Somebody who has dialled us and is no peer: told once for each host, since it will try again from other ports."""
        host = error.remote.rpartition(":")[0]
        self._notice(str(error).replace(error.remote, host or error.remote))

    def _was_refused(self, error: NetError) -> None:
        self._notice(str(error))
        if self._refused is None and self.settings.role == "agent":
            self._refused = error
            self.nursery.start_soon(self._give_up, error)

    async def _give_up(self, error: NetError) -> None:
        await trio.sleep(REFUSED_MAX_MS / 1000)
        if not self._met:
            self._fail(UsageError(f"{error}; gave up after {REFUSED_MAX_MS // 1000} s"))

    async def _meet(self, rendezvous: Rendezvous) -> None:
        """The main job says where it is, and agents look: only they need to find anybody."""
        try:
            if self.settings.role == "main":
                await rendezvous.publish(self.identity.key.node_id, self.listener.addresses)
                await trio.sleep_forever()
            adverts = await rendezvous.peers()
            while True:
                for advert in adverts:
                    self.links.keep_peer(advert.node_id, advert.addresses)
                if not adverts and (verdict := _as_verdict(await rendezvous.concluded())) is not None:
                    self.shell.happen(ev.Over(verdict))
                await trio.sleep(RENDEZVOUS_MS / 1000)
                try:
                    adverts = await rendezvous.peers()
                except UsageError as error:
                    # What could be read before is no mistake of a person's, and may be there again.
                    self._notice(f"{error} (still trying)")
        except UsageError as error:
            self._fail(error)
        finally:
            # Where it cannot be written to, that has been said already.
            with trio.CancelScope(shield=True), trio.move_on_after(1), suppress(UsageError):
                await rendezvous.withdraw()
                if self.settings.role == "main" and self._outcome is not None and self._leaves_word():
                    await rendezvous.conclude(self._outcome.end.verdict or "cancelled")

    async def _status(self, request: Request) -> Response:
        if request.target.startswith(f"/{LOGS}/") and self.settings.role == "main":
            return await self.shelf.answer(request, request.target.removeprefix(f"/{LOGS}"))
        if request.target != "/status" or request.method not in {"GET", "HEAD"}:
            return Response(404, {}, b"there is nothing here\n")
        config = self.identity.config
        body = {"run_id": config.run_id, "name": config.name, "role": config.role, "node_id": self.identity.key.node_id}
        return Response(200, {"Content-Type": "application/json"}, canonical.encode(body) + b"\n")

    # --- signals -------------------------------------------------------------------------------------

    async def _signals(self) -> None:
        """The first asks everything to end in order, the second does not wait for that."""
        with trio.open_signal_receiver(signal.SIGINT, *ending_signals()) as received:
            async for number in received:
                if self._outcome is not None and self._outcome.signal:
                    self.nursery.cancel_scope.cancel()
                    continue
                name = signal.Signals(number).name
                self._outcome = Outcome(fx.End(None, f"stopped by {name}"), signal=number)
                self.observer.news(Notice(f"{name}: ending every task; once more to not wait for them"))
                self.shell.happen(ev.Stop(name))


def _as_verdict(text: str) -> Verdict | None:
    return next((verdict for verdict in get_args(Verdict) if verdict == text), None)


def run_tag(run_id: str) -> str:
    """What a run is called where others can read it."""
    return hashlib.sha256(b"dte rendezvous\n" + run_id.encode()).hexdigest()[:32]


def _facts(settings: Settings) -> dict[str, str]:
    """What this node says of its checkout and its machine. What the main job does not say, it does not compare."""
    found = facts(settings.workspace) | package_facts(settings.workspace, settings.environ)
    told = {name: value for name, value in found.items() if name not in settings.may_differ}
    gpu = len([*Path("/dev").glob("nvidia[0-9]*")]) if settings.gpu is None else settings.gpu
    return {**told, "memory_bytes": str(memory_bytes()), "gpu": str(gpu)}


def _workspace_id(workspace: Path) -> str:
    """Equal for nodes that work in one and the same directory of one machine, and for no others."""
    try:
        about = workspace.stat()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
    return hashlib.sha256(f"{boot} {about.st_dev} {about.st_ino}".encode()).hexdigest()[:32]
