"""One real node, and everybody around it scripted: what a test says happened, happens, and what the node wants done is kept.

`Main` is a main job whose agents only say what the test makes them say; `AgentNode` is an agent whose main job is the test. Both answer what every shell
answers at once (a graph is compared, a delivery arrives) unless the test holds it back.
"""

import hashlib

from mesh.graph import Graph, Task
from mesh.identity import Authority, NodeKey
from mesh.ledger import Completion, checkpoint
from mesh.protocol import effects as fx
from mesh.protocol import events as ev
from mesh.protocol import news
from mesh.protocol.estimate import usual
from mesh.protocol.node import Config, Node
from mesh.types import Blob, Digest, Epoch, Instant, Seq, TaskId, UnixMs
from mesh.wire import messages as msg

RUN = "unit/1"
AUTHORITY = Authority.derive(b"a secret of the tests", RUN)
FACTS = {"commit": "c0ffee", "os": "linux", "arch": "x86_64"}
BEGAN_MS = 1_700_000_000_000


def key_of(name):
    return NodeKey.from_seed(hashlib.sha256(name.encode()).digest())


def blob_of(text):
    data = text.encode()
    return Blob(Digest("sha256:" + hashlib.sha256(data).hexdigest()), len(data))


def known(estimates):
    """What is bid for these durations: milliseconds, off as most are, or quantiles."""
    return {task: usual(said) if isinstance(said, int) else said for task, said in dict(estimates).items()}


def task(name, *deps, **fields):
    """A task with outputs, behind `deps`."""
    fields.setdefault("outputs", (f"out/{name}/**",))
    return Task(id=TaskId(name), tool="test", deps=tuple(TaskId(dep) for dep in deps), key=f"key of {name}", **fields)


def graph_of(*tasks):
    """Tasks, or names of tasks without dependencies."""
    return Graph.of(task(one) if isinstance(one, str) else one for one in tasks)


class Scripted:
    """A node and its clock; `effects` is all that it has wanted so far."""

    def __init__(self, name, role, **config):
        key = key_of(name)
        settings = {"slots": 2, "facts": FACTS, "workspace": name, "incarnation": 1, **config}
        chain = AUTHORITY.issue(key, name).chain_der
        self.now = Instant(0)
        self.node = Node(
            Config(RUN, key, chain, AUTHORITY.root_public, name=name, role=role, **settings),
            self.now,
        )
        self.effects = []
        self.peers = {}
        """Names of those it has a link to, by node id."""

    def step(self, event):
        """One event; returns what is to be done because of it."""
        effects = self.node.step(event, self.now)
        self.effects += effects
        for effect in effects:
            self.answer(effect)
        return effects

    def answer(self, effect):
        raise NotImplementedError

    def link(self, name, **hello):
        """A link to `name` stands, and it introduces itself."""
        key = key_of(name)
        self.peers[key.node_id] = name
        self.step(ev.LinkUp(key.node_id, "10.0.0.1", AUTHORITY.issue(key, name).chain_der[0]))
        said = {"role": "agent", "slots": 1, "incarnation": 1, "facts": FACTS, "workspace": name, **hello}
        return self.say(name, msg.Hello(RUN, name, **said))

    def unlink(self, name):
        return self.step(ev.LinkDown(key_of(name).node_id, "closed"))

    def say(self, name, message):
        """`name` sends `message`."""
        return self.step(ev.Received(key_of(name).node_id, message))

    def wait(self, ms, *, silent=()):
        """Time goes by; linked peers beat, but for those in `silent`."""
        end = self.now + ms
        while (deadline := self.node.deadline(self.now)) is not None and deadline <= end:
            self.now = Instant(max(self.now, deadline))
            for node in self.node.membership.linked():
                if self.peers[node] not in silent:
                    self.step(ev.Received(node, msg.Beat(Epoch(1))))
            self.step(ev.Tick())
        self.now = Instant(end)

    def sent(self, name, kind=None):
        """Messages to `name`, of one kind or of every kind."""
        node = key_of(name).node_id
        mine = [effect.message for effect in self.effects if isinstance(effect, fx.Send) and effect.peer == node]
        return [message for message in mine if kind is None or isinstance(message, kind)]

    def wanted(self, kind):
        """Effects of one kind."""
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def told(self, kind):
        """News of one kind."""
        return [tell.news for tell in self.wanted(fx.Tell) if isinstance(tell.news, kind)]

    @property
    def notices(self):
        return [notice.text for notice in self.told(news.Notice)]

    @property
    def end(self):
        """How it ended; None while it has not."""
        ends = self.wanted(fx.End)
        assert len(ends) <= 1, "a node ends once"
        return ends[0] if ends else None


class Main(Scripted):
    """A main job with its graphs."""

    def __init__(self, *tasks, cached=(), deliver=True, close=True, **config):
        super().__init__("main", "main", **{"wait_ms": 5_000, **config})
        self.cached = cached
        self.deliver = deliver
        if tasks:
            self.plan(*tasks)
        if close:
            self.step(ev.GraphsClosed())

    def plan(self, *tasks, bail="", last=False):
        graph = graph_of(*tasks)
        return self.step(ev.GraphPlanned(blob_of(graph.encode().decode()), graph, bail, last))

    def answer(self, effect):
        if isinstance(effect, fx.Check):
            self.step(ev.Checked(effect.digest, {}, tuple(TaskId(one) for one in self.cached)))
        elif isinstance(effect, fx.Deliver) and self.deliver and self.end is None:
            self.step(ev.Delivered(effect.task, effect.attempt))

    def agent(self, name, slots=1, *, graphs=1, cannot=(), cached=(), estimates=(), proven=True, **hello):
        """An agent joins and bids. `proven`: it has completed something before, so that what fails there counts at once."""
        self.link(name, slots=slots, **hello)
        if proven:
            self.node.leader.doubts.prove(key_of(name).node_id)
        return self.bid(name, slots, graphs=graphs, cannot=cannot, cached=cached, estimates=estimates)

    def bid(self, name, slots=1, *, graphs=1, cannot=(), cached=(), estimates=(), takes=True, reason="", serial=None):
        self.serial = serial if serial is not None else getattr(self, "serial", 0) + 1
        bid = msg.Bid(self.serial, takes, slots, graphs, reason, dict(cannot), tuple(cached), known(estimates))
        return self.say(name, bid)

    @property
    def awards(self):
        """(agent, task, attempt) of every award so far."""
        return [(one.agent, one.task, one.attempt) for one in self.told(news.TaskAwarded)]

    @property
    def ended(self):
        """What became of each task, last word."""
        return {one.task: one.status for one in self.told(news.TaskEnded)}

    def state(self, name):
        return self.node.leader.market.tasks[TaskId(name)]

    def started(self, agent, name, attempt=1):
        return self.say(agent, msg.Started(TaskId(name), attempt))

    def completion(self, agent, name, /, status="success", attempt=1, **fields):
        said = {
            "name": agent,
            "key": f"key of {name}",
            "exit_code": 0 if status == "success" else 1,
            "epoch": Epoch(1),
            "seq": Seq(1),
            "outputs": blob_of(f"outputs of {name}") if status == "success" else None,
            "log": blob_of(f"log of {name}"),
            "started_ms": UnixMs(BEGAN_MS),
            "ended_ms": UnixMs(BEGAN_MS + 1_000),
            "deps": self.state(name).task.deps if TaskId(name) in self.node.leader.market.tasks else (),
            **fields,
        }
        return Completion(RUN, TaskId(name), status=status, attempt=attempt, **said)

    def finish(self, agent, name, status="success", attempt=1, **fields):
        """The agent says how it went, under its own signature."""
        envelope = self.completion(agent, name, status, attempt, **fields).seal(key_of(agent))
        return self.say(agent, msg.Result(envelope.decode()))

    def decline(self, agent, name, attempt=1, **fields):
        return self.say(agent, msg.Declined(TaskId(name), attempt, fields.pop("reason", "no room"), **fields))

    def run_here(self, name, status="success", attempt=1):
        """The main job's own process ran and ended."""
        self.step(ev.TaskRunning(TaskId(name), attempt))
        run = ev.Execution(
            status,
            0 if status == "success" else 1,
            UnixMs(BEGAN_MS),
            UnixMs(BEGAN_MS + 1_000),
            outputs=blob_of(f"outputs of {name}") if status == "success" else None,
            log=blob_of(f"log of {name}"),
        )
        return self.step(ev.TaskFinished(TaskId(name), attempt, run))

    def ledger_files(self):
        files = {}
        for write in self.wanted(fx.WriteLedger):
            files.update(write.files)
            for path in write.removed:
                del files[path]
        return files

    def ledger_size(self):
        return checkpoint.parse(self.ledger_files()["checkpoint"]).size


class AgentNode(Scripted):
    """An agent that has met its main job and has compared a graph."""

    def __init__(self, *tasks, cannot=(), estimates=(), main_workspace="main", meet=True, **config):
        super().__init__("agent", "agent", **{"wait_ms": 20_000, **config})
        self.graph = graph_of(*tasks)
        self.blob = blob_of(self.graph.encode().decode())
        self.cannot = dict(cannot)
        self.estimates = known(estimates)
        self.main_workspace = main_workspace
        self.seq = 0
        if meet:
            self.meet()
            self.announce()

    def meet(self):
        return self.link("main", role="main", slots=2, workspace=self.main_workspace)

    def announce(self, estimates_max=0):
        return self.say("main", msg.Announce(Epoch(1), (self.blob,), closed=True, estimates_max=estimates_max))

    def answer(self, effect):
        if isinstance(effect, fx.FetchGraph):
            self.step(ev.GraphFetched(effect.blob, self.graph.encode()))
        elif isinstance(effect, fx.Check):
            self.step(ev.Checked(effect.digest, self.cannot, estimates=self.estimates))

    def award(self, name, attempt=1, *, epoch=1):
        self.seq += 1
        return self.say("main", msg.Award(Epoch(epoch), Seq(self.seq), TaskId(name), attempt))

    def withdraw(self, name, attempt=1, *, kill=False, epoch=1):
        return self.say("main", msg.Withdraw(Epoch(epoch), TaskId(name), attempt, kill))

    def record(self, name, status="success", *, outputs=True, holders=("other",)):
        made = blob_of(f"outputs of {name}") if outputs else None
        nodes = tuple(key_of(holder).node_id for holder in holders)
        record = msg.Record(TaskId(name), status, f"key of {name}", made, nodes)
        return self.say("main", msg.Records(Epoch(1), (record,)))

    def running(self, name, attempt=1):
        return self.step(ev.TaskRunning(TaskId(name), attempt))

    def finished(self, name, attempt=1, status="success", **fields):
        run = {"outputs": blob_of(f"outputs of {name}"), "log": blob_of(f"log of {name}"), **fields}
        code = 0 if status == "success" else 1
        execution = ev.Execution(status, code, UnixMs(BEGAN_MS), UnixMs(BEGAN_MS + 1_000), **run)
        return self.step(ev.TaskFinished(TaskId(name), attempt, execution))

    @property
    def executed(self):
        """(task, attempt) of every start so far."""
        return [(one.task, one.attempt) for one in self.wanted(fx.Execute)]

    @property
    def killed(self):
        return [(one.task, one.attempt) for one in self.wanted(fx.Kill)]

    def results(self):
        from mesh.ledger.statements import open_leaf

        return [open_leaf(one.envelope.encode()).leaf for one in self.sent("main", msg.Result)]
