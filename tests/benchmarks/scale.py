"""What the leader costs, by the size of the graph: many simulated agents, and of each kind of node one that is measured alone.

    python -m tests.benchmarks.scale [--tasks 1000,10000,100000] [--agents 200] [--shapes monorepo,wide,chains] [--known]

prints one JSON line for each run. All nodes are real ones, in simulated time, with beats as in a real run; tasks take what the graph says (ten seconds on average),
two at a time on each agent. Everything that happens to the main job and to one agent is written down, and then done once more by a process which holds only that one
node: its frames are decoded and encoded, signatures verified and made, the ledger written to a directory, news folded into the summary. Sockets, TLS, logs
and outputs are not in it: `noop.py` has them in, with real processes.

`cpu_ms_per_task` is all that the process takes of a processor, divided by the tasks; `of_a_core` is the same divided by the simulated time, which is the pace of a
real run; `first_half` and `second_half` are the steps' cost per task in the two halves of the run's happenings, and `memory_mb` is the growth of the resident
memory over that of the same process before anything has happened. With `--known` every agent knows the duration of every task from its own history.
"""

import argparse
import hashlib
import json
import pickle
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from mesh.graph import Graph, Task
from mesh.identity.authority import Authority
from mesh.identity.keys import NodeKey
from mesh.protocol import effects as fx
from mesh.protocol import events as ev
from mesh.protocol import news
from mesh.protocol.estimate import usual
from mesh.protocol.node import Config, Node
from mesh.report.summary import Summary
from mesh.sim import SimTask
from mesh.sim.shell import Machine, Shell, Undisturbed, blob_of
from mesh.store.ledger_dir import LedgerDirectory
from mesh.types import Blob, Instant, NodeId, Quantiles, TaskId, UnixMs
from mesh.wire import codec
from mesh.wire.messages import Message
from tests.benchmarks.noop import machine

SLOTS = 2
MEAN_MS = 10_000
LAYERS = 20
STEPS_MAX = 10**9
LOG = blob_of(b"")
CHUNK = 1_000

Happening = tuple[Instant, ev.Event] | tuple[Instant, NodeId, bytes]
"""When, and what: an event, or a frame from a peer."""


# --- graphs ------------------------------------------------------------------------------------------


def monorepo(dice: random.Random, tasks: int) -> Iterator[SimTask]:
    """Projects in 20 layers, so that there are agents enough whatever their number; each is built behind up to three of the layer below, tested and linted."""
    width = -(-tasks // 3 // LAYERS)
    for number in range(-(-tasks // 3)):
        layer, place = divmod(number, width)
        near = [(layer - 1) * width + (place + step) % width for step in range(min(width, 10))] if layer else []
        imports = dice.sample(near, min(len(near), dice.choice((0, 1, 1, 2, 3))))
        build = TaskId(f"p{number}:build")
        made = (
            SimTask(build, tuple(TaskId(f"p{other}:build") for other in imports), _duration_ms(dice)),
            SimTask(TaskId(f"p{number}:test"), (build,), _duration_ms(dice)),
            SimTask(TaskId(f"p{number}:lint"), (), _duration_ms(dice)),
        )
        yield from made[: tasks - 3 * number]


def wide(dice: random.Random, tasks: int) -> Iterator[SimTask]:
    """Nothing waits for anything."""
    return (SimTask(TaskId(f"p{number}:test"), (), _duration_ms(dice)) for number in range(tasks))


def chains(dice: random.Random, tasks: int) -> Iterator[SimTask]:
    """One chain for each of 400 slots: as deep as it gets with all of them busy."""
    width = min(400, tasks)
    for number in range(tasks):
        deps = (TaskId(f"p{number - width}:step"),) if number >= width else ()
        yield SimTask(TaskId(f"p{number}:step"), deps, _duration_ms(dice))


def _duration_ms(dice: random.Random) -> int:
    return round(MEAN_MS * dice.lognormvariate(-0.32, 0.8))


SHAPES: dict[str, Callable[[random.Random, int], Iterator[SimTask]]] = {
    "monorepo": monorepo,
    "wide": wide,
    "chains": chains,
}


# --- the run that is written down --------------------------------------------------------------------


class Diary:
    """What happens to one node, in chunks, so that whoever reads it holds little of it at a time."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._chunk: list[Happening] = []

    def add(self, happening: Happening) -> None:
        self._chunk.append(happening)
        if len(self._chunk) == CHUNK:
            self._flush()

    def _flush(self) -> None:
        pickle.dump(self._chunk, self._file)
        self._chunk = []

    def close(self) -> None:
        self._flush()
        self._file.close()


def config_of(name: str) -> Config:
    """Of the node with that name: always the same."""
    authority = Authority.derive(b"a secret of the benchmark", "bench/scale")
    key = NodeKey.from_seed(hashlib.sha256(name.encode()).digest())
    return Config(
        run_id=authority.run_id,
        key=key,
        chain=authority.issue(key, name).chain_der,
        root_public=authority.root_public,
        name=name,
        role="main" if name == "main" else "agent",
        slots=1 if name == "main" else SLOTS,
        incarnation=1,
        facts={"commit": "c0ffee", "os": "linux", "arch": "x86_64"},
        workspace=name,
        wait_ms=10**9,
    )


class Rehearsal(Undisturbed):
    """A run in simulated time in which nothing goes wrong, and the diaries of the main job and of the first agent."""

    def __init__(self, tasks: tuple[SimTask, ...], agents: int, place: Path, *, known: bool) -> None:
        self.shell = Shell(self)
        self.tasks = {task.id: task for task in tasks}
        self.graph = Graph.of(Task(id=task.id, tool="sim", deps=task.deps, outputs=("**",)) for task in tasks)
        self.graph_bytes = self.graph.encode()
        self.known = known
        self.ended_ms = 0
        self.verdict: news.Verdict | None = None
        self._dice = random.Random(0)
        self.main = self._add("main")
        nodes = [self._add(f"agent-{number}") for number in range(agents)]
        self.diaries = {self.main: Diary(place / "main"), nodes[0]: Diary(place / "agent-0")}
        for number, node in enumerate(nodes):
            # Their beats are spread over time, as those of real ones are.
            self.shell.at(number, partial(self.shell.connect, node, self.main))
        plan = ev.GraphPlanned(blob_of(self.graph_bytes), self.graph)
        self.shell.at(1_000, lambda: self._happen(self.main, plan))
        self.shell.at(1_000, lambda: self._happen(self.main, ev.GraphsClosed()))

    def _add(self, name: str) -> NodeId:
        node = Node(config_of(name), self.shell.now)
        self.shell.machines[node.me] = Machine(node)
        return node.me

    def run(self) -> None:
        self.shell.live(2**60, STEPS_MAX)
        for diary in self.diaries.values():
            diary.close()
        assert self.verdict == "success", self.verdict

    def _happen(self, at: NodeId, event: ev.Event) -> None:
        self.shell.happen(at, event)

    def stepped(self, machine: Machine, event: ev.Event, effects: list[fx.Effect]) -> None:
        del effects
        diary = self.diaries.get(machine.node.me)
        # What is received is written down as the frame that it came in.
        if diary is not None and not isinstance(event, ev.Received):
            diary.add((self.shell.now, event))

    def send(self, one: NodeId, other: NodeId, message: Message) -> None:
        frame = codec.encode(message)

        def arrive() -> None:
            if not self.shell.machines[other].here:
                return
            if other in self.diaries:
                self.diaries[other].add((self.shell.now, one, frame))
            received = codec.decode(frame)
            assert received is not None
            self.shell.happen(other, ev.Received(one, received))

        if other in self.shell.machines[one].links:
            self.shell.at(self.shell.now, arrive)

    def check(self, at: NodeId, effect: fx.Check) -> None:
        estimates: dict[TaskId, Quantiles] = {}
        if self.known and at != self.main:
            noise = self._dice.lognormvariate
            estimates = {task.id: usual(round(task.duration_ms * noise(0, 0.3)) + 1) for task in self.tasks.values()}
        self.shell.happen(at, ev.Checked(effect.digest, estimates=estimates))

    def prepare(self, at: NodeId, effect: fx.Prepare) -> None:
        self.shell.happen(at, ev.Prepared(effect.task, effect.attempt))

    def execute(self, at: NodeId, effect: fx.Execute) -> None:
        machine, began = self.shell.machines[at], self.shell.now
        machine.running[effect.task] = effect.attempt
        self.shell.happen(at, ev.TaskRunning(effect.task, effect.attempt))
        self.shell.at(
            began + self.tasks[effect.task].duration_ms, partial(self._finish, at, effect.task, effect.attempt, began)
        )

    def _finish(self, at: NodeId, task: TaskId, attempt: int, began: int) -> None:
        running = self.shell.machines[at].running
        if running.get(task) == attempt:
            del running[task]
            outputs = Blob(blob_of(task.encode()).digest, 100_000)
            times = UnixMs(1_700_000_000_000 + began), UnixMs(1_700_000_000_000 + self.shell.now)
            run = ev.Execution("success", 0, *times, outputs=outputs, log=LOG)
            self.shell.happen(at, ev.TaskFinished(task, attempt, run))

    def kill(self, at: NodeId, effect: fx.Kill) -> None:
        if self.shell.machines[at].running.pop(effect.task, None) == effect.attempt:
            self.shell.at(self.shell.now, lambda: self.shell.happen(at, ev.TaskKilled(effect.task, effect.attempt)))

    def deliver(self, at: NodeId, effect: fx.Deliver) -> None:
        self.shell.at(self.shell.now, lambda: self.shell.happen(at, ev.Delivered(effect.task, effect.attempt)))

    def write_ledger(self, effect: fx.WriteLedger) -> None:
        pass

    def tell(self, at: NodeId, item: news.News, /) -> None:
        pass

    def end(self, at: NodeId, verdict: news.Verdict | None) -> None:
        if at == self.main:
            self.verdict, self.ended_ms = verdict, self.shell.now


# --- one node alone ----------------------------------------------------------------------------------


class Alone:
    """One node and what stands around it in its own process, without the network."""

    def __init__(self, config: Config, place: Path) -> None:
        self.node = Node(config, Instant(0))
        self.summary = Summary()
        self.ledger = LedgerDirectory(place, config.run_id)
        self.sent = 0

    def take(self, happening: Happening) -> None:
        if len(happening) == 3:
            now, peer, frame = happening
            message = codec.decode(frame)
            assert message is not None
            event: ev.Event = ev.Received(peer, message)
        else:
            now, event = happening
        for effect in self.node.step(event, now):
            match effect:
                case fx.Send(_, message):
                    self.sent += len(codec.encode(message))
                case fx.Tell(item):
                    self.summary.apply(item, now)
                case fx.WriteLedger(files, removed):
                    self.ledger.write(files, removed)
                case _:
                    pass
        self.node.deadline(now)


def peak_kb() -> int:
    """The most memory that this process has had; what `getrusage` tells is that of the process which it was forked from, too."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def replay(diary: Path) -> dict[str, float]:
    """Do once more what was written down; the cost of reading it is not counted."""
    with diary.open("rb") as file, tempfile.TemporaryDirectory(prefix="dte-bench-") as place:
        before_kb = peak_kb()
        alone, spent = Alone(config_of(diary.name), Path(place)), []
        while file.tell() < diary.stat().st_size:
            chunk = pickle.load(file)
            began = time.process_time()
            for happening in chunk:
                alone.take(happening)
            spent.append(time.process_time() - began)
        grown_kb = peak_kb() - before_kb
    half = len(spent) // 2
    return {
        "cpu_s": round(sum(spent), 2),
        "first_half_s": round(sum(spent[:half]), 2),
        "second_half_s": round(sum(spent[half:]), 2),
        "memory_mb": round(grown_kb / 1024),
        "sent_mb": round(alone.sent / 1e6, 1),
    }


def alone(diary: Path) -> dict[str, float]:
    """`replay` in a process of its own."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.scale", "--replay", str(diary)], capture_output=True, check=True
    )
    return json.loads(ran.stdout)


def measure(shape: str, tasks: int, agents: int, *, known: bool) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="dte-bench-") as name:
        place = Path(name)
        rehearsal = Rehearsal(tuple(SHAPES[shape](random.Random(tasks), tasks)), agents, place, known=known)
        rehearsal.run()
        ended_ms = rehearsal.ended_ms
        del rehearsal
        leader, agent = alone(place / "main"), alone(place / "agent-0")
    return {
        "bench": "scale",
        "shape": shape,
        "tasks": tasks,
        "agents": agents,
        "known": known,
        "simulated_s": round(ended_ms / 1000),
        "leader": {
            "cpu_ms_per_task": round(leader["cpu_s"] * 1000 / tasks, 3),
            "of_a_core": round(leader["cpu_s"] * 1000 / ended_ms, 4),
            **leader,
        },
        "agent": {"of_a_core": round(agent["cpu_s"] * 1000 / ended_ms, 5), **agent},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="1000,10000,100000")
    parser.add_argument("--agents", type=int, default=200)
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--known", action="store_true", help="agents know all durations from earlier runs")
    parser.add_argument("--replay", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.replay is not None:
        print(json.dumps(replay(options.replay)))
        return
    for tasks in map(int, options.tasks.split(",")):
        for shape in options.shapes.split(","):
            told = measure(shape, tasks, options.agents, known=options.known)
            print(json.dumps({**told, "machine": machine()}), flush=True)


if __name__ == "__main__":
    main()
