"""Who shares a place in a workspace with whom."""

import pytest

from mesh.exec.places import Places


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("dist", ["all", "dist", "inner"]),
        ("dist/a/b", ["all", "dist", "inner"]),
        ("dist/other", ["all", "dist"]),
        ("dist2", ["all"]),
        ("", ["all", "dist", "inner", "lib"]),
    ],
)
def test_what_is_within_a_place_or_around_it_shares_it(asked: str, found: list[str]):
    places = Places[str]()
    for name, place in {"all": "", "dist": "dist", "inner": "dist/a", "lib": "lib"}.items():
        places.add(name, [place])
    assert sorted(places.sharing([asked])) == found
