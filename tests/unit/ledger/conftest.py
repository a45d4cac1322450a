"""A run that tells its story into a ledger, so that a test can say what is wrong with one word of it."""

import pytest
from msgspec.structs import replace

from mesh.identity import Authority, NodeKey
from mesh.ledger import Completion, EpochLeaf, Genesis, GraphLeaf, Joined, Ledger, VerdictLeaf, checkpoint, verify
from mesh.ledger.intoto import digest_of
from mesh.types import Blob, Epoch, Seq, TaskId, UnixMs

RUN = "gh/4711-1"


def blob(content):
    return Blob(digest_of(content), len(content))


class Story:
    """One run: `main` leads, `a1` and `a2` are agents. What is told is signed and appended."""

    def __init__(self, secret=b"s" * 32, run_id=RUN):
        self.run_id = run_id
        self.authority = Authority.derive(secret, run_id)
        self.keys = {name: NodeKey.from_seed(name.encode().ljust(32, b".")) for name in ("main", "a1", "a2", "a3")}
        self.leader = "main"
        self.ledger = Ledger(run_id, self.keys["main"])
        self.seq = 0

    def chain(self, name, authority=None):
        return (authority or self.authority).issue(self.keys[name], name).chain_der

    def tell(self, leaf, by=None, **changes):
        return self.ledger.append(replace(leaf, **changes).seal(self.keys[by or self.leader]))

    def genesis(self, **changes):
        key = self.keys["main"]
        leaf = Genesis(self.run_id, key.node_id, "main", self.chain("main"), self.authority.root_public)
        return self.tell(leaf, **changes)

    def joined(self, who, **changes):
        return self.tell(Joined(self.run_id, self.keys[who].node_id, who, self.chain(who)), **changes)

    def graph(self, tasks, **changes):
        return self.tell(GraphLeaf(self.run_id, digest_of(b"graph"), tasks), **changes)

    def completion(self, task, by="a1", **changes):
        self.seq += 1
        leaf = Completion(
            run_id=self.run_id,
            task=TaskId(task),
            key="a hash",
            status="success",
            exit_code=0,
            epoch=Epoch(1),
            seq=Seq(self.seq),
            attempt=1,
            name=by,
            outputs=blob(task.encode()),
            log=blob(b"log of " + task.encode()),
            started_ms=UnixMs(1_700_000_000_123),
            ended_ms=UnixMs(1_700_000_001_456),
        )
        return replace(leaf, **changes)

    def done(self, task, by="a1", **changes):
        return self.tell(self.completion(task, by, **changes), by)

    def not_run(self, task, status="skipped", by="main", **changes):
        return self.done(task, by, status=status, outputs=None, log=None, **changes)

    def epoch(self, leader, number=2, **changes):
        leaf = EpochLeaf(self.run_id, Epoch(number), self.keys[leader].node_id, self.ledger.size, self.ledger.root)
        index = self.tell(leaf, leader, **changes)
        self.take_over(leader)
        return index

    def take_over(self, leader):
        """The ledger goes on under another key, as a new leader makes it from its copy."""
        successor = Ledger(self.run_id, self.keys[leader])
        for index in range(self.ledger.size):
            successor.append(self.ledger.entry(index))
        self.ledger, self.leader = successor, leader

    def verdict(self, verdict="success", *, exit_code=0, **changes):
        leaf = VerdictLeaf(self.run_id, verdict, exit_code, self.ledger.size, self.ledger.root)
        return self.tell(leaf, **changes)

    def cosign(self, name, time_s=1_700_000_000):
        key = self.keys[name]
        line = checkpoint.cosign(key, checkpoint.parse(self.ledger.checkpoint()), time_s)
        return self.ledger.add_cosignature(key.node_id, line.render())

    def files(self):
        return dict(self.ledger.files_since(0).files)

    def problems(self, root_public=None):
        return verify(self.files(), root_public).problems


@pytest.fixture
def story():
    """A run in which three members are in the roster and nothing has been done."""
    result = Story()
    result.genesis()
    result.joined("a1")
    result.joined("a2")
    return result


@pytest.fixture
def finished(story):
    """A run in which all went well, with one cosignature."""
    story.graph(3)
    story.done("p1:build")
    story.done("p2:build", "a2", deps=("p1:build",), outputs=None)
    story.done("p3:test", "main", deps=("p1:build", "p2:build"))
    story.verdict()
    story.cosign("a1")
    return story


@pytest.fixture
def small(new_story):
    """A finished run of few entries, for the tests that look at every byte."""
    story = new_story()
    story.genesis()
    story.joined("a1")
    story.graph(1)
    story.done("p1:build")
    story.verdict()
    story.cosign("a1")
    return story


@pytest.fixture(scope="session")
def new_story():
    return Story
