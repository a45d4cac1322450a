import pytest

from mesh.adapters.native.overlap import overlaps


def pairs(**outputs):
    return [(found.first, found.second) for found in overlaps({name: tuple(globs) for name, globs in outputs.items()})]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("dist", "dist"),
        ("dist/**", "dist/a.js"),
        ("dist", "dist/a/b.js"),
        ("dist/*.js", "dist/a*"),
        ("**/out.txt", "a/b/out.txt"),
        ("a/**/c", "a/c"),
        ("dist/?", "dist/a"),
        ("dist/[ab]*", "dist/bc"),
        ("dist/{a,b}", "{dist,lib}/b"),
        ("*/x", "a/*"),
        ("a*b", "*ab"),
        ("é*", "?x"),
        ("x/./y", "x//y"),
    ],
)
def test_two_globs_that_can_mean_one_path_overlap(one, other):
    assert pairs(a=[one], b=[other])
    assert pairs(a=[other], b=[one])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("dist", "distant"),
        ("dist/*.js", "dist/*.css"),
        ("a/*/x*", "a/x*"),
        ("dist/[ab]", "dist/[cd]"),
        ("dist/[a-m]*", "dist/[n-z]*"),
        ("dist/[!a]*", "dist/a"),
        ("out-1.xml", "out-2.xml"),
        ("a/*", "a/b/c"),
        ("{a,b}/x", "{c,d}/x"),
        (r"a\*", "ab"),
        ("é", "è"),
    ],
)
def test_two_globs_that_never_mean_one_path_do_not_overlap(one, other):
    assert not pairs(a=[one], b=[other])
    assert not pairs(a=[other], b=[one])


def test_what_is_taken_away_does_not_overlap():
    assert not pairs(a=["dist/**", "!dist/web/**"], b=["dist/web/**"])
    assert not pairs(a=["dist/web/**"], b=["dist", "!dist/web"])
    assert pairs(a=["dist/**", "!dist/web/x"], b=["dist/web/**"])


def test_a_task_may_overlap_with_itself():
    assert not pairs(a=["dist/**", "dist/a"])


def test_a_thousand_tasks_are_compared_quickly():
    outputs = {f"p{number}": (f"packages/p{number}/dist/**",) for number in range(1_000)}
    assert list(overlaps(outputs)) == []
