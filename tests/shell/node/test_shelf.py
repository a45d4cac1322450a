"""Logs on request: by page, by attempt, while they grow and afterwards."""

import base64
import os

import pytest

from mesh.node.logs import IN_MEMORY_MAX_BYTES, LogBook
from mesh.node.shelf import PAGE_BYTES, LogShelf, parse_path
from mesh.protocol.news import GraphAdded, TaskEnded, TaskRequeued, TaskStarted
from mesh.store.blobs import BlobStore
from mesh.store.runs import Runs, begin_here
from mesh.types import Blob, Digest, NodeId, TaskId
from mesh.wire.messages import Log
from tests.endtoend.mesh_under_test import dte

T = TaskId("p1:test")
DIGEST = Digest("sha256:" + "0" * 64)


@pytest.fixture
def store(tmp_path):
    return BlobStore(tmp_path)


def started(number, agent="a1"):
    return TaskStarted(T, NodeId(f"node of {agent}"), agent, number)


def ended(log, agent="a1", attempt=1, status="success"):
    return TaskEnded(T, status, agent, attempt, "none", 0, 5, None, log, 1, 0, "", attempt=attempt)


def piece(book, data, attempt=1, offset=0):
    book.piece(Log(T, attempt, offset, base64.b64encode(data).decode()))


def text(page):
    return base64.b64decode(page["data"])


def shelf_of(store):
    book = LogBook(store, lambda _task, _attempt, _data: None)
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
    shelf.hear(ended(second, "a2", 2))
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


def statuses(shelf):
    return [(one.number, one.where, one.status) for one in shelf.attempts[T]]


def test_what_was_overtaken_by_a_copy_runs_no_more_and_the_copy_is_what_counts(store):
    _, shelf = shelf_of(store)
    shelf.hear(started(1))
    shelf.hear(started(2, "a2"))
    shelf.hear(ended(store.put(b"fast"), "a2", 2))
    assert statuses(shelf) == [(1, "a1", "superseded"), (2, "a2", "success")]
    assert shelf.page(T, 0, 0)["done"]
    assert shelf.page(T, 1, 0)["over"]
    assert shelf.listing()["tasks"][0]["status"] == "success"


def test_a_first_attempt_that_ends_before_its_copy_is_what_counts(store):
    _, shelf = shelf_of(store)
    shelf.hear(started(1))
    shelf.hear(started(2, "a2"))
    shelf.hear(ended(store.put(b"first"), "a1", 1))
    assert statuses(shelf) == [(1, "a1", "success"), (2, "a2", "superseded")]
    assert shelf.listing()["tasks"][0]["status"] == "success"


def test_the_result_of_an_attempt_that_was_given_up_is_that_attempts(store):
    _, shelf = shelf_of(store)
    shelf.hear(started(1))
    shelf.hear(TaskRequeued(T, "a1", 1, "agent a1 is gone"))
    assert statuses(shelf) == [(1, "a1", "lost")]
    shelf.hear(started(2, "a2"))
    shelf.hear(started(1))
    assert statuses(shelf) == [(1, "a1", "running"), (2, "a2", "running")]
    shelf.hear(ended(store.put(b"late"), "a1", 1))
    assert statuses(shelf) == [(1, "a1", "success"), (2, "a2", "superseded")]
    assert text(shelf.page(T, 0, 0)) == b"late"


def test_a_task_that_is_cancelled_while_it_runs_keeps_nobody_waiting(store):
    _, shelf = shelf_of(store)
    shelf.hear(started(1))
    shelf.hear(ended(None, "", 1, "cancelled"))
    assert statuses(shelf) == [(1, "a1", "cancelled")]
    assert shelf.page(T, 0, 0)["over"]


@pytest.mark.parametrize("follow", [(), ("--follow",)])
@pytest.mark.parametrize("winner", [1, 2])
def test_of_a_task_that_was_copied_the_log_that_counts_is_printed_under_one_heading(store, tmp_path, winner, follow):
    _, shelf = shelf_of(store)
    shelf.hear(started(1))
    shelf.hear(started(2, "a2"))
    shelf.hear(ended(store_of(tmp_path).put(b"done\n"), f"a{winner}", winner))
    runs = Runs(tmp_path)
    begun = begin_here("r", tmp_path, "", "")
    runs.write(runs.begin(begun), begun.ended(shelf.attempts))
    shown = dte("logs", *follow, T, cwd=tmp_path, env=os.environ | {"DTE_DATA_DIR": str(tmp_path)})
    assert (shown.stdout, shown.returncode) == (f"── attempt {winner} on a{winner}: success ──\ndone\n", 0)


def store_of(data_dir):
    return BlobStore(data_dir / "blobs")


def test_a_path_names_a_task_however_it_is_called():
    assert parse_path("/") == ("", 0, 0)
    assert parse_path("/web%23test%3Ae2e%2F1?index=2&from=70") == ("web#test:e2e/1", 2, 70)
    with pytest.raises(ValueError, match="from"):
        parse_path("/a?from=-1")
