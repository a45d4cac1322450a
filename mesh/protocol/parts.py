"""What has no room in one frame is said in several messages: a bid for a large graph, or what is done, to one who comes late.

None of them means anything else than a message that was short from the beginning: amendments of a bid, records, and rumours add to each other anyway.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeVar

from msgspec.structs import replace

from mesh.types import Epoch
from mesh.wire import canonical
from mesh.wire.frames import FRAME_BYTES_MAX
from mesh.wire.messages import Bid, Declined, Member, Members, Record, Records

T = TypeVar("T")

PART_BYTES: Final = FRAME_BYTES_MAX // 2
"""Of what is told of tasks in one message. The other half of a frame is for all other fields, and for one entry too many, whatever they say."""
REASON_CHARS_MAX: Final = 1_000
"""Of why a task cannot be run: a person reads the first one."""
RECORDS_AT_ONCE: Final = 200
MEMBERS_AT_ONCE: Final = 100
"""So few always fit: even where each character of an id, a key, and a name is a six-byte escape, and there are as many addresses as there may be."""


def of_bid(bid: Bid) -> list[Bid]:
    """`bid` under rising serials, the first one its own. Only the last one says how many graphs have been compared: until then nothing of them may be awarded."""
    cannot = {task: why[:REASON_CHARS_MAX] for task, why in bid.cannot.items()}
    bid = replace(bid, cannot=cannot)
    estimates = [(task, *estimate) for task, estimate in bid.estimates.items()]
    if len(canonical.encode([cannot, bid.cached, estimates])) <= PART_BYTES:
        return [bid]
    bare = replace(bid, graphs=0, cannot={}, cached=(), estimates={})
    parts = [
        *(replace(bare, cannot=dict(some)) for some in _fitting(cannot.items())),
        *(replace(bare, cached=tuple(some)) for some in _fitting(bid.cached)),
        *(replace(bare, estimates={task: bid.estimates[task] for task, *_ in some}) for some in _fitting(estimates)),
    ]
    parts[-1] = replace(parts[-1], graphs=bid.graphs)
    return [replace(part, serial=bid.serial + number) for number, part in enumerate(parts)]


def of_declined(declined: Declined) -> Declined:
    """With as many of the missing tasks as one message takes: once these are made again, the others can be asked for."""
    missing = tuple(next(_fitting(declined.missing), ()))
    return replace(declined, reason=declined.reason[:REASON_CHARS_MAX], missing=missing)


def of_records(epoch: Epoch, records: Sequence[Record]) -> list[Records]:
    """The same records, in order."""
    return [Records(epoch, part) for part in _cut(records, RECORDS_AT_ONCE)]


def of_members(members: Sequence[Member]) -> list[Members]:
    """The same members, in order."""
    return [Members(part) for part in _cut(members, MEMBERS_AT_ONCE)]


def _cut(items: Sequence[T], size: int) -> Iterator[tuple[T, ...]]:
    return (tuple(items[first : first + size]) for first in range(0, len(items), size))


def _fitting(items: Iterable[T]) -> Iterator[list[T]]:
    """Pieces of which each one, written down, is little more than `PART_BYTES`."""
    part: list[T] = []
    size = 0
    for item in items:
        part.append(item)
        size += len(canonical.encode(item))
        if size > PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part
