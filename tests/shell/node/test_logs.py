"""A task's output: pieces for those who watch, a blob for good."""

import base64
from pathlib import Path

import pytest

from mesh.node.logs import EMPTY, IN_MEMORY_MAX_BYTES, PIECE_MAX_BYTES, LogBook, Stream
from mesh.store.blobs import BlobStore
from mesh.types import Blob, TaskId
from mesh.wire.messages import Log


def written(store: BlobStore, blob: Blob) -> bytes:
    path = store.find(blob.digest)
    return path.read_bytes() if path is not None else b""


class Told:
    """Whom a stream sends to: `attempt` is that of the valid award, 0 where there is no way."""

    def __init__(self, store: BlobStore, attempt: int = 1) -> None:
        self.attempt = attempt
        self.pieces: list[Log] = []
        self.stream = Stream(TaskId("t"), store, lambda _: self.attempt, self.pieces.append)

    def bytes_of(self, attempt: int) -> bytes:
        said = b""
        for piece in self.pieces:
            if piece.attempt == attempt:
                assert piece.offset == len(said)
                said += base64.b64decode(piece.data)
        return said


def test_what_was_told_as_it_came_gives_way_to_the_whole(tmp_path: Path):
    store = BlobStore(tmp_path)
    told = Told(store)
    stream = told.stream
    stream.write(b"one\n")
    stream.flush()
    stream.write(b"two\n")
    stream.conclude(b"> t\none\ntwo\n")
    assert written(store, stream.finish()) == b"> t\none\ntwo\n"
    assert told.bytes_of(1) == b"one\ntwo\n"


def test_a_task_that_was_silent_after_all_has_an_empty_log(tmp_path: Path):
    stream = Told(BlobStore(tmp_path)).stream
    stream.write(b"noise")
    stream.conclude(b"")
    assert stream.finish() == EMPTY


@pytest.mark.parametrize("size", [10, IN_MEMORY_MAX_BYTES + PIECE_MAX_BYTES])
def test_a_task_that_is_awarded_anew_tells_its_log_from_the_beginning_as_that_of_the_new_attempt(
    tmp_path: Path, size: int
):
    told = Told(BlobStore(tmp_path))
    told.stream.write(b"a" * size)
    told.stream.flush()
    told.attempt = 2
    told.stream.flush()
    assert told.bytes_of(2) == b"a" * size
    told.stream.write(b"b")
    assert told.stream.finish().size == size + 1
    assert (told.bytes_of(1), told.bytes_of(2)) == (b"a" * size, b"a" * size + b"b")


def test_what_cannot_be_told_at_once_is_told_from_there_when_it_can(tmp_path: Path):
    told = Told(BlobStore(tmp_path))
    told.stream.write(b"one ")
    told.stream.flush()
    told.attempt = 0
    told.stream.write(b"x" * 2 * PIECE_MAX_BYTES)
    told.stream.flush()
    assert told.bytes_of(1) == b"one "
    told.attempt = 1
    told.stream.flush()
    assert told.bytes_of(1) == b"one " + b"x" * 2 * PIECE_MAX_BYTES


def test_two_attempts_at_one_time_have_each_a_log_of_their_own(tmp_path: Path):
    store, task = BlobStore(tmp_path), TaskId("t")
    shown: list[tuple[int, bytes]] = []
    book = LogBook(store, lambda _, attempt, data: shown.append((attempt, data)))
    for attempt, offset, data in (1, 0, b"slow 1 "), (2, 0, b"fast 1"), (1, 7, b"slow 2"), (2, 6, b" fast 2"):
        book.piece(Log(task, attempt, offset, base64.b64encode(data).decode()))
    assert shown == [(1, b"slow 1 "), (2, b"fast 1"), (1, b"slow 2"), (2, b" fast 2")]
    assert [book.read(task, attempt, 0, 99) for attempt in (1, 2)] == [b"slow 1 slow 2", b"fast 1 fast 2"]
    log = store.put(b"slow 1 slow 2 end")
    assert book.complete(task, 1, log) == 13
    book.show_rest(task, 1, log, 13)
    assert shown[-1] == (1, b" end")
    assert book.complete(task, 2, store.put(b"fast 1 fast 2")) is None


def test_a_failure_that_counts_after_all_is_not_shown_twice(tmp_path: Path):
    store, task = BlobStore(tmp_path), TaskId("t")
    book = LogBook(store, lambda *_: None)
    book.piece(Log(task, 1, 0, base64.b64encode(b"failed").decode()))
    log = store.put(b"failed")
    assert [book.complete(task, 1, log), book.complete(task, 1, log)] == [None, None]
