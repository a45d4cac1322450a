"""A ledger on disk is whole at every moment, and is never mixed with another's."""

import os
import resource
from contextlib import contextmanager
from pathlib import Path

import pytest

from mesh.errors import StorageError, UsageError
from mesh.ledger import verify
from mesh.store.ledger_dir import LedgerDirectory, read_directory


def write_all(story, path, since=0):
    changes = story.ledger.files_since(since)
    directory = LedgerDirectory(path, story.run_id)
    directory.write(changes.files, changes.removed)
    return directory


def test_what_is_written_is_what_is_read_and_verified(finished, tmp_path):
    write_all(finished, tmp_path / "a" / "ledger")
    files = read_directory(tmp_path / "a" / "ledger")
    assert files == finished.files()
    assert verify(files).ok


def test_a_ledger_that_grows_leaves_no_stale_file_behind(new_story, tmp_path):
    story = new_story()
    directory, written = LedgerDirectory(tmp_path, story.run_id), 0
    for number in range(300):
        story.ledger.append(b"entry %d" % number)
        if number % 40 == 0 or number == 299:
            changes = story.ledger.files_since(written)
            written = story.ledger.size
            directory.write(changes.files, changes.removed)
            assert read_directory(tmp_path) == story.files()
    assert not (tmp_path / "tile" / "0" / "000.p").exists()


def test_at_every_moment_the_checkpoint_has_all_that_it_speaks_of(story, tmp_path, monkeypatch):
    directory = write_all(story, tmp_path)
    before = story.ledger.size
    seen = []
    rename = os.replace

    def watch(source, target):
        rename(source, target)
        on_disk = read_directory(tmp_path)
        size = int(on_disk["checkpoint"].split(b"\n")[1])
        seen.append((size, f"tile/0/000.p/{size}" in on_disk and f"tile/entries/000.p/{size}" in on_disk))

    monkeypatch.setattr(os, "replace", watch)
    story.verdict()
    changes = story.ledger.files_since(before)
    directory.write(changes.files, changes.removed)
    assert seen == [(before, True)] * 3 + [(before + 1, True)]


def test_a_run_that_comes_back_takes_its_directory_over(story, finished, tmp_path):
    write_all(story, tmp_path)
    (tmp_path / "tile" / "0" / "000.p" / "9.dte-tmp").write_bytes(b"half")
    write_all(finished, tmp_path)
    assert read_directory(tmp_path) == finished.files()


def test_a_run_that_was_killed_while_it_wrote_its_first_file_comes_back(finished, tmp_path):
    (tmp_path / "vkeys.dte-tmp").write_bytes(b"half")
    write_all(finished, tmp_path)
    assert verify(read_directory(tmp_path)).ok


def test_the_ledger_of_another_run_is_not_touched(finished, new_story, tmp_path):
    write_all(finished, tmp_path)
    other = new_story(run_id="gh/4711")
    with pytest.raises(UsageError, match=r"not empty and does not hold the ledger of the run gh/4711; .*--ledger"):
        LedgerDirectory(tmp_path, other.run_id)
    assert read_directory(tmp_path) == finished.files()


def test_somebody_s_files_are_not_touched(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="the directory is not empty"):
        LedgerDirectory(tmp_path, "gh/1")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_file_in_the_place_of_the_directory_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "ledger"):
        with pytest.raises(UsageError, match=r"a ledger needs a directory, and this is a file; .*--ledger"):
            LedgerDirectory(path, "gh/1")


@contextmanager
def full_disk():
    """The kernel refuses every byte, as it does on a full disk, for this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_told_with_the_path_and_what_to_do_and_harms_nothing(story, tmp_path):
    directory = write_all(story, tmp_path)
    before, on_disk = story.ledger.size, read_directory(tmp_path)
    story.verdict()
    changes = story.ledger.files_since(before)
    with full_disk(), pytest.raises(StorageError, match=rf"{tmp_path}.*: the ledger cannot be written .*; make room"):
        directory.write(changes.files, changes.removed)
    assert {name: data for name, data in read_directory(tmp_path).items() if ".dte-tmp" not in name} == on_disk
    directory.write(changes.files, changes.removed)
    assert verify(read_directory(tmp_path)).ok


@pytest.mark.skipif(not os.path.ismount("/sys"), reason="needs a place where nobody may write")
def test_a_place_where_nobody_may_write_is_named():
    with pytest.raises(StorageError, match=r"/sys/dte-ledger: the ledger cannot be written .*--ledger"):
        LedgerDirectory(Path("/sys/dte-ledger"), "gh/1")


@pytest.mark.parametrize("name", ["missing", "file"])
def test_a_place_without_a_ledger_is_named(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=f"{tmp_path / name}: no ledger is there"):
        read_directory(tmp_path / name)


def test_a_pipe_in_the_directory_does_not_hang_the_reader(tmp_path):
    os.mkfifo(tmp_path / "checkpoint")
    with pytest.raises(UsageError, match="neither a file nor a folder"):
        read_directory(tmp_path)


def test_an_enormous_file_is_not_read_whole(finished, tmp_path):
    write_all(finished, tmp_path)
    with (tmp_path / "vkeys").open("r+b") as file:
        file.truncate(1 << 40)
    files = read_directory(tmp_path)
    assert len(files["vkeys"]) < 1 << 25
    assert not verify(files).ok
