"""The leader's side of a run: graphs in, awards out, results into the ledger, outputs to the main job, and one verdict at the end.

    planning --all graphs are in--> running --every task done and delivered--> ended
        |                              |
        +---------- Stop --------------+--> cancelled

The verdict is a statement about every task: it is given when each one is recorded, and what it left is on the main job. Nothing else ends a run.
"""

from typing import Final

from msgspec import Struct, field

from mesh.errors import RemoteError
from mesh.graph import Graph
from mesh.ledger.completion import Completion
from mesh.ledger.statements import open_leaf
from mesh.protocol import clearing, news
from mesh.protocol.bidder import Agent
from mesh.protocol.brake import Brake, Brakes
from mesh.protocol.bulletin import Bulletin
from mesh.protocol.doubts import Doubt, Doubts
from mesh.protocol.effects import Deliver, Effect, End, FetchLog, Send, Tell
from mesh.protocol.events import Delivered, Heard, Stop, Undelivered
from mesh.protocol.facts import difference
from mesh.protocol.market import Market
from mesh.protocol.membership import Peer
from mesh.protocol.outstanding import Outstanding
from mesh.protocol.recorder import Recorder
from mesh.protocol.stalls import Stalls
from mesh.protocol.standing import Live, Phase, TaskState
from mesh.protocol.strays import Strays
from mesh.protocol.surplus import Surplus
from mesh.types import Blob, Epoch, Instant, NodeId, Seq, TaskId
from mesh.wire.messages import (
    Announce,
    Award,
    Bid,
    Declined,
    Ended,
    Record,
    Records,
    Refused,
    Released,
    Result,
    Started,
    Withdraw,
)

HAND_BACKS_MAX: Final = 2
"""So often one agent may say of one task that it cannot run it just now; then it is not asked again."""
FETCHES_MAX: Final = 3
"""After so many awards an agent that cannot get what a task needs is not given it again."""


class Leader(Struct):
    """The main job as the leader of epoch `epoch`."""

    me: NodeId
    epoch: Epoch
    facts: dict[str, str]
    workspace: str
    market: Market
    recorder: Recorder
    brakes: Brakes = field(default_factory=Brakes)
    doubts: Doubts = field(default_factory=Doubts)
    stalls: Stalls = field(default_factory=Stalls)
    strays: Strays = field(default_factory=Strays)
    surplus: Surplus = field(default_factory=Surplus)
    graphs: list[Blob] = field(default_factory=list)
    seq: Seq = Seq(0)
    bulletin: Bulletin = field(default_factory=Bulletin)
    refused: dict[NodeId, str] = field(default_factory=dict)
    outstanding: Outstanding = field(default_factory=Outstanding)
    main_worked: bool = False
    told_alone: bool = False
    closed: bool = False
    broken: str = ""
    """Why the verdict can only be an error."""
    verdict: news.Verdict | None = None

    # --- graphs --------------------------------------------------------------------------------------

    def plan(self, blob: Blob, graph: Graph, now: Instant) -> list[Effect]:
        """A task graph has been planned, and compared with the main job's own store."""
        self.graphs.append(blob)
        fresh = [task for task in graph.tasks if task not in self.market.tasks]
        ready = self.market.add(graph, len(self.graphs), now)
        self.brakes.open_again(fresh)
        self.recorder.graph(blob, len(fresh), now)
        listed = tuple((task, graph.tasks[task].deps) for task in fresh)
        effects: list[Effect] = [Tell(news.GraphAdded(blob.digest, listed))]
        effects += self._skip_behind(fresh, now)
        effects += [Tell(news.TaskReady(task)) for task in ready if self.market.tasks[task].phase is Phase.READY]
        effects += [Send(agent.node, self.announce(agent)) for agent in self.market.others()]
        return [*effects, *self.clear(now)]

    def _skip_behind(self, fresh: list[TaskId], now: Instant) -> list[Effect]:
        """New tasks behind one of an earlier graph that did not succeed; `fresh` is in the order of dependency."""
        effects: list[Effect] = []
        for task in fresh:
            state = self.market.tasks[task]
            stopped = next((dep for dep in state.task.deps if self.market.tasks[dep].stops), None)
            if stopped is not None:
                effects += self._decide(state, "skipped", f"{stopped} did not succeed", now)
        return effects

    def announce(self, agent: Agent) -> Announce:
        """What an agent should know of the work."""
        return Announce(self.epoch, tuple(self.graphs), self.closed, agent.estimates_max)

    def close(self, exit_code: int, now: Instant) -> list[Effect]:
        """No more graphs will come; the command that they were for has ended with that."""
        self.closed = self.surplus.complete = True
        self.recorder.exit_code = exit_code
        return self.clear(now)

    # --- agents --------------------------------------------------------------------------------------

    def linked(self, node: NodeId) -> None:
        """A new link stands. What went over the last one may be lost: records are told anew before the first award."""
        self.bulletin.forget(node)

    def joined(self, peer: Peer, chain: tuple[bytes, ...], now: Instant) -> list[Effect]:
        """A node has introduced itself as an agent, for the first time or again."""
        hello = peer.hello
        assert hello is not None
        node = peer.member.node
        if self.verdict is not None:
            return [Send(node, Ended(self.epoch, self.verdict))]
        if (reason := self.surplus.released.get(node)) is not None:
            return [Send(node, Released(reason))]
        refusal = self.doubts.out.get(node) or difference(self.facts, hello.facts)
        if refusal:
            self.refused[node] = refusal
            text = f"agent {hello.name} gets no tasks: {refusal}"
            return [Send(node, Refused(refusal)), Tell(news.Notice(text))]
        effects: list[Effect] = []
        if node not in self.market.agents:
            self.market.join(Agent.of(node, hello, self.workspace), now)
            self.recorder.join(node, hello.name, chain, now)
            effects.append(Tell(news.AgentJoined(node, hello.name, hello.slots)))
        # Over a new link everything is told again: what was under way when the last one broke may be lost.
        self.bulletin.begin(node)
        effects.append(Send(node, self.announce(self.market.agents[node])))
        for task in self.market.agents[node].jobs:
            state = self.market.tasks[task]
            state.lives[node].withdrawing = False
            again = Send(node, Award(self.epoch, self._next_seq(), task, state.lives[node].attempt))
            effects += [*self._tell_needed(node, state), again]
        return [*effects, *self.clear(now)]

    def lost(self, node: NodeId, reason: str, now: Instant, *, lost: bool) -> list[Effect]:
        """An agent is gone, by death or by goodbye; what it had is to be run elsewhere."""
        self.bulletin.leave(node)
        if (agent := self.market.agents.get(node)) is None:
            return []
        effects: list[Effect] = [Tell(news.AgentLeft(node, agent.name, reason, lost))]
        for state in self.market.leave(node):
            attempt = state.lives[node].attempt if node in state.lives else state.attempt
            self.market.drop(state, node)
            # What was given up may have taken others with it; what has been copied goes on elsewhere.
            if state.phase is not Phase.DONE and not state.lives:
                effects += self._again(state, attempt, agent.name, f"agent {agent.name} is gone: {reason}", now)
        self._mind_doubts()
        self.market.last_leave = now
        if self.market.alone and self.market.left:
            effects.append(Tell(news.Notice("no agent is left: the main job goes on alone")))
        return [*effects, *self.clear(now)]

    def bid(self, node: NodeId, bid: Bid, now: Instant) -> list[Effect]:
        """A standing bid, or an amendment of one."""
        agent = self.market.agents.get(node)
        if agent is None or (agent.bid is not None and bid.serial <= agent.bid.serial):
            return []
        effects: list[Effect] = []
        before = agent.bid
        new = {task: why for task, why in bid.cannot.items() if task not in agent.cannot}
        self.market.bid(agent, bid)
        if new or before is None or before.open != bid.open or before.graphs < bid.graphs:
            self.market.look_again()
            self.surplus.compared(agent, self.market)
            if new and node != self.me:
                first = next(iter(new))
                more = f" (and {len(new) - 1} more)" if len(new) > 1 else ""
                effects.append(Tell(news.Notice(f"agent {agent.name} does not take {first}{more}: {new[first]}")))
            if not bid.open and bid.reason:
                effects.append(Tell(news.Notice(f"agent {agent.name} takes no tasks: {bid.reason}")))
        return [*effects, *self.clear(now)]

    # --- awards --------------------------------------------------------------------------------------

    def clear(self, now: Instant) -> list[Effect]:
        """Award what can be awarded, and end the run where all is done."""
        if self.verdict is not None:
            return []
        effects: list[Effect] = []
        if self.market.left and not self.told_alone and self.market.nobody_came(now):
            self.told_alone = True
            wait_s = self.market.wait_ms / 1000
            effects.append(Tell(news.Notice(f"no agent came within {wait_s:g} s: the main job works alone")))
        for brake in self.brakes.pulled():
            effects += self._hold_back(brake, now)
        for state, live in clearing.clear(self.market, now):
            effects += self._award(state, live)
        for state, live in clearing.take_back(self.market, now):
            effects.append(Send(live.node, Withdraw(self.epoch, state.task.id, live.attempt, kill=False)))
        for state in self.market.hopeless(now):
            if (doubt := self.doubts.settle(state.task.id)) is not None:
                effects += self._count(doubt, now)
                continue
            needs = ", ".join((*state.task.runs_on, *filter(None, [state.refusals]))) or f"where = {state.task.where}"
            effects += self._decide(state, "failure", f"no agent that can run it has come ({needs})", now)
        gone = self.surplus.release(self.market, self.bulletin, self.outstanding.due, len(self.graphs), now)
        # What waited for one of them may now be the main job's.
        return [*effects, *gone, *(self.clear(now) if gone else self._end_if_done(now))]

    def _hold_back(self, brake: Brake, now: Instant) -> list[Effect]:
        """Enough has failed: what has not started is not started any more, and what runs is ended where that is wanted."""
        effects: list[Effect] = [Tell(news.Notice(text)) for text in brake.begin(self.market.tasks)]
        effects += [effect for doubt in self.doubts.settle_all() for effect in self._count(doubt, now)]
        stopped: list[TaskId] = []
        for state in [self.market.tasks[task] for task in brake.left]:
            if state.phase is not Phase.RUNNING:
                effects += self._decide(state, "skipped", f"not started: {brake.reason}", now)
            elif brake.kill:
                effects += self._decide(state, "cancelled", f"ended while it ran: {brake.reason}", now)
            if state.phase is Phase.DONE:
                del brake.left[state.task.id]
                stopped.append(state.task.id)
        for task in stopped:  # what stands behind it in later graphs
            for other in self.market.downstream(task):
                effects += self._decide(self.market.tasks[other], "skipped", f"{task} did not succeed", now)
        return effects

    def _award(self, state: TaskState, live: Live) -> list[Effect]:
        task, agent = state.task.id, self.market.agents[live.node]
        seq = self._next_seq()
        self.surplus.busy(live.node)
        effects: list[Effect] = []
        if agent.node == self.me and not self.main_worked:
            self.main_worked = True
            effects.append(Tell(news.AgentJoined(self.me, agent.name, agent.slots)))
        effects += self._tell_needed(agent.node, state)
        effects.append(Send(agent.node, Award(self.epoch, seq, task, live.attempt)))
        effects.append(Tell(news.TaskAwarded(task, agent.node, agent.name, live.attempt, self.epoch, seq)))
        return effects

    def _kill(self, state: TaskState, *, but: NodeId | None = None) -> list[Effect]:
        """It needs nobody any more, or nobody `but` one."""
        lives = [live for live in state.lives.values() if live.node != but]
        return [Send(live.node, Withdraw(self.epoch, state.task.id, live.attempt, kill=True)) for live in lives]

    def _next_seq(self) -> Seq:
        self.seq = Seq(self.seq + 1)
        return self.seq

    def _tell_needed(self, node: NodeId, state: TaskState) -> list[Effect]:
        """What this agent has not been told of what the task needs: it rides before the award."""
        self.bulletin.need(node, state.task.deps, lambda task: self.market.tasks[task].task.deps)
        return self.bulletin.tell(node, self.epoch)

    def started(self, node: NodeId, message: Started, now: Instant) -> list[Effect]:
        """A task's process runs."""
        state = self.market.tasks.get(message.task)
        if state is None:
            return []
        since = Instant(now - message.ran_ms)
        if node not in state.lives and self.market.take_up(state, node, message.attempt, since) is None:
            return [Send(node, Withdraw(self.epoch, message.task, message.attempt, kill=True))]
        live = state.live(node, message.attempt)
        if live is None or live.started_at is not None:
            return []
        self.market.begins(state, live, Instant(max(live.awarded_at, since)))
        # turbo has the terminal of the main job: nobody else hears what it says.
        if len(state.lives) == 1 and (node != self.me or state.task.tool != "turbo"):
            self.stalls.begin(message.task, message.attempt, self.market.forecast.duration_ms(message.task), now)
        return [Tell(news.TaskStarted(message.task, node, self.market.name(node), message.attempt))]

    def heard(self, event: Heard, now: Instant) -> list[Effect]:
        """When a running task was last heard of."""
        live = self.market.tasks[event.task].numbered(event.attempt)
        if live is None or live.started_at is None:
            return []
        text = self.stalls.heard(event, live.started_at, self.market.name(live.node), now)
        return [Tell(news.Notice(text))] if text else []

    def declined(self, node: NodeId, message: Declined, now: Instant) -> list[Effect]:
        """An award is handed back."""
        state = self.market.tasks.get(message.task)
        live = state.live(node, message.attempt) if state is not None else None
        if state is None or live is None:
            return []
        effects: list[Effect] = []
        taken_back = live.withdrawing
        trouble = not (message.never or taken_back or message.missing)
        if trouble:
            # It may pass: once more, but not for ever.
            state.handed[node] = state.handed.get(node, 0) + 1
        if message.never or state.handed.get(node, 0) >= HAND_BACKS_MAX:
            state.not_on[node] = message.reason
            effects.append(
                Tell(news.Notice(f"agent {self.market.name(node)} handed {message.task} back: {message.reason}"))
            )
        before = self.market.upstream(state) if message.missing else {}
        for missing in message.missing:
            if missing in before:
                effects += self._lost_outputs(missing, message.reason, now)
                if self.market.tasks[missing].phase is not Phase.DONE:
                    self.market.wait_for(state, missing)
                elif state.attempts >= FETCHES_MAX:  # the main job should have them, and yet they cannot be had
                    state.not_on[node] = message.reason
        self.market.hand_back(state, node, asked=taken_back)
        if not state.lives:
            effects += self._again(state, live.attempt, self.market.name(node), message.reason, now, quiet=taken_back)
        if trouble and node in state.not_on:
            effects += self._strike(node, message.task, now)
        if self.me in state.not_on and state.phase is Phase.READY and self.market.nobody_can(state, now):
            # The main job takes only what it must: nobody is left to be asked.
            effects += self._decide(state, "failure", f"nobody here can run it: {state.refusals}", now)
        return [*effects, *self.clear(now)]

    def _again(
        self,
        state: TaskState,
        attempt: int,
        agent: str,
        reason: str,
        now: Instant,
        *,
        quiet: bool = False,
        failed: Completion | None = None,
    ) -> list[Effect]:
        """That attempt came to nothing: unless a copy goes on, it is to be run once more. `failed` is the result that was not taken."""
        if not quiet and not state.lives and state.worn_out:
            return self._decide(state, "failure", f"given up after {state.attempts} attempts; the last: {reason}", now)
        if not state.lives:
            self.stalls.end(state.task.id)
            self.market.requeue(state, now)
            self.brakes.open_again([state.task.id])
        if quiet:
            return []
        code, log = (None, None) if failed is None else (failed.exit_code, failed.log)
        return [Tell(news.TaskRequeued(state.task.id, agent, attempt, reason, code, log))]

    def _lost_outputs(self, task: TaskId, reason: str, now: Instant) -> list[Effect]:
        """Nobody can give a finished task's outputs: it has to be run again, unless the main job has them."""
        state = self.market.tasks[task]
        if state.record is None or state.record.outputs is None or self.me in state.record.holders:
            return []
        if state.stops or state.worn_out:
            return []
        self.outstanding.give_up(task)
        return self._again(state, state.attempt, "", f"its outputs are lost: {reason}", now)

    # --- results -------------------------------------------------------------------------------------

    def result(self, node: NodeId, message: Result, now: Instant) -> list[Effect]:
        """A signed completion. The first one for a task counts, whichever award it came from."""
        envelope = message.envelope.encode()
        signed = open_leaf(envelope)
        completion = signed.leaf
        if signed.signer != node or not isinstance(completion, Completion):
            raise RemoteError("bad-signature", "a result that its sender has not signed")
        state = self.market.tasks.get(completion.task)
        if state is None or completion.run_id != self.recorder.run_id or node not in self.market.agents:
            return []
        named = node == self.me or completion.name == self.market.agents[node].name
        if not named or not state.asked_for(completion, self.epoch):
            raise RemoteError("unexpected", f"a result of {completion.task} that no award has asked for")
        if state.phase is Phase.DONE:
            # It has been decided already; the record tells the agent so.
            self.bulletin.acknowledge(node, state.task.id)
            return self.bulletin.tell(node, self.epoch)
        if (node, completion.attempt) in state.failed:
            return [*self._failed_once(state, completion, node, now), *self.clear(now)]
        # Of what took a moment nobody has told that it started.
        began = Started(completion.task, completion.attempt)
        expected = completion.cache == "none" and state.live(node, completion.attempt) is not None
        effects = self.started(node, began, now) if expected else []
        if completion.status == "failure":
            held = self.brakes.hold(state.task.id)
            if not held and (self.strays.claim(state, node, self.market, now) or state.may_fail_again):
                self.recorder.append(envelope, now)
                return [*effects, *self._failed_once(state, completion, node, now), *self.clear(now)]
            if not held and self.doubts.may_doubt(completion, state, node, self.market, now):
                self.doubts.open[completion.task] = Doubt(node, completion, envelope)
                state.in_doubt = True
                effects += self._failed_once(state, completion, node, now)
                self._mind_doubts()
                return [*effects, *self.clear(now)]
        # The first result counts: whoever else is at it is stopped.
        self.surplus.decided(state, node, now)
        effects += self._kill(state, but=node)
        if completion.cache == "none":
            self.market.learn(completion.task, node, completion.ended_ms - completion.started_ms)
        in_place = self.market.agents[node].shares_main
        effects += self._record(state, completion, envelope, (node,), now, in_place=in_place)
        if completion.status == "success":
            effects += self._passed(state, completion, node, now)
        self._mind_doubts()
        return [*effects, *self.clear(now)]

    def _failed_once(self, state: TaskState, failed: Completion, node: NodeId, now: Instant) -> list[Effect]:
        """It failed and may be tried again, elsewhere where that is possible. An award that is under way already is that other try."""
        state.failed[node, failed.attempt] = None
        # The agent may forget this result: it is kept here, though the task is not done.
        effects: list[Effect] = [Send(node, Records(self.epoch, (Record(failed.task, "failure"),)))]
        if failed.log is not None:
            effects.append(FetchLog(failed.task, failed.attempt, failed.log, (node,)))
        others = self.market.agents.values() if state.in_doubt else self.market.others()
        if any(self.market.may_come_to(state, agent, now) for agent in others if agent.node != node):
            state.not_on[node] = "it failed there"
        live = state.lives.get(node)
        if live is not None and live.attempt == failed.attempt:
            self.market.drop(state, node)
            reason = f"failed with exit code {failed.exit_code}"
            if state.strays:
                reason += f", and may lack what {state.strays} has left elsewhere: it is tried there"
            elif state.in_doubt:
                reason += ", and nothing has succeeded on that agent yet: another one tries"
            effects += self._again(state, failed.attempt, failed.name, reason, now, failed=failed)
        elif live is not None and live.started_at is None:
            # It answered the newer award with the old result.
            effects.append(Send(node, Award(self.epoch, self._next_seq(), failed.task, live.attempt)))
        return effects

    def _record(
        self,
        state: TaskState,
        done: Completion,
        envelope: bytes,
        holders: tuple[NodeId, ...],
        now: Instant,
        *,
        in_place: bool,
    ) -> list[Effect]:
        """`state` is done: into the ledger, to the main job, and on to what waits for it."""
        if (doubt := self.doubts.settle(state.task.id)) is not None:
            self.recorder.append(doubt.envelope, now)
        state.in_doubt = False
        self.stalls.end(state.task.id)
        index = self.recorder.append(envelope, now)
        task = state.task.id
        record = Record(task, done.status, done.key, done.outputs, holders)
        self.bulletin.record(record)
        self.strays.record(done, holders)
        for holder in holders:
            self.bulletin.acknowledge(holder, task)
        ready = self.market.done(state, record, now)
        # What a skipped or cancelled task stops has been found together with it.
        downstream = self.market.downstream(task) if state.stops and done.status == "failure" else []
        if done.status == "failure" and state.stops:
            self.brakes.failed(task)
        self.outstanding.begin(task, done.attempt)
        effects: list[Effect] = [
            Tell(
                news.TaskEnded.of(
                    done,
                    self._where(done, holders),
                    state.attempts,
                    index,
                    flaky=bool(state.failed) and not state.strays,
                )
            ),
            Deliver.of(done, holders, in_place=in_place),
        ]
        if done.status == "success" and done.problem:
            effects.append(Tell(news.Notice.of(task, self._where(done, holders), done.problem)))
        effects += [Tell(news.TaskReady(other)) for other in ready]
        for other in downstream:
            effects += self._decide(self.market.tasks[other], "skipped", f"{task} did not succeed", now)
        return effects

    def _where(self, done: Completion, holders: tuple[NodeId, ...]) -> str:
        """Whom people are told to have run it; "" for nobody."""
        here = holders == (self.me,) and done.status in ("success", "failure")
        return "main" if here else done.name if holders else ""

    def _decide(self, state: TaskState, status: news.TaskStatus, problem: str, now: Instant) -> list[Effect]:
        """The leader itself says how a task ended that nobody ran."""
        if state.phase is Phase.DONE:
            return []
        effects = self._kill(state)
        done = self.recorder.decided(state.task, status, problem, self.epoch, max(1, state.attempt))
        return [*effects, *self._record(state, done, done.seal(self.recorder.key), (), now, in_place=True)]

    # --- doubts --------------------------------------------------------------------------------------

    def _passed(self, state: TaskState, done: Completion, node: NodeId, now: Instant) -> list[Effect]:
        """A task has succeeded on `node`: that speaks for this agent, and against those on which the task has failed."""
        effects: list[Effect] = []
        if state.failed:
            where = ", ".join(dict.fromkeys(self.market.name(other) for other, _ in state.failed))
            what = f"lacks what {state.strays} left and does not declare" if state.strays else "is flaky"
            text = f"{done.task} {what}: it failed on {where} and passed on {self._where(done, (node,))}"
            effects.append(Tell(news.Notice(text)))
        if done.cache == "none":
            for doubt in self.doubts.prove(node):
                effects += self._count(doubt, now)
        for other, _ in state.failed:
            if other != node and not state.strays:
                effects += self._strike(other, done.task, now)
        return effects

    def _count(self, doubt: Doubt, now: Instant) -> list[Effect]:
        """There is no doubt any more: the task has failed."""
        state = self.market.tasks[doubt.failed.task]
        effects = self._kill(state)
        return [*effects, *self._record(state, doubt.failed, doubt.envelope, (doubt.node,), now, in_place=False)]

    def _strike(self, node: NodeId, task: TaskId, now: Instant) -> list[Effect]:
        """`task` failed on `node`, or could not be started there, and that is no fault of the task's."""
        agent = self.market.agents.get(node)
        if agent is None or node == self.me or not self.doubts.strike(node, task):
            return []
        reason = f"{', '.join(self.doubts.struck(node))} came to nothing there and not elsewhere; what does that machine lack?"
        self.doubts.out[node] = self.refused[node] = reason
        text = f"agent {agent.name} gets no more tasks: {reason}"
        return [Tell(news.Notice(text)), Send(node, Refused(reason)), *self.lost(node, reason, now, lost=False)]

    def _mind_doubts(self) -> None:
        """Who waits for a second opinion on what failed there is given nothing meanwhile."""
        waiting = dict.fromkeys(self.doubts.waiting())
        for agent in [self.market.agents[node] for node in self.doubts.held | waiting if node in self.market.agents]:
            if agent.held_back and agent.node not in waiting:
                self.market.look_again()
            agent.held_back = agent.node in waiting
        self.doubts.held = waiting

    # --- delivery ------------------------------------------------------------------------------------

    def brought(self, event: Delivered, now: Instant) -> list[Effect]:
        """A task's log and outputs are on the main job, which holds them from now on."""
        state = self.market.tasks[event.task]
        if state.phase is not Phase.DONE or not self.outstanding.awaits(event.task, event.attempt):
            return []
        effects: list[Effect] = []
        record = state.record
        if event.made_here:
            effects.append(Tell(news.Notice(f"{event.task} was run again on the main job: {event.made_here}")))
        elif record is not None and record.outputs is not None and self.me not in record.holders:
            state.record = Record(record.task, record.status, record.key, record.outputs, (*record.holders, self.me))
            self.bulletin.record(state.record)
        effects.append(Tell(news.TaskDelivered(event.task)))
        self.outstanding.end(state, self.market)
        # It lets nobody begin but those who wait for it in the main job's workspace, and the run end.
        return [*effects, *self.clear(now)] if self.market.changed or not self.market.left else effects

    def not_brought(self, event: Undelivered, now: Instant) -> list[Effect]:
        """They could not be brought."""
        if not self.outstanding.awaits(event.task, event.attempt):
            return []
        state = self.market.tasks[event.task]
        if event.local or state.stops or state.worn_out:
            # Running it again would fail in the same place, or change what is decided: the run goes on, but it cannot be green.
            if not state.stops:
                self.broken = self.broken or f"{event.task} is not on the main job: {event.reason}"
            self.outstanding.end(state, self.market)
            return [
                Tell(news.Notice(f"the outputs of {event.task} are not on the main job: {event.reason}")),
                *self.clear(now),
            ]
        self.outstanding.give_up(event.task)
        return [*self._again(state, state.attempt, "", f"its outputs are lost: {event.reason}", now), *self.clear(now)]

    # --- the end -------------------------------------------------------------------------------------

    def _end_if_done(self, now: Instant) -> list[Effect]:
        if not self.closed or self.market.left or self.outstanding.due or self.verdict is not None:
            return []
        return self._end("error" if self.broken else self._verdict("success"), self.broken, now)

    def stop(self, event: Stop, now: Instant) -> list[Effect]:
        """Somebody wants the run to end: nothing new is started, what runs is ended, and every task is accounted for."""
        if self.verdict is not None:
            return []
        why = f"stopped by {event.reason}"
        doubts = self.doubts.settle_all() if event.unwanted else ()
        effects = [each for doubt in doubts for each in self._count(doubt, now)]
        for task in event.failed:
            if task in self.market.tasks:  # its graph may not have been compared by now
                effects += self._decide(self.market.tasks[task], "failure", "it failed on the main job", now)
        verdict = "error" if event.broken else self._verdict("cancelled") if event.unwanted else "cancelled"
        for state in [*self.market.tasks.values()]:
            effects += self._decide(state, "cancelled", f"the run was {why}", now)
        return [*effects, *self._end(verdict, why, now)]

    def _verdict(self, otherwise: news.Verdict) -> news.Verdict:
        return "failure" if self.recorder.exit_code or self.market.has_failed() else otherwise

    def _end(self, verdict: news.Verdict, reason: str, now: Instant) -> list[Effect]:
        self.verdict = verdict
        told = [Send(node, Ended(self.epoch, verdict)) for node in [*self.bulletin.agents, *self.refused]]
        return [*self.recorder.verdict(verdict, now), *told, Tell(news.RunEnded(verdict)), End(verdict, reason)]

    def deadline(self) -> Instant | None:
        """When the market or the ledger next wants a look."""
        times = (self.market.deadline(), self.recorder.deadline(), self.stalls.deadline())
        return min((time for time in times if time is not None), default=None)
