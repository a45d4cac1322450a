"""Frames: how messages keep their borders in a stream of bytes.

A frame is its length in four bytes, big-endian, and that many bytes (docs/spec/wire.md). Bytes go in as the network cut
them, frames come out.
"""

from collections.abc import Iterator
from typing import Final

from mesh.errors import RemoteError

FRAME_PREFIX_BYTES: Final = 4
FRAME_BYTES_MAX: Final = 4 * 1024 * 1024
"""Whoever has more to say names a blob."""


def encode_frame(frame: bytes) -> bytes:
    """`frame` as it goes over the wire."""
    assert len(frame) <= FRAME_BYTES_MAX, f"a frame of {len(frame)} bytes; the limit is {FRAME_BYTES_MAX}"
    return len(frame).to_bytes(FRAME_PREFIX_BYTES, "big") + frame


class FrameDecoder:
    """Finds the frames in what is received."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def inside_frame(self) -> bool:
        """Whether the stream may not end here."""
        return bool(self._buffer)

    def receive(self, data: bytes) -> Iterator[bytes]:
        """The frames that `data` completes; read them all before the next call.

        Raises `RemoteError("frame-too-large")` behind the last good frame and as soon as the prefix is there: what is
        refused is not collected.
        """
        self._buffer += data
        while len(self._buffer) >= FRAME_PREFIX_BYTES:
            length = int.from_bytes(self._buffer[:FRAME_PREFIX_BYTES], "big")
            if length > FRAME_BYTES_MAX:
                raise RemoteError("frame-too-large", f"a frame of {length} bytes; the limit is {FRAME_BYTES_MAX}")
            end = FRAME_PREFIX_BYTES + length
            if len(self._buffer) < end:
                return
            frame = bytes(self._buffer[FRAME_PREFIX_BYTES:end])
            del self._buffer[:end]
            yield frame
