"""A mesh of real nodes in which somebody else decides what happens next: every link, every task and the clock are a queue that a test may serve in any order.

What the simulator draws from a seed, this leaves to Hypothesis, which also looks for the shortest way to a broken promise. The promises are the simulator's
(mesh/sim/checkers.py): they must not depend on who drives.
"""

import hashlib
from collections import deque
from dataclasses import dataclass, field

from mesh.graph import Graph
from mesh.identity import Authority, NodeKey
from mesh.ledger import Completion
from mesh.protocol import effects as fx
from mesh.protocol import events as ev
from mesh.protocol import news
from mesh.protocol.node import Config, Node
from mesh.protocol.worker import Phase
from mesh.sim.checkers import Checkers
from mesh.types import Blob, Digest, Instant, TaskId, UnixMs
from mesh.wire import codec
from mesh.wire import messages as msg

RUN = "property/1"
AUTHORITY = Authority.derive(b"a secret of the tests", RUN)
FACTS = {"commit": "c0ffee", "os": "linux", "arch": "x86_64"}
KEYS = {name: NodeKey.from_seed(hashlib.sha256(name.encode()).digest()) for name in ("main", "a1", "a2", "liar")}
CHAINS = {name: AUTHORITY.issue(key, name).chain_der for name, key in KEYS.items()}
BEGAN_MS = 1_700_000_000_000
CALM_STEPS_MAX = 3_000


def blob_of(data):
    return Blob(Digest("sha256:" + hashlib.sha256(data).hexdigest()), len(data))


@dataclass
class Machine:
    """One node with what its shell would be doing."""

    name: str
    node: Node
    inboxes: dict = field(default_factory=dict)
    """By the name of the peer: what is on its way over the link from there, in order."""
    linked: dict = field(default_factory=dict)
    """Number of the link to each peer, as the network knows it."""
    seen: dict = field(default_factory=dict)
    """The same, as this node knows it: what it says over a link that is gone already is lost."""
    work: list = field(default_factory=list)
    """Effects that are not answered yet."""
    running: dict = field(default_factory=dict)
    """Attempt by task, of what has been started and not ended."""
    ended: fx.End | None = None
    dead: bool = False

    @property
    def up(self):
        return self.ended is None and not self.dead


class World:
    """`main` and some agents. A member that is no node of this world, the liar, can be linked to them and speak through `inject`."""

    def __init__(self, graphs, *, agents=("a1", "a2"), shared=(), main_slots=0):
        self.now = Instant(0)
        self.graphs = list(graphs)
        self.blobs = {blob_of(graph.encode()).digest: graph.encode() for graph in self.graphs}
        self.checkers = Checkers(self.graphs[-1])
        self.ledger_files = {}
        self.outputs = {}
        """Who has the outputs of what, by digest."""
        self.machines = {}
        self.links = 0
        self.stopped = False
        for name in ("main", *agents):
            config = Config(
                RUN,
                KEYS[name],
                CHAINS[name],
                AUTHORITY.root_public,
                name=name,
                role="main" if name == "main" else "agent",
                slots=2,
                incarnation=1,
                facts=FACTS,
                workspace="main" if name in shared else name,
                wait_ms=5_000 if name == "main" else 600_000,
                main_slots=main_slots if name == "main" else 0,
            )
            self.machines[name] = Machine(name, Node(config, self.now))
        self.main = self.machines["main"]
        self.names = {key.node_id: name for name, key in KEYS.items()}

    # --- the network ---------------------------------------------------------------------------------

    def happen(self, machine, event):
        """One step of one node, and what its shell does at once."""
        if not machine.up:
            return
        for effect in machine.node.step(event, self.now):
            self.perform(machine, effect)

    def connect(self, one, other):
        """A link, new or in place of the one that stands: what was on its way over the old one is lost."""
        self.links += 1
        for here, there in ((one, other), (other, one)):
            machine = self.machines.get(here)
            if machine is not None:
                queue = machine.inboxes.setdefault(there, deque())
                while queue and isinstance(queue[-1], bytes):
                    queue.pop()
                queue.append((self.links, ev.LinkUp(KEYS[there].node_id, "10.0.0.1", CHAINS[there][0])))
                machine.linked[there] = self.links

    def cut(self, one, other, *, arrives=0):
        """The link breaks; of what was on its way each side still gets `arrives` frames."""
        for here, there in ((one, other), (other, one)):
            machine = self.machines.get(here)
            if machine is not None and there in machine.linked:
                del machine.linked[there]
                queue = machine.inboxes[there]
                frames = sum(isinstance(item, bytes) for item in queue)
                while frames > arrives and isinstance(queue[-1], bytes):
                    queue.pop()
                    frames -= 1
                queue.append((0, ev.LinkDown(KEYS[there].node_id, "cut")))

    def send(self, machine, peer, message):
        there = self.names[peer]
        other = self.machines.get(there)
        if there in machine.linked and machine.seen.get(there) == machine.linked[there] and other is not None:
            other.inboxes[machine.name].append(codec.encode(message))

    def inject(self, to, sender, message):
        """What a member that is no node of this world says."""
        if sender in self.machines[to].linked:
            self.machines[to].inboxes[sender].append(codec.encode(message))

    def waiting(self):
        """(receiver, sender) of every queue that has something."""
        return [
            (name, peer) for name, one in self.machines.items() if one.up for peer in one.inboxes if one.inboxes[peer]
        ]

    def deliver(self, to, sender):
        """The next thing that comes from `sender`."""
        machine = self.machines[to]
        item = machine.inboxes[sender].popleft()
        if isinstance(item, bytes):
            self.happen(machine, ev.Received(KEYS[sender].node_id, codec.decode(item)))
        else:
            machine.seen[sender], event = item
            self.happen(machine, event)

    # --- the shell -----------------------------------------------------------------------------------

    def perform(self, machine, effect):
        match effect:
            case fx.Send(peer, message):
                self.send(machine, peer, message)
            case fx.Tell(item):
                if machine.name == "main" or isinstance(item, news.Notice):
                    self.checkers.hear(item, self.now)
            case fx.FetchLog() | fx.LookAtLog():
                pass
            case fx.WriteLedger(files, removed):
                self.ledger_files.update(files)
                for path in removed:
                    del self.ledger_files[path]
            case fx.Execute(task, attempt, needs):
                assert task not in machine.running, f"{task} runs twice on {machine.name}"
                machine.running[task] = attempt
                known = machine.node.worker.tasks
                self.checkers.executing(machine.name, known[task], needs, shared=self.shares(machine))
                self.checkers.together(machine.name, machine.node.config.slots, [known[one] for one in machine.running])
                machine.work.append(effect)
            case fx.Disconnect(peer, reason):
                assert self.names[peer] == "liar", f"{machine.name} cut {self.names[peer]} off: {reason}"
                self.cut(machine.name, "liar")
            case fx.End():
                machine.ended = effect
                machine.running.clear()
                for peer in list(machine.linked):
                    self.cut(machine.name, peer, arrives=1_000)
            case fx.Connect() | fx.Keep():
                pass
            case _:
                machine.work.append(effect)

    def shares(self, machine):
        return machine.node.config.workspace == "main"

    def available(self, blob, holders):
        have = self.outputs.get(blob.digest, {})
        return any(self.names[holder] in have and not self.machines[self.names[holder]].dead for holder in holders)

    def plan(self):
        """The next graph is planned, or there are no more."""
        if self.graphs:
            graph = self.graphs.pop(0)
            self.happen(self.main, ev.GraphPlanned(blob_of(graph.encode()), graph))
        else:
            self.happen(self.main, ev.GraphsClosed())

    def serve(self, machine, index, *, good=True, task_fails=False, never=False):
        """Answer one effect. Where it is not `good` the machine fails, not the task."""
        effect = machine.work.pop(index)
        match effect:
            case fx.FetchGraph(blob, _):
                data = self.blobs[blob.digest]
                self.happen(machine, ev.GraphFetched(blob, data) if good else ev.GraphUnfetched(blob, "no luck"))
            case fx.Check(digest, _):
                self.happen(machine, ev.Checked(digest))
            case fx.Prepare(task, attempt, needs):
                self._prepare(machine, task, attempt, needs, good=good)
            case fx.Execute(task, attempt, _):
                self._finish(machine, task, attempt, good=good, fails=task_fails, never=never)
            case fx.Kill(task, attempt):
                if machine.running.get(task) == attempt:
                    del machine.running[task]
                    machine.work = [one for one in machine.work if not isinstance(one, fx.Execute) or one.task != task]
                    self.happen(machine, ev.TaskKilled(task, attempt))
            case fx.Deliver():
                self._deliver(machine, effect, good=good)
            case _:
                raise AssertionError(effect)

    def _prepare(self, machine, task, attempt, needs, *, good):
        missing = tuple(need.task for need in needs if not good or not self.available(need.outputs, need.holders))
        if missing:
            self.happen(machine, ev.Handed(task, attempt, "inputs are gone", missing))
            return
        for need in needs:
            self.outputs[need.outputs.digest][machine.name] = None
        self.happen(machine, ev.Prepared(task, attempt))

    def start(self, machine, task):
        """The process of something that was executed is seen to run."""
        self.happen(machine, ev.TaskRunning(task, machine.running[task]))

    def _finish(self, machine, task, attempt, *, good, fails, never):
        if machine.running.get(task) != attempt:
            return
        del machine.running[task]
        if not good:
            self.happen(machine, ev.Handed(task, attempt, "this machine could not", never=never))
            return
        outputs = None
        if not fails and machine.node.worker.tasks[task].outputs:
            outputs = blob_of(f"outputs of {task}".encode())
            self.outputs.setdefault(outputs.digest, {})[machine.name] = None
        run = ev.Execution(
            "failure" if fails else "success",
            int(fails),
            UnixMs(BEGAN_MS + self.now),
            UnixMs(BEGAN_MS + self.now + 1_000),
            outputs=outputs,
            log=blob_of(b"a log"),
        )
        self.happen(machine, ev.TaskFinished(task, attempt, run))

    def _deliver(self, machine, effect, *, good):
        needs = effect.outputs is not None and not effect.in_place
        if needs and (not good or not self.available(effect.outputs, effect.holders)):
            self.happen(machine, ev.Undelivered(effect.task, effect.attempt, "nobody has it", local=False))
            return
        if effect.outputs is not None:
            self.outputs.setdefault(effect.outputs.digest, {})["main"] = None
        self.happen(machine, ev.Delivered(effect.task, effect.attempt))

    # --- time ----------------------------------------------------------------------------------------

    def wait(self, ms):
        """Time goes by; nothing arrives meanwhile but the clock."""
        end = Instant(self.now + ms)
        while (next_at := self._next_deadline()) is not None and next_at <= end:
            self.now = Instant(max(self.now, next_at))
            for machine in list(self.machines.values()):
                deadline = machine.node.deadline(self.now) if machine.up else None
                if deadline is not None and deadline <= self.now:
                    self.happen(machine, ev.Tick())
        self.now = end

    def _next_deadline(self):
        times = [machine.node.deadline(self.now) for machine in self.machines.values() if machine.up]
        return min((time for time in times if time is not None), default=None)

    # --- ends ----------------------------------------------------------------------------------------

    def kill(self, name):
        """A machine is gone, without a word."""
        machine = self.machines[name]
        machine.dead = True
        machine.running.clear()
        machine.work.clear()
        for peer in list(machine.linked):
            self.cut(name, peer)

    def calm_down(self):
        """No more faults: everything arrives, every machine does what it should. Then the run must end, and well."""
        while self.graphs:
            self.plan()
        self.plan()
        for name, machine in self.machines.items():
            if name != "main" and machine.up and self.main.up:
                self.connect("main", name)
        steps = 0
        while any(machine.up for machine in self.machines.values()):
            steps += 1
            assert steps < CALM_STEPS_MAX, f"the run does not end: {self.describe()}"
            self._drain()
            self.wait(250)
            self._drain()
            self._nobody_is_forgotten()
        leader = self.main.node.leader
        verdict = self.main.ended.verdict if self.main.ended is not None else None
        self.checkers.at_the_end(leader, verdict, self.ledger_files, stopped=self.stopped)

    def describe(self):
        """Where everything stands, for whoever reads a failure."""
        leader = self.main.node.leader
        tasks = {
            state.task.id: (
                state.phase.name,
                [self.names[node] for node in state.lives],
                state.attempt,
                list(state.waits_for),
            )
            for state in leader.market.tasks.values()
        }
        nodes = {
            name: (
                one.dead,
                one.ended,
                list(one.linked),
                {job.task.id: job.phase.name for job in one.node.worker.jobs.values()},
            )
            for name, one in self.machines.items()
        }
        market = leader.market
        queues = f"ready {market.ready} (changed {market.changed}, looked at {market.looked_at} of {self.now}, wake at {market.wake_at}), for main {market.for_main}, mutexes {market.held_mutexes}, deadline {market.deadline()}"
        return f"{queues}, tasks {tasks}, undelivered {list(leader.outstanding.due)}, nodes {nodes}, work {[one.work for one in self.machines.values()]}"

    def _drain(self):
        busy = True
        while busy:
            busy = False
            for to, sender in self.waiting():
                self.deliver(to, sender)
                busy = True
            for machine in self.machines.values():
                index = next(
                    (at for at, effect in enumerate(machine.work) if not self._forgotten(machine, effect)), None
                )
                if machine.up and index is not None:
                    self.serve(machine, index)
                    busy = True

    def _nobody_is_forgotten(self):
        """Where everything has arrived, and time has gone by, whatever runs is either counted on or told to end."""
        for name, machine in self.machines.items():
            for effect in machine.work if machine.up and self.main.up else ():
                assert not self._forgotten(machine, effect), (
                    f"{effect.task} runs on {name} for nobody: {self.describe()}"
                )

    def _forgotten(self, machine, effect):
        """What runs though the leader does not count on it: such a process never ends by itself, and shows that it runs."""
        if not isinstance(effect, fx.Execute) or machine.running.get(effect.task) != effect.attempt:
            return False
        job = machine.node.worker.jobs[effect.task]
        state = self.main.node.leader.market.tasks[effect.task]
        if state.live(machine.node.config.key.node_id, job.award.attempt) is not None:
            return False
        if job.phase is Phase.STARTING:
            self.start(machine, effect.task)
        return True

    def lie_about(self, task, status, attempt, deps=None, **fields):
        """A completion under the liar's own signature."""
        known = self.main.node.leader.market.tasks.get(TaskId(task))
        said = {
            "key": "",
            "exit_code": 0,
            "epoch": 1,
            "seq": 1,
            "name": "liar",
            "outputs": None,
            "log": blob_of(b"lies"),
            "started_ms": UnixMs(0),
            "ended_ms": UnixMs(0),
            "deps": known.task.deps if deps is None and known is not None else tuple(deps or ()),
            **fields,
        }
        done = Completion(RUN, TaskId(task), status=status, attempt=attempt, **said)
        return msg.Result(done.seal(KEYS["liar"]).decode())


def union(*graphs):
    """The last graph holds all tasks of those before it, as one of several plans of one workspace does."""
    tasks = {task.id: task for graph in graphs for task in graph.tasks.values()}
    return Graph.of(tasks.values())
