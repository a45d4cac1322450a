"""A task's output: pieces for those who watch, a blob for good."""

import base64
from pathlib import Path

from mesh.node.logs import EMPTY, Stream
from mesh.store.blobs import BlobStore
from mesh.types import Blob, TaskId
from mesh.wire.messages import Log


def written(store: BlobStore, blob: Blob) -> bytes:
    path = store.find(blob.digest)
    return path.read_bytes() if path is not None else b""


def test_what_was_told_as_it_came_gives_way_to_the_whole(tmp_path: Path):
    store, sent = BlobStore(tmp_path), list[Log]()
    stream = Stream(TaskId("t"), 1, store, sent.append)
    stream.write(b"one\n")
    stream.flush()
    stream.write(b"two\n")
    stream.conclude(b"> t\none\ntwo\n")
    assert written(store, stream.finish()) == b"> t\none\ntwo\n"
    assert b"".join(base64.b64decode(piece.data) for piece in sent) == b"one\ntwo\n"


def test_a_task_that_was_silent_after_all_has_an_empty_log(tmp_path: Path):
    stream = Stream(TaskId("t"), 1, BlobStore(tmp_path), lambda _: None)
    stream.write(b"noise")
    stream.conclude(b"")
    assert stream.finish() == EMPTY
