"""Globs: what a pattern means, and what it cannot mean."""

import pytest

from mesh.errors import UsageError
from mesh.exec.globs import Globs, literal


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("src/*.py", ["src/a.py", "src/.py"], ["src/x/a.py", "a.py", "src/a.pyc"]),
        ("src/**", ["src/a", "src/x/y", "src/.hidden"], ["src", "srcx/a", "x/src/a"]),
        ("**/*.py", ["a.py", "x/a.py", "x/y/a.py"], ["a.pyc", "x/a.py/b"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b/c"], ["ab", "a/xb"]),
        ("**", ["a", "a/b"], []),
        ("*", ["a", ".a"], ["a/b", ""]),
        ("a?c", ["abc"], ["ac", "a/c"]),
        ("[a-c]x", ["ax", "cx"], ["dx", "x"]),
        ("[!a-c]x", ["dx"], ["ax", "/x"]),
        ("[]]", ["]"], ["["]),
        ("[[&&]", ["[", "&"], ["x"]),
        ("[a", ["[a"], ["a"]),
        ("{a,b/{c,d}}.txt", ["a.txt", "b/c.txt", "b/d.txt"], ["b.txt", "c.txt"]),
        ("{src,lib}/**", ["src/a", "lib/a"], ["src"]),
        ("{a", ["{a"], ["a"]),
        ("a}", ["a}"], ["a"]),
        (r"\{a,b\}", ["{a,b}"], ["a"]),
        (r"\*", ["*"], ["a"]),
        ("dist", ["dist", "dist/a", "dist/a/b"], ["dist2", "x/dist"]),
        ("**/node_modules", ["node_modules/a", "x/node_modules/y/z"], ["x/node_modules2"]),
        ("./dist/", ["dist/a"], ["a"]),
        ("/dist/*.js", ["dist/a.js"], ["x/dist/a.js"]),
        ("a.b+c", ["a.b+c"], ["aXb+c", "a.bbc"]),
        ("a\nb*", ["a\nbc"], ["a", "b"]),
    ],
)
def test_a_pattern_means_these_paths_and_not_those(pattern: str, yes: list[str], no: list[str]) -> None:
    globs = Globs([pattern])
    assert [path for path in yes if not globs.match(path)] == []
    assert [path for path in no if globs.match(path)] == []


def test_an_exclusion_takes_away_wherever_it_stands() -> None:
    for patterns in (["!**/*.md", "docs/**"], ["docs/**", "!**/*.md"]):
        globs = Globs(patterns)
        assert globs.match("docs/a.txt")
        assert not globs.match("docs/x/a.md")


def test_an_excluded_name_takes_its_whole_tree_away() -> None:
    globs = Globs(["**", "!node_modules"])
    assert not globs.match("node_modules/a/b")
    assert not globs.may_contain("node_modules")


def test_no_pattern_matches_no_path() -> None:
    assert not Globs([]).match("a")
    assert not Globs(["!a"]).match("b")
    assert Globs([]).prefixes == ()
    assert Globs([]).static_prefix == ""


def test_the_inside_of_a_directory_can_be_asked_for() -> None:
    assert Globs(["dist/**"]).match("dist/")
    assert not Globs(["dist/**"]).match("dist")
    assert not Globs(["dist/*.js"]).match("dist/")


@pytest.mark.parametrize(
    ("patterns", "prefixes"),
    [
        (["dist/**"], ("dist",)),
        (["dist/*.js", "dist/sub/x.txt", "lib/a"], ("dist", "lib/a")),
        (["**/x", "dist"], ("",)),
        (["a", "a-b", "a/c"], ("a", "a-b")),
        (["{x,y}/z"], ("x/z", "y/z")),
        ([r"a\*b/c*"], ("a*b",)),
    ],
)
def test_prefixes_are_where_a_walk_has_to_start(patterns: list[str], prefixes: tuple[str, ...]) -> None:
    assert Globs(patterns).prefixes == prefixes


def test_the_static_prefix_holds_all_that_can_match() -> None:
    assert Globs(["out/a/**", "out/b/*.txt"]).static_prefix == "out"
    assert Globs(["out/a/**", "lib/b"]).static_prefix == ""


def test_literals_are_the_patterns_that_name_one_thing() -> None:
    assert Globs(["dist/", "a/*.js", r"b\*", "{x,y}", "!z"]).literals == ("dist", "b*", "x", "y")


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        (
            "packages/*/dist",
            ["packages", "packages/a", "packages/a/dist", "packages/a/dist/x"],
            ["packages/a/src", "lib"],
        ),
        ("dist/*.js", ["dist"], ["dist/a.js", "dist/sub"]),
        ("dist/**", ["dist", "dist/a/b"], ["lib"]),
        ("a/**/b", ["a", "a/x", "a/x/y"], ["b"]),
        ("*", [""], ["a"]),
        ("**", ["", "a"], []),
    ],
)
def test_a_walk_enters_only_directories_that_can_lead_to_a_match(pattern: str, yes: list[str], no: list[str]) -> None:
    globs = Globs([pattern])
    assert [path for path in yes if not globs.may_contain(path)] == []
    assert [path for path in no if globs.may_contain(path)] == []


@pytest.mark.parametrize("pattern", ["../x", "a/../../b", "!..", "", "!", "/", ".", "[z-a]"])
def test_a_pattern_that_cannot_be_meant_is_refused_by_name(pattern: str) -> None:
    with pytest.raises(UsageError, match="glob"):
        Globs([pattern])


def test_a_bomb_of_braces_is_refused() -> None:
    with pytest.raises(UsageError, match="braces"):
        Globs(["{a,b}" * 20])


@pytest.mark.parametrize("path", ["a/[slug].ts", "!a", "{a,b}/c", "a*b?", "back\\slash"])
def test_a_path_may_be_made_a_pattern_that_means_nothing_else(path: str):
    globs = Globs([literal(path)])
    assert globs.match(path)
    assert globs.literals == (path,)
