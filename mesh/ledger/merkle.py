"""The Merkle tree of RFC 6962 (9162, section 2.1): one hash that says what n entries are and in which order.

A tree keeps the hash of every complete subtree, 64 bytes an entry, so that appending costs one hash on average and every proof a logarithm. The two
verifiers need no tree.

    level 2             abcd
    level 1        ab          cd        ef          root of 7 = H(abcd, H(ef, g))
    level 0      a    b      c    d    e    f    g
"""

import hashlib
from collections.abc import Sequence
from typing import Final

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """The hash of an entry."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees. Its prefix differs from a leaf's, so that no inner node can pass for an entry."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """A tree that only grows. Questions may be asked about it as it was at any smaller size."""

    def __init__(self) -> None:
        self._levels: list[list[bytes]] = [[]]
        """`_levels[l][i]` is the hash of the entries from i·2^l to (i + 1)·2^l."""

    @property
    def size(self) -> int:
        """How many leaves it has."""
        return len(self._levels[0])

    def append(self, leaf: bytes) -> int:
        """Add the hash of an entry; returns its index."""
        index = self.size
        level = 0
        self._levels[0].append(leaf)
        while len(self._levels[level]) % 2 == 0:
            left, right = self._levels[level][-2:]
            level += 1
            if level == len(self._levels):
                self._levels.append([])
            self._levels[level].append(node_hash(left, right))
        return index

    def node(self, level: int, index: int) -> bytes:
        """The hash of a complete subtree of 2^level leaves."""
        return self._levels[level][index]

    def root(self, size: int | None = None) -> bytes:
        """The root of the first `size` leaves, or of all."""
        end = self._checked(size)
        return self._hash(0, end) if end > 0 else EMPTY_ROOT

    def inclusion(self, index: int, size: int | None = None) -> tuple[bytes, ...]:
        """The proof that leaf `index` is in the tree of `size` leaves, from the leaf's sibling upwards."""
        end = self._checked(size)
        assert 0 <= index < end
        begin = 0
        proof: list[bytes] = []
        while end - begin > 1:
            middle = begin + _split(end - begin)
            if index < middle:
                proof.append(self._hash(middle, end))
                end = middle
            else:
                proof.append(self._hash(begin, middle))
                begin = middle
        return tuple(reversed(proof))

    def consistency(self, old: int, size: int | None = None) -> tuple[bytes, ...]:
        """The proof that the tree of `old` leaves is the beginning of the tree of `size` leaves."""
        end = self._checked(size)
        assert 0 < old <= end
        begin = 0
        proof: list[bytes] = []
        while old != end:
            middle = begin + _split(end - begin)
            if old <= middle:
                proof.append(self._hash(middle, end))
                end = middle
            else:
                proof.append(self._hash(begin, middle))
                begin = middle
        # Where what is left is the whole old tree, its root is known to whoever asks.
        return tuple(reversed(proof)) if begin == 0 else (self._hash(begin, end), *reversed(proof))

    def _checked(self, size: int | None) -> int:
        end = self.size if size is None else size
        assert 0 <= end <= self.size
        return end

    def _hash(self, begin: int, end: int) -> bytes:
        """The hash of the leaves from `begin` to `end`, where `begin` is a multiple of a power of two that is not below their number."""
        count = end - begin
        value: bytes | None = None
        while count > 0:
            # The complete subtrees from the last, which is the smallest, to the first.
            level = (count & -count).bit_length() - 1
            count -= 1 << level
            part = self._levels[level][(begin + count) >> level]
            value = part if value is None else node_hash(part, value)
        assert value is not None
        return value


def verify_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether `proof` shows that `leaf` is at `index` in the tree of `size` leaves with `root` (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size or len(leaf) != HASH_BYTES:
        return False
    node, last, value = index, size - 1, leaf
    for step in proof:
        if last == 0:
            return False
        if node & 1 or node == last:
            value = node_hash(step, value)
            while node & 1 == 0 and node != 0:
                node >>= 1
                last >>= 1
        else:
            value = node_hash(value, step)
        node >>= 1
        last >>= 1
    return last == 0 and value == root


def verify_consistency(old: int, size: int, old_root: bytes, root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether `proof` shows that the tree of `old` leaves is the beginning of the tree of `size` leaves (RFC 9162, 2.1.4.2).

    Nothing can be said of an empty tree: `old` is at least 1.
    """
    if not 0 < old <= size:
        return False
    if old == size:
        return not proof and old_root == root
    steps = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not steps:
        return False
    node, last = old - 1, size - 1
    while node & 1:
        node >>= 1
        last >>= 1
    old_value = new_value = steps[0]
    for step in steps[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            old_value = node_hash(step, old_value)
            new_value = node_hash(step, new_value)
            while node & 1 == 0 and node != 0:
                node >>= 1
                last >>= 1
        else:
            new_value = node_hash(new_value, step)
        node >>= 1
        last >>= 1
    return last == 0 and old_value == old_root and new_value == root


def _split(count: int) -> int:
    """The size of the left subtree of `count` leaves: the largest power of two below it."""
    return 1 << (count - 1).bit_length() - 1
