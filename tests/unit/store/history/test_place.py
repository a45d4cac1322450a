"""Which workspace this is, by a name that all its checkouts share and that gives nothing away."""

import os
import subprocess
from pathlib import Path

import pytest

from mesh.store.history.place import workspace_id


def git(where: Path, *arguments: str) -> str:
    where.mkdir(parents=True, exist_ok=True)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environ |= {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    environ |= {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(["git", *arguments], cwd=where, env=environ, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def repository(where: Path, **remotes: str) -> Path:
    git(where, "init", "-q", "-b", "main")
    for name, url in remotes.items():
        git(where, "config", f"remote.{name}.url", url)
    return where


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/acme/shop.git",
        "https://github.com/acme/shop",
        "https://github.com/acme/shop/",
        "https://GitHub.com/acme/shop.git",
        "https://someone:secret@github.com/acme/shop.git",
        "https://x-access-token:secret@github.com:443/acme/shop.git",
        "https://github.com/acme/shop.git?access_token=secret",
        "https://github.com/acme/shop.git#secret",
        "http://secret@github.com/acme/shop",
        "git@github.com:acme/shop.git",
        "github.com:acme/shop.git",
        "secret@github.com:/acme/shop.git",
        "ssh://git@github.com/acme/shop.git",
        "ssh://git:secret@github.com:2222/acme/shop.git",
        "git://github.com/acme/shop.git",
    ],
)
def test_however_and_as_whomever_the_remote_is_spoken_to_it_is_one_workspace(url: str, tmp_path: Path) -> None:
    assert workspace_id(repository(tmp_path / "w", origin=url)) == "github.com/acme/shop"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("/srv/git/shop.git", "/srv/git/shop"),
        ("file:///srv/git/shop.git", "/srv/git/shop"),
        ("../shop", "../shop"),
        ("https://[::1]:8080/shop.git", "[::1]/shop"),
        ("https://git.acme.example/a/b/c/shop", "git.acme.example/a/b/c/shop"),
    ],
)
def test_other_remotes_are_named_by_their_path(url: str, expected: str, tmp_path: Path) -> None:
    assert workspace_id(repository(tmp_path / "w", origin=url)) == expected


def test_the_remote_is_origin_else_the_first_by_name(tmp_path: Path) -> None:
    both = repository(tmp_path / "a", fork="https://h/fork", origin="https://h/real")
    assert workspace_id(both) == "h/real"
    assert workspace_id(repository(tmp_path / "b", zoo="https://h/zoo", ape="https://h/ape")) == "h/ape"


def test_without_a_remote_it_is_the_first_commit_in_every_checkout(tmp_path: Path) -> None:
    there = repository(tmp_path / "a")
    git(there, "commit", "-q", "--allow-empty", "-m", "first")
    first = git(there, "rev-parse", "HEAD")
    git(there, "commit", "-q", "--allow-empty", "-m", "second")
    assert workspace_id(there) == first
    git(tmp_path, "clone", "-q", str(there), "b")
    git(tmp_path / "b", "remote", "remove", "origin")
    assert workspace_id(tmp_path / "b") == first


def test_a_shallow_clone_without_a_remote_has_no_first_commit(tmp_path: Path) -> None:
    there = repository(tmp_path / "a")
    for name in ("first", "second"):
        git(there, "commit", "-q", "--allow-empty", "-m", name)
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{there}", "shallow")
    git(tmp_path / "shallow", "remote", "remove", "origin")
    assert workspace_id(tmp_path / "shallow") == "shallow"


def test_without_git_it_is_the_name_of_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop").mkdir()
    assert workspace_id(tmp_path / "shop") == "shop"
    assert workspace_id(repository(tmp_path / "empty")) == "empty"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert workspace_id(repository_without_git(tmp_path / "lost")) == "lost"
    monkeypatch.chdir(tmp_path / "shop")
    assert workspace_id(Path()) == "shop"


def repository_without_git(where: Path) -> Path:
    (where / ".git").mkdir(parents=True)
    return where


def test_several_workspaces_of_one_repository_are_told_apart(tmp_path: Path) -> None:
    root = repository(tmp_path / "w", origin="git@h.example:a/b.git")
    (root / "apps/web").mkdir(parents=True)
    assert workspace_id(root / "apps/web") == "h.example/a/b#apps/web"


def test_the_variables_of_a_git_hook_do_not_point_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = repository(tmp_path / "here", origin="https://h/here")
    monkeypatch.setenv("GIT_DIR", str(repository(tmp_path / "there", origin="https://h/there") / ".git"))
    assert workspace_id(here) == "h/here"
