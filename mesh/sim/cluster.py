"""The second shell of the core: one heap of timed happenings instead of sockets, disks and processes.

It knows nothing of the first shell, and so keeps it honest. Everything that the real one does in answer to an effect is done here after a drawn time,
or not at all. First a life under faults; then the faults cease, and the run must come to its verdict (safety first, then liveness).
"""

import hashlib
import random
from collections.abc import Callable
from functools import partial
from typing import Final

from msgspec import Struct

from mesh.graph import Graph
from mesh.identity.authority import Authority
from mesh.identity.keys import NodeKey
from mesh.protocol import effects as fx
from mesh.protocol import events as ev
from mesh.protocol import news
from mesh.protocol.node import Config, Node
from mesh.sim.checkers import Checkers
from mesh.sim.faults import Faults
from mesh.sim.shell import Machine, Shell, blob_of
from mesh.sim.workload import duration_ms, random_graph
from mesh.types import Blob, NodeId, TaskId, UnixMs
from mesh.wire import codec
from mesh.wire.messages import Message

LIFE_MAX_MS: Final = 20 * 60 * 1000
STEPS_MAX: Final = 300_000


class Life(Struct, frozen=True):
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
        self.shell = Shell(self)
        self.machines = self.shell.machines
        self.seed = seed
        self.dice = random.Random(seed)  # noqa: S311  a seed is what this is for
        self.faults = faults
        self.graph = graph
        self.messages = 0
        self.executions = 0
        self.trace = hashlib.sha256()
        self.calm = False
        self.ledger_files: dict[str, bytes] = {}
        self.graph_bytes = graph.encode()
        self.graph_blob = blob_of(self.graph_bytes)
        self.verdict: news.Verdict | None = None
        self.checkers = Checkers(graph)
        authority = Authority.derive(b"a secret of the simulator", f"sim/{seed}")
        self.main = self._add(authority, "main", 2)
        self.agents = [self._add(authority, f"agent-{number}", self.dice.randint(1, 4)) for number in range(agents)]
        self.broken = self.agents[: faults.broken]
        self.bad = [
            one for one in graph.tasks if faults.bad_permille and self.dice.randrange(1000) < faults.bad_permille
        ]
        needed = [dep for task in graph.tasks.values() for dep in task.deps] if faults.strays else []
        strays = self.dice.sample(sorted(set(needed)), min(faults.strays, len(set(needed))))
        self.strays: dict[TaskId, set[NodeId]] = {task: set() for task in strays}
        """Where each of the tasks that leave something has run."""
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
        self.machines[key.node_id] = Machine(Node(config, self.shell.now))
        return key.node_id

    def _schedule_faults(self) -> None:
        dice, faults = self.dice, self.faults
        late = set(dice.sample(range(len(self.agents)), min(faults.late, len(self.agents))))
        for number, agent in enumerate(self.agents):
            self.shell.at(
                dice.randint(0, 20_000) if number in late else 0, partial(self.shell.connect, agent, self.main)
            )
        main = self.main
        self.shell.at(0, lambda: self.shell.happen(main, ev.GraphPlanned(self.graph_blob, self.graph)))
        self.shell.at(1, lambda: self.shell.happen(main, ev.GraphsClosed()))
        self.machines[main].blobs[self.graph_blob.digest] = self.graph_bytes
        for _ in range(faults.kills):
            self.shell.at(dice.randint(1, 15_000), partial(self._kill, dice.choice(self.agents)))
        for _ in range(faults.leaves):
            self.shell.at(
                dice.randint(1, 15_000), partial(self.shell.happen, dice.choice(self.agents), ev.Stop("SIGTERM"))
            )
        for _ in range(faults.cuts):
            self.shell.at(dice.randint(1, 15_000), partial(self._cut, dice.choice(self.agents)))
        if faults.stop_main_at_ms:
            self.shell.at(faults.stop_main_at_ms, lambda: self.shell.happen(main, ev.Stop("SIGINT")))
        self.shell.at(60_000, self._heal)

    def _heal(self) -> None:
        self.calm = True

    # --- time ----------------------------------------------------------------------------------------

    def _later(self, low_ms: int, high_ms: int, action: Callable[[], None]) -> None:
        self.shell.at(self.shell.now + self.dice.randint(low_ms, high_ms), action)

    def run(self) -> Life:
        """Live until the main job has its verdict and every agent has gone."""
        self.shell.live(LIFE_MAX_MS, STEPS_MAX)
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
            steps=self.shell.steps,
            ended_ms=self.shell.now,
            tasks=len(self.graph.tasks),
            executions=self.executions,
            messages=self.messages,
            digest=self.trace.hexdigest(),
            problems=tuple(self.checkers.problems),
        )

    # --- nodes ---------------------------------------------------------------------------------------

    def stepped(self, machine: Machine, event: ev.Event, effects: list[fx.Effect]) -> None:
        self.trace.update(
            f"{self.shell.now} {machine.node.config.name} {type(event).__name__} {len(effects)}\n".encode()
        )

    def tell(self, _at: NodeId, item: news.News) -> None:
        self.checkers.hear(item, self.shell.now)
        self.trace.update(f"{item!r}\n".encode() if isinstance(item, news.TaskEnded) else b"")

    def write_ledger(self, effect: fx.WriteLedger) -> None:
        self.ledger_files.update(effect.files)
        for path in effect.removed:
            del self.ledger_files[path]

    def end(self, at: NodeId, verdict: news.Verdict | None) -> None:
        machine = self.machines[at]
        if at == self.main:
            self.verdict = verdict
        machine.running.clear()
        for peer in list(machine.links):
            # What was sent before the end still arrives: the shell flushes its links.
            self._later(self.faults.latency_max_ms, self.faults.latency_max_ms + 5, partial(self.shell.drop, at, peer))

    # --- links ---------------------------------------------------------------------------------------

    def not_there(self, one: NodeId, other: NodeId) -> None:
        self._later(500, 1_000, lambda: self.shell.connect(one, other))

    def disconnect(self, one: NodeId, other: NodeId, reason: str) -> None:
        self.checkers.problem(f"{self.machines[one].node.config.name} cut a peer off: {reason}")
        self.shell.drop(one, other)

    def send(self, one: NodeId, other: NodeId, message: Message) -> None:
        generation = self.machines[one].links.get(other)
        if generation is None:
            return
        self.messages += 1
        machine = self.machines[other]
        frame = codec.encode(message)

        def arrive() -> None:
            message = codec.decode(frame)
            if machine.links.get(one) == generation and message is not None:
                self.shell.happen(other, ev.Received(one, message))

        # One link delivers in order: a constant latency per direction and link, drawn from its generation.
        spread = self.faults.latency_max_ms - self.faults.latency_min_ms + 1
        self.shell.at(self.shell.now + self.faults.latency_min_ms + generation * 7919 % spread, arrive)

    def _cut(self, agent: NodeId) -> None:
        for peer in list(self.machines[agent].links):
            self.shell.drop(agent, peer)
        self._later(1, 10_000, lambda: self.shell.connect(agent, self.main))

    def _kill(self, agent: NodeId) -> None:
        machine = self.machines[agent]
        machine.up = False
        machine.running.clear()
        for peer in list(machine.links):
            machine.links.pop(peer)
            self.machines[peer].links.pop(agent, None)
            self.shell.happen(peer, ev.LinkDown(agent, "reset"))

    # --- work ----------------------------------------------------------------------------------------

    def _available(self, blob: Blob, holders: tuple[NodeId, ...]) -> bool:
        if not self.calm and self.dice.randrange(1000) < self.faults.fetch_fails_permille:
            return False
        return any(self.machines[holder].up and blob.digest in self.machines[holder].blobs for holder in holders)

    def fetch_graph(self, at: NodeId, effect: fx.FetchGraph) -> None:
        self._later(1, 50, lambda: self._fetch_graph(at, effect.blob, effect.holders))

    def check(self, at: NodeId, effect: fx.Check) -> None:
        self._later(0, 500, lambda: self.shell.happen(at, ev.Checked(effect.digest)))

    def prepare(self, at: NodeId, effect: fx.Prepare) -> None:
        self._later(1, 100, lambda: self._prepare(at, effect.task, effect.attempt, effect.needs))

    def kill(self, at: NodeId, effect: fx.Kill) -> None:
        self._later(0, 100, lambda: self._kill_task(at, effect.task, effect.attempt))

    def deliver(self, at: NodeId, effect: fx.Deliver) -> None:
        self._later(0, 200, lambda: self._deliver(at, effect))

    def _fetch_graph(self, at: NodeId, blob: Blob, holders: tuple[NodeId, ...]) -> None:
        machine = self.machines[at]
        if self._available(blob, holders):
            machine.blobs[blob.digest] = self.graph_bytes
            self.shell.happen(at, ev.GraphFetched(blob, self.graph_bytes))
        else:
            self.shell.happen(at, ev.GraphUnfetched(blob, "nobody has it"))

    def _prepare(self, at: NodeId, task: TaskId, attempt: int, needs: tuple[fx.Need, ...]) -> None:
        machine = self.machines[at]
        missing = []
        for need in needs:
            if need.outputs.digest in machine.blobs or self._available(need.outputs, need.holders):
                machine.blobs[need.outputs.digest] = b""
            else:
                missing.append(need.task)
        if missing:
            self.shell.happen(at, ev.Handed(task, attempt, "inputs are gone", tuple(missing)))
        else:
            self.shell.happen(at, ev.Prepared(task, attempt))

    def execute(self, at: NodeId, effect: fx.Execute) -> None:
        machine = self.machines[at]
        task, attempt, needs = effect.task, effect.attempt, effect.needs
        self.executions += 1
        machine.running[task] = attempt
        self.checkers.executing(machine.node.config.name, self.graph.tasks[task], needs, shared=at == self.main)
        neighbours = [self.graph.tasks[other] for other in machine.running]
        self.checkers.together(machine.node.config.name, machine.node.config.slots, neighbours)
        started = self.shell.now
        self._later(1, 5, lambda: self.shell.happen(at, ev.TaskRunning(task, attempt)))
        took = 6 + duration_ms(self.dice)
        fails = self.dice.randrange(1000) < self.faults.task_fails_permille or at in self.broken or task in self.bad
        if self.strays:
            fails |= any(at not in self.strays.get(other, {at}) for other in self.graph.closure(task))

        def finish() -> None:
            if machine.running.get(task) != attempt or machine.ended is not None:
                return
            del machine.running[task]
            outputs = None
            if self.graph.tasks[task].outputs:
                outputs = blob_of(f"outputs of {task}".encode())
                machine.blobs[outputs.digest] = b""
            run = ev.Execution(
                "failure" if fails else "success",
                1 if fails else 0,
                UnixMs(1_700_000_000_000 + started),
                UnixMs(1_700_000_000_000 + self.shell.now),
                outputs=outputs,
                log=blob_of(f"log of {task}".encode()),
                problem="it left something" if task in self.strays and not fails else "",
            )
            if task in self.strays and not fails:
                self.strays[task].add(at)
            self.shell.happen(at, ev.TaskFinished(task, attempt, run))

        self.shell.at(self.shell.now + took, finish)

    def _kill_task(self, at: NodeId, task: TaskId, attempt: int) -> None:
        machine = self.machines[at]
        if machine.running.get(task) == attempt:
            del machine.running[task]
            self.shell.happen(at, ev.TaskKilled(task, attempt))

    def _deliver(self, at: NodeId, effect: fx.Deliver) -> None:
        machine = self.machines[at]
        if effect.outputs is not None and not effect.in_place and effect.outputs.digest not in machine.blobs:
            if not self._available(effect.outputs, effect.holders):
                self.shell.happen(at, ev.Undelivered(effect.task, effect.attempt, "nobody has it", local=False))
                return
            machine.blobs[effect.outputs.digest] = b""
        self.shell.happen(at, ev.Delivered(effect.task, effect.attempt))


def live(seed: int, *, agents: int | None = None, tasks: int | None = None) -> Life:
    """One life from one seed: its size, its graph and its faults are drawn, unless they are given."""
    dice = random.Random(seed)  # noqa: S311  a seed is what this is for
    agents = dice.randint(0, 6) if agents is None else agents
    graph = random_graph(dice, dice.randint(0, 60) if tasks is None else tasks)
    faults = Faults.drawn(dice, agents) if agents else Faults()
    return Cluster(seed, agents=agents, graph=graph, faults=faults).run()
