"""What nx does not cache, from one workspace to another."""

import subprocess
from pathlib import Path

import pytest
import trio

from mesh.adapters.nx.carried import Carried, changed
from mesh.errors import CorruptError
from mesh.graph import Task
from mesh.store.blobs import BlobStore
from mesh.types import Blob, Digest, TaskId

GENERATE = Task(id=TaskId("p0:generate"), tool="nx", outputs=("p0/generated",), cache=False, where="main", payload={})


def workspace(path: Path) -> Path:
    for name in ("p0/[slug].js", "p0/{a,b}.js", "p0/kept.js"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("as committed")
    for command in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.email=a@b.c", "-c", "user.name=n", "commit", "-qm", "all"],
    ):
        subprocess.run(["git", *command], cwd=path, check=True)
    return path


def test_tracked_files_that_a_task_changed_travel_with_its_outputs(tmp_path: Path):
    here, there = workspace(tmp_path / "here"), workspace(tmp_path / "there")
    blobs = BlobStore(tmp_path / "store")
    carried = Carried(here, blobs)

    async def scene() -> None:
        (here / "p0/kept.js").write_text("changed before")
        before = await carried.edits()
        for name in ("p0/[slug].js", "p0/{a,b}.js", "p0/generated/code.js"):
            (here / name).parent.mkdir(exist_ok=True)
            (here / name).write_text("made")
        edited = changed(before, await carried.edits())
        assert sorted(edited) == ["p0/[slug].js", "p0/{a,b}.js"]
        await Carried(there, blobs).restore(GENERATE, await carried.pack(GENERATE, edited))

    trio.run(scene)
    found = {str(file.relative_to(there)): file.read_text() for file in there.glob("p0/**/*.js")}
    assert found == {
        "p0/[slug].js": "made",
        "p0/{a,b}.js": "made",
        "p0/generated/code.js": "made",
        "p0/kept.js": "as committed",
    }


def test_where_there_is_no_checkout_nothing_has_been_changed(tmp_path: Path):
    assert trio.run(Carried(tmp_path, BlobStore(tmp_path / "store")).edits) == {}


def test_what_is_not_in_the_store_is_not_taken_for_restored(tmp_path: Path):
    carried = Carried(tmp_path, BlobStore(tmp_path / "store"))
    with pytest.raises(CorruptError, match="not in the blob store"):
        trio.run(carried.restore, GENERATE, Blob(Digest(f"sha256:{'0' * 64}"), 5))


def test_what_a_task_changes_of_what_others_have_built_is_an_edit_too(tmp_path: Path):
    build = Task(TaskId("p0:build"), "nx", outputs=("p0/dist/**/*.js",))
    odd = Task(TaskId("p0:odd"), "nx", outputs=("../outside",))
    dist = tmp_path / "p0/dist"
    dist.mkdir(parents=True)
    carried = Carried(tmp_path, BlobStore(tmp_path / "store"))

    async def scene() -> None:
        for name in ("a.js", "b.js", "c.txt"):
            (dist / name).write_text("built")
        before = await carried.edits((build, odd))
        for name in ("a.js", "c.txt", "new.js"):
            (dist / name).write_text("stamped")
        assert changed(before, await carried.edits((build, odd))) == ("p0/dist/a.js", "p0/dist/new.js")

    trio.run(scene)
