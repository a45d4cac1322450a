"""Is a ledger what it claims to be? Checked offline, from its files alone, by whoever has them.

Every byte of every file is either recomputed from the entries or covered by a signature, so no bit can be changed unseen. Without the root's public key
the ledger is only known to agree with itself: who can write files can make another one from a secret of their own.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from msgspec import Struct

from mesh.errors import RemoteError
from mesh.ledger import checkpoint as notes
from mesh.ledger import tiles
from mesh.ledger.checkpoint import Checkpoint, VerifierKey
from mesh.ledger.history import History
from mesh.ledger.ledger import CHECKPOINT, VKEYS
from mesh.ledger.merkle import HASH_BYTES, Tree, leaf_hash
from mesh.ledger.statements import Verdict, open_leaf

PROBLEMS_MAX: Final = 100
"""More are not reported: a reader has seen enough, and a hostile ledger could have millions."""


class Verification(Struct, frozen=True):
    """What a ledger was found to be. What is beside `ok` and `problems` is as the ledger claims, and only to be believed where it is `ok`."""

    ok: bool
    entries: int
    problems: tuple[str, ...]
    run_id: str = ""
    root_public: str = ""
    cosignatures: int = 0
    verdict: Verdict | None = None


def verify(files: Mapping[str, bytes], root_public: str | None = None) -> Verification:
    """Check all `files` of a ledger by their paths; `root_public` is the root's public key that the reader trusts (64 hexadecimal digits)."""
    try:
        checkpoint = _read_checkpoint(files)
    except RemoteError as error:
        return Verification(ok=False, entries=0, problems=(f"{CHECKPOINT}: {error}",))
    problems = _Problems(_files(files, checkpoint.size))
    bundles, broken = _read_bundles(files, checkpoint.size)
    problems.add(broken)
    tree = Tree()
    history = History(checkpoint.run_id, tree)
    if not problems.found:
        # Only now is it known which bytes are which entry.
        entries = [entry for bundle in bundles for entry in bundle]
        for entry in entries:
            tree.append(leaf_hash(entry))
        problems.add(_check_tiles(files, tree))
        problems.add(_check_root(checkpoint, tree))
        for index, entry in enumerate(entries):
            problems.add(_check_entry(history, index, entry, checkpoint.size))
        problems.add(f"{CHECKPOINT}: {problem}" for problem in history.finish())
        problems.add(_check_signatures(checkpoint, history))
        problems.add(_check_vkeys(files[VKEYS], checkpoint, history))
        problems.add(_check_trust(history, root_public))
    return Verification(
        ok=not problems.found,
        entries=tree.size,
        problems=tuple(problems.found),
        run_id=checkpoint.run_id,
        root_public=history.root_public,
        cosignatures=len(checkpoint.signatures) - 1,
        verdict=history.verdict,
    )


class _Problems:
    """Sentences, up to a limit."""

    def __init__(self, first: Iterable[str]) -> None:
        self.found: list[str] = []
        self.add(first)

    def add(self, more: Iterable[str]) -> None:
        for problem in more:
            if len(self.found) < PROBLEMS_MAX:
                # What a ledger says may end on somebody's terminal.
                self.found.append(
                    "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in problem)
                )


def _read_checkpoint(files: Mapping[str, bytes]) -> Checkpoint:
    if CHECKPOINT not in files:
        raise RemoteError(
            "missing", "the file is not there, so nothing says what the ledger is; is this the ledger's directory?"
        )
    return notes.parse(files[CHECKPOINT])


def _files(files: Mapping[str, bytes], size: int) -> Iterator[str]:
    expected = dict.fromkeys([VKEYS, CHECKPOINT, *tiles.paths(size)])
    for path in expected:
        if path not in files:
            yield f"{path}: the file is missing; a ledger of {size} entries, as the checkpoint says, has it"
    for path in sorted(files):
        if path not in expected:
            yield f"{path}: the file is not part of a ledger of {size} entries, as the checkpoint says"


def _read_bundles(files: Mapping[str, bytes], size: int) -> tuple[list[tuple[bytes, ...]], list[str]]:
    bundles: list[tuple[bytes, ...]] = []
    problems: list[str] = []
    for level, index, width in tiles.tiles(size):
        path = tiles.bundle_path(index, width)
        if level > 0 or path not in files:
            continue
        try:
            bundles.append(tiles.split_bundle(files[path]))
        except RemoteError as error:
            problems.append(f"{path}: {error}")
            continue
        if len(bundles[-1]) != width:
            problems.append(f"{path}: it holds {len(bundles[-1])} entries, and {width} are expected")
    return bundles, problems


def _check_tiles(files: Mapping[str, bytes], tree: Tree) -> Iterator[str]:
    for level, index, width in tiles.tiles(tree.size):
        path = tiles.tile_path(level, index, width)
        expected, found = tiles.tile(tree, level, index, width), files[path]
        if len(found) != len(expected):
            yield f"{path}: it has {len(found)} bytes, and {len(expected)} are expected"
            continue
        for at in range(0, len(expected), HASH_BYTES):
            if found[at : at + HASH_BYTES] == expected[at : at + HASH_BYTES]:
                continue
            number = index * tiles.TILE_WIDTH + at // HASH_BYTES
            if level == 0:
                yield f"{path}: its hash of entry {number} is not that of the entry in {tiles.bundle_path(index, width)}; one of the two was changed"
            else:
                yield f"{path}: its hash {number} is not that of tile {number} of level {level - 1}"


def _check_root(checkpoint: Checkpoint, tree: Tree) -> Iterator[str]:
    if checkpoint.root != tree.root():
        yield (
            f"{CHECKPOINT}: it was signed for entries with the root {checkpoint.root.hex()}, and these have {tree.root().hex()}: "
            "an entry was changed, moved, or left out"
        )


def _check_entry(history: History, index: int, entry: bytes, size: int) -> Iterator[str]:
    bundle = index // tiles.TILE_WIDTH
    where = f"{tiles.bundle_path(bundle, min(size - bundle * tiles.TILE_WIDTH, tiles.TILE_WIDTH))}, entry {index}"
    try:
        signed = open_leaf(entry)
    except RemoteError as error:
        yield f"{where}: {error}"
        return
    for problem in history.take(index, signed):
        yield f"{where}: {problem}"


def _check_signatures(checkpoint: Checkpoint, history: History) -> Iterator[str]:
    if history.leader is None:
        return
    if not checkpoint.signed_by(history.leader):
        yield f"{CHECKPOINT}: its first signature is not a valid one of {history.leader}, who leads epoch {history.epoch}"
    seen: dict[str, None] = {}
    for number, line in enumerate(checkpoint.signatures[1:], start=2):
        witness = notes.witness_of(line)
        if witness is None or witness not in history.roster:
            yield f"{CHECKPOINT}: signature {number} is by {line.name[:200]}, and only nodes of the roster may sign"
        elif line.name in seen or not checkpoint.cosigned_by(witness, line):
            yield f"{CHECKPOINT}: signature {number} is not a valid cosignature of {witness}, or its second one"
        seen[line.name] = None


def _check_vkeys(data: bytes, checkpoint: Checkpoint, history: History) -> Iterator[str]:
    """Keys of witnesses may be there before their signatures: the file is written first."""
    if history.leader is None:
        return
    lines = data.split(b"\n")
    if lines.pop() != b"":
        yield f"{VKEYS}: its last line does not end"
    leader = notes.log_key(checkpoint.run_id, history.leader)
    if lines[:1] != [_line(leader)]:
        yield f"{VKEYS}: its first line is not the key of the leader, {leader.render()}"
    allowed = {_line(notes.witness_key(node)): node for node in history.roster}
    for number, line in enumerate(lines[1:], start=2):
        if allowed.pop(line, None) is None:
            yield f"{VKEYS}: line {number} is not the key of a node of the roster, or stands there twice"
    for signature in checkpoint.signatures[1:]:
        witness = notes.witness_of(signature)
        if witness in allowed.values():
            yield f"{VKEYS}: the key of {witness}, who has signed the checkpoint, is missing"


def _line(key: VerifierKey) -> bytes:
    return key.render().encode()


def _check_trust(history: History, root_public: str | None) -> Iterator[str]:
    if root_public is not None and history.root_public != root_public:
        yield f"the ledger's root is {history.root_public or 'not known'}, and {root_public} was expected: it was made with another secret"
