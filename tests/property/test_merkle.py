"""The tree against the definition of RFC 9162, and its proofs against everything that is not so."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.ledger.merkle import EMPTY_ROOT, Tree, leaf_hash, node_hash, verify_consistency, verify_inclusion

SIZE_MAX = 70


def by_definition(leaves):
    """MTH of RFC 9162, section 2.1.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(by_definition(leaves[:split]), by_definition(leaves[split:]))


LEAVES = [leaf_hash(b"entry %d" % number) for number in range(SIZE_MAX)]
TREE = Tree()
for one in LEAVES:
    TREE.append(one)
sizes = st.integers(1, SIZE_MAX)


def test_the_hashes_are_those_that_everybody_publishes():
    # The empty tree and the leaf of nothing, as in Certificate Transparency's own tests.
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert leaf_hash(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"


def test_the_root_of_every_size_is_that_of_the_definition():
    for size in range(SIZE_MAX + 1):
        assert TREE.root(size) == by_definition(LEAVES[:size])
    assert TREE.root() == TREE.root(SIZE_MAX)


def test_leaves_are_counted_from_zero():
    tree = Tree()
    assert [tree.append(leaf) for leaf in LEAVES[:5]] == [0, 1, 2, 3, 4]
    assert tree.size == 5


def test_every_leaf_of_every_size_can_be_proven():
    for size in range(1, SIZE_MAX + 1):
        root = TREE.root(size)
        for index in range(size):
            proof = TREE.inclusion(index, size)
            assert len(proof) <= (size - 1).bit_length()
            assert verify_inclusion(index, size, LEAVES[index], proof, root)


def test_every_smaller_tree_can_be_proven_to_be_the_beginning():
    for size in range(1, SIZE_MAX + 1):
        for old in range(1, size + 1):
            proof = TREE.consistency(old, size)
            assert verify_consistency(old, size, TREE.root(old), TREE.root(size), proof)


@given(size=sizes, data=st.data())
def test_a_proof_for_one_leaf_proves_no_other_leaf_index_or_size(size, data):
    index = data.draw(st.integers(0, size - 1))
    proof, root = TREE.inclusion(index, size), TREE.root(size)
    other_index, other_size = data.draw(st.integers(-1, SIZE_MAX)), data.draw(st.integers(0, SIZE_MAX))
    assert verify_inclusion(other_index, size, LEAVES[index], proof, root) == (other_index == index)
    leaf = data.draw(st.sampled_from(LEAVES))
    assert verify_inclusion(index, size, leaf, proof, root) == (leaf == LEAVES[index])
    if verify_inclusion(index, other_size, LEAVES[index], proof, root):
        # A proof does not say how long the tree is where its path has the same shape in both; the root is signed with its size.
        assert len(TREE.inclusion(index, other_size)) == len(proof)


@given(size=sizes, data=st.data())
def test_a_changed_shortened_or_longer_inclusion_proof_is_refused(size, data):
    index = data.draw(st.integers(0, size - 1))
    proof, root = TREE.inclusion(index, size), TREE.root(size)
    assert not verify_inclusion(index, size, LEAVES[index], (*proof, root), root)
    assert not verify_inclusion(index, size, LEAVES[index], (root, *proof), root)
    for at in range(len(proof)):
        assert not verify_inclusion(index, size, LEAVES[index], proof[:at] + proof[at + 1 :], root)
        wrong = bytes([proof[at][0] ^ 1]) + proof[at][1:]
        assert not verify_inclusion(index, size, LEAVES[index], (*proof[:at], wrong, *proof[at + 1 :]), root)


@given(size=sizes, data=st.data())
def test_a_changed_shortened_or_longer_consistency_proof_is_refused(size, data):
    old = data.draw(st.integers(1, size))
    proof, old_root, root = TREE.consistency(old, size), TREE.root(old), TREE.root(size)
    assert not verify_consistency(old, size, old_root, root, (*proof, root))
    assert not verify_consistency(old, size, old_root, root, (old_root, *proof))
    for at in range(len(proof)):
        assert not verify_consistency(old, size, old_root, root, proof[:at] + proof[at + 1 :])
        wrong = bytes([proof[at][0] ^ 1]) + proof[at][1:]
        assert not verify_consistency(old, size, old_root, root, (*proof[:at], wrong, *proof[at + 1 :]))
    if old < size:
        assert not verify_consistency(old, size, root, old_root, proof)


@given(st.integers(1, SIZE_MAX - 1), st.integers(0, SIZE_MAX - 1))
def test_a_tree_in_which_an_old_entry_was_changed_is_not_consistent(old, at):
    at %= old
    forged = Tree()
    for number, leaf in enumerate(LEAVES):
        forged.append(leaf_hash(b"forged") if number == at else leaf)
    proof = forged.consistency(old, SIZE_MAX)
    assert not verify_consistency(old, SIZE_MAX, TREE.root(old), forged.root(), proof)


def test_equal_trees_need_no_proof_and_an_empty_one_has_none():
    assert verify_consistency(5, 5, TREE.root(5), TREE.root(5), ())
    assert not verify_consistency(5, 5, TREE.root(5), TREE.root(6), ())
    assert not verify_consistency(0, 5, EMPTY_ROOT, TREE.root(5), ())
    assert not verify_consistency(6, 5, TREE.root(6), TREE.root(5), ())


@pytest.mark.parametrize(("index", "size"), [(0, 0), (1, 1), (-1, 1)])
def test_an_index_beyond_the_tree_is_refused(index, size):
    assert not verify_inclusion(index, size, LEAVES[0], (), LEAVES[0])


def test_something_that_is_no_hash_is_not_a_leaf():
    assert not verify_inclusion(0, 1, b"", (), b"")
