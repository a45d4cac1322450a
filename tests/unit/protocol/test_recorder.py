"""The leader's pen: entries in order, signed in batches, with the files that each signature changes."""

from mesh.identity import Authority, NodeKey
from mesh.ledger import Genesis, Ledger, verify
from mesh.protocol.effects import Tell, WriteLedger
from mesh.protocol.news import CheckpointMade
from mesh.protocol.recorder import CHECKPOINT_MS, Recorder
from mesh.types import Instant
from tests.unit.protocol.scripted import blob_of

RUN = "unit/1"
AUTHORITY = Authority.derive(b"a secret of the tests", RUN)
KEY = NodeKey.from_seed(b"k" * 32)
AGENT = NodeKey.from_seed(b"a" * 32)


def recorder(now=0):
    """A pen that has written the genesis."""
    pen = Recorder(Ledger(RUN, KEY), KEY, RUN)
    chain = AUTHORITY.issue(KEY, "main").chain_der
    pen.genesis(Genesis(RUN, KEY.node_id, "main", chain, AUTHORITY.root_public), Instant(now))
    return pen


def files_of(effects, files=None):
    files = dict(files or {})
    for effect in effects:
        if isinstance(effect, WriteLedger):
            files.update(effect.files)
            for path in effect.removed:
                del files[path]
    return files


def test_a_checkpoint_is_due_some_time_after_the_first_unsigned_entry():
    pen = recorder(now=100)
    pen.graph(blob_of("graph"), 0, Instant(250))
    assert pen.deadline() == 100 + CHECKPOINT_MS
    assert pen.due(Instant(100 + CHECKPOINT_MS - 1)) == []
    effects = pen.due(Instant(100 + CHECKPOINT_MS))
    assert [effect.news.size for effect in effects if isinstance(effect, Tell)] == [2]


def test_one_checkpoint_is_for_all_that_came_together_and_then_nothing_is_due():
    pen = recorder()
    assert pen.due(Instant(CHECKPOINT_MS)) != []
    assert pen.deadline() is None
    assert pen.due(Instant(10 * CHECKPOINT_MS)) == []
    assert pen.sign() == []


def test_the_files_are_written_before_the_checkpoint_is_told():
    assert [type(effect) for effect in recorder().sign()] == [WriteLedger, Tell]


def test_a_node_joins_the_roster_once():
    pen = recorder()
    chain = AUTHORITY.issue(AGENT, "a1").chain_der
    for _ in range(2):
        pen.join(AGENT.node_id, "a1", chain, Instant(0))
    assert pen.ledger.size == 2


def test_what_is_written_step_by_step_verifies_as_a_whole():
    pen = recorder()
    files = files_of(pen.sign())
    pen.join(AGENT.node_id, "a1", AUTHORITY.issue(AGENT, "a1").chain_der, Instant(0))
    files = files_of(pen.sign(), files)
    pen.graph(blob_of("graph"), 0, Instant(0))
    files = files_of(pen.verdict("success", Instant(0)), files)
    found = verify(files, AUTHORITY.root_public)
    assert (found.ok, found.entries, found.verdict) == (True, 4, "success")


def test_a_checkpoint_says_how_many_have_cosigned():
    tells = [effect.news for effect in recorder().sign() if isinstance(effect, Tell)]
    assert [(type(made), made.cosignatures) for made in tells] == [(CheckpointMade, 0)]
