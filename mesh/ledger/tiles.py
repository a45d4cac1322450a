"""The ledger as files (C2SP tlog-tiles): hashes in tiles of 256, entries in bundles of 256, so that any web server can serve it.

    tile/0/000          the hashes of entries 0 to 255           tile/entries/000          these entries
    tile/0/001.p/44     the hashes of entries 256 to 299         tile/entries/001.p/44     these
    tile/1/000.p/1      the hash of the one full tile below

A partial tile goes when a fuller one is there.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from mesh.errors import RemoteError
from mesh.ledger.merkle import Tree

TILE_WIDTH: Final = 256
TILE_HEIGHT: Final = 8
ENTRY_BYTES_MAX: Final = 65_535
BUNDLE_BYTES_MAX: Final = TILE_WIDTH * (2 + ENTRY_BYTES_MAX)
assert 1 << TILE_HEIGHT == TILE_WIDTH


def tile_path(level: int, index: int, width: int = TILE_WIDTH) -> str:
    """Where a tile of hashes stands."""
    return f"tile/{level}/{_index(index)}{_suffix(width)}"


def bundle_path(index: int, width: int = TILE_WIDTH) -> str:
    """Where a bundle of entries stands."""
    return f"tile/entries/{_index(index)}{_suffix(width)}"


def bundle(entries: Sequence[bytes]) -> bytes:
    """The bytes of a bundle: each entry behind its length in two bytes."""
    return b"".join(len(entry).to_bytes(2) + entry for entry in entries)


def split_bundle(data: bytes) -> tuple[bytes, ...]:
    """The entries of a bundle. Raises `RemoteError("malformed")` where the last one is cut off."""
    entries: list[bytes] = []
    at = 0
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2])
        if end > len(data):
            raise RemoteError("malformed", f"it ends within its entry {len(entries)}")
        entries.append(data[at + 2 : end])
        at = end
    return tuple(entries)


def tiles(size: int, since: int = 0) -> Iterator[tuple[int, int, int]]:
    """Level, index and width of every tile that a ledger of `size` entries has and one of `since` entries had not."""
    level = 0
    while (count := size >> TILE_HEIGHT * level) > 0:
        before = since >> TILE_HEIGHT * level
        if count > before:
            for index in range(before // TILE_WIDTH, -(-count // TILE_WIDTH)):
                yield level, index, min(count - index * TILE_WIDTH, TILE_WIDTH)
        level += 1


def tile(tree: Tree, level: int, index: int, width: int) -> bytes:
    """The bytes of a tile."""
    first = index * TILE_WIDTH
    return b"".join(tree.node(level * TILE_HEIGHT, at) for at in range(first, first + width))


def paths(size: int, since: int = 0) -> tuple[str, ...]:
    """The files of tiles and bundles that a ledger of `size` entries has and one of `since` entries had not."""
    found: list[str] = []
    for level, index, width in tiles(size, since):
        if level == 0:
            found.append(bundle_path(index, width))
        found.append(tile_path(level, index, width))
    return tuple(found)


def stale_paths(size: int, since: int) -> tuple[str, ...]:
    """The partial tiles and bundles of a ledger of `since` entries in whose place one of `size` entries has fuller ones."""
    found: list[str] = []
    level = 0
    while (before := since >> TILE_HEIGHT * level) > 0:
        index, width = divmod(before, TILE_WIDTH)
        if width > 0 and size >> TILE_HEIGHT * level > before:
            if level == 0:
                found.append(bundle_path(index, width))
            found.append(tile_path(level, index, width))
        level += 1
    return tuple(found)


def _index(index: int) -> str:
    """Three digits a folder, so that no folder holds more than a thousand names."""
    text = f"{index % 1000:03d}"
    while (index := index // 1000) > 0:
        text = f"x{index % 1000:03d}/{text}"
    return text


def _suffix(width: int) -> str:
    assert 1 <= width <= TILE_WIDTH
    return "" if width == TILE_WIDTH else f".p/{width}"
