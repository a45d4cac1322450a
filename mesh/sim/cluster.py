"""The second shell of the core: one heap of timed happenings instead of sockets, disks and processes.

It knows nothing of the first shell, and so keeps it honest. Everything that the real one does in answer to an effect is done here after a drawn time,
or not at all. First a life under faults; then the faults cease, and the run must come to its verdict (safety first, then liveness).
"""

import hashlib
import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, assert_never

from mesh.graph import Graph
from mesh.identity.authority import Authority
from mesh.identity.keys import NodeKey
from mesh.protocol import effects as fx
from mesh.protocol import events as ev
from mesh.protocol import news
from mesh.protocol.node import Config, Node
from mesh.sim.checkers import Checkers
from mesh.sim.faults import Faults
from mesh.sim.workload import duration_ms, random_graph
from mesh.types import Blob, Digest, Instant, NodeId, TaskId, UnixMs
from mesh.wire import codec

LIFE_MAX_MS: Final = 20 * 60 * 1000
STEPS_MAX: Final = 300_000


@dataclass(slots=True)
class Machine:
    """One simulated computer with one node on it."""

    node: Node
    up: bool = True
    ended: fx.End | None = None
    wake_at: Instant | None = None
    links: dict[NodeId, int] = field(default_factory=dict)
    """Generation of the link to each peer; a message of an older generation is lost."""
    blobs: dict[Digest, bytes] = field(default_factory=dict)
    running: dict[TaskId, int] = field(default_factory=dict)
    """Attempt, of what has been started and not ended."""


@dataclass(frozen=True, slots=True)
class Life:
    """What came of one seed."""

    seed: int
    verdict: news.Verdict | None
    steps: int
    ended_ms: int
    tasks: int
    executions: int
    messages: int
    digest: str
    """Hash of everything that was done, in order: equal for equal seeds, on any machine, in any process."""
    problems: tuple[str, ...]


class Cluster:
    """A main job and some agents, in simulated time."""

    def __init__(self, seed: int, *, agents: int, graph: Graph, faults: Faults) -> None:
        self.seed = seed
        self.dice = random.Random(seed)  # noqa: S311  a seed is what this is for
        self.faults = faults
        self.graph = graph
        self.now = Instant(0)
        self.queue: list[tuple[int, int, Callable[[], None]]] = []
        self.pushed = 0
        self.steps = 0
        self.messages = 0
        self.executions = 0
        self.trace = hashlib.sha256()
        self.calm = False
        self.ledger_files: dict[str, bytes] = {}
        self.graph_bytes = graph.encode()
        self.graph_blob = _blob(self.graph_bytes)
        self.verdict: news.Verdict | None = None
        self.checkers = Checkers(graph)
        authority = Authority.derive(b"a secret of the simulator", f"sim/{seed}")
        self.machines: dict[NodeId, Machine] = {}
        self.main = self._add(authority, "main", 2)
        self.agents = [self._add(authority, f"agent-{number}", self.dice.randint(1, 4)) for number in range(agents)]
        self._schedule_faults()

    def _add(self, authority: Authority, name: str, slots: int) -> NodeId:
        key = NodeKey.from_seed(self.dice.randbytes(32))
        config = Config(
            run_id=authority.run_id,
            key=key,
            chain=authority.issue(key, name).chain_der,
            root_public=authority.root_public,
            name=name,
            role="main" if name == "main" else "agent",
            slots=slots,
            incarnation=1,
            facts={"commit": "c0ffee", "os": "linux", "arch": "x86_64"},
            workspace=name,
            wait_ms=5_000 if name == "main" else 600_000,
        )
        self.machines[key.node_id] = Machine(Node(config, self.now))
        return key.node_id

    def _schedule_faults(self) -> None:
        dice, faults = self.dice, self.faults
        late = set(dice.sample(range(len(self.agents)), min(faults.late, len(self.agents))))
        for number, agent in enumerate(self.agents):
            self._at(dice.randint(0, 20_000) if number in late else 0, partial(self._connect, agent, self.main))
        main = self.main
        self._at(0, lambda: self._happen(main, ev.GraphPlanned(self.graph_blob, self.graph)))
        self._at(1, lambda: self._happen(main, ev.GraphsClosed()))
        self.machines[main].blobs[self.graph_blob.digest] = self.graph_bytes
        for _ in range(faults.kills):
            self._at(dice.randint(1, 15_000), partial(self._kill, dice.choice(self.agents)))
        for _ in range(faults.leaves):
            self._at(dice.randint(1, 15_000), partial(self._happen, dice.choice(self.agents), ev.Stop("SIGTERM")))
        for _ in range(faults.cuts):
            self._at(dice.randint(1, 15_000), partial(self._cut, dice.choice(self.agents)))
        if faults.stop_main_at_ms:
            self._at(faults.stop_main_at_ms, lambda: self._happen(main, ev.Stop("SIGINT")))
        self._at(60_000, self._heal)

    def _heal(self) -> None:
        self.calm = True

    # --- time ----------------------------------------------------------------------------------------

    def _at(self, at_ms: int, action: Callable[[], None]) -> None:
        self.pushed += 1
        heapq.heappush(self.queue, (max(at_ms, self.now), self.pushed, action))

    def _later(self, low_ms: int, high_ms: int, action: Callable[[], None]) -> None:
        self._at(self.now + self.dice.randint(low_ms, high_ms), action)

    def run(self) -> Life:
        """Live until the main job has its verdict and every agent has gone."""
        for node, machine in self.machines.items():
            self._rearm(node, machine)
        while self.queue and self.now < LIFE_MAX_MS and self.steps < STEPS_MAX:
            at_ms, _, action = heapq.heappop(self.queue)
            self.now = Instant(at_ms)
            action()
            if all(not machine.up or machine.ended is not None for machine in self.machines.values()):
                break
        main = self.machines[self.main]
        leader = main.node.leader
        assert leader is not None
        self.checkers.at_the_end(leader, self.verdict, self.ledger_files, stopped=bool(self.faults.stop_main_at_ms))
        for machine in self.machines.values():
            if machine.up and machine.ended is None:
                self.checkers.problem(f"{machine.node.config.name} never ended")
            if machine.ended is not None and machine.running and machine.node.config.role == "agent":
                self.checkers.problem(f"{machine.node.config.name} ended while tasks ran")
        return Life(
            seed=self.seed,
            verdict=self.verdict,
            steps=self.steps,
            ended_ms=self.now,
            tasks=len(self.graph.tasks),
            executions=self.executions,
            messages=self.messages,
            digest=self.trace.hexdigest(),
            problems=tuple(self.checkers.problems),
        )

    # --- nodes ---------------------------------------------------------------------------------------

    def _happen(self, at: NodeId, event: ev.Event) -> None:
        machine = self.machines[at]
        if not machine.up or machine.ended is not None:
            return
        self.steps += 1
        effects = machine.node.step(event, self.now)
        self.trace.update(f"{self.now} {machine.node.config.name} {type(event).__name__} {len(effects)}\n".encode())
        for effect in effects:
            self._perform(at, machine, effect)
        self._rearm(at, machine)

    def _rearm(self, at: NodeId, machine: Machine) -> None:
        deadline = machine.node.deadline(self.now)
        if deadline is None or deadline == machine.wake_at:
            return
        machine.wake_at = deadline

        def wake() -> None:
            if machine.wake_at == deadline:
                machine.wake_at = None
                self._happen(at, ev.Tick())

        self._at(deadline, wake)

    def _perform(self, at: NodeId, machine: Machine, effect: fx.Effect) -> None:
        match effect:
            case fx.Send(peer, message):
                self._send(at, peer, codec.encode(message))
            case fx.Connect(peer, _):
                self._connect(at, peer)
            case fx.Disconnect(peer, reason):
                self.checkers.problem(f"{machine.node.config.name} cut a peer off: {reason}")
                self._drop(at, peer)
            case fx.FetchGraph(blob, holders):
                self._later(1, 50, lambda: self._fetch_graph(at, blob, holders))
            case fx.Check(digest, _):
                self._later(0, 500, lambda: self._happen(at, ev.Checked(digest)))
            case fx.Prepare(task, attempt, needs):
                self._later(1, 100, lambda: self._prepare(at, task, attempt, needs))
            case fx.Execute(task, attempt, needs):
                self._execute(at, machine, task, attempt, needs)
            case fx.Kill(task, attempt):
                self._later(0, 100, lambda: self._kill_task(at, machine, task, attempt))
            case fx.Deliver():
                self._later(0, 200, lambda: self._deliver(at, machine, effect))
            case fx.WriteLedger(files, removed):
                self.ledger_files.update(files)
                for path in removed:
                    del self.ledger_files[path]
            case fx.Keep():
                pass
            case fx.Tell(item):
                self.checkers.hear(item, self.now)
                self.trace.update(f"{item!r}\n".encode() if isinstance(item, news.TaskEnded) else b"")
            case fx.End(verdict, _):
                machine.ended = effect
                self._end(at, machine, verdict)
            case _:
                assert_never(effect)

    def _end(self, at: NodeId, machine: Machine, verdict: news.Verdict | None) -> None:
        if at == self.main:
            self.verdict = verdict
        machine.running.clear()
        for peer in list(machine.links):
            # What was sent before the end still arrives: the shell flushes its links.
            self._later(self.faults.latency_max_ms, self.faults.latency_max_ms + 5, partial(self._drop, at, peer))

    # --- links ---------------------------------------------------------------------------------------

    def _connect(self, one: NodeId, other: NodeId) -> None:
        a, b = self.machines[one], self.machines[other]
        if one == other or other in a.links or not a.up or a.ended is not None:
            return
        if not b.up or b.ended is not None:
            self._later(500, 1_000, lambda: self._connect(one, other))
            return
        self.pushed += 1
        a.links[other] = b.links[one] = self.pushed
        certificate = b.node.config.chain[0], a.node.config.chain[0]
        self._happen(one, ev.LinkUp(other, "10.0.0.1", certificate[0]))
        self._happen(other, ev.LinkUp(one, "10.0.0.1", certificate[1]))

    def _send(self, one: NodeId, other: NodeId, frame: bytes) -> None:
        generation = self.machines[one].links.get(other)
        if generation is None:
            return
        self.messages += 1
        machine = self.machines[other]

        def arrive() -> None:
            message = codec.decode(frame)
            if machine.links.get(one) == generation and message is not None:
                self._happen(other, ev.Received(one, message))

        # One link delivers in order: a constant latency per direction and link, drawn from its generation.
        spread = self.faults.latency_max_ms - self.faults.latency_min_ms + 1
        self._at(self.now + self.faults.latency_min_ms + generation * 7919 % spread, arrive)

    def _drop(self, one: NodeId, other: NodeId) -> None:
        if self.machines[one].links.pop(other, None) is not None:
            self.machines[other].links.pop(one, None)
            self._happen(one, ev.LinkDown(other, "closed"))
            self._happen(other, ev.LinkDown(one, "closed"))

    def _cut(self, agent: NodeId) -> None:
        for peer in list(self.machines[agent].links):
            self._drop(agent, peer)
        self._later(1, 10_000, lambda: self._connect(agent, self.main))

    def _kill(self, agent: NodeId) -> None:
        machine = self.machines[agent]
        machine.up = False
        machine.running.clear()
        for peer in list(machine.links):
            machine.links.pop(peer)
            self.machines[peer].links.pop(agent, None)
            self._happen(peer, ev.LinkDown(agent, "reset"))

    # --- work ----------------------------------------------------------------------------------------

    def _available(self, blob: Blob, holders: tuple[NodeId, ...]) -> bool:
        if not self.calm and self.dice.randrange(1000) < self.faults.fetch_fails_permille:
            return False
        return any(self.machines[holder].up and blob.digest in self.machines[holder].blobs for holder in holders)

    def _fetch_graph(self, at: NodeId, blob: Blob, holders: tuple[NodeId, ...]) -> None:
        machine = self.machines[at]
        if self._available(blob, holders):
            machine.blobs[blob.digest] = self.graph_bytes
            self._happen(at, ev.GraphFetched(blob, self.graph_bytes))
        else:
            self._happen(at, ev.GraphUnfetched(blob, "nobody has it"))

    def _prepare(self, at: NodeId, task: TaskId, attempt: int, needs: tuple[fx.Need, ...]) -> None:
        machine = self.machines[at]
        missing = []
        for need in needs:
            if need.outputs.digest in machine.blobs or self._available(need.outputs, need.holders):
                machine.blobs[need.outputs.digest] = b""
            else:
                missing.append(need.task)
        if missing:
            self._happen(at, ev.Handed(task, attempt, "inputs are gone", tuple(missing)))
        else:
            self._happen(at, ev.Prepared(task, attempt))

    def _execute(self, at: NodeId, machine: Machine, task: TaskId, attempt: int, needs: tuple[fx.Need, ...]) -> None:
        self.executions += 1
        machine.running[task] = attempt
        self.checkers.executing(machine.node.config.name, self.graph.tasks[task], needs, shared=at == self.main)
        neighbours = [self.graph.tasks[other] for other in machine.running]
        self.checkers.together(machine.node.config.name, machine.node.config.slots, neighbours)
        started = self.now
        self._later(1, 5, lambda: self._happen(at, ev.TaskRunning(task, attempt)))
        took = 6 + duration_ms(self.dice)
        fails = self.dice.randrange(1000) < self.faults.task_fails_permille

        def finish() -> None:
            if machine.running.get(task) != attempt or machine.ended is not None:
                return
            del machine.running[task]
            outputs = None
            if not fails and self.graph.tasks[task].outputs:
                outputs = _blob(f"outputs of {task}".encode())
                machine.blobs[outputs.digest] = b""
            run = ev.Execution(
                "failure" if fails else "success",
                1 if fails else 0,
                UnixMs(1_700_000_000_000 + started),
                UnixMs(1_700_000_000_000 + self.now),
                outputs=outputs,
                log=_blob(f"log of {task}".encode()),
            )
            self._happen(at, ev.TaskFinished(task, attempt, run))

        self._at(self.now + took, finish)

    def _kill_task(self, at: NodeId, machine: Machine, task: TaskId, attempt: int) -> None:
        if machine.running.get(task) == attempt:
            del machine.running[task]
            self._happen(at, ev.TaskKilled(task, attempt))

    def _deliver(self, at: NodeId, machine: Machine, effect: fx.Deliver) -> None:
        if effect.outputs is not None and not effect.in_place and effect.outputs.digest not in machine.blobs:
            if not self._available(effect.outputs, effect.holders):
                self._happen(at, ev.Undelivered(effect.task, effect.attempt, "nobody has it", local=False))
                return
            machine.blobs[effect.outputs.digest] = b""
        self._happen(at, ev.Delivered(effect.task, effect.attempt))


def _blob(data: bytes) -> Blob:
    return Blob(Digest("sha256:" + hashlib.sha256(data).hexdigest()), len(data))


def live(seed: int, *, agents: int | None = None, tasks: int | None = None) -> Life:
    """One life from one seed: its size, its graph and its faults are drawn, unless they are given."""
    dice = random.Random(seed)  # noqa: S311  a seed is what this is for
    agents = dice.randint(0, 6) if agents is None else agents
    graph = random_graph(dice, dice.randint(0, 60) if tasks is None else tasks)
    faults = Faults.drawn(dice, agents) if agents else Faults()
    return Cluster(seed, agents=agents, graph=graph, faults=faults).run()
