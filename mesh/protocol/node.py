"""One peer, as a pure function of what happens to it: `effects = node.step(event, now)`, and `node.deadline(now)` says when to call again.

Theory of operation. A node is four small machines behind this one door: membership (who is here), the worker (what runs here), and on the main job
the leader with its market and recorder (what is to be done, by whom, and in what order it was done). This file routes: an event goes to the machine
it concerns, what one machine says goes to the next, and a message a node sends to itself is simply the next event. No machine calls another.

A step never raises on what a peer sent: a peer that breaks the protocol is disconnected, with the word for what it did.
"""

from collections import deque
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, assert_never

from msgspec import Struct, field
from msgspec.structs import replace

from mesh.errors import RemoteError
from mesh.graph import Graph
from mesh.identity import name_of
from mesh.identity.keys import NodeKey
from mesh.ledger.ledger import Ledger
from mesh.ledger.statements import Genesis
from mesh.protocol import effects as fx
from mesh.protocol import events as ev
from mesh.protocol import news, parts
from mesh.protocol.bidder import Agent
from mesh.protocol.brake import Brake, Brakes
from mesh.protocol.bulletin import Bulletin
from mesh.protocol.estimate import sample
from mesh.protocol.leader import Leader
from mesh.protocol.market import Market
from mesh.protocol.membership import BEAT_MS, Change, Membership
from mesh.protocol.recorder import Recorder
from mesh.protocol.stalls import Stalls
from mesh.protocol.surplus import Surplus
from mesh.protocol.worker import Worker
from mesh.types import Blob, Digest, Epoch, Instant, NodeId, Quantiles, TaskId, after
from mesh.wire.messages import (
    Announce,
    Award,
    Beat,
    Bid,
    Declined,
    Ended,
    Hello,
    Leave,
    Log,
    Members,
    Message,
    Records,
    Refused,
    Released,
    Result,
    Role,
    Started,
    Withdraw,
)

FIRST_EPOCH: Final = Epoch(1)
AFTER_LOSS_MS: Final = 30_000
"""How long an agent with nothing left to do waits for a main job that is gone."""
GRAPH_RETRY_MS: Final = 1_000


_graph = lru_cache(maxsize=1)(Graph.decode)
"""Simulated nodes are many in one process, and read the same graph."""


class Config(Struct, frozen=True):
    """What a node is told once, before anything happens."""

    run_id: str
    key: NodeKey
    chain: tuple[bytes, ...]
    """Its certificates in DER, its own first."""
    root_public: str
    name: str
    role: Role
    slots: int
    incarnation: int
    addresses: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    workspace: str = ""
    wait_ms: int = 15_000
    """Main: how long agents are waited for before it works alone. Agent: how long it waits for a main job."""
    main_slots: int = 0
    """Main: how many tasks it takes beside agents; 0: only what it must."""
    fail_after: int = 0
    """Main: after so many failed tasks nothing new is started; 0: all is tried."""
    kill: bool = False
    """Main: and what runs then is ended."""
    stall_after_ms: int = 0
    """Main: how long a running task may be quiet before that is told; 0: for ever."""
    keep_agents: bool = False
    """Main: agents that can no longer help stay all the same."""
    beat_ms: int = BEAT_MS
    """How often it says that it is here."""


class Node:
    """One running peer, without its clock, its sockets and its disk."""

    def __init__(self, config: Config, now: Instant) -> None:
        self.config = config
        self.me = config.key.node_id
        self.membership = Membership(self.me)
        self.worker = Worker(self.me, config.name, config.run_id, config.key, config.slots)
        self.leader: Leader | None = None
        if config.role == "main":
            self.leader = self._lead(now)
        self._bid = Bid(serial=0, open=True, slots=config.slots)
        self._links: dict[NodeId, ev.LinkUp] = {}
        self._graphs: dict[Digest, Blob] = {}
        """Announced or planned, in order."""
        self._checked: dict[Digest, Graph] = {}
        self._checking: dict[Digest, Graph] = {}
        self._retry_at: dict[Digest, Instant] = {}
        self._estimates: dict[TaskId, Quantiles] = {}
        """From this machine's history, as far as they are wanted."""
        self._estimates_max = 0
        """Of how many tasks of a graph they are; 0: of all."""
        self._closing: int | None = None
        """The exit code of the command that graphs are for, once no more will come."""
        self._last: Digest | None = None
        """The graph behind which none is expected."""
        self.main: NodeId | None = self.me if self.leader is not None else None
        """Who leads, as far as this node knows; it may be gone."""
        self._main_was_here = self.leader is not None
        self._leaderless_since: Instant | None = None if self.leader is not None else now
        self._over: fx.End | None = None
        """An agent that is to end as soon as nothing runs."""
        self._ended = False

    def _lead(self, now: Instant) -> Leader:
        config = self.config
        recorder = Recorder(Ledger(config.run_id, config.key), config.key, config.run_id)
        recorder.genesis(Genesis(config.run_id, self.me, config.name, config.chain, config.root_public), now)
        recorder.joined[self.me] = None
        market = Market(self.me, config.main_slots, config.wait_ms, now)
        market.agents[self.me] = Agent(self.me, "main", config.slots, config.labels, shares_main=True)
        agent = market.agents[self.me]
        agent.memory_bytes = int(config.facts.get("memory_bytes", "0"))
        agent.gpu = int(config.facts.get("gpu", "0"))
        brake = Brake(config.fail_after, config.kill)
        bulletin = Bulletin()
        bulletin.begin(self.me)
        return Leader(
            self.me,
            FIRST_EPOCH,
            dict(config.facts),
            config.workspace,
            market,
            recorder,
            Brakes([brake]),
            bulletin=bulletin,
            stalls=Stalls(config.stall_after_ms),
            surplus=Surplus(keep=config.keep_agents),
        )

    # --- the door ------------------------------------------------------------------------------------

    def step(self, event: ev.Event, now: Instant) -> list[fx.Effect]:
        """What is to be done because of `event`, in order."""
        done: list[fx.Effect] = []
        pending: deque[fx.Effect] = deque(self._route(event, now))
        while pending:
            effect = pending.popleft()
            if isinstance(effect, fx.Send) and effect.peer == self.me:
                pending.extendleft(reversed(self._message(self.me, effect.message, now)))
            else:
                if isinstance(effect, fx.Tell) and isinstance(effect.news, news.RunEnded):
                    done += self._out_of_reach()
                done.append(effect)
                self._ended = self._ended or isinstance(effect, fx.End)
        if self._over is not None and not self._ended and not self.worker.jobs:
            self._ended = True
            done.append(self._over)
        return done

    def _out_of_reach(self) -> list[fx.Effect]:
        """At the end of a run: who may have died a moment ago. What it had has been run elsewhere meanwhile, as what hangs back is; but whoever looks after that machine wants to know."""
        agents = {} if self.leader is None else self.leader.market.agents
        gone = [agents[node] for node in self.membership.down if node in agents]
        reason = "its connection was gone when the run ended"
        return [fx.Tell(news.AgentLeft(agent.node, agent.name, reason, lost=True)) for agent in gone]

    @property
    def leaving(self) -> bool:
        """Whether it only ends what it has begun."""
        return self._over is not None or self._ended

    def deadline(self, now: Instant) -> Instant | None:
        """When `Tick` is due, if nothing else happens; what is overdue is due now."""
        if self._ended:
            return None
        times = [self.membership.deadline(), *self._retry_at.values(), self._leaves_at(), self.worker.deadline()]
        if self.leader is not None:
            times += [self.leader.deadline(), self.leader.surplus.deadline(self.leader.market)]
        due = min((time for time in times if time is not None), default=None)
        return None if due is None else max(due, now)

    def _route(self, event: ev.Event, now: Instant) -> list[fx.Effect]:
        match event:
            case ev.Received(peer, message):
                return self._received(peer, message, now)
            case ev.LinkUp():
                return self._link_up(event)
            case ev.LinkDown(peer, _):
                self.membership.link_down(peer, now)
                return []
            case ev.GraphPlanned():
                return self._planned(event)
            case ev.GraphsClosed(exit_code):
                self._closing = exit_code
                return self._close_if_checked(now)
            case ev.NothingToGive():
                return self._expect_nothing(now)
            case ev.GraphFetched(blob, data):
                return self._graph_fetched(blob, data)
            case ev.GraphUnfetched(blob, _):
                self._retry_at[blob.digest] = after(now, GRAPH_RETRY_MS)
                return []
            case ev.Checked():
                return self._compared(event, now)
            case ev.Prepared(task, attempt):
                return self.worker.prepared(task, attempt)
            case ev.Handed(task, attempt, reason, missing, never):
                return self.worker.handed(task, attempt, Declined(task, attempt, reason, never, missing), self.main)
            case ev.TaskRunning(task, attempt):
                return self.worker.running(task, attempt, self.main, now)
            case ev.TaskFinished(task, attempt, execution):
                return self.worker.finished(task, attempt, execution, self.main)
            case ev.TaskKilled(task, attempt):
                return self.worker.killed(task, attempt)
            case ev.Delivered():
                return [] if (leader := self._open_run()) is None else leader.brought(event, now)
            case ev.Undelivered():
                return [] if (leader := self._open_run()) is None else leader.not_brought(event, now)
            case ev.Heard():
                return [] if (leader := self._open_run()) is None else leader.heard(event, now)
            case ev.Stop():
                return self._stop(event, now)
            case ev.Over(verdict):
                return self._leave(f"the run is over: {verdict}", verdict) if self.main is None else []
            case ev.Tick(late_ms):
                self.membership.stood_still(late_ms, now)
                return self._tick(now)
            case _:
                assert_never(event)

    def _open_run(self) -> Leader | None:
        """The leader in this node, while there is no verdict: afterwards it has nothing more to hear."""
        return self.leader if self.leader is not None and self.leader.verdict is None else None

    # --- peers ---------------------------------------------------------------------------------------

    def _link_up(self, event: ev.LinkUp) -> list[fx.Effect]:
        self._links[event.peer] = event
        if self.leader is not None:
            self.leader.linked(event.peer)
        return [fx.Send(event.peer, self._introduction())]

    def _introduction(self) -> Hello:
        config = self.config
        return Hello(
            config.run_id,
            config.name,
            config.role,
            config.slots,
            config.incarnation,
            config.addresses,
            config.labels,
            config.facts,
            config.workspace,
        )

    def _received(self, peer: NodeId, message: Message, now: Instant) -> list[fx.Effect]:
        is_back = self.membership.heard(peer, now)
        try:
            if not isinstance(message, Hello) and not self.membership.introduced(peer):
                raise RemoteError("unexpected", "a link begins with a hello")
            return [*(self._back(peer, now) if is_back else []), *self._message(peer, message, now)]
        except RemoteError as error:
            return [
                fx.Disconnect(peer, str(error)),
                fx.Tell(news.Notice(f"peer {self._name(peer)} was cut off: {error}")),
            ]

    def _message(self, peer: NodeId, message: Message, now: Instant) -> list[fx.Effect]:
        match message:
            case Hello():
                return self._hello(peer, message, now)
            case Members():
                return self._rumour(peer, message)
            case Beat() | Log():
                return []  # A beat has been heard by now; logs are bulk, and the shell's own.
            case Announce():
                return self._announced(peer, message)
            case Bid():
                return [] if (leader := self._open_run()) is None else leader.bid(peer, message, now)
            case Declined():
                return [] if (leader := self._open_run()) is None else leader.declined(peer, message, now)
            case Started():
                return [] if (leader := self._open_run()) is None else leader.started(peer, message, now)
            case Result():
                return [] if (leader := self._open_run()) is None else leader.result(peer, message, now)
            case Award():
                return self._awarded(peer, message, now)
            case Withdraw():
                return self.worker.withdrawn(message, peer) if peer == self.main else []
            case Records():
                if peer == self.main:
                    self.worker.learn({record.task: record for record in message.records})
                return []
            case Refused(reason):
                return self._leave(f"the main job gives this agent no tasks: {reason}") if peer == self.main else []
            case Released(reason):
                return self._released(reason) if peer == self.main else []
            case Ended(_, verdict):
                return self._run_over(peer, verdict)
            case Leave(reason):
                change = self.membership.said_goodbye(peer, reason)
                return self._changed(change, now) if change is not None else []
            case _:
                assert_never(message)

    def _hello(self, peer: NodeId, hello: Hello, now: Instant) -> list[fx.Effect]:
        link = self._links.get(peer)
        if link is None or hello.run_id != self.config.run_id:
            raise RemoteError("unexpected", f"a hello for run {hello.run_id!r}")
        if hello.name != (certified := name_of(link.certificate)):
            raise RemoteError("bad-certificate", f"its certificate names it {certified!r}, its hello {hello.name!r}")
        change = self.membership.said_hello(peer, hello, link.host, link.certificate, now)
        effects: list[fx.Effect] = [fx.Send(peer, said) for said in self.membership.known()]
        known = self.membership.peers[peer]
        rumour = Members((known.member,))
        if change is not None:
            effects += [fx.Send(other, rumour) for other in self.membership.linked() if other != peer]
        if hello.role == "main":
            effects += self._main_is_here(peer, hello, now)
        elif self.leader is not None:
            effects += self.leader.joined(known, (known.certificate, *self.config.chain[1:]), now)
        return effects

    def _back(self, peer: NodeId, now: Instant) -> list[fx.Effect]:
        """It was silent for so long that it was taken for dead, and speaks again: both begin anew, by a hello."""
        known = self.membership.peers[peer]
        assert known.hello is not None, "only who has introduced itself is taken for dead"
        hello: list[fx.Effect] = [fx.Send(peer, self._introduction())]
        if known.hello.role == "main":
            return [*hello, *self._main_is_here(peer, known.hello, now)]
        if self.leader is None:
            return hello
        return [*hello, *self.leader.joined(known, (known.certificate, *self.config.chain[1:]), now)]

    def _main_is_here(self, main: NodeId, hello: Hello, now: Instant) -> list[fx.Effect]:
        if self.leader is not None:
            raise RemoteError("second-main", f"another main job, {hello.name}, is in this run; give each its own --env")
        fresh = self.main != main
        self.main = main
        self._leaderless_since = None
        self._main_was_here = True
        if fresh:
            self.worker.epoch = Epoch(0)
        effects: list[fx.Effect] = [
            *self._offer(replace(self._bid, estimates=dict(self._estimates))),
            *self.worker.resend(main, now),
        ]
        return [fx.Tell(news.Notice(f"joined the run of {hello.name}")), *effects] if fresh else effects

    def _rumour(self, peer: NodeId, message: Members) -> list[fx.Effect]:
        fresh = self.membership.rumour(message)
        if not fresh:
            return []
        effects: list[fx.Effect] = [
            fx.Send(other, Members(tuple(fresh))) for other in self.membership.linked() if other != peer
        ]
        # Agents need a link to the main job, and the main job to agents; between agents blobs travel without one.
        wanted = [m for m in fresh if m.standing == "alive" and (m.role == "main" or self.leader is not None)]
        return [*effects, *(fx.Connect(member.node, member.addresses) for member in wanted)]

    def _changed(self, change: Change, now: Instant) -> list[fx.Effect]:
        if change.standing == "alive":
            return []
        effects: list[fx.Effect] = []
        if (leader := self._open_run()) is not None:
            effects += leader.lost(change.node, change.reason, now, lost=change.standing == "dead")
        elif change.node == self.main and self._over is None and self.leader is None:
            effects += self._main_is_gone(change.reason, now)
        return effects

    def _main_is_gone(self, reason: str, now: Instant) -> list[fx.Effect]:
        self._leaderless_since = now
        self.worker.drop_waiting()
        running = len(self.worker.jobs)
        wait_s = min(self.config.wait_ms, AFTER_LOSS_MS) // 1000
        tasks = f"{running} running task{'s' if running != 1 else ''}"
        text = f"the main job is gone: {reason}; this agent finishes {tasks}, waits {wait_s} s for it to come back, and leaves"
        return [fx.Tell(news.Notice(text))]

    def _name(self, node: NodeId) -> str:
        peer = self.membership.peers.get(node)
        return peer.member.name if peer is not None else node[:8]

    # --- graphs --------------------------------------------------------------------------------------

    def _planned(self, event: ev.GraphPlanned) -> list[fx.Effect]:
        blob, graph, leader = event.blob, event.graph, self.leader
        if blob.digest in self._graphs:
            return []
        if leader is not None:
            leader.surplus.complete = False
            if event.bail:
                leader.brakes.all.append(Brake(1, graph=graph.tasks, order=event.bail))
        self._last = blob.digest if event.last and not self._graphs else None
        self._checking[blob.digest] = graph
        self._graphs[blob.digest] = blob
        return [fx.Check(blob.digest, graph)]

    def _expect_nothing(self, now: Instant) -> list[fx.Effect]:
        """Agents need not wait for a graph; one that comes all the same is for those that are left."""
        if (leader := self._open_run()) is None:
            return []
        leader.surplus.complete = True
        return leader.clear(now)

    def _announced(self, peer: NodeId, message: Announce) -> list[fx.Effect]:
        if peer != self.main or self.leader is not None:
            return []
        effects: list[fx.Effect] = []
        self._estimates_max = message.estimates_max
        for blob in message.graphs:
            if blob.digest not in self._graphs:
                self._graphs[blob.digest] = blob
                effects.append(self._fetch_graph(blob))
        return effects

    def _fetch_graph(self, blob: Blob) -> fx.Effect:
        others = [node for node in self.membership.linked() if node != self.main]
        return fx.FetchGraph(blob, tuple([self.main, *others] if self.main is not None else others))

    def _graph_fetched(self, blob: Blob, data: bytes) -> list[fx.Effect]:
        if blob.digest not in self._graphs or blob.digest in self._checking or blob.digest in self._checked:
            return []
        try:
            graph = _graph(data)
        except RemoteError as error:
            return self._leave(f"the main job's task graph cannot be read: {error}")
        self._checking[blob.digest] = graph
        return [fx.Check(blob.digest, graph)]

    def _compared(self, event: ev.Checked, now: Instant) -> list[fx.Effect]:
        graph = self._checking.pop(event.digest, None)
        if graph is None:
            return []
        self._checked[event.digest] = graph
        known = self._bid
        for digest in list(self._graphs)[known.graphs : self._checked_in_order()]:
            self.worker.add_graph(self._checked[digest])
        self._bid = Bid(
            known.serial,
            open=True,
            slots=self.config.slots,
            graphs=self._checked_in_order(),
            cannot={**known.cannot, **event.cannot},
            cached=(*known.cached, *event.cached),
        )
        estimates = sample(event.estimates, self._estimates_max, self.me)
        self._estimates |= estimates
        if (leader := self._open_run()) is not None:
            # The main job bids before it plans, so that its own stored results are known when tasks become ready.
            agent = leader.market.agents[self.me]
            leader.market.bid(agent, replace(self._bid, estimates=estimates))
            leader.surplus.complete = self._last == event.digest
            return [*leader.plan(self._graphs[event.digest], graph, now), *self._close_if_checked(now)]
        return self._offer(replace(self._bid, cannot=event.cannot, cached=event.cached, estimates=estimates))

    def _checked_in_order(self) -> int:
        """How many graphs, from the first on, have been compared without a gap."""
        count = 0
        for digest in self._graphs:
            if digest not in self._checked:
                break
            count += 1
        return count

    def _close_if_checked(self, now: Instant) -> list[fx.Effect]:
        leader = self._open_run()
        if leader is None or leader.closed or self._closing is None or self._checking:
            return []
        return leader.close(self._closing, now)

    def _offer(self, bid: Bid) -> list[fx.Effect]:
        """Tell the main job, if there is one: all, or what is new."""
        if self.main is None or self.main == self.me:
            return []
        said = parts.of_bid(replace(bid, serial=self._bid.serial + 1))
        self._bid = replace(self._bid, serial=said[-1].serial)
        return [fx.Send(self.main, part) for part in said]

    # --- work ----------------------------------------------------------------------------------------

    def _awarded(self, peer: NodeId, award: Award, now: Instant) -> list[fx.Effect]:
        if peer != self.main or self._over is not None:
            return []
        return self.worker.awarded(award, peer, now, shares_main=self.shares_main())

    def shares_main(self) -> bool:
        """Whether this node works in the main job's own workspace."""
        if self.main is None or self.main == self.me:
            return self.main is not None
        main = self.membership.peers.get(self.main)
        theirs = main.hello.workspace if main is not None and main.hello is not None else ""
        return theirs == self.config.workspace != ""

    def works_alone(self) -> bool:
        """Whether this is a main job that has no agents."""
        return self.leader is not None and self.leader.market.alone

    def _run_over(self, peer: NodeId, verdict: news.Verdict) -> list[fx.Effect]:
        if peer != self.main or self.leader is not None:
            return []
        return self._leave(f"the run is over: {verdict}", verdict)

    def _leave(self, reason: str, verdict: news.Verdict | None = None) -> list[fx.Effect]:
        self._over = self._over or fx.End(verdict, reason)
        return self.worker.kill_all()

    def _released(self, reason: str) -> list[fx.Effect]:
        """The leader has taken this agent out of its book, and expects nothing more of it."""
        self._over = self._over or fx.End(None, f"this agent is not needed any more: {reason}", released=True)
        goodbye = Leave("not needed any more")
        return [*(fx.Send(node, goodbye) for node in self.membership.linked()), *self.worker.kill_all()]

    # --- time and the end ----------------------------------------------------------------------------

    def _tick(self, now: Instant) -> list[fx.Effect]:
        effects = self.worker.due(now, self.main)
        dead = self.membership.cut_off(now)
        if now >= self.membership.next_beat:
            self.membership.next_beat = after(now, self.config.beat_ms)
            dead += self.membership.silent(now)
            epoch = self.leader.epoch if self.leader is not None else self.worker.epoch
            effects += [fx.Send(node, Beat(epoch)) for node in self.membership.linked()]
        for change in dead:
            effects += self._changed(change, now)
        for digest in [digest for digest, at in self._retry_at.items() if now >= at]:
            del self._retry_at[digest]
            effects.append(self._fetch_graph(self._graphs[digest]))
        if self.leader is not None and self.leader.verdict is None:
            effects += [*self.leader.recorder.due(now), *self.leader.clear(now)]
            effects += [fx.LookAtLog(task, attempt) for task, attempt in self.leader.stalls.due(now)]
        leaves_at = self._leaves_at()
        if leaves_at is not None and now >= leaves_at:
            gone = (
                "the main job did not come back"
                if self._main_was_here
                else f"no main job came within {self.config.wait_ms // 1000} s"
            )
            effects += self._leave(gone)
        return effects

    def _leaves_at(self) -> Instant | None:
        """When an agent without a main job gives up. What runs is finished first."""
        if self._leaderless_since is None or self.worker.jobs or self._over is not None:
            return None
        wait_ms = min(self.config.wait_ms, AFTER_LOSS_MS) if self._main_was_here else self.config.wait_ms
        return after(self._leaderless_since, wait_ms)

    def _stop(self, event: ev.Stop, now: Instant) -> list[fx.Effect]:
        reason = event.reason
        if self.leader is not None:
            return self.leader.stop(event, now)
        goodbye = Leave(f"stopped by {reason}")
        effects: list[fx.Effect] = [fx.Send(node, goodbye) for node in self.membership.linked()]
        return [*effects, *self._leave(f"stopped by {reason}")]
