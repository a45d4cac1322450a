"""Where a node keeps its data."""

import stat
from pathlib import Path

import pytest

from mesh.errors import StorageError, UsageError
from mesh.store.home import home


def test_the_variable_says_where(tmp_path: Path) -> None:
    assert home({"DTE_DATA_DIR": f"{tmp_path}/a/b"}) == tmp_path / "a/b"
    assert (tmp_path / "a/b").is_dir()


def test_nobody_else_may_look_in(tmp_path: Path) -> None:
    assert stat.S_IMODE(home({"DTE_DATA_DIR": f"{tmp_path}/a"}).stat().st_mode) == 0o700


def test_a_relative_directory_is_taken_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert home({"DTE_DATA_DIR": "a"}) == tmp_path / "a"


def test_without_the_variable_the_platform_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("DTE_DATA_DIR", raising=False)
    assert home() == tmp_path / "dte"
    assert home({"DTE_DATA_DIR": ""}) == tmp_path / "dte"


def test_a_file_in_its_place_is_named_with_the_variable(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(UsageError, match=rf"{tmp_path}/a is not a directory.*DTE_DATA_DIR"):
        home({"DTE_DATA_DIR": f"{tmp_path}/a"})


def test_a_directory_that_cannot_be_made_is_named_with_the_variable(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(StorageError, match=rf"{tmp_path}/a/b: not a directory.*DTE_DATA_DIR"):
        home({"DTE_DATA_DIR": f"{tmp_path}/a/b"})
    with pytest.raises(StorageError, match=r"/proc/dte.*DTE_DATA_DIR"):
        home({"DTE_DATA_DIR": "/proc/dte"})


def test_a_directory_that_cannot_be_written_is_named_with_the_variable() -> None:
    with pytest.raises(StorageError, match=r"cannot write /proc: .*DTE_DATA_DIR"):
        home({"DTE_DATA_DIR": "/proc"})


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformdirs.user_data_dir", lambda name: "~/.local/share/dte")
    with pytest.raises(UsageError, match="DTE_DATA_DIR"):
        home({})
