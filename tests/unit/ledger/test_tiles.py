"""A ledger's files stand where any reader of C2SP tlog-tiles looks for them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import RemoteError
from mesh.ledger import tiles
from mesh.ledger.merkle import Tree, leaf_hash


def test_an_index_is_three_digits_a_folder():
    assert tiles.tile_path(0, 0) == "tile/0/000"
    assert tiles.tile_path(3, 1_234_067) == "tile/3/x001/x234/067"
    assert tiles.bundle_path(1_000, 8) == "tile/entries/x001/000.p/8"


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, []),
        (1, ["tile/entries/000.p/1", "tile/0/000.p/1"]),
        (255, ["tile/entries/000.p/255", "tile/0/000.p/255"]),
        (256, ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"]),
        (
            257,
            ["tile/entries/000", "tile/0/000", "tile/entries/001.p/1", "tile/0/001.p/1", "tile/1/000.p/1"],
        ),
    ],
)
def test_a_size_says_which_files_there_are(size, expected):
    assert list(tiles.paths(size)) == expected


def test_the_specification_s_own_example_is_kept():
    # 70,000 entries: 273 full tiles and a partial one of 112, one full tile of level 1 and one of 17, and one hash on level 2.
    paths = tiles.paths(70_000)
    assert "tile/0/273.p/112" in paths
    assert "tile/1/001.p/17" in paths
    assert "tile/2/000.p/1" in paths
    assert len(paths) == 274 * 2 + 2 + 1


@given(st.integers(0, 140_000), st.integers(0, 2_000))
def test_what_is_new_and_what_is_stale_lead_from_one_size_to_another(since, more):
    before, after = dict.fromkeys(tiles.paths(since)), dict.fromkeys(tiles.paths(since + more))
    new, stale = tiles.paths(since + more, since), tiles.stale_paths(since + more, since)
    assert {**before, **dict.fromkeys(new)}.keys() - set(stale) == after.keys()
    assert not set(new) & set(before)


def test_a_tile_is_the_hashes_of_what_is_below():
    tree = Tree()
    for number in range(300):
        tree.append(leaf_hash(b"%d" % number))
    assert tiles.tile(tree, 0, 1, 44) == b"".join(leaf_hash(b"%d" % number) for number in range(256, 300))
    assert tiles.tile(tree, 1, 0, 1) == tree.root(256)


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_a_bundle_gives_back_its_entries(entries):
    assert tiles.split_bundle(tiles.bundle(entries)) == tuple(entries)


@pytest.mark.parametrize("data", [b"\0", b"\0\1", b"\0\0\0", b"\xff\xffx"])
def test_a_bundle_that_ends_within_an_entry_is_refused(data):
    with pytest.raises(RemoteError, match="malformed: it ends within its entry"):
        tiles.split_bundle(data)
