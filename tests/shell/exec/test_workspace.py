"""What a checkout says of itself."""

import os
import platform
import subprocess
from pathlib import Path

import pytest

from mesh.exec.workspace import facts


def git(root: Path, *arguments: str) -> str:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    who = {f"GIT_{role}_{what}": "test@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return subprocess.run(
        ("git", *arguments), cwd=root, env=environ | who, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    root.mkdir()
    git(root, "init", "-q")
    (root / "a").write_text("a\n")
    git(root, "add", "a")
    git(root, "commit", "-q", "-m", "first")
    return root


def test_a_checkout_names_its_commit_and_its_machine(checkout: Path) -> None:
    assert facts(checkout) == {
        "commit": git(checkout, "rev-parse", "HEAD"),
        "dirty": "",
        "os": "linux" if platform.system() == "Linux" else platform.system().lower(),
        "arch": platform.machine().lower(),
        "python": platform.python_version(),
    }


def test_the_same_change_is_the_same_fact(checkout: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", str(checkout), "other")
    for root in (checkout, tmp_path / "other"):
        (root / "a").write_text("b\n")
    assert facts(checkout)["dirty"] != ""
    assert facts(checkout) == facts(tmp_path / "other")
    (checkout / "a").write_text("c\n")
    assert facts(checkout)["dirty"] != facts(tmp_path / "other")["dirty"]


def test_untracked_files_are_no_change(checkout: Path) -> None:
    (checkout / "made").write_text("x")
    assert facts(checkout)["dirty"] == ""


def test_without_a_repository_there_is_no_commit(tmp_path: Path) -> None:
    assert facts(tmp_path)["commit"] == ""
    assert facts(tmp_path)["dirty"] == ""


def test_without_git_there_is_no_commit(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert facts(checkout)["commit"] == ""


def test_git_is_not_shown_the_secret(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DTE_SECRET", "s3cret")
    git(checkout, "config", "core.fsmonitor", f"env > {tmp_path}/seen; true")
    facts(checkout)
    assert "s3cret" not in (tmp_path / "seen").read_text()
