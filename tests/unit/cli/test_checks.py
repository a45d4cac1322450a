"""What `dte doctor` says of a workspace and a machine."""

import os
import subprocess
from pathlib import Path

import pytest

from mesh.cli.checks import Check, some
from mesh.cli.checks.ignored import outputs_and_git
from mesh.cli.checks.machine import data_directory, programs, run
from mesh.cli.checks.native import tasks_of_dte_toml


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    git(tmp_path, "init", "-q", "-b", "main")
    return tmp_path


def git(root: Path, *arguments: str) -> None:
    who = ("-c", "user.name=n", "-c", "user.email=e@localhost")
    subprocess.run(["git", *who, *arguments], cwd=root, check=True, capture_output=True, timeout=60)


def lines(checks: "list[Check]", level: str = "") -> list[str]:
    return [check.line for check in checks if level in ("", check.level)]


@pytest.mark.parametrize(
    ("ignore", "output", "ignored"),
    [
        ("dist/", "packages/a/dist", True),
        ("dist", "packages/a/dist/**", True),
        ("dist/*", "dist", True),
        ("*.js", "dist/**/*.js", True),
        ("*.js", "dist/**/*.ts", False),
        ("/dist", "packages/a/dist", False),
        ("used.txt", "used.txt", True),
        ("dist/\n!dist/", "dist", False),
        ("{a,b}", "out/{a,b}/x", False),
        ("a/", "out/{a,b}/x", True),
        ("out/", "out/[ab]?.txt", True),
        ("coverage", "../coverage", True),
        ("coverage", "/coverage", True),
        ("kept", "!never", True),
    ],
)
def test_outputs_that_git_would_see_are_told(repository: Path, ignore: str, output: str, ignored: bool) -> None:
    (repository / ".gitignore").write_text(f"{ignore}\n")
    told = lines(list(outputs_and_git(repository, {"a:build": (output,)})))
    assert told == (
        []
        if ignored
        else [
            f"warn: a:build: its outputs {output} are not ignored by git, so they count as inputs of tasks — add them to .gitignore"
        ]
    )


def test_outputs_that_git_keeps_are_told(repository: Path) -> None:
    (repository / ".gitignore").write_text("out/\n")
    (repository / "out").mkdir()
    (repository / "out/made").write_text("x")
    git(repository, "add", "--force", "out/made")
    told = lines(list(outputs_and_git(repository, {"build": ("out/**",), "test": ("other/out/**",)})))
    assert [line.partition(",")[0] for line in told] == ["warn: build: its outputs out/** are in git's keeping"]


def test_the_outputs_of_many_tasks_are_one_line(repository: Path) -> None:
    outputs = {f"p{number}:build": (f"p{number}/dist",) for number in range(4)}
    told = lines(list(outputs_and_git(repository, outputs)))
    assert len(told) == 1
    assert told[0].startswith("warn: p0:build and 3 more: its outputs p0/dist are not ignored")


def test_where_there_is_no_git_nobody_asks_it(tmp_path: Path) -> None:
    assert list(outputs_and_git(tmp_path, {"build": ("dist",)})) == []


def test_a_path_that_git_cannot_judge_is_told(repository: Path) -> None:
    (repository / "link").symlink_to(repository)
    (told,) = lines(list(outputs_and_git(repository, {"build": ("link/dist",)})))
    assert "symbolic link" in told


def test_tasks_of_dte_toml_are_told_by_where_they_can_run(repository: Path) -> None:
    (repository / ".gitignore").write_text("out/\n")
    (repository / "dte.toml").write_text(
        """
[tasks.build]
command = "true"
outputs = ["out/**", "gen/*.js"]
inputs = ["missing/*.py"]

[tasks.train]
command = "true"
runs_on = ["gpu"]
secret_env = ["TOKEN", "OTHER"]

[tasks.deploy]
command = "true"
where = "main"
"""
    )
    assert lines(list(tasks_of_dte_toml(repository, (), {"OTHER": "set"}))) == [
        "ok: dte.toml: agents can run 2 of 3 tasks",
        'ok: only on the main job: deploy (`where = "main"`)',
        "ok: only on an agent with the label gpu: train — dte join --label gpu",
        "warn: only where TOKEN is set, and here it is not: train (secret_env) — set it on agents",
        "warn: build: inputs 'missing/*.py' matches no file that git knows (ignored files are never inputs)",
        "warn: build: its outputs gen/*.js are not ignored by git, so they count as inputs of tasks — add them to .gitignore",
    ]
    assert lines(list(tasks_of_dte_toml(repository, ("deploy",), {})))[0] == "ok: dte.toml: agents can run 0 of 1 tasks"


def test_outputs_that_are_there_already_are_told_once(repository: Path) -> None:
    (repository / "dte.toml").write_text('[tasks.build]\ncommand = "true"\noutputs = ["out/**"]\n')
    (repository / "out").mkdir()
    (repository / "out/made").write_text("x")
    assert len(lines(list(tasks_of_dte_toml(repository, (), {})), "warn")) == 1
    git(repository, "add", "out/made")
    told = lines(list(tasks_of_dte_toml(repository, (), {})), "warn")
    assert len([line for line in told if "in git's keeping" in line]) == 1


def test_everything_that_is_wrong_with_dte_toml_is_bad(repository: Path) -> None:
    (repository / "dte.toml").write_text('[tasks.build]\ncmd = "true"\n[tasks.test]\ncommand = "x"\ndependsOn = []\n')
    told = lines(list(tasks_of_dte_toml(repository, (), {})))
    assert [line.split(": ")[:2] for line in told] == [["bad", "dte.toml:2"], ["bad", "dte.toml:5"]]


def test_a_repository_is_told_by_its_commit_and_by_what_it_lacks(repository: Path) -> None:
    assert "no commit yet" in lines(list(programs(repository, node=False)), "warn")[0]
    git(repository, "commit", "-q", "--allow-empty", "-m", "one")
    git(repository, "commit", "-q", "--allow-empty", "-m", "two")
    assert lines(list(programs(repository, node=False)), "warn") == []
    git(repository, "clone", "-q", "--depth=1", f"file://{repository}", "shallow")
    assert "without its history" in lines(list(programs(repository / "shallow", node=False)), "warn")[0]


def test_a_folder_without_git_is_a_warning_and_a_machine_without_it_is_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "in no git repository" in lines(list(programs(tmp_path, node=False)), "warn")[0]
    monkeypatch.setenv("PATH", str(tmp_path))
    told = lines(list(programs(tmp_path, node=True)), "bad")
    assert [line.partition(" is not")[0] for line in told] == ["bad: git", "bad: node"]


@pytest.mark.parametrize(("version", "level"), [("v16.20.2", "bad"), ("v22.1.0", "ok")])
def test_a_node_that_is_too_old_is_bad(
    version: str, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "node").write_text(f"#!/bin/sh\necho {version}\n")
    (tmp_path / "node").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert lines(list(programs(tmp_path, node=True)))[-1].startswith(f"{level}: node {version[1:]}")


def test_a_data_directory_that_cannot_be_written_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DTE_DATA_DIR", str(tmp_path / "data"))
    assert data_directory().what.startswith(f"{tmp_path / 'data'} is writable")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DTE_DATA_DIR", str(tmp_path / "file"))
    assert data_directory().level == "bad"
    assert "DTE_DATA_DIR" in data_directory().line


@pytest.mark.parametrize(
    ("secret", "level", "words"),
    [
        ("", "warn", "there is no secret for run one"),
        ("five5", "bad", "must have at least 16"),
        ("0123456789abcdef", "ok", "run one; its secret is there"),
    ],
)
def test_a_secret_is_looked_at_and_never_told(
    secret: str, level: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DTE_SECRET", secret)
    check, authority = run("one", "", "")
    assert check.level == level
    assert words in check.line
    assert not secret or secret not in check.line
    assert (authority is not None) == (level == "ok")


def test_names_are_told_by_the_first_of_them() -> None:
    assert [some(["a"]), some(["a", "b", "c"])] == ["a", "a and 2 more"]
