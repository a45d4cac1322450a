"""Atomic writes, and what a person is told where a disk says no."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mesh.errors import StorageError
from mesh.store.files import storing, sync_directory, write_atomically


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_replaced_as_a_whole(durable: bool, tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomically(path, b"old", durable=durable)
    before = path.stat().st_ino
    write_atomically(path, memoryview(b"new"), durable=durable)
    assert path.read_bytes() == b"new"
    assert path.stat().st_ino != before
    assert list(tmp_path.iterdir()) == [path]


def test_the_mode_is_the_callers(tmp_path: Path) -> None:
    write_atomically(tmp_path / "key", b"secret", mode=0o600)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_what_a_link_leads_to_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    target, link = tmp_path / "there" / "target", tmp_path / "link"
    target.parent.mkdir()
    link.symlink_to(target)
    for data in (b"first", b"second"):
        write_atomically(link, data)
        assert link.is_symlink()
        assert target.read_bytes() == data
    assert list(target.parent.iterdir()) == [target]


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(tmp_path / "link", b"told")
    assert os.read(reader, 100) == b"told"
    os.close(reader)
    with pytest.raises(StorageError, match="nobody reads from it"):
        write_atomically(tmp_path / "pipe", b"told")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_device_is_written_to_and_stays(tmp_path: Path) -> None:
    device = tmp_path / "null"
    try:
        os.mknod(device, stat.S_IFCHR | 0o600, os.stat(os.devnull).st_rdev)  # noqa: PTH116 - a Path of it says no more
        write_atomically(device, b"told")
    except (PermissionError, StorageError):
        pytest.skip("only root may make devices, and not everywhere")
    assert stat.S_ISCHR(device.stat().st_mode)


def test_what_is_the_output_of_this_process_is_added_to(tmp_path: Path) -> None:
    out, link = tmp_path / "out", tmp_path / "stdout"
    link.symlink_to("/proc/self/fd/1")
    program = f"from pathlib import Path; from mesh.store.files import write_atomically; write_atomically(Path({str(link)!r}), b'told')"
    with out.open("wb", buffering=0) as file:
        file.write(b"said, and ")
        subprocess.run([sys.executable, "-c", program], stdout=file, check=True, timeout=60)
        file.write(b", and more")
    assert out.read_bytes() == b"said, and told, and more"
    assert link.is_symlink()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_failed_write_keeps_the_old_content_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_atomically(tmp_path / "a", b"old")

    def full(file: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.write", full)
    with pytest.raises(StorageError):
        write_atomically(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_a_write_that_took_only_a_part_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.write
    monkeypatch.setattr("os.write", lambda file, data: whole(file, bytes(data[:3])))
    write_atomically(tmp_path / "a", b"0123456789")
    assert (tmp_path / "a").read_bytes() == b"0123456789"


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOSPC, "no space left on device; free space there, or set DTE_DATA_DIR"),
        (errno.EDQUOT, "disk quota exceeded; free space there, or set DTE_DATA_DIR"),
        (errno.EROFS, "read-only file system; make it writable, or set DTE_DATA_DIR"),
        (errno.EACCES, "permission denied; make it writable, or set DTE_DATA_DIR"),
        (errno.ENOENT, "no such file or directory; see that its directory exists, or set DTE_DATA_DIR"),
    ],
)
def test_what_the_system_says_becomes_what_to_do(number: int, says: str) -> None:
    with pytest.raises(StorageError) as caught, storing(Path("/data/x")):
        raise OSError(number, os.strerror(number), "/data/.x.tmp")
    assert str(caught.value).startswith(f"cannot write /data/x: {says}")


def test_syncing_a_directory_that_is_gone_is_explained(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="gone"):
        sync_directory(tmp_path / "gone")
