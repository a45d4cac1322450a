"""What nx packs, and what it must never be given to unpack."""

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from mesh.cache.nx import parse_archive
from mesh.errors import CorruptError


def packed(*entries: tuple[str, bytes] | tarfile.TarInfo, code: bytes | None = bytes(4)) -> bytes:
    """An archive in nx's form: the outputs, then what was printed, then the exit code."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        ending = [("terminalOutput", b"done\r\n")] + ([("code", code)] if code is not None else [])
        for entry in (*entries, *ending):
            if isinstance(entry, tarfile.TarInfo):
                tar.addfile(entry)
                continue
            name, content = entry
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return gzip.compress(buffer.getvalue())


def link(name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = tarfile.SYMTYPE
    info.linkname = target
    return info


def parse(tmp_path: Path, data: bytes):
    path = tmp_path / "archive"
    path.write_bytes(data)
    return parse_archive(path)


def refused(tmp_path: Path, data: bytes) -> str:
    with pytest.raises(CorruptError) as caught:
        parse(tmp_path, data)
    return str(caught.value)


def test_an_archive_tells_its_files_and_how_the_task_ended(tmp_path: Path):
    archive = parse(tmp_path, packed(("packages/p1/dist/index.js", b"x"), link("packages/p1/latest", "dist")))
    assert archive.files == ("packages/p1/dist/index.js", "packages/p1/latest")
    assert archive.code == 0
    assert archive.terminal_output == b"done\r\n"


def test_the_exit_code_is_big_endian(tmp_path: Path):
    assert parse(tmp_path, packed(code=b"\x00\x00\x01\x02")).code == 258


def test_an_archive_cut_anywhere_is_refused(tmp_path: Path):
    data = packed(("a", bytes(range(256)) * 8))
    for length in range(0, len(data), 7):
        refused(tmp_path, data[:length])


def test_a_flipped_bit_is_refused(tmp_path: Path):
    data = bytearray(packed(("a", b"some content of a file")))
    data[-6] ^= 1  # in the checksum, which stands behind all that tar would read
    refused(tmp_path, bytes(data))


def test_what_is_no_gzip_is_refused(tmp_path: Path):
    assert "not a whole gzipped tar" in refused(tmp_path, b"<html>proxy</html>")


def test_an_archive_without_an_exit_code_is_refused(tmp_path: Path):
    assert "how its task ended" in refused(tmp_path, packed(code=None))


@pytest.mark.parametrize("name", ["code", "code/p0/i.js", "terminalOutput", "terminalOutput/t"])
def test_an_output_in_the_place_of_what_says_how_the_task_ended_is_refused(tmp_path: Path, name: str):
    folder = tarfile.TarInfo(name.split("/", maxsplit=1)[0])
    folder.type = tarfile.DIRTYPE
    assert "takes for how the task ended" in refused(tmp_path, packed((name, bytes(4))))
    assert "takes for how the task ended" in refused(tmp_path, packed(folder))


@pytest.mark.parametrize("name", ["/etc/passwd", "../outside", "a/../../outside"])
def test_a_file_outside_the_workspace_is_refused(tmp_path: Path, name: str):
    assert "outside" in refused(tmp_path, packed((name, b"x")))


@pytest.mark.parametrize("target", ["/etc", "../..", "../../b", "b/../../../c", ".."])
def test_a_link_that_may_leave_the_workspace_is_refused(tmp_path: Path, target: str):
    assert "outside" in refused(tmp_path, packed(link("a" if target == ".." else "a/l", target)))


def test_a_file_behind_a_link_is_refused(tmp_path: Path):
    assert "behind a link" in refused(tmp_path, packed(link("a/l", "../b"), ("a/l/file", b"x")))


def test_a_device_is_refused(tmp_path: Path):
    info = tarfile.TarInfo("dev")
    info.type = tarfile.CHRTYPE
    assert "neither a file" in refused(tmp_path, packed(info))
