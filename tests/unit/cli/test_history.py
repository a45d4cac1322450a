"""`dte history`: what a person and a CI cache see of the timings."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mesh.cli import main
from mesh.exec.machine import machine_class
from mesh.store.history import History, Sample, unix_now
from mesh.store.history.database import FILE_NAME
from mesh.types import TaskId, UnixMs

Dte = Callable[..., tuple[int, str, str]]


@pytest.fixture
def dte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Dte:
    """`dte` in a directory `shop`, with data of its own: exit code, standard output, standard error."""
    (tmp_path / "shop").mkdir()
    monkeypatch.chdir(tmp_path / "shop")
    monkeypatch.setenv("DTE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("TZ", "UTC")

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["dte", "history", *arguments])
        code = main()
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data" / FILE_NAME


def record(data: Path, *timings: tuple[str, int], workspace: str = "shop", machine: str = "") -> None:
    now = unix_now()
    with History(data) as history:
        history.record(
            Sample(workspace, TaskId(task), machine or machine_class(), duration, UnixMs(now - age))
            for age, (task, duration) in enumerate(timings)
        )


def test_the_table_has_the_longest_task_first(dte: Dte, data: Path) -> None:
    record(data, ("a:lint", 40), ("a:build", 90_000), ("b:build", 8_000), *[("a:test", 3_000 + n) for n in range(25)])
    code, out, err = dte("show")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0].split() == ["task", "samples", "p50", "p90", "last"]
    assert [line.split()[:2] for line in lines[1:]] == [
        ["a:build", "1"],
        ["b:build", "1"],
        ["a:test", "20"],
        ["a:lint", "1"],
    ]
    assert len({len(line) for line in lines}) == 1
    assert all(re.search(r" \d{4}-\d\d-\d\d \d\d:\d\d$", line) for line in lines[1:])


def test_a_glob_chooses_tasks(dte: Dte, data: Path) -> None:
    record(data, ("packages/a:build", 1), ("packages/a:test", 1), ("b:build", 1))
    assert [line.split()[0] for line in dte("show", "*:build")[1].splitlines()[1:]] == ["b:build", "packages/a:build"]
    assert dte("show", "x*") == (0, "no task 'x*' of shop has been timed here\n", "")


def test_programs_get_the_same_as_json(dte: Dte, data: Path) -> None:
    record(data, ("a:build", 5_000), ("a:build", 5_000))
    record(data, ("a:build", 9_000), machine="elsewhere-1")
    record(data, ("secret:build", 1), workspace="other")
    code, out, _ = dte("show", "--json")
    told = json.loads(out)
    (task,) = told.pop("tasks")
    assert code == 0
    assert told == {"version": 1, "workspace": "shop", "machine": machine_class()}
    assert task.pop("last_ms") > unix_now() - 600_000
    assert 3_000 < task.pop("p50_ms") <= task.pop("p90_ms") < 15_000
    assert task == {"task": "a:build", "samples": 3, "samples_here": 2}


def test_a_name_cannot_command_the_terminal(dte: Dte, data: Path) -> None:
    record(data, ("evil\x1b]0;title\x07\n:build", 5))
    out = dte("show")[1]
    assert "\x1b" not in out
    assert len(out.splitlines()) == 2


def test_what_one_machine_exports_another_knows_after_its_import(
    dte: Dte, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(data, ("a:build", 5_000), ("b:build", 7_000))
    record(data, ("c:build", 1), workspace="other")
    before = dte("show")[1]
    assert dte("export", "timings.json") == (0, "2 timings in timings.json\n", "")
    monkeypatch.setenv("DTE_DATA_DIR", str(tmp_path / "fresh"))
    for _ in range(2):
        told = "2 timings in timings.json, 2 of this workspace (shop)\n"
        assert dte("import", "timings.json") == (0, told, "")
        assert dte("show")[1] == before
    assert dte("export", "again.json")[0] == 0
    assert Path("again.json").read_bytes() == Path("timings.json").read_bytes()


def test_all_workspaces_are_exported_where_that_is_asked_for(dte: Dte, data: Path) -> None:
    record(data, ("a:build", 5_000))
    record(data, ("c:build", 1), workspace="other")
    assert dte("export", "--all", "all.json")[1] == "2 timings in all.json\n"
    assert dte("import", "all.json")[1] == "2 timings in all.json, 1 of this workspace (shop)\n"


def test_the_workspace_is_that_of_the_repository(dte: Dte, data: Path) -> None:
    subprocess.run(["git", "init", "-q", "."], check=True)
    subprocess.run(["git", "config", "remote.origin.url", "https://me:secret@h.example/acme/shop.git"], check=True)
    record(data, ("a:build", 5_000), workspace="h.example/acme/shop")
    assert "a:build" in dte("show")[1]
    dte("export", "timings.json")
    assert b"secret" not in Path("timings.json").read_bytes()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        (b"<html>", "is no timing history that `dte history export` has written"),
        (b'{"format":"dte-timing-history","version":7,"workspaces":{}}', "export it again with this version"),
    ],
)
def test_what_cannot_be_imported_is_said_and_changes_nothing(
    content: bytes | None, reason: str, dte: Dte, data: Path
) -> None:
    if content is not None:
        Path("f.json").write_bytes(content)
    code, out, err = dte("import", "f.json")
    assert (code, out) == (2, "")
    assert err.startswith("dte: f.json")
    assert reason in err
    assert err.count("\n") == 1
    assert not data.exists()


def test_an_import_that_cannot_be_kept_is_no_success(dte: Dte, data: Path) -> None:
    data.mkdir()
    Path("f.json").write_text('{"format":"dte-timing-history","version":1,"workspaces":{}}')
    code, out, err = dte("import", "f.json")
    assert (code, out) == (3, "")
    assert "cannot be used" in err


def test_a_damaged_history_is_told_once_and_replaced(dte: Dte, data: Path) -> None:
    data.write_bytes(os.urandom(9_000))
    code, out, err = dte("show")
    assert (code, out) == (0, "no task '*' of shop has been timed here\n")
    assert f"it is now {FILE_NAME}.broken-1" in err
    assert err.count("\n") == 1
    assert dte("show")[2] == ""


def test_an_export_that_cannot_be_written_is_said(dte: Dte) -> None:
    code, _, err = dte("export", "no/such/place.json")
    assert code == 3
    assert "cannot write no/such/place.json" in err
