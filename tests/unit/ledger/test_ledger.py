"""The leader's log: it only grows, and says which files that changes."""

import pytest

from mesh.errors import RemoteError
from mesh.ledger import checkpoint, verify
from mesh.ledger.merkle import EMPTY_ROOT, leaf_hash, verify_consistency, verify_inclusion


def test_entries_are_counted_from_zero_and_kept_as_they_are(new_story):
    ledger = new_story().ledger
    assert (ledger.size, ledger.root) == (0, EMPTY_ROOT)
    assert [ledger.append(entry) for entry in (b"a", b"b")] == [0, 1]
    assert (ledger.size, ledger.entry(1)) == (2, b"b")


def test_an_entry_of_65535_bytes_is_the_largest(new_story):
    ledger = new_story().ledger
    ledger.append(b"x" * 65_535)
    with pytest.raises(RemoteError, match="too-large: an entry of 65536 bytes; the limit is 65535"):
        ledger.append(b"x" * 65_536)
    assert ledger.size == 1


def test_the_checkpoint_is_of_the_present_size(finished):
    note = checkpoint.parse(finished.ledger.checkpoint())
    assert (note.size, note.root) == (finished.ledger.size, finished.ledger.root)
    assert note.signed_by(finished.keys["main"].node_id)
    assert finished.ledger.checkpoint() == finished.ledger.checkpoint()


def test_a_cosignature_counts_for_the_size_it_was_made_for(story):
    key = story.keys["a1"]
    early = checkpoint.cosign(key, checkpoint.parse(story.ledger.checkpoint()), 1).render()
    assert story.ledger.add_cosignature(key.node_id, early)
    assert story.ledger.cosignatures == 1
    story.verdict()
    assert story.ledger.cosignatures == 0
    assert not story.ledger.add_cosignature(key.node_id, early)


def test_a_cosignature_by_another_node_is_not_taken(story):
    line = checkpoint.cosign(story.keys["a1"], checkpoint.parse(story.ledger.checkpoint()), 1).render()
    assert not story.ledger.add_cosignature(story.keys["a2"].node_id, line)
    with pytest.raises(RemoteError, match="malformed"):
        story.ledger.add_cosignature(story.keys["a2"].node_id, "hello")


def test_a_reader_never_sees_a_checkpoint_before_its_tiles(finished):
    paths = list(finished.ledger.files_since(0).files)
    assert paths[0] == "vkeys"
    assert paths[-1] == "checkpoint"


def test_changes_in_any_steps_lead_to_the_same_files(new_story):
    story = new_story()
    disk, written = {}, 0
    for number in range(530):
        story.ledger.append(b"entry %d" % number)
        if number % 7 == 0 or number in (254, 255, 256, 529):
            changes = story.ledger.files_since(written)
            written = story.ledger.size
            disk.update(changes.files)
            for path in changes.removed:
                del disk[path]
    assert disk == story.files()


def test_a_cosignature_alone_changes_only_the_checkpoint_and_its_keys(story):
    size = story.ledger.size
    story.cosign("a1")
    changes = story.ledger.files_since(size)
    assert list(changes.files) == ["vkeys", "checkpoint"]
    assert changes.removed == ()
    assert changes.files["vkeys"].count(b"\n") == 2


def test_the_ledger_proves_its_entries_and_its_growth(finished):
    tree, root = finished.ledger.tree, finished.ledger.root
    leaf = leaf_hash(finished.ledger.entry(4))
    assert verify_inclusion(4, tree.size, leaf, tree.inclusion(4), root)
    assert verify_consistency(3, tree.size, tree.root(3), root, tree.consistency(3))


def test_an_empty_ledger_has_a_checkpoint_and_is_no_finished_run(new_story):
    files = new_story().files()
    assert list(files) == ["vkeys", "checkpoint"]
    assert verify(files).problems == (
        "checkpoint: there is no verdict: the run did not finish, or its last entries were cut off",
    )
