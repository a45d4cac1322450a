"""Logs on request: by page, by attempt, while they grow and afterwards."""

import base64

import pytest

from mesh.node.logs import IN_MEMORY_MAX_BYTES, LogBook
from mesh.node.shelf import PAGE_BYTES, LogShelf, parse_path
from mesh.protocol.news import GraphAdded, TaskEnded, TaskRequeued, TaskStarted
from mesh.store.blobs import BlobStore
from mesh.types import Blob, Digest, NodeId, TaskId
from mesh.wire.messages import Log

T = TaskId("p1:test")
DIGEST = Digest("sha256:" + "0" * 64)


@pytest.fixture
def store(tmp_path):
    return BlobStore(tmp_path)


def started(number, agent="a1"):
    return TaskStarted(T, NodeId(f"node of {agent}"), agent, number)


def ended(log, agent="a1", attempts=1, status="success"):
    return TaskEnded(T, status, agent, attempts, "none", 0, 5, None, log, 1, 0, "")


def piece(book, data, attempt=1, offset=0):
    book.piece(Log(T, attempt, offset, base64.b64encode(data).decode()))


def text(page):
    return base64.b64decode(page["data"])


def shelf_of(store):
    book = LogBook(store, lambda _task, _data: None)
    shelf = LogShelf(store, book.read)
    shelf.hear(GraphAdded(DIGEST, ((T, ()),)))
    return book, shelf


def test_a_task_that_has_not_started_has_an_empty_page_and_one_that_is_not_there_none(store):
    _, shelf = shelf_of(store)
    page = shelf.page(T, 0, 0)
    assert (page["status"], page["done"], page["over"], text(page)) == ("waiting", False, False, b"")
    assert shelf.page(TaskId("other"), 0, 0) is None
    assert shelf.listing() == {"tasks": [{"id": T, "status": "waiting", "attempts": 0}]}


@pytest.mark.parametrize("size", [10, IN_MEMORY_MAX_BYTES + 10])
def test_what_a_running_task_has_written_is_read_from_any_offset(store, size):
    book, shelf = shelf_of(store)
    shelf.hear(started(1))
    data = bytes(range(256)) * (size // 256 + 1)
    for offset in range(0, len(data), 100_000):
        piece(book, data[offset : offset + 100_000], offset=offset)
    page = shelf.page(T, 0, 5)
    assert text(page) == data[5 : 5 + PAGE_BYTES]
    assert not page["done"]
    assert text(shelf.page(T, 0, len(data))) == b""


def test_a_log_that_is_known_and_not_here_yet_is_waited_for(store):
    _, shelf = shelf_of(store)
    shelf.hear(started(1))
    blob = Blob(Digest("sha256:5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5"), 5)
    shelf.hear(ended(blob))
    assert not shelf.page(T, 0, 0)["over"]
    assert store.put(b"12345").digest == blob.digest
    page = shelf.page(T, 0, 0)
    assert (text(page), page["done"], page["over"]) == (b"12345", True, True)


def test_every_attempt_keeps_its_own_log_and_only_the_last_is_the_end(store):
    _, shelf = shelf_of(store)
    first, second = store.put(b"first"), store.put(b"second")
    shelf.hear(started(1))
    shelf.hear(TaskRequeued(T, "a1", 1, "failed", 3, first))
    shelf.hear(started(2, "a2"))
    shelf.hear(ended(second, "a2", attempts=2))
    one, two = shelf.page(T, 0, 0), shelf.page(T, 1, 0)
    assert [(text(page), page["where"], page["status"]) for page in (one, two)] == [
        (b"first", "a1", "failure"),
        (b"second", "a2", "success"),
    ]
    assert [(page["done"], page["over"]) for page in (one, two)] == [(True, False), (True, True)]


def test_what_is_kept_of_a_run_that_is_over_shows_the_same(store):
    _, shelf = shelf_of(store)
    shelf.hear(started(1))
    shelf.hear(ended(store.put(b"said")))
    later = LogShelf(store, attempts=shelf.attempts)
    assert later.page(T, 0, 0) == shelf.page(T, 0, 0)


def test_a_log_that_is_gone_from_the_store_does_not_keep_anybody_waiting(store):
    _, shelf = shelf_of(store)
    shelf.hear(started(1))
    shelf.hear(ended(Blob(DIGEST, 9)))
    assert LogShelf(store, attempts=shelf.attempts).page(T, 0, 0)["over"]


def test_a_path_names_a_task_however_it_is_called():
    assert parse_path("/") == ("", 0, 0)
    assert parse_path("/web%23test%3Ae2e%2F1?index=2&from=70") == ("web#test:e2e/1", 2, 70)
    with pytest.raises(ValueError, match="from"):
        parse_path("/a?from=-1")
