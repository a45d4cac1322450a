"""What git ignores, asked of a real git."""

import subprocess
from pathlib import Path

from mesh.adapters.turbo.ignored import not_ignored, tracked

PLACES = {
    "a#build": ["packages/a/dist/x", "packages/a/.turbo/turbo-build.log"],
    "b#build": ["packages/b/out"],
    "c#x": [],
}


def test_only_what_git_does_not_ignore_is_told(tmp_path: Path):
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / ".gitignore").write_text("dist\n.turbo\n")
    assert not_ignored(tmp_path, PLACES) == {"b#build": ["packages/b/out"]}
    (tmp_path / ".gitignore").write_text("dist\n.turbo\nout\n")
    assert not_ignored(tmp_path, PLACES) == {}


def test_what_is_committed_is_not_ignored_whatever_the_rules_say(tmp_path: Path):
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / ".gitignore").write_text("out\n")
    (tmp_path / "out").write_text("x")
    subprocess.run(["git", "add", "-f", "out"], cwd=tmp_path, check=True)
    assert not_ignored(tmp_path, {"a#b": ["out"]}) == {"a#b": ["out"]}
    assert tracked(tmp_path, {"out": "out", "dist/x": "dist/**"}) == {"out"}


def test_without_a_repository_the_rules_hold_all_the_same(tmp_path: Path):
    (tmp_path / "packages/b").mkdir(parents=True)
    (tmp_path / ".gitignore").write_text("dist\n.turbo\n")
    assert not_ignored(tmp_path, PLACES) == {"b#build": ["packages/b/out"]}
    (tmp_path / "packages/b/.gitignore").write_text("out\n")
    assert not_ignored(tmp_path, PLACES) == {}
    assert [entry.name for entry in tmp_path.iterdir()].count(".git") == 0


def test_where_git_can_say_nothing_nothing_is_held_against_anything(tmp_path: Path):
    assert not_ignored(tmp_path / "missing", PLACES) == {}
    assert tracked(tmp_path / "missing", {"out": "out"}) == tracked(tmp_path, {"out": "out"}) == frozenset()
