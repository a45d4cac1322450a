"""Frames: lengths, and how the network may cut them."""

from collections.abc import Iterator

from vector import Vector, error, ok

LIMIT = 4_194_304


def frame(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


def split(
    name: str, comment: str, pieces: list[bytes], expect: dict[str, object], clause: str = "wire.md 3.1"
) -> Vector:
    return Vector(f"frames/{name}", clause, comment, "frames.split", {"pieces": [p.hex() for p in pieces]}, expect)


def vectors() -> Iterator[Vector]:
    two = frame(b"{}") + frame(b"[1]")
    both = ok(frames=[b"{}".hex(), b"[1]".hex()])
    yield split("one", "One frame in one piece.", [frame(b"{}")], ok(frames=[b"{}".hex()]))
    yield split("two-in-one-piece", "Two frames that arrive together.", [two], both)
    yield split("byte-by-byte", "Two frames, a byte at a time.", [two[i : i + 1] for i in range(len(two))], both)
    yield split("cut-in-the-length", "The cut is within the second length.", [two[:8], two[8:]], both)
    yield split("nothing-yet", "A length alone is no frame.", [frame(b"{}")[:4]], ok(frames=[]))
    yield split("unfinished", "A body that is one byte short is no frame.", [frame(b"{}")[:5]], ok(frames=[]))
    yield split("empty", "An empty frame has a place in the stream.", [frame(b"")], ok(frames=[""]), "wire.md 3.2")
    too_long = (LIMIT + 1).to_bytes(4, "big")
    yield split(
        "too-long",
        "One byte above the limit, refused before a byte of it has come.",
        [too_long],
        error("frame-too-large"),
    )
    yield split(
        "longest-length", "A length of all ones is no negative number.", [b"\xff" * 4], error("frame-too-large")
    )
    at_limit = LIMIT.to_bytes(4, "big")
    yield split("at-the-limit", "The largest frame is waited for.", [at_limit], ok(frames=[]))
