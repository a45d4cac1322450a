"""The one meaning of globs, against an oracle that never sees their text: it walks the pieces a pattern was built from."""

from dataclasses import dataclass
from itertools import product

from hypothesis import assume, given
from hypothesis import strategies as st

from mesh.adapters.native.overlap import overlaps
from mesh.exec.globs import Globs

ALPHABET = "ab.-*é"


# --- patterns as they are meant --------------------------------------------------------------------


@dataclass(frozen=True)
class Char:
    it: str

    def text(self):
        return f"\\{self.it}" if self.it == "*" else self.it


@dataclass(frozen=True)
class Any:
    def text(self):
        return "?"


@dataclass(frozen=True)
class Star:
    def text(self):
        return "*"


@dataclass(frozen=True)
class OneOf:
    chars: str
    negated: bool

    def text(self):
        return f"[{'!' if self.negated else ''}{self.chars}]"


@dataclass(frozen=True)
class Slash:
    def text(self):
        return "/"


@dataclass(frozen=True)
class Either:
    ways: tuple[tuple[object, ...], ...]

    def text(self):
        return "{" + ",".join(written(way) for way in self.ways) + "}"


def written(pieces):
    return "".join(piece.text() for piece in pieces)


def without_either(pieces):
    """Every row of plain pieces that the alternatives stand for."""
    choices = [
        [row for way in piece.ways for row in without_either(way)] if isinstance(piece, Either) else [(piece,)]
        for piece in pieces
    ]
    return [tuple(piece for part in row for piece in part) for row in product(*choices)]


def segments(pieces):
    rows = [[]]
    for piece in pieces:
        if isinstance(piece, Slash):
            rows.append([])
        else:
            rows[-1].append(piece)
    return [tuple(row) for row in rows]


# --- the oracle ------------------------------------------------------------------------------------


def name_matches(pieces, name):
    if not pieces:
        return name == ""
    first, *rest = pieces
    match first:
        case Star():
            return any(name_matches(rest, name[start:]) for start in range(len(name) + 1))
        case Any():
            return name != "" and name_matches(rest, name[1:])
        case OneOf(chars, negated):
            return name != "" and (name[0] in chars) != negated and name_matches(rest, name[1:])
        case Char(it):
            return name[:1] == it and name_matches(rest, name[1:])


def names_match(rows, names):
    if not rows:
        return names == []
    first, *rest = rows
    if first == (Star(), Star()):
        if not rest:
            return names != []  # what is in a directory is not the directory
        return any(names_match(rest, names[start:]) for start in range(len(names) + 1))
    if names == [] or not name_matches(first, names[0]):
        return False
    if not rest and all(isinstance(piece, Char) for piece in first):
        return True  # a name without a wildcard is a whole tree
    return names_match(rest, names[1:])


def means(pieces, path):
    return any(names_match(segments(row), path.split("/")) for row in without_either(pieces))


# --- patterns and paths to try ---------------------------------------------------------------------

characters = st.builds(Char, st.sampled_from(ALPHABET))
plain = st.one_of(
    characters,
    characters,
    st.just(Any()),
    st.just(Star()),
    st.builds(OneOf, st.sampled_from(["a", "ab", "b.", "é-"]), st.booleans()),
)
names = st.one_of(
    st.lists(plain, min_size=1, max_size=3).map(tuple),
    st.just((Star(), Star())),
    st.just((Char("a"),)),
    st.just((Char("b"),)),
)
ways = st.lists(names, min_size=1, max_size=2).map(
    lambda rows: sum((((Slash(),) if at else ()) + row for at, row in enumerate(rows)), ())
)
either = st.lists(ways, min_size=1, max_size=2).map(lambda rows: (Either(tuple(rows)),))
parts = st.one_of(names, names, names, either, st.tuples(names, either).map(lambda pair: pair[0] + pair[1]))
patterns = st.lists(parts, min_size=1, max_size=3).map(
    lambda rows: sum((((Slash(),) if at else ()) + row for at, row in enumerate(rows)), ())
)
path_names = st.text(ALPHABET, min_size=1, max_size=3).filter(lambda name: name not in (".", ".."))
paths = st.lists(path_names, min_size=1, max_size=4).map("/".join)


def ordinary(pieces):
    """Whether all names of a pattern have one reading: no `.` or `..`, and of stars only `*` and `**`."""
    return all(
        row not in ((Char("."),), (Char("."), Char("."))) and (len(row) <= 2 or set(row) != {Star()})
        for alternative in without_either(pieces)
        for row in segments(alternative)
    )


@given(patterns.filter(ordinary), paths)
def test_a_glob_means_what_its_pieces_mean(pattern, path):
    assert Globs((written(pattern),)).match(path) == means(pattern, path)


@given(st.data(), patterns.filter(ordinary))
def test_a_glob_means_the_paths_that_are_made_for_it(data, pattern):
    # Paths at random seldom match; these are made from the pattern itself.
    row = data.draw(st.sampled_from(without_either(pattern)))
    made = []
    for segment in segments(row):
        if segment == (Star(), Star()):
            made += data.draw(st.lists(path_names, max_size=2))
        else:
            made.append("".join(data.draw(one_for(piece)) for piece in segment))
    assume(made and all(name not in ("", ".", "..") for name in made))
    path = "/".join(made)
    assert Globs((written(pattern),)).match(path) == means(pattern, path)


def one_for(piece):
    match piece:
        case Char(it):
            return st.just(it)
        case Star():
            return st.text(ALPHABET, max_size=2)
        case Any():
            return st.sampled_from(ALPHABET)
        case OneOf(chars, negated):
            return st.sampled_from([one for one in ALPHABET if (one in chars) != negated])


@given(st.lists(patterns.filter(ordinary), max_size=3), st.lists(patterns.filter(ordinary), max_size=2), paths)
def test_what_is_taken_away_is_not_meant_in_whatever_order(wanted, unwanted, path):
    expected = any(means(one, path) for one in wanted) and not any(means(one, path) for one in unwanted)
    texts = [written(one) for one in wanted]
    excludes = [f"!{written(one)}" for one in unwanted]
    assert Globs([*texts, *excludes]).match(path) == Globs([*excludes, *texts]).match(path) == expected


@given(st.lists(patterns.filter(ordinary), min_size=1, max_size=3), paths)
def test_all_that_is_meant_stands_below_the_prefixes_and_can_be_walked_to(wanted, path):
    globs = Globs(map(written, wanted))
    if globs.match(path):
        assert any(prefix in ("", path) or path.startswith(f"{prefix}/") for prefix in globs.prefixes)
        assert globs.static_prefix in ("", path) or path.startswith(f"{globs.static_prefix}/")
        steps = path.split("/")
        assert all(globs.may_contain("/".join(steps[:end])) for end in range(1, len(steps)))


@given(patterns.filter(ordinary), patterns.filter(ordinary), paths)
def test_two_globs_that_mean_one_path_are_said_to_overlap(one, other, path):
    if means(one, path) and means(other, path):
        assert list(overlaps({"one": (written(one),), "other": (written(other),)}))
