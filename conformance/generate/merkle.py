"""The Merkle tree, by the recursive definitions of RFC 9162 (2.1.1, 2.1.3.1, 2.1.4.1), letter by letter and as slow as they are."""

import hashlib
from collections.abc import Iterator

from vector import Vector, ok

SIZES = (0, 1, 2, 3, 5, 7, 8, 11)


def leaf(entry: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry).digest()


def middle(count: int) -> int:
    """The largest power of two below `count`."""
    power = 1
    while power * 2 < count:
        power *= 2
    return power


def root(entries: list[bytes]) -> bytes:
    if not entries:
        return hashlib.sha256(b"").digest()
    if len(entries) == 1:
        return leaf(entries[0])
    k = middle(len(entries))
    return hashlib.sha256(b"\x01" + root(entries[:k]) + root(entries[k:])).digest()


def path(index: int, entries: list[bytes]) -> list[bytes]:
    if len(entries) == 1:
        return []
    k = middle(len(entries))
    if index < k:
        return [*path(index, entries[:k]), root(entries[k:])]
    return [*path(index - k, entries[k:]), root(entries[:k])]


def subproof(old: int, entries: list[bytes], *, whole: bool) -> list[bytes]:
    if old == len(entries):
        return [] if whole else [root(entries)]
    k = middle(len(entries))
    if old <= k:
        return [*subproof(old, entries[:k], whole=whole), root(entries[k:])]
    return [*subproof(old - k, entries[k:], whole=False), root(entries[:k])]


def entries_of(count: int) -> list[bytes]:
    return [f"entry {number}".encode() for number in range(count)]


def inclusion(name: str, comment: str, given: dict[str, object], *, holds: bool) -> Vector:
    return Vector(f"merkle/{name}", "ledger.md 1.1", comment, "merkle.inclusion", given, ok(holds=holds))


def consistency(name: str, comment: str, given: dict[str, object], *, holds: bool) -> Vector:
    return Vector(f"merkle/{name}", "ledger.md 1.1", comment, "merkle.consistency", given, ok(holds=holds))


def vectors() -> Iterator[Vector]:
    for size in SIZES:
        given: dict[str, object] = {"entries": [entry.hex() for entry in entries_of(size)]}
        comment = f"The root of {size} entries."
        yield Vector(
            f"merkle/root-{size}", "ledger.md 1.1", comment, "merkle.root", given, ok(root=root(entries_of(size)).hex())
        )
    for index, size in ((0, 1), (0, 8), (4, 7), (6, 7), (10, 11)):
        entries = entries_of(size)
        given = {
            "index": index,
            "size": size,
            "leaf": leaf(entries[index]).hex(),
            "proof": [step.hex() for step in path(index, entries)],
            "root": root(entries).hex(),
        }
        yield inclusion(f"inclusion-{index}-of-{size}", f"Entry {index} is in the tree of {size}.", given, holds=True)
    yield inclusion("inclusion-other-index", "The same proof for another place.", {**given, "index": 9}, holds=False)
    yield inclusion("inclusion-beyond", "There is no entry behind the last.", {**given, "index": 11}, holds=False)
    yield inclusion("inclusion-other-leaf", "Another entry.", {**given, "leaf": leaf(b"entry 9").hex()}, holds=False)
    yield inclusion("inclusion-short", "A step is missing.", {**given, "proof": given["proof"][:-1]}, holds=False)
    yield inclusion("inclusion-long", "A step too many.", {**given, "proof": [*given["proof"], "00" * 32]}, holds=False)
    for old, size in ((1, 2), (3, 7), (4, 8), (7, 8), (8, 8)):
        entries = entries_of(size)
        given = {
            "old": old,
            "size": size,
            "old_root": root(entries[:old]).hex(),
            "root": root(entries).hex(),
            "proof": [step.hex() for step in subproof(old, entries, whole=True)],
        }
        yield consistency(f"consistency-{old}-{size}", f"{size} entries continue {old}.", given, holds=True)
    forged = {**given, "old": 7, "old_root": root([*entries_of(6), b"another"]).hex()}
    forged["proof"] = [step.hex() for step in subproof(7, entries_of(8), whole=True)]
    yield consistency("consistency-rewritten", "The seventh entry was another.", forged, holds=False)
    yield consistency("consistency-backwards", "A tree does not shrink.", {**given, "old": 8, "size": 7}, holds=False)
    yield consistency(
        "consistency-from-nothing", "Nothing can be said of an empty tree.", {**given, "old": 0}, holds=False
    )
