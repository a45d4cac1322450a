"""The bytes of an archive: GNU tar, of which only one way to write each tree is valid.

Any `tar` can list and unpack it. It is not compressed: between neighbours a gzip of level 1 costs more time than the bytes it saves. Owners
and times are zero and modes one of two, so that one tree has one digest on every machine. The reader rebuilds each header from what it
understood and compares: what this module would not have written it does not read.
"""

import os
import struct
from collections.abc import Iterator
from enum import Enum
from typing import Final

from msgspec import Struct

from mesh.errors import CorruptError

BLOCK_BYTES: Final = 512
END: Final = bytes(2 * BLOCK_BYTES)
PATH_BYTES_MAX: Final = 4_096
ENTRIES_MAX: Final = 1_000_000

FILE_MODE: Final = 0o644
EXECUTABLE_MODE: Final = 0o755

# name, mode, uid, gid, size, mtime, checksum, kind, link, magic and version, then names, devices and padding that are all zero.
_HEADER: Final = struct.Struct("100s8s8s8s12s12s8sc100s8s247x")
_NAME_BYTES: Final = 100
_OCTAL_SIZE_MAX: Final = 8**11 - 1
_LONG_NAME: Final = b"././@LongLink"

assert _HEADER.size == BLOCK_BYTES


class Kind(Enum):
    """What an entry is, as tar marks it."""

    FILE = b"0"
    SYMLINK = b"2"
    DIRECTORY = b"5"


class Entry(Struct, frozen=True):
    """One thing in an archive. `size` is a file's, `target` a symbolic link's. `offset` is where a file's content begins, once read."""

    path: str
    kind: Kind
    executable: bool = False
    size: int = 0
    target: str = ""
    offset: int = 0

    @property
    def padding(self) -> int:
        """Bytes between the end of the content and the next entry."""
        return -self.size % BLOCK_BYTES


def head(entry: Entry) -> bytes:
    """The header blocks of `entry`."""
    name = os.fsencode(entry.path) + (b"/" if entry.kind is Kind.DIRECTORY else b"")
    link = os.fsencode(entry.target)
    mode = EXECUTABLE_MODE if entry.executable or entry.kind is not Kind.FILE else FILE_MODE
    long = b"".join(_long(mark, text) for mark, text in ((b"K", link), (b"L", name)) if len(text) > _NAME_BYTES)
    return long + _block(name[:_NAME_BYTES], mode, entry.size, entry.kind.value, link[:_NAME_BYTES])


def read_entries(data: memoryview) -> Iterator[Entry]:
    """The entries of an archive. Raises `CorruptError`; only when it has come to its end has it been seen whole."""
    at = 0
    for _ in range(ENTRIES_MAX):
        if data[at : at + BLOCK_BYTES] == END[:BLOCK_BYTES]:
            if data[at:] != END:
                raise CorruptError(f"archive: something stands behind its end at byte {at}")
            return
        start = at
        link, at = _read_long(data, at, b"K")
        name, at = _read_long(data, at, b"L")
        entry = _read_block(data, at, name, link)
        at = entry.offset + entry.size + entry.padding
        if head(entry) != data[start : entry.offset] or at > len(data) or (entry.size and entry.kind is not Kind.FILE):
            raise CorruptError(f"archive: the entry at byte {start} is damaged")
        yield entry
    raise CorruptError(f"archive: more than {ENTRIES_MAX} entries")


def _block(name: bytes, mode: int, size: int, kind: bytes, link: bytes) -> bytes:
    zero = b"%07o\0" % 0
    length = b"%011o\0" % size if size <= _OCTAL_SIZE_MAX else b"\x80" + size.to_bytes(11, "big")

    def pack(checksum: bytes) -> bytes:
        return _HEADER.pack(
            name, b"%07o\0" % mode, zero, zero, length, b"%011o\0" % 0, checksum, kind, link, b"ustar  \0"
        )

    return pack(b"%06o\0 " % sum(pack(b" " * 8)))


def _long(mark: bytes, text: bytes) -> bytes:
    """A text too long for a header, as GNU tar writes it: a pseudo-entry before the entry, its content ended by a zero byte."""
    content = text + b"\0"
    return _block(_LONG_NAME, FILE_MODE, len(content), mark, b"") + content + bytes(-len(content) % BLOCK_BYTES)


def _read_long(data: memoryview, at: int, mark: bytes) -> tuple[bytes | None, int]:
    if (fields := _fields(data, at))[7] != mark:
        return None, at
    size = _number(fields[4], at)
    if not _NAME_BYTES < size <= PATH_BYTES_MAX + 1:
        raise CorruptError(f"archive: a name of {size} bytes at byte {at}")
    start = at + BLOCK_BYTES
    return bytes(data[start : start + size - 1]), start + size + -size % BLOCK_BYTES


def _read_block(data: memoryview, at: int, long_name: bytes | None, long_link: bytes | None) -> Entry:
    fields = _fields(data, at)
    try:
        kind = Kind(fields[7])
    except ValueError:
        raise CorruptError(f"archive: an entry of kind {fields[7]!r} at byte {at}") from None
    name = fields[0].rstrip(b"\0") if long_name is None else long_name
    link = fields[8].rstrip(b"\0") if long_link is None else long_link
    return Entry(
        path=os.fsdecode(name.removesuffix(b"/") if kind is Kind.DIRECTORY else name),
        kind=kind,
        executable=kind is Kind.FILE and fields[1] == b"%07o\0" % EXECUTABLE_MODE,
        size=_number(fields[4], at),
        target=os.fsdecode(link),
        offset=at + BLOCK_BYTES,
    )


def _fields(data: memoryview, at: int) -> tuple[bytes, ...]:
    if at + BLOCK_BYTES > len(data):
        raise CorruptError("archive: it ends in the middle")
    return _HEADER.unpack_from(data, at)


def _number(field: bytes, at: int) -> int:
    try:
        return int.from_bytes(field[1:], "big") if field[0] == 0x80 else int(field.rstrip(b"\0"), 8)
    except ValueError:
        raise CorruptError(f"archive: {field!r} is no size, at byte {at}") from None
