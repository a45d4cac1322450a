"""The nouns that every room shares: names of nodes, tasks and contents, and time as integers.

Nothing here decides anything. Times are integer milliseconds; a `Instant` is monotonic and only comparable on one node,
a `UnixMs` is wall-clock and only for people and records.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple, NewType

SECRET_BYTES_MIN: Final = 16
"""What is shorter can be guessed."""

SLOTS_MAX: Final = 4_096
"""Of one node."""

RETRIES_MAX: Final = 10
"""Of one task."""

NodeId = NewType("NodeId", str)
"""64 lower-case hex characters: a node's raw Ed25519 public key. It names itself, so a signature needs no look-up."""

TaskId = NewType("TaskId", str)
"""What a person calls a task: `p1:build`. Unique within a run."""

Digest = NewType("Digest", str)
"""`sha256:` and 64 lower-case hex characters: the hash of some content."""

Epoch = NewType("Epoch", int)
"""The fencing token of a leadership; it grows. An award of an older epoch is void."""

Seq = NewType("Seq", int)
"""The number of an award within its epoch, from 1."""

Instant = NewType("Instant", int)
"""Monotonic milliseconds on one node."""

UnixMs = NewType("UnixMs", int)
"""Wall-clock milliseconds since 1970, for people and records; nothing is decided by it."""


@dataclass(frozen=True, slots=True)
class Blob:
    """Some content by name: its digest and its size in bytes."""

    digest: Digest
    size: int


class Quantiles(NamedTuple):
    """How long a task should take: half of the times no longer than `p50_ms`, nine of ten times no longer than `p90_ms`."""

    p50_ms: int
    p90_ms: int


def after(now: Instant, duration_ms: int) -> Instant:
    """The instant `duration_ms` after `now`."""
    return Instant(now + duration_ms)
