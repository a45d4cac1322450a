"""Outputs packed and restored: the same tree, the same bytes, and nothing that was not declared."""

import hashlib
import os
import resource
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.errors import CorruptError, StorageError, UsageError
from mesh.exec.archive import pack, restore
from mesh.exec.globs import Globs
from mesh.exec.tar import END, Entry, Kind, head
from mesh.exec.tree import clear, fingerprint

NOBODY = 65_534


class Bytes:
    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes | memoryview, /) -> None:
        self.data += data


def packed(workspace: Path, *patterns: str) -> bytes:
    writer = Bytes()
    pack(workspace, patterns, writer)
    return bytes(writer.data)


def stored(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "archive"
    path.write_bytes(data)
    return path


def archive(*entries: tuple[Entry, bytes]) -> bytes:
    return b"".join(head(entry) + data + bytes(entry.padding) for entry, data in entries) + END


def file(path: str, data: bytes = b"x") -> tuple[Entry, bytes]:
    return Entry(path, Kind.FILE, size=len(data)), data


def link(path: str, target: str) -> tuple[Entry, bytes]:
    return Entry(path, Kind.SYMLINK, target=target), b""


def everything(root: Path) -> dict[str, object]:
    return {
        str(path.relative_to(root)): (
            str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        )
        for path in sorted(root.rglob("*"))
    }


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace with some of everything in `dist`."""
    root = tmp_path / "workspace"
    (root / "dist/deep/er").mkdir(parents=True)
    (root / "dist/empty").mkdir()
    (root / "dist/a.txt").write_text("a")
    (root / "dist/deep/er/run.sh").write_text("#!/bin/sh\n")
    (root / "dist/deep/er/run.sh").chmod(0o700)
    (root / "dist/deep/up").symlink_to("../a.txt")
    (root / "dist/big").write_bytes(os.urandom(700_000))
    (root / "dist/caf\udce9").write_text("not UTF-8")
    (root / "source.txt").write_text("mine")
    return root


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A second, empty workspace."""
    root = tmp_path / "other"
    root.mkdir()
    return root


@pytest.fixture
def nobodys() -> Iterator[Path]:
    """A workspace of a user to whom permissions mean something; root becomes one for the test, since they mean nothing to it."""
    # Where all may go: a TMPDIR may be this user's alone.
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as place:
        if os.geteuid() != 0:
            yield Path(place)
            return
        os.chown(place, NOBODY, NOBODY)
        os.seteuid(NOBODY)
        try:
            yield Path(place)
        finally:
            os.seteuid(0)


def test_a_tree_comes_back_as_it_was(workspace: Path, other: Path, tmp_path: Path) -> None:
    restore(stored(tmp_path, packed(workspace, "dist/**")), other, ["dist/**"])
    assert everything(other / "dist") == everything(workspace / "dist")
    assert os.access(other / "dist/deep/er/run.sh", os.X_OK)
    assert (other / "dist/a.txt").stat().st_mode & 0o111 == 0


def test_the_same_tree_has_the_same_bytes_whenever_and_by_whomever_it_was_made(workspace: Path, other: Path) -> None:
    subprocess.run(["cp", "-r", f"{workspace}/dist", other], check=True)
    os.utime(other / "dist/a.txt", (1, 1))
    (other / "dist/a.txt").chmod(0o666)
    if os.getuid() == 0:
        os.chown(other / "dist/a.txt", 1234, 1234)
    assert packed(workspace, "dist/**") == packed(other, "dist/**")


def test_a_restored_tree_packs_to_the_archive_it_came_from(workspace: Path, other: Path, tmp_path: Path) -> None:
    data = packed(workspace, "dist")
    restore(stored(tmp_path, data), other, ["dist"])
    assert packed(other, "dist") == data


def test_gnu_tar_unpacks_it(workspace: Path, other: Path, tmp_path: Path) -> None:
    path = stored(tmp_path, packed(workspace, "dist/**"))
    subprocess.run(["tar", "-xf", path, "-C", other], check=True)
    assert everything(other / "dist") == everything(workspace / "dist")


def test_only_what_is_declared_is_packed(workspace: Path) -> None:
    data = packed(workspace, "dist/**", "!dist/deep", "!**/big")
    assert b"dist/a.txt" in data
    assert b"run.sh" not in data
    assert b"source.txt" not in data


def test_the_repository_itself_is_never_packed_nor_cleared_nor_written(workspace: Path, tmp_path: Path) -> None:
    (workspace / ".git").mkdir()
    (workspace / ".git/config").write_text("mine")
    assert b".git" not in packed(workspace, "**")
    assert b".git" not in packed(workspace, ".git/**", ".git")
    clear(workspace, Globs(["**"]))
    assert everything(workspace) == {".git": None, ".git/config": b"mine"}
    with pytest.raises(CorruptError):
        restore(stored(tmp_path, archive(file(".git/hooks/pre-commit"))), workspace, ["**"])


def test_a_declared_name_that_is_not_there_is_missing_and_a_wildcard_is_not(workspace: Path) -> None:
    report = pack(workspace, ["dist/a.txt", "dist/none.txt", "none/**", "dist/empty"], Bytes())
    assert report.missing == ("dist/none.txt",)
    assert report.files == 2


def test_hard_links_are_packed_as_files(workspace: Path, other: Path, tmp_path: Path) -> None:
    os.link(workspace / "dist/a.txt", workspace / "dist/b.txt")
    restore(stored(tmp_path, packed(workspace, "dist/?.txt")), other, ["dist/?.txt"])
    assert (other / "dist/a.txt").stat().st_nlink == 1
    assert (other / "dist/b.txt").read_text() == "a"


def test_a_socket_is_refused_by_name(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace / "dist")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s")
        with pytest.raises(UsageError, match=r"dist/s is a socket.*!dist/s"):
            packed(workspace, "dist/**")


@pytest.mark.parametrize("target", ["/etc/passwd", "../../outside", "deep/../../../outside"])
def test_a_link_out_of_the_workspace_is_not_packed(workspace: Path, target: str) -> None:
    (workspace / "dist/l").symlink_to(target)
    with pytest.raises(UsageError, match="dist/l"):
        packed(workspace, "dist/**")


def test_outputs_behind_a_link_are_refused_and_not_cleared(workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/a").write_text("mine")
    (workspace / "out").symlink_to("../outside")
    for patterns in (["out/**"], ["out/a"]):
        with pytest.raises(UsageError, match="symbolic link"):
            packed(workspace, *patterns)
        with pytest.raises(UsageError, match="symbolic link"):
            clear(workspace, Globs(patterns))
    assert (tmp_path / "outside/a").read_text() == "mine"


def test_a_link_in_the_place_of_an_output_is_cleared_and_not_what_it_leads_to(workspace: Path) -> None:
    (workspace / "dist/l").symlink_to("../source.txt")
    clear(workspace, Globs(["dist"]))
    assert everything(workspace) == {"source.txt": b"mine"}


def test_restoring_replaces_what_the_outputs_mean_and_nothing_else(
    workspace: Path, other: Path, tmp_path: Path
) -> None:
    (other / "dist/old/er").mkdir(parents=True)
    (other / "dist/old/er/file").write_text("old")
    (other / "dist/a.txt").mkdir()
    (other / "kept.txt").write_text("kept")
    restore(stored(tmp_path, packed(workspace, "dist/**")), other, ["dist/**"])
    assert everything(other / "dist") == everything(workspace / "dist")
    assert (other / "kept.txt").read_text() == "kept"


def test_read_only_directories_among_outputs_are_cleared_and_others_left_alone(nobodys: Path) -> None:
    for name in ("dist/deep/er/file", "src/out.o", "src/main.c"):
        (nobodys / name).parent.mkdir(parents=True, exist_ok=True)
        (nobodys / name).touch()
    for name in ("dist/deep/er", "dist/deep", "dist", "src"):
        (nobodys / name).chmod(0o555)
    clear(nobodys, Globs(["dist/**"]))
    assert not (nobodys / "dist").exists()
    with pytest.raises(
        StorageError, match=r"cannot write .*/src/out\.o: permission denied; the user that runs dte must"
    ):
        clear(nobodys, Globs(["src/*.o"]))


def test_a_directory_that_may_not_be_entered_is_named(nobodys: Path) -> None:
    (nobodys / "locked/out").mkdir(parents=True)
    (nobodys / "locked").chmod(0)
    with pytest.raises(
        StorageError, match=r"cannot read .*/locked/out: permission denied; the user that runs dte must"
    ):
        clear(nobodys, Globs(["locked/out/**"]))


def test_what_is_excluded_survives_in_the_midst_of_what_is_cleared(workspace: Path) -> None:
    clear(workspace, Globs(["dist/**", "!**/up"]))
    assert everything(workspace / "dist") == {"deep": None, "deep/up": "../a.txt"}


@pytest.mark.parametrize(
    "entries",
    [
        [file("/etc/cron.d/x")],
        [file("../x")],
        [file("dist/../../x")],
        [file("dist/./x")],
        [file("dist//x")],
        [file("")],
        [file("dist/")],
        [file("other/x")],
        [file("dist/b"), file("dist/a")],
        [file("dist/a"), file("dist/a")],
        [file("dist/a"), file("dist/a/b")],
        [link("dist/l", "sub"), file("dist/l/x")],
        [link("dist/l", "/etc")],
        [link("dist/l", "../../etc")],
        [link("dist/l", "sub/../..")],
        [link("dist/l", "")],
    ],
    ids=lambda entries: " ".join(repr(entry.path) for entry, _ in entries),
)
def test_an_archive_that_holds_what_it_must_not_changes_nothing(
    entries: list[tuple[Entry, bytes]], workspace: Path, tmp_path: Path
) -> None:
    before = everything(tmp_path / "workspace")
    with pytest.raises(CorruptError):
        restore(stored(tmp_path, archive(*entries)), workspace, ["dist/**"])
    assert everything(tmp_path / "workspace") == before


@pytest.mark.parametrize("data", [b"", b"x", bytes(512), b"PK" * 1000, archive(file("dist/a"))[: -len(END)]])
def test_what_is_no_archive_changes_nothing(data: bytes, workspace: Path, tmp_path: Path) -> None:
    before = everything(workspace)
    with pytest.raises(CorruptError):
        restore(stored(tmp_path, data), workspace, ["dist/**"])
    assert everything(workspace) == before


@pytest.mark.parametrize("entry", [file("dist/sub/x"), (Entry("dist/sub", Kind.DIRECTORY), b"")])
def test_nothing_is_written_through_a_link_of_the_workspace(
    entry: tuple[Entry, bytes], other: Path, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    (other / "dist").symlink_to("../outside")
    with pytest.raises(CorruptError, match="symbolic link"):
        restore(stored(tmp_path, archive(entry)), other, ["dist/**"])
    assert everything(tmp_path / "outside") == {}


def test_a_link_that_is_an_output_makes_place_for_a_directory(other: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (other / "dist").symlink_to("../outside")
    restore(stored(tmp_path, archive(file("dist/x"))), other, ["dist"])
    assert everything(other) == {"dist": None, "dist/x": b"x"}
    assert everything(tmp_path / "outside") == {}


def test_a_fingerprint_tells_a_touched_tree_from_an_untouched_one(workspace: Path) -> None:
    globs = Globs(["dist/**"])
    before = fingerprint(workspace, globs)
    assert fingerprint(workspace, globs) == before
    (workspace / "source.txt").write_text("other")
    assert fingerprint(workspace, globs) == before
    (workspace / "dist/a.txt").write_text("b")
    assert fingerprint(workspace, globs) != before
    before = fingerprint(workspace, globs)
    (workspace / "dist/empty").rmdir()
    assert fingerprint(workspace, globs) != before


RESTORE = """
import resource, sys
from pathlib import Path
from mesh.errors import StorageError
from mesh.exec.archive import restore
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    restore(Path(sys.argv[1]), Path(sys.argv[2]), ["dist/**"])
except StorageError as error:
    print(error)
"""


def test_a_full_disk_leaves_no_half_written_file(other: Path, tmp_path: Path) -> None:
    data = archive(file("dist/a", b"a" * 1_000), file("dist/b", b"b" * 500_000))
    done = subprocess.run(
        [sys.executable, "-c", RESTORE, stored(tmp_path, data), other], capture_output=True, text=True, check=True
    )
    assert f"cannot write {other}/dist/b: file too large; free space" in done.stdout
    assert everything(other / "dist") == {"a": b"a" * 1_000}


def test_a_read_only_workspace_is_explained(other: Path, tmp_path: Path) -> None:
    (other / "dist").write_text("a file where a directory has to be")
    with pytest.raises(StorageError, match="cannot write"):
        restore(stored(tmp_path, archive(file("dist/a"))), other, ["dist/**"])


def test_a_large_tree_is_packed_in_bounded_memory(other: Path, tmp_path: Path) -> None:
    (other / "dist").mkdir()
    with (other / "dist/sparse").open("wb") as large:
        large.truncate(100 * 1024 * 1024)

    class Hash:
        def __init__(self) -> None:
            self.state = hashlib.sha256()

        def write(self, data: bytes | memoryview, /) -> None:
            self.state.update(data)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert pack(other, ["dist/**"], Hash()).files == 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30 * 1024
