"""Samples in SQLite: what is kept, what is forgotten, and that no file and no disk ends a run."""

import os
import random
import re
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesh.store.history.database import APPLICATION_ID, BROKEN_MAX, FILE_NAME, SCHEMA_VERSION, History
from mesh.store.history.samples import (
    AGE_MS_MAX,
    AHEAD_MS_MAX,
    DURATION_MS_MAX,
    NAME_CHARS_MAX,
    SAMPLES_PER_SERIES_MAX,
    Sample,
)
from mesh.types import TaskId, UnixMs

NOW = UnixMs(1_795_000_000_000)
BUILD = TaskId("a:build")


def opened(path: Path, now: int = NOW, **limits: int) -> History:
    return History(path, clock=lambda: UnixMs(now), **limits)


def sample(ago_ms: int = 0, duration_ms: int = 1_000, task: str = BUILD, **more: str) -> Sample:
    fields = {"workspace": "w", "machine": "m"} | more
    return Sample(task=TaskId(task), duration_ms=duration_ms, ended_ms=UnixMs(NOW - ago_ms), **fields)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / FILE_NAME


@pytest.fixture
def history(path: Path) -> Iterator[History]:
    with opened(path) as history:
        yield history
        assert history.notice == ""


def test_what_is_recorded_is_there_the_next_time(path: Path) -> None:
    first = [sample(2, 5), sample(1, 6, status="failure"), sample(0, 7, task="b:test", machine="other")]
    with opened(path) as history:
        history.record(first)
        assert history.keeps
    with opened(path) as history:
        assert history.samples("w") == [first[1], first[0], first[2]]
        assert history.estimates("w", [BUILD], "m")[BUILD].samples == 1
        assert history.notice == ""
    assert [file.name for file in path.parent.iterdir()] == [FILE_NAME]


def test_a_workspace_knows_nothing_of_another(history: History) -> None:
    history.record([sample(), sample(workspace="other", task="c:build")])
    assert [each.task for each in history.samples("w")] == [BUILD]
    assert history.estimates("nobody's", [BUILD], "m") == {}
    assert len(history.samples()) == 2


def test_the_last_twenty_of_a_series_are_kept(history: History) -> None:
    for ago in range(30, 0, -1):
        history.record([sample(ago), sample(ago, machine="other")])
    for machine in ("m", "other"):
        kept = [NOW - each.ended_ms for each in history.samples("w") if each.machine == machine]
        assert kept == list(range(SAMPLES_PER_SERIES_MAX, 0, -1))


def test_a_failure_counts_only_where_there_is_no_success(history: History) -> None:
    history.record([sample(ago, 10, status="failure") for ago in range(SAMPLES_PER_SERIES_MAX)])
    assert history.estimates("w", [BUILD], "m")[BUILD].samples == SAMPLES_PER_SERIES_MAX
    history.record([sample(50, 60_000)])
    found = history.estimates("w", [BUILD], "m")[BUILD]
    assert found.samples == 1
    assert found.p50_ms > 10_000
    assert len(history.samples("w")) == SAMPLES_PER_SERIES_MAX


def test_failures_do_not_push_out_successes(history: History) -> None:
    history.record([sample(100 + ago, 60_000) for ago in range(SAMPLES_PER_SERIES_MAX)])
    history.record([sample(ago, 10, status="failure") for ago in range(SAMPLES_PER_SERIES_MAX)])
    assert {each.status for each in history.samples("w")} == {"success"}


def test_a_task_that_has_not_run_for_long_is_forgotten_and_no_other(path: Path) -> None:
    with opened(path) as history:
        history.record([sample(0, task="old"), sample(0, task="live")])
    with opened(path, NOW + AGE_MS_MAX) as history:
        history.record([sample(-AGE_MS_MAX, task="live")])
        assert {each.task for each in history.samples()} == {"old", "live"}
    with opened(path, NOW + AGE_MS_MAX + 1) as history:
        history.record([sample(-AGE_MS_MAX, 5, task="live")])
        assert [each.task for each in history.samples()] == ["live"] * 3


def test_where_there_are_too_many_tasks_those_of_longest_ago_go(path: Path) -> None:
    with opened(path, series_max=5) as history:
        history.record([sample(ago, task=f"t{ago}") for ago in range(9)])
        assert sorted({each.task for each in history.samples()}) == [f"t{ago}" for ago in range(5)]
    with closing(sqlite3.connect(path)) as plain:  # nothing is left that a later series might be given
        assert plain.execute("SELECT count(*) FROM samples").fetchone() == (5,)


@pytest.mark.parametrize(
    "bad",
    [
        sample(-AHEAD_MS_MAX - 1),
        sample(AGE_MS_MAX + 1),
        sample(0, -1),
        sample(0, DURATION_MS_MAX + 1),
        sample(task=""),
        sample(task="x" * (NAME_CHARS_MAX + 1)),
        sample(task="caf\udce9"),
        sample(workspace=""),
        sample(machine="\ud800"),
    ],
    ids=["future", "old", "negative", "long", "nameless", "long-name", "no-utf8", "no-workspace", "surrogate"],
)
def test_what_cannot_be_is_not_kept_and_spoils_nothing(bad: Sample, history: History) -> None:
    history.record([sample(1), bad, sample(2)])
    assert history.samples() == [sample(2), sample(1)]


@pytest.mark.parametrize("name", ["a\0b", "'; DROP TABLE samples; --", "x" * NAME_CHARS_MAX, "ü → 任务 😀"])
def test_any_other_name_is_kept_as_it_is(name: str, history: History) -> None:
    odd = sample(task=name, workspace=name, machine=name)
    history.record([odd])
    assert history.samples(name) == [odd]


few = st.builds(
    sample,
    st.integers(0, 40),
    st.integers(0, 3),
    st.sampled_from(("a:build", "b:build")),
    status=st.sampled_from(("success", "failure")),
)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(few, max_size=60), st.integers(0, 60), st.integers(1, 3))
def test_what_is_kept_depends_on_what_came_and_not_on_when_or_how_often(
    tmp_path: Path, samples: list[Sample], cut: int, times: int
) -> None:
    with opened(Path(":memory:")) as at_once, opened(Path(":memory:")) as in_parts:
        at_once.record(samples)
        for _ in range(times):
            in_parts.record(samples[cut:])
            in_parts.record(samples[:cut])
        assert in_parts.samples() == at_once.samples()


def test_several_processes_may_record_at_once(path: Path) -> None:
    program = """if True:
        import sys
        from pathlib import Path
        from mesh.store.history import History, Sample, unix_now
        with History(Path(sys.argv[1])) as history:
            for number in range(10):
                history.record([Sample("w", f"{sys.argv[2]}-{number}-{each}", "m", 5, unix_now()) for each in range(20)])
            assert not history.notice, history.notice
    """
    running = [subprocess.Popen([sys.executable, "-c", program, path, str(number)]) for number in range(4)]
    assert [process.wait(90) for process in running] == [0] * 4
    with History(path) as history:
        assert len(history.samples("w")) == 4 * 10 * 20
        assert history.notice == ""


def broken(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir() if re.search(r"\.broken-\d+$", file.name))


def test_a_damaged_file_is_set_aside_and_a_new_one_begun(path: Path) -> None:
    for number in range(1, 4):
        path.write_bytes(b"no database" * 1_000)
        with opened(path) as history:
            assert f"{FILE_NAME} is damaged; it is now {FILE_NAME}.broken-{number}, and a new one" in history.notice
            assert history.keeps
            history.record([sample()])
        assert broken(path) == [f"{FILE_NAME}.broken-{each}" for each in range(1, number + 1)]
        with opened(path) as history:
            assert history.samples() == [sample()]
            assert history.notice == ""


def test_only_so_many_damaged_files_are_kept(path: Path) -> None:
    for _ in range(BROKEN_MAX + 2):
        path.write_bytes(b"no database" * 1_000)
        opened(path).close()
    assert len(broken(path)) == BROKEN_MAX


def test_another_programs_database_is_set_aside_whole(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.executescript("PRAGMA journal_mode = WAL; CREATE TABLE theirs (x); INSERT INTO theirs VALUES (7)")
        with opened(path) as history:  # while the other program has it open: its log goes along
            assert "is another program's; it is now" in history.notice
            history.record([sample()])
            assert history.samples() == [sample()]
        other.execute("INSERT INTO theirs VALUES (8)")
        other.commit()
    with closing(sqlite3.connect(path.with_name(f"{FILE_NAME}.broken-1"))) as other:
        assert other.execute("SELECT x FROM theirs").fetchall() == [(7,), (8,)]
    with opened(path) as history:
        assert history.samples() == [sample()]


def test_a_newer_dtes_database_is_left_alone(path: Path) -> None:
    opened(path).close()
    with closing(sqlite3.connect(path)) as newer:
        newer.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = path.read_bytes()
    with opened(path) as history:
        assert (
            "was written by a newer dte (format 2; this one knows 1); what this run learns is not kept"
            in history.notice
        )
        assert not history.keeps
        history.record([sample()])
        assert history.samples() == [sample()]
    assert path.read_bytes() == before
    assert broken(path) == []


def test_an_empty_file_is_a_new_history(path: Path) -> None:
    path.touch()
    with opened(path) as history:
        history.record([sample()])
        assert history.notice == ""


def test_tables_that_are_not_there_are_damage(path: Path) -> None:
    with closing(sqlite3.connect(path)) as half:
        half.executescript(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1; CREATE TABLE x (y)")
    with opened(path) as history:
        history.record([sample()])
        assert history.samples() == [sample()]
        assert "is damaged; it is now" in history.notice
        assert history.keeps


@pytest.mark.parametrize("column", ["success", "ended_ms", "duration_ms"])
def test_a_number_that_is_none_any_more_is_passed_over(column: str, path: Path) -> None:
    with opened(path) as history:
        history.record([sample(1), sample(2)])
    with closing(sqlite3.connect(path)) as bent:
        bent.execute(f"UPDATE samples SET {column} = 'x' WHERE ended_ms = {NOW - 1}")
        bent.commit()
    with opened(path) as history:
        assert history.samples() == [sample(2)]
        assert history.estimates("w", [BUILD], "m")[BUILD].p50_ms > 0
        assert history.notice == ""


def test_a_text_that_is_none_any_more_is_damage(path: Path) -> None:
    with opened(path) as history:
        history.record([sample()])
    with closing(sqlite3.connect(path)) as bent:
        bent.execute("UPDATE series SET task = CAST(x'ff' AS TEXT)")
        bent.commit()
    with opened(path) as history:
        assert history.samples() == []
        assert "is damaged" in history.notice


def test_damage_that_sqlite_cannot_put_into_words_is_damage(path: Path) -> None:
    opened(path).close()
    path.write_bytes(path.read_bytes().replace(b"ON series", b"ON \xff\xff\xff\xff\xff\xff"))
    with opened(path) as history:
        history.record([sample()])
        assert history.samples() == [sample()]
        assert "is damaged" in history.notice


def test_what_is_no_file_is_left_alone(path: Path) -> None:
    path.mkdir()
    with opened(path) as history:
        assert "cannot be used" in history.notice
        history.record([sample()])
        assert history.samples() == [sample()]
    assert path.is_dir()


def test_a_directory_that_is_not_there_costs_only_the_history(tmp_path: Path) -> None:
    with opened(tmp_path / "no" / FILE_NAME) as history:
        history.record([sample()])
        assert history.estimates("w", [BUILD], "m")[BUILD].samples == 1
        assert "cannot be used" in history.notice
        assert "DTE_DATA_DIR" in history.notice
        assert not history.keeps


def test_a_lock_that_is_not_given_back_costs_the_samples_and_not_the_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.store.history.database.BUSY_WAIT_S", 0.05)
    with opened(path) as history, closing(sqlite3.connect(path, isolation_level=None)) as other:
        history.record([sample(1)])
        other.execute("BEGIN IMMEDIATE")
        history.record([sample(2)])
        assert "database is locked" in history.notice
        assert history.samples() == [sample(1)]
        other.execute("ROLLBACK")
        assert broken(path) == []


def test_two_that_find_the_same_damage_set_it_aside_once(path: Path) -> None:
    with opened(path) as good:
        good.record([sample(n, task=f"t{n}") for n in range(2_000)])
    content = path.read_bytes()
    path.write_bytes(content[:4096] + bytes(len(content) - 4096))
    with opened(path) as first, opened(path) as second:
        first.record([sample(1)])
        second.record([sample(2)])
        assert first.samples() == [sample(2), sample(1)]
        assert "is damaged; it is now" in first.notice
        assert second.notice == ""
    assert broken(path) == [f"{FILE_NAME}.broken-1"]


@pytest.fixture
def read_only(path: Path) -> Iterator[Path]:
    """A history in a directory that nobody may write."""
    with opened(path) as history:
        history.record([sample(1)])
    path.parent.chmod(0o555)
    # Root may write anywhere that is not mounted otherwise.
    mounts = (["mount", "--bind"], ["mount", "-o", "remount,bind,ro"]) if os.getuid() == 0 else ()
    for mount, where in zip(mounts, ([path.parent, path.parent], [path.parent]), strict=False):
        if subprocess.run([*mount, *where], capture_output=True, check=False).returncode != 0:
            pytest.skip("root without the right to mount")
    yield path
    if mounts:
        subprocess.run(["umount", path.parent], check=True)
    path.parent.chmod(0o755)


def test_where_nothing_may_be_written_it_is_read(read_only: Path) -> None:
    with opened(read_only) as history:
        assert history.samples() == [sample(1)]
        assert history.estimates("w", [BUILD], "m")[BUILD].samples == 1
        history.record([sample(2)])
        assert history.samples() == [sample(1)]
        assert "can only be read" in history.notice
        assert "what this run learns is not kept" in history.notice
        assert not history.keeps
    assert [file.name for file in read_only.parent.iterdir()] == [FILE_NAME]


def test_where_nothing_may_be_written_there_may_be_no_history_yet(read_only: Path) -> None:
    with opened(read_only.with_name("other.sqlite3")) as history:
        history.record([sample(2)])
        assert history.samples() == [sample(2)]
        assert "cannot be used" in history.notice


def test_a_full_disk_costs_the_samples_and_not_the_file(path: Path) -> None:
    with opened(path) as history:
        history.record([sample(1)])
        history._connection.execute("PRAGMA max_page_count = 8")
        history.record([sample(task=f"{number:0500}") for number in range(200)])
        assert "could not be used (database or disk is full)" in history.notice
        assert history.samples() == [sample(1)]
    with opened(path) as history:
        history.record([sample(task="fits again")])
        assert len(history.samples()) == 2
        assert history.notice == ""


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=5_000) | st.binary(max_size=200).map(lambda tail: b"SQLite format 3\0" + tail))
def test_any_bytes_in_the_place_of_the_file_cost_at_most_what_was_in_it(tmp_path: Path, content: bytes) -> None:
    with tempfile.TemporaryDirectory(dir=tmp_path) as directory:
        path = Path(directory, FILE_NAME)
        path.write_bytes(content)
        usable(path)


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32), st.integers(1, 200), st.sampled_from(("", "-wal")))
def test_any_flipped_bytes_cost_at_most_what_was_in_it(tmp_path: Path, seed: int, flips: int, suffix: str) -> None:
    with tempfile.TemporaryDirectory(dir=tmp_path) as directory:
        path = Path(directory, FILE_NAME)
        before = opened(path)
        before.record([sample(n, n, task=f"t{n}") for n in range(300)])
        copies = {name: path.with_name(path.name + name).read_bytes() for name in ("", "-wal")}
        before.close()
        chance = random.Random(seed)
        content = bytearray(copies[suffix])
        for _ in range(flips):
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        for name, data in (copies | {suffix: bytes(content)}).items():
            path.with_name(path.name + name).write_bytes(data)
        usable(path)


def usable(path: Path) -> None:
    with opened(path) as history:
        for each in history.samples():
            assert each.duration_ms >= 0
        for found in history.estimates("w", [BUILD], "m").values():
            assert 1 <= found.p50_ms <= found.p90_ms
        history.record([sample(3, 40)])
        # Two bytes of the header say who may write: a newer dte, a newer SQLite. Where they are hit, the file is left alone.
        left_alone = any(words in history.notice for words in ("newer dte", "readonly database"))
        assert history.keeps != left_alone
        assert sample(3, 40) in history.samples() or "readonly database" in history.notice
        assert "\n" not in history.notice
