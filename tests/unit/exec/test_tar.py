"""The archive's bytes: any tar reads them, and only what this writer writes is read back."""

import io
import tarfile

import pytest

from mesh.errors import CorruptError
from mesh.exec.tar import BLOCK_BYTES, END, Entry, Kind, head, read_entries

LONG = "d/" + "x" * 150 + "/" + "y" * 120


def archive(*entries: tuple[Entry, bytes]) -> bytes:
    return b"".join(head(entry) + data + bytes(entry.padding) for entry, data in entries) + END


def file(path: str, data: bytes, *, executable: bool = False) -> tuple[Entry, bytes]:
    return Entry(path, Kind.FILE, executable=executable, size=len(data)), data


SAMPLE = archive(
    file("a.txt", b"hello"),
    file("b.sh", b"x" * 512, executable=True),
    (Entry("c", Kind.DIRECTORY), b""),
    file(LONG, b""),
    (Entry("e", Kind.SYMLINK, target="t" * 140), b""),
)


def test_what_is_written_is_read_back() -> None:
    a, b, c, d, e = read_entries(memoryview(SAMPLE))
    assert (a.path, a.kind, a.size, a.executable) == ("a.txt", Kind.FILE, 5, False)
    assert SAMPLE[a.offset : a.offset + a.size] == b"hello"
    assert (b.path, b.executable) == ("b.sh", True)
    assert (c.path, c.kind) == ("c", Kind.DIRECTORY)
    assert (d.path, d.size) == (LONG, 0)
    assert (e.kind, e.target) == (Kind.SYMLINK, "t" * 140)


def test_an_ordinary_tar_reads_it() -> None:
    with tarfile.open(fileobj=io.BytesIO(SAMPLE)) as tar:
        a, b, c, d, e = tar.getmembers()
        assert (a.name, a.mode, a.mtime, a.uid) == ("a.txt", 0o644, 0, 0)
        assert (b.mode, c.isdir(), d.name) == (0o755, True, LONG)
        assert e.linkname == "t" * 140
        extracted = tar.extractfile(a)
        assert extracted is not None
        assert extracted.read() == b"hello"


def test_a_size_beyond_eight_gibibytes_has_a_header() -> None:
    entry = Entry("big", Kind.FILE, size=8**11)
    info = tarfile.TarInfo.frombuf(head(entry), "utf-8", "strict")
    assert info.size == 8**11


def test_every_flipped_bit_of_a_header_is_refused() -> None:
    header = head(Entry("a.txt", Kind.FILE, size=0))
    for at in range(len(header) * 8):
        damaged = bytearray(header + END)
        damaged[at // 8] ^= 1 << at % 8
        with pytest.raises(CorruptError):
            list(read_entries(memoryview(damaged)))


def test_an_archive_that_ends_early_is_refused_wherever_it_ends() -> None:
    for size in range(0, len(SAMPLE), 100):
        with pytest.raises(CorruptError):
            list(read_entries(memoryview(SAMPLE[:size])))


def test_nothing_may_stand_behind_the_end() -> None:
    with pytest.raises(CorruptError):
        list(read_entries(memoryview(SAMPLE + bytes(BLOCK_BYTES))))


@pytest.mark.parametrize(
    "kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.LNKTYPE, tarfile.CONTTYPE]
)
def test_a_device_a_pipe_or_a_hard_link_is_refused(kind: bytes) -> None:
    info = tarfile.TarInfo("x")
    info.type = kind
    with pytest.raises(CorruptError):
        list(read_entries(memoryview(info.tobuf(tarfile.GNU_FORMAT) + END)))


def test_only_a_file_has_a_content() -> None:
    with pytest.raises(CorruptError):
        list(read_entries(memoryview(head(Entry("d", Kind.DIRECTORY, size=5)) + bytes(BLOCK_BYTES) + END)))


def test_a_name_that_is_no_utf_8_survives() -> None:
    name = b"caf\xe9".decode(errors="surrogateescape")
    (entry,) = read_entries(memoryview(archive(file(name, b""))))
    assert entry.path == name
