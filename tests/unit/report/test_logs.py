"""Rules of keeping logs."""

import errno

import pytest

from mesh.report import logs as module
from mesh.report.logs import Logs
from mesh.types import TaskId

A, B = TaskId("a"), TaskId("b")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def logs(folder):
    logs = Logs()
    yield logs
    logs.close()


def whole(logs: Logs, task: TaskId) -> bytes:
    return b"".join(logs.read(task))


def test_a_small_log_touches_no_disk(logs, folder):
    logs.add(A, b"one ")
    logs.add(A, b"two")
    assert whole(logs, A) == b"one two"
    assert not list(folder.iterdir())


def test_a_big_log_goes_to_disk_and_comes_back_whole(logs, folder):
    pieces = [bytes([number]) * 300_000 for number in range(10)]
    for piece in pieces:
        logs.add(A, piece)
        logs.add(B, b"small")
    assert whole(logs, A) == b"".join(pieces)
    assert whole(logs, B) == b"small" * 10
    assert sum(path.stat().st_size for path in folder.rglob("*.log")) > 1_000_000
    logs.close()
    assert not list(folder.iterdir())


def test_many_logs_together_have_a_bound_in_memory(logs, folder, monkeypatch):
    monkeypatch.setattr(module, "MEMORY_MAX_BYTES", 10_000)
    for number in range(100):
        logs.add(TaskId(str(number)), b"x" * 1_000)
    assert logs._memory_bytes <= 10_000
    assert all(whole(logs, TaskId(str(number))) == b"x" * 1_000 for number in range(100))


def test_a_log_that_was_shown_is_gone_from_disk_too(logs, folder):
    logs.add(A, b"x" * 2_000_000)
    logs.drop(A)
    assert A not in logs
    assert not list(folder.rglob("*.log"))


def test_a_full_disk_loses_nothing(logs, folder, monkeypatch):
    logs.add(A, b"1" * 1_100_000)

    def full(self, mode="r", *args, **kwargs):
        if mode == "ab":
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(self, mode, *args, **kwargs)

    opened = module.Path.open
    monkeypatch.setattr(module.Path, "open", full)
    logs.add(A, b"2" * 1_100_000)
    logs.add(A, b"3" * 1_100_000)
    assert whole(logs, A) == b"1" * 1_100_000 + b"2" * 1_100_000 + b"3" * 1_100_000


def test_an_attempt_that_came_to_nothing_stays_in_the_log_and_does_not_count(logs):
    logs.new_attempt(A, "nothing was written yet")
    assert A not in logs
    logs.add(A, b"first")
    logs.new_attempt(A, "attempt 1 came to nothing")
    assert logs.attempt_bytes(A) == 0
    logs.add(A, b"second")
    assert logs.attempt_bytes(A) == 6
    assert whole(logs, A).decode() == "first\n── attempt 1 came to nothing ──\nsecond"
