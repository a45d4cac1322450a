"""What is kept of this machine's runs, so that their logs can be found."""

import os
import stat
import subprocess

from mesh.store.runs import RUNS_MAX, Attempt, KnownRun, Runs, begin_here
from mesh.types import Blob, Digest, TaskId

LOG = Blob(Digest("sha256:" + "0" * 64), 7)


def test_a_run_that_is_over_comes_back_with_every_attempt(tmp_path):
    runs = Runs(tmp_path)
    begun = begin_here("r/1", tmp_path, "http://127.0.0.1:1/logs", "a token")
    place = runs.begin(begun)
    assert [one.running for one in runs.known()] == [True]
    attempts = {TaskId("a"): [Attempt(1, "a1", "failure", 3, LOG), Attempt(2, "a2", "lost")], TaskId("b"): []}
    over = KnownRun("r/1", str(tmp_path), begun.pid, attempts=attempts)
    runs.write(place, over)
    assert list(runs.known()) == [over]
    assert not over.running


def test_in_a_run_that_is_over_nothing_runs(tmp_path):
    runs = Runs(tmp_path)
    begun = begin_here("r/1", tmp_path, "http://127.0.0.1:1/logs", "a token")
    place = runs.begin(begun)
    broken_off = {TaskId("a"): [Attempt(1, "a1")]}
    runs.write(place, begun.ended(broken_off))
    assert b"running" not in place.read_bytes()
    runs.write(place, KnownRun("r/1", str(tmp_path), begun.pid, attempts=broken_off))
    assert [one.status for run in runs.known() for one in run.attempts[TaskId("a")]] == ["cancelled"]


def test_nobody_else_can_read_the_token(tmp_path):
    place = Runs(tmp_path).begin(begin_here("r", tmp_path, "http://127.0.0.1:1/logs", "a token"))
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert "a token" not in repr(next(Runs(tmp_path).known()))


def test_a_run_whose_process_is_gone_is_not_running(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert not KnownRun("r", "", ended.pid, "http://127.0.0.1:1/logs", "t").running


def test_the_newest_come_first_the_oldest_are_forgotten_and_foreign_files_passed_over(tmp_path):
    runs = Runs(tmp_path)
    written = runs.agents_of(runs.begin(begin_here("first", tmp_path, "u", "t")))
    written.mkdir(parents=True)
    for number in range(RUNS_MAX):
        path = tmp_path / "runs" / f"{number + 9 * 10**12:013d}-{os.getpid()}.json"
        runs.write(path, begin_here(f"r{number}", tmp_path, "u", "t"))
    (tmp_path / "runs" / "9999999999999-1.json").write_text("half")
    runs.begin(begin_here("last", tmp_path, "u", "t"))
    names = [run.run_id for run in runs.known()]
    assert names[0] == f"r{RUNS_MAX - 1}"
    assert "first" not in names
    assert not written.exists()
    assert "last" in names
