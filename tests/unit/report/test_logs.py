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
    logs.add(A, 1, b"one ")
    logs.add(A, 1, b"two")
    assert whole(logs, A) == b"one two"
    assert not list(folder.iterdir())


def test_a_big_log_goes_to_disk_and_comes_back_whole(logs, folder):
    pieces = [bytes([number]) * 300_000 for number in range(10)]
    for piece in pieces:
        logs.add(A, 1, piece)
        logs.add(B, 1, b"small")
    assert whole(logs, A) == b"".join(pieces)
    assert whole(logs, B) == b"small" * 10
    assert sum(path.stat().st_size for path in folder.rglob("*.log")) > 1_000_000
    logs.close()
    assert not list(folder.iterdir())


def test_many_logs_together_have_a_bound_in_memory(logs, folder, monkeypatch):
    monkeypatch.setattr(module, "MEMORY_MAX_BYTES", 10_000)
    for number in range(100):
        logs.add(TaskId(str(number)), 1, b"x" * 1_000)
    assert logs._memory_bytes <= 10_000
    assert all(whole(logs, TaskId(str(number))) == b"x" * 1_000 for number in range(100))


def test_a_log_that_was_shown_is_gone_from_disk_too(logs, folder):
    logs.add(A, 1, b"x" * 2_000_000)
    logs.drop(A)
    assert A not in logs
    assert not list(folder.rglob("*.log"))


def test_a_full_disk_loses_nothing(logs, folder, monkeypatch):
    logs.add(A, 1, b"1" * 1_100_000)

    def full(self, mode="r", *args, **kwargs):
        if mode == "ab":
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(self, mode, *args, **kwargs)

    opened = module.Path.open
    monkeypatch.setattr(module.Path, "open", full)
    logs.add(A, 1, b"2" * 1_100_000)
    logs.add(A, 1, b"3" * 1_100_000)
    assert whole(logs, A) == b"1" * 1_100_000 + b"2" * 1_100_000 + b"3" * 1_100_000


def test_an_attempt_that_came_to_nothing_stays_in_the_log_and_does_not_count(logs):
    logs.came_to_nothing(A, 1, "nothing was written yet")
    assert A not in logs
    logs.add(A, 1, b"first")
    logs.came_to_nothing(A, 1, "attempt 1 came to nothing")
    assert logs.size(A, 2) == 0
    logs.add(A, 2, b"second")
    assert logs.size(A, 2) == 6
    assert whole(logs, A).decode() == "first\n── attempt 1 came to nothing ──\nsecond"


@pytest.mark.parametrize(("counts", "shown"), [(1, b"slow slow"), (2, b"fast fast"), (3, b"")])
def test_of_two_attempts_at_one_time_only_the_one_that_counts_is_shown(logs, folder, counts, shown):
    for attempt, data in (1, b"slow "), (2, b"fast "), (1, b"slow"), (2, b"fast"):
        logs.add(A, attempt, data)
    logs.counts(A, counts)
    assert whole(logs, A) == shown
    assert logs._memory_bytes == len(shown)
    assert (A in logs) == bool(shown)


def test_an_attempt_that_was_given_up_and_counts_after_all_comes_last_and_whole(logs):
    logs.add(A, 1, b"one")
    logs.came_to_nothing(A, 1, "its agent is gone")
    logs.add(A, 2, b"two")
    logs.came_to_nothing(A, 2, "it failed")
    logs.add(A, 1, b" more")
    logs.counts(A, 1)
    assert whole(logs, A).decode() == "two\n── it failed ──\none more"


def test_attempts_of_which_none_counts_yet_are_told_apart(logs):
    logs.add(A, 1, b"slow")
    logs.add(A, 2, b"fast")
    assert whole(logs, A).decode() == "slow\n── so far attempt 1 ──\nfast"
