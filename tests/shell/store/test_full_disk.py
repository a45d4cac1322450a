"""A disk that is really full: what was there stays, nothing half written is left, and the message says what to do."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.errors import StorageError
from mesh.store.blobs import BlobStore
from mesh.store.files import write_atomically
from mesh.store.home import home
from mesh.store.results import Results

SIZE_BYTES = 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one mebibyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES}", "tmpfs", str(disk)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can mount a small disk")
    yield disk
    subprocess.run(["umount", disk], check=True)


def files(root: Path) -> list[str]:
    return sorted(path.name for path in root.rglob("*") if path.is_file() and path.name != "boot")


def test_a_blob_that_does_not_fit_leaves_nothing_and_the_rest_stays(small_disk: Path) -> None:
    store = BlobStore(small_disk / "store")
    kept = store.put(b"small")
    writer = store.writer()
    writer.write(bytes(SIZE_BYTES // 2))
    with pytest.raises(StorageError, match="no space left on device; free space"):
        writer.write(bytes(SIZE_BYTES))
    assert files(small_disk) == [kept.digest.removeprefix("sha256:")]
    assert store.find(store.put(b"fits again").digest) is not None


def test_a_record_that_does_not_fit_keeps_the_old_one(small_disk: Path) -> None:
    results = Results(small_disk / "results")
    results.record("pr", "key", b"old")
    with pytest.raises(StorageError, match="no space left"):
        results.record("pr", "key", bytes(2 * SIZE_BYTES))
    assert results.find("pr", "key") == b"old"


def test_an_atomic_write_that_does_not_fit_names_the_file_meant(small_disk: Path) -> None:
    with pytest.raises(StorageError, match=rf"cannot write {small_disk}/report.json: no space left"):
        write_atomically(small_disk / "report.json", bytes(2 * SIZE_BYTES))
    assert files(small_disk) == []


def test_a_read_only_disk_is_noticed_at_the_start(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(StorageError, match=rf"cannot write {small_disk}: read-only file system.*DTE_DATA_DIR"):
        home({"DTE_DATA_DIR": str(small_disk)})
