"""A schedule in simulated time: what the market makes of a scenario, without a single process.

The nodes are real ones, from the main job's leader down to each agent's worker; only time, network and tasks are simulated, and nothing goes wrong. Messages
take no time, and tasks exactly what the scenario says, so that two schedules differ by what was decided and by nothing else. Fetching outputs
takes their size ÷ `BANDWIDTH_BYTES_PER_MS`.
"""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

from mesh.identity.authority import Authority
from mesh.identity.keys import NodeKey
from mesh.protocol import effects as fx
from mesh.protocol import events as ev
from mesh.protocol import news
from mesh.protocol.market import Market
from mesh.protocol.membership import SILENCE_MAX_MS
from mesh.protocol.node import Config, Node
from mesh.sim.scenario import Scenario, SimAgent
from mesh.sim.shell import Machine, Shell, Undisturbed, blob_of
from mesh.types import Blob, Instant, NodeId, TaskId, UnixMs
from mesh.wire.messages import Message, Role

BANDWIDTH_BYTES_PER_MS: Final = 100_000
"""100 MB a second, about what a gigabit network gives."""

BEAT_MS: Final = SILENCE_MAX_MS // 2
"""Nobody dies here, so that beats only cost time."""

UNIX_MS: Final = 1_700_000_000_000
"""The wall clock at the beginning: always the same, so that equal scenarios make equal ledgers."""

STEPS_MAX: Final = 100_000_000
LOG: Final = blob_of(b"")


class Execution(Struct, frozen=True):
    """One task on one agent. `ended_ms` is None while it runs; `killed` it was where another one of the same task was done first."""

    task: TaskId
    agent: str
    started_ms: int
    ended_ms: int | None = None
    killed: bool = False


class Schedule(Struct):
    """What happened when: all news of the main job with its time, and every execution in the order of its start."""

    scenario: Scenario
    told: list[tuple[int, news.News]] = field(default_factory=list)
    executions: list[Execution] = field(default_factory=list)
    makespan_ms: int = 0
    verdict: news.Verdict | None = None

    @property
    def ratio(self) -> float:
        """Makespan ÷ lower bound; 1.0 is perfect."""
        return self.makespan_ms / max(1, self.scenario.lower_bound_ms)


Look = Callable[[Instant, Market], None]
"""Shown the market, with the time, after each step of the main job."""


def simulate(scenario: Scenario, *, keep_agents: bool = False, look: Look | None = None) -> Schedule:
    """The schedule that the market makes. Equal scenarios give equal schedules."""
    return _Ideal(scenario, keep_agents=keep_agents, look=look).run()


class _Ideal(Undisturbed):
    """A world in which nothing goes wrong."""

    def __init__(self, scenario: Scenario, *, keep_agents: bool, look: Look | None) -> None:
        self.scenario = scenario
        self.look = look
        self.keep_agents = keep_agents
        self.shell = Shell(self)
        self.tasks = {task.id: task for task in scenario.tasks}
        self.schedule = Schedule(scenario)
        self.graph_bytes = scenario.graph.encode()
        self.begun: dict[TaskId, None] = {}
        self.latest: dict[tuple[NodeId, TaskId], int] = {}
        """Which of the schedule's executions an agent's latest one of a task is."""
        authority = Authority.derive(b"a secret of the simulator", "sim/graph")
        self.main = self._add(authority, SimAgent("main"), "main")
        self.agents = {self._add(authority, agent, "agent"): agent for agent in scenario.agents}
        for node, agent in self.agents.items():
            self.shell.at(agent.joins_ms, partial(self.shell.connect, node, self.main))
        graph = ev.GraphPlanned(blob_of(self.graph_bytes), scenario.graph)
        self.shell.at(0, lambda: self.shell.happen(self.main, graph))
        self.shell.at(0, lambda: self.shell.happen(self.main, ev.GraphsClosed()))

    def _add(self, authority: Authority, agent: SimAgent, role: Role) -> NodeId:
        key = NodeKey.from_seed(hashlib.sha256(f"{role} {agent.name}".encode()).digest())
        config = Config(
            run_id=authority.run_id,
            key=key,
            chain=authority.issue(key, agent.name).chain_der,
            root_public=authority.root_public,
            name=agent.name,
            role=role,
            slots=agent.slots,
            incarnation=1,
            facts={"commit": "c0ffee", "os": "linux", "arch": "x86_64"},
            workspace=agent.name,
            wait_ms=10**9,
            keep_agents=self.keep_agents,
            beat_ms=BEAT_MS,
        )
        self.shell.machines[key.node_id] = Machine(Node(config, self.shell.now))
        return key.node_id

    def run(self) -> Schedule:
        """Until the run has its verdict, and every agent has gone."""
        self.shell.live(2**60, STEPS_MAX)
        assert self.schedule.verdict == "success", self.schedule.verdict
        return self.schedule

    # --- what takes no time --------------------------------------------------------------------------

    def stepped(self, machine: Machine, event: ev.Event, effects: list[fx.Effect]) -> None:
        del event, effects
        if self.look is not None and machine.node.leader is not None:
            self.look(self.shell.now, machine.node.leader.market)

    def send(self, one: NodeId, other: NodeId, message: Message) -> None:
        if other in self.shell.machines[one].links:
            self.shell.at(self.shell.now, lambda: self.shell.happen(other, ev.Received(one, message)))

    def check(self, at: NodeId, effect: fx.Check) -> None:
        agent = self.agents.get(at)
        estimates = self.scenario.known(agent.name) if agent is not None else {}
        self.shell.happen(at, ev.Checked(effect.digest, estimates=estimates))

    def deliver(self, at: NodeId, effect: fx.Deliver) -> None:
        # Beside the tasks that follow: bringing outputs to the main job holds nobody up.
        self.shell.at(self.shell.now, lambda: self.shell.happen(at, ev.Delivered(effect.task, effect.attempt)))

    def write_ledger(self, effect: fx.WriteLedger) -> None:
        pass

    def tell(self, at: NodeId, item: news.News, /) -> None:
        if at == self.main:
            self.schedule.told.append((self.shell.now, item))

    def end(self, at: NodeId, verdict: news.Verdict | None) -> None:
        if at == self.main:
            self.schedule.verdict, self.schedule.makespan_ms = verdict, self.shell.now

    # --- work ----------------------------------------------------------------------------------------

    def prepare(self, at: NodeId, effect: fx.Prepare) -> None:
        blobs = self.shell.machines[at].blobs
        missing = [need.outputs for need in effect.needs if need.outputs.digest not in blobs]
        for blob in missing:
            blobs[blob.digest] = b""
        took_ms = sum(blob.size for blob in missing) // BANDWIDTH_BYTES_PER_MS
        done = ev.Prepared(effect.task, effect.attempt)
        self.shell.at(self.shell.now + took_ms, lambda: self.shell.happen(at, done))

    def execute(self, at: NodeId, effect: fx.Execute) -> None:
        task, agent = self.tasks[effect.task], self.agents[at]
        first = task.id not in self.begun
        self.begun[task.id] = None
        duration_ms = task.actual_ms if first and task.actual_ms is not None else task.duration_ms
        self.shell.machines[at].running[task.id] = effect.attempt
        self.latest[at, task.id] = len(self.schedule.executions)
        self.schedule.executions.append(Execution(task.id, agent.name, self.shell.now))
        running = ev.TaskRunning(task.id, effect.attempt)
        self.shell.at(self.shell.now, lambda: self.shell.happen(at, running))
        ends_ms = self.shell.now + round(duration_ms / agent.speed)
        self.shell.at(ends_ms, lambda: self._finish(at, effect))

    def _finish(self, at: NodeId, effect: fx.Execute) -> None:
        running = self.shell.machines[at].running
        if running.get(effect.task) != effect.attempt:
            return
        del running[effect.task]
        ended = self._end(at, effect.task, killed=False)
        outputs = None
        if size := self.tasks[effect.task].output_bytes:
            outputs = Blob(blob_of(effect.task.encode()).digest, size)
            self.shell.machines[at].blobs[outputs.digest] = b""
        times = UnixMs(UNIX_MS + ended.started_ms), UnixMs(UNIX_MS + self.shell.now)
        run = ev.Execution("success", 0, *times, outputs=outputs, log=LOG)
        self.shell.happen(at, ev.TaskFinished(effect.task, effect.attempt, run))

    def kill(self, at: NodeId, effect: fx.Kill) -> None:
        running = self.shell.machines[at].running
        if running.get(effect.task) == effect.attempt:
            del running[effect.task]
            self._end(at, effect.task, killed=True)
            killed = ev.TaskKilled(effect.task, effect.attempt)
            self.shell.at(self.shell.now, lambda: self.shell.happen(at, killed))

    def _end(self, at: NodeId, task: TaskId, *, killed: bool) -> Execution:
        number = self.latest[at, task]
        ended = replace(self.schedule.executions[number], ended_ms=self.shell.now, killed=killed)
        self.schedule.executions[number] = ended
        return ended
