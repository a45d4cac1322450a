"""What a task has changed of what git tracks."""

import subprocess
from pathlib import Path

import pytest
import trio

from mesh.exec.edits import Edited, edits


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    workspace = tmp_path / "repository/inside"
    workspace.mkdir(parents=True)
    for name in ("a", "b", "c", "d"):
        (workspace / name).write_text(name)
    who = ("-c", "user.email=a@b.c", "-c", "user.name=n")
    for command in (["init", "-q"], ["add", "-A"], [*who, "commit", "-qm", "all"]):
        subprocess.run(["git", *command], cwd=tmp_path / "repository", check=True)
    return workspace


def test_each_task_is_told_of_all_that_changed_while_it_ran(checkout: Path):
    async def scene() -> None:
        (checkout / "a").write_text("changed before")
        edited = Edited(checkout)
        first = await edited.mark()
        (checkout / "b").write_text("changed")
        second = await edited.mark()
        (checkout / "new").write_text("nobody tracks it")
        assert await edited.since(second) == ("b",), "that was under its feet"
        third = await edited.mark()
        (checkout / "a").write_text("changed again")
        (checkout / "c").unlink()
        (checkout / "d").write_text("d")
        assert sorted(await edited.since(first)) == ["a", "b", "c"]
        assert sorted(await edited.since(third)) == ["a", "c"]
        assert await edited.since(await edited.mark(), ("a", "d", "dist/**")) == ("a",), "it would travel as it is here"
        fourth = await edited.mark()
        (checkout / "b").write_text("b")
        assert await edited.since(fourth) == ("b",), "it is as it was committed, and was not before"

    trio.run(scene)


def test_where_git_knows_nothing_nothing_has_changed(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    assert edits(tmp_path) == {}
