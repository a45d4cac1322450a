"""The ledger that a leader writes: entries in the order in which things came to an end, and the files that show it.

Envelopes have been opened (`open_leaf`), and so checked, by whoever appends them: a signature is not verified twice.
"""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from mesh.errors import RemoteError
from mesh.identity import NodeKey
from mesh.ledger import checkpoint as notes
from mesh.ledger import tiles
from mesh.ledger.checkpoint import LEDGER_ENTRIES_MAX, Checkpoint
from mesh.ledger.merkle import Tree, leaf_hash
from mesh.types import NodeId

CHECKPOINT: Final = "checkpoint"
VKEYS: Final = "vkeys"


class Changes(Struct, frozen=True):
    """What must happen to the ledger's directory: `files` to be written in this order, then `removed` to go."""

    files: Mapping[str, bytes]
    removed: tuple[str, ...]


class Ledger:
    """One run's ledger in the hands of `key`, its leader. Who takes over a run appends what there is to one of its own."""

    def __init__(self, run_id: str, key: NodeKey) -> None:
        self._run_id = run_id
        self._key = key
        self._tree = Tree()
        self._entries: list[bytes] = []
        self._checkpoint: Checkpoint | None = None

    @property
    def size(self) -> int:
        """How many entries there are."""
        return len(self._entries)

    @property
    def root(self) -> bytes:
        """The hash of all entries in their order."""
        return self._tree.root()

    @property
    def tree(self) -> Tree:
        """The hashes, for proofs; only the ledger appends."""
        return self._tree

    @property
    def cosignatures(self) -> int:
        """How many witnesses have signed the present checkpoint."""
        return len(self._signed().signatures) - 1

    def entry(self, index: int) -> bytes:
        """The envelope at `index`."""
        return self._entries[index]

    def append(self, envelope: bytes) -> int:
        """Add an entry that was opened before; returns its index. Raises `RemoteError("too-large")`."""
        if len(envelope) > tiles.ENTRY_BYTES_MAX:
            raise RemoteError("too-large", f"an entry of {len(envelope)} bytes; the limit is {tiles.ENTRY_BYTES_MAX}")
        if self.size >= LEDGER_ENTRIES_MAX:
            raise RemoteError("too-large", f"the ledger is full: {LEDGER_ENTRIES_MAX} entries")
        self._entries.append(envelope)
        self._checkpoint = None
        return self._tree.append(leaf_hash(envelope))

    def checkpoint(self) -> bytes:
        """The signed note of the present size, with the cosignatures that have come in for it."""
        return self._signed().render()

    def add_cosignature(self, witness: NodeId, line: str) -> bool:
        """Take in a signature line by `witness`; False where it is not one for the present checkpoint, which may have moved on.

        Raises `RemoteError("malformed")`.
        """
        parsed = notes.parse_line(line)
        signed = self._signed()
        if not signed.cosigned_by(witness, parsed):
            return False
        self._checkpoint = signed.with_cosignatures([parsed])
        return True

    def files_since(self, size: int) -> Changes:
        """What has changed on disk since the ledger had `size` entries. In this order no reader sees a checkpoint without its tiles."""
        files: dict[str, bytes] = {VKEYS: self._vkeys()}
        for level, index, width in tiles.tiles(self.size, size):
            if level == 0:
                first = index * tiles.TILE_WIDTH
                files[tiles.bundle_path(index, width)] = tiles.bundle(self._entries[first : first + width])
            files[tiles.tile_path(level, index, width)] = tiles.tile(self._tree, level, index, width)
        files[CHECKPOINT] = self.checkpoint()
        return Changes(files, tiles.stale_paths(self.size, size))

    def _signed(self) -> Checkpoint:
        if self._checkpoint is None:
            self._checkpoint = notes.sign(self._key, self._run_id, self.size, self.root)
        return self._checkpoint

    def _vkeys(self) -> bytes:
        """The keys that have signed the checkpoint, the leader's first."""
        witnesses = [notes.witness_of(line) for line in self._signed().signatures[1:]]
        keys = [
            notes.log_key(self._run_id, self._key.node_id),
            *(notes.witness_key(node) for node in witnesses if node),
        ]
        return "".join(f"{key.render()}\n" for key in keys).encode()
