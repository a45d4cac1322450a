"""The blob store: what is in it is what its name says."""

import hashlib
import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mesh.errors import CorruptError
from mesh.store.blobs import STALE_MS, BlobStore
from mesh.types import Blob, Digest


def digest(data: bytes) -> Digest:
    return Digest(f"sha256:{hashlib.sha256(data).hexdigest()}")


def files(root: Path) -> list[str]:
    """All files of a store but its mark, relative to it."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.name != "boot")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> BlobStore:
    return BlobStore(root)


def test_what_is_put_is_found_under_its_hash(store: BlobStore, root: Path) -> None:
    blob = store.put(b"hello")
    assert blob == Blob(digest(b"hello"), 5)
    path = store.find(blob.digest)
    assert path is not None
    assert path == store.path(blob.digest)
    assert path.read_bytes() == b"hello"
    name = blob.digest.removeprefix("sha256:")
    assert files(root) == [f"sha256/{name[:2]}/{name}"]


def test_what_was_never_put_is_not_found(store: BlobStore) -> None:
    assert store.find(digest(b"never")) is None


def test_a_blob_is_read_only(store: BlobStore) -> None:
    assert stat.S_IMODE(store.path(store.put(b"x").digest).stat().st_mode) & 0o222 == 0


def test_the_same_content_is_kept_once(store: BlobStore, root: Path) -> None:
    first = store.path(store.put(b"x").digest).stat()
    assert store.path(store.put(b"x").digest).stat().st_ino == first.st_ino
    assert len(files(root)) == 1


def test_nothing_is_visible_before_it_is_finished(store: BlobStore) -> None:
    with store.writer() as writer:
        writer.write(b"hel")
        writer.write(memoryview(b"lo"))
        assert store.find(digest(b"hello")) is None
        assert writer.finish(digest(b"hello"), 5) == Blob(digest(b"hello"), 5)
    assert store.find(digest(b"hello")) is not None


def test_the_empty_content_is_a_content(store: BlobStore) -> None:
    assert store.find(store.put(b"").digest) is not None


@pytest.mark.parametrize(("expected", "size"), [(digest(b"hullo"), None), (None, 4), (digest(b"hello"), 6)])
def test_what_is_not_what_was_expected_leaves_nothing(
    expected: Digest | None, size: int | None, store: BlobStore, root: Path
) -> None:
    writer = store.writer()
    writer.write(b"hello")
    with pytest.raises(CorruptError):
        writer.finish(expected, size)
    assert files(root) == []


def test_a_writer_that_is_left_leaves_nothing(store: BlobStore, root: Path) -> None:
    with store.writer() as writer:
        writer.write(b"hello")
    writer.abort()
    assert files(root) == []


def test_adopting_moves_a_file_in(store: BlobStore, root: Path, tmp_path: Path) -> None:
    (tmp_path / "made").write_bytes(b"hello")
    assert store.adopt(tmp_path / "made") == Blob(digest(b"hello"), 5)
    assert not (tmp_path / "made").exists()
    path = store.find(digest(b"hello"))
    assert path is not None
    assert path.stat().st_mode & 0o222 == 0


def test_adopting_crosses_file_systems(store: BlobStore, root: Path) -> None:
    elsewhere = Path("/dev/shm") / f"dte-test-{os.getpid()}"
    if not elsewhere.parent.is_dir() or elsewhere.parent.stat().st_dev == root.stat().st_dev:
        pytest.skip("there is only one file system here")
    elsewhere.write_bytes(b"hello")
    assert store.adopt(elsewhere) == Blob(digest(b"hello"), 5)
    assert not elsewhere.exists()
    assert len(files(root)) == 1


def test_writers_of_one_content_do_not_disturb_each_other(root: Path) -> None:
    data = os.urandom(100_000)

    def write(_: int) -> None:
        store = BlobStore(root)
        for _ in range(20):
            with store.writer() as writer:
                writer.write(data)
                writer.finish(digest(data), len(data))
            assert store.path(digest(data)).read_bytes() == data

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(4)))
    assert len(files(root)) == 1


def test_what_a_crash_left_is_removed_after_a_day_and_not_before(store: BlobStore, root: Path) -> None:
    for name, age_ms in (("old", STALE_MS + 1_000), ("new", STALE_MS - 60_000)):
        (root / "incoming" / name).write_bytes(b"half")
        at = time.time() - age_ms / 1_000
        os.utime(root / "incoming" / name, (at, at))
    BlobStore(root)
    assert files(root) == ["incoming/new"]


def test_after_a_restart_of_the_machine_a_blob_is_verified_before_it_is_found(store: BlobStore, root: Path) -> None:
    whole, torn = store.put(b"whole").digest, store.put(b"torn").digest
    store.path(torn).chmod(0o644)
    store.path(torn).write_bytes(b"")  # what a power cut may leave
    for digest_ in (whole, torn):
        os.utime(store.path(digest_), (1, 1))
    (root / "boot").write_text("an earlier start")
    again = BlobStore(root)
    assert again.find(torn) is None
    assert not again.path(torn).exists()
    assert again.find(whole) is not None


def test_a_blob_is_verified_once_for_each_start_of_the_machine(store: BlobStore, root: Path) -> None:
    blob = store.put(b"whole")
    os.utime(store.path(blob.digest), (1, 1))
    assert store.find(blob.digest) is not None
    store.path(blob.digest).chmod(0o644)
    with store.path(blob.digest).open("r+b") as file:
        file.write(b"W")
    assert store.find(blob.digest) is not None  # trusted now: nothing but a power cut is guarded against
    os.utime(store.path(blob.digest), (1, 1))
    assert BlobStore(root).find(blob.digest) is None


def test_putting_mends_a_torn_blob(store: BlobStore) -> None:
    blob = store.put(b"whole")
    store.path(blob.digest).chmod(0o644)
    store.path(blob.digest).write_bytes(b"")
    os.utime(store.path(blob.digest), (1, 1))
    store.put(b"whole")
    assert store.path(blob.digest).read_bytes() == b"whole"


def test_a_store_is_usable_where_the_system_does_not_tell_of_its_start(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.store.blobs._BOOT_ID", root / "none")
    blob = BlobStore(root).put(b"x")
    assert BlobStore(root).find(blob.digest) is not None
