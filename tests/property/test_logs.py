"""What a person is shown of a task that has ended is its log, to the byte, whatever came of other attempts, in which order, and what was lost on its way."""

import base64
import io
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mesh.node.logs import LogBook
from mesh.protocol.news import TaskDelivered, TaskEnded, TaskRequeued
from mesh.report import make_reporter
from mesh.report.plain import PlainReporter
from mesh.store.blobs import BlobStore
from mesh.types import TaskId
from mesh.wire.messages import Log

T = TaskId("t")
ATTEMPTS = (1, 2, 3)

written = st.lists(st.sampled_from(ATTEMPTS), max_size=12)
"""Whose turn it is to write a piece."""
lost = st.sets(st.integers(0, 11), max_size=3)
"""Which pieces were on a link that broke."""
given_up = st.dictionaries(st.sampled_from(ATTEMPTS), st.integers(0, 11), max_size=2)
"""Attempts that came to nothing, each before that piece; the one that counts may be among them."""


@given(written, lost, given_up, st.sampled_from(ATTEMPTS), st.booleans())
def test_what_is_shown_after_the_last_line_of_ours_is_the_log_of_the_attempt_that_counts(
    turns: list[int], lost: set[int], given_up: dict[int, int], counts: int, fails: bool
) -> None:
    out = io.StringIO()
    reporter = make_reporter("plain", out, out, {})
    assert isinstance(reporter, PlainReporter)
    with tempfile.TemporaryDirectory() as folder:
        store = BlobStore(Path(folder))
        book = LogBook(store, reporter.log)
        logs = dict.fromkeys(ATTEMPTS, b"")
        for place, attempt in enumerate(turns):
            for other in [other for other, at in given_up.items() if at == place]:
                reporter.news(TaskRequeued(T, f"a{other}", other, "its agent is gone"), place)
            data = f"{attempt} says {place}\n".encode()
            if place not in lost:
                book.piece(Log(T, attempt, len(logs[attempt]), base64.b64encode(data).decode()))
            logs[attempt] += data
        log = store.put(logs[counts])
        status = "failure" if fails else "success"
        end = TaskEnded(T, status, f"a{counts}", 3, "none", int(fails), 5, None, log, 1, 0, "", attempt=counts)
        reporter.news(end, 20)
        if (shown := book.complete(T, counts, log)) is not None:
            book.show_rest(T, counts, log, shown)
        book.forget(T)
        reporter.news(TaskDelivered(T), 21)
        reporter.close(int(fails))
    told = [line for line in out.getvalue().splitlines() if " says " in line or line.startswith("──")]
    last = max((place for place, line in enumerate(told) if line.startswith("──")), default=-1)
    assert told[last + 1 :] == logs[counts].decode().splitlines()
