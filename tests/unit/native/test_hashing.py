import hashlib
import os
import shutil
import time

import pytest

from mesh.adapters.native.hashing import Tree, commit_tree, working_tree
from mesh.errors import UsageError


def as_git_adds_them(repo):
    """What git itself says once everything is added: the judge of all these tests."""
    repo.git("add", "-A")
    lines = repo.git("ls-files", "-s", "-z").split("\0")[:-1]
    return {line.split("\t", 1)[1]: " ".join(line.split(" ")[:2]) for line in lines}


def test_a_clean_checkout_is_what_the_commit_says(repo):
    commit = repo.commit({"a": "1", "b/c": "2"})
    tree = working_tree(repo.root)
    assert tree.entries == commit_tree(repo.root, commit).entries == as_git_adds_them(repo)
    assert list(tree.paths) == ["a", "b/c"]
    assert tree.by_git
    assert not tree.untracked


def test_modified_new_deleted_and_ignored_files_are_seen_as_git_would_add_them(repo):
    repo.commit({"same": "1", "changed": "2", "gone": "3", "exec": "4", ".gitignore": "*.o\n", "dir/x": "5"})
    repo.files({"changed": "22", "new/file": "6", "x.o": "7"})
    (repo.root / "gone").unlink()
    (repo.root / "exec").chmod(0o755)
    (repo.root / "dir/x").unlink()
    (repo.root / "dir").rmdir()
    repo.files({"dir": "a file now"})
    tree = working_tree(repo.root)
    assert tree.untracked == {"new/file", "dir"}
    assert tree.entries == as_git_adds_them(repo)
    assert tree.entries["exec"].startswith("100755 ")


def test_staged_and_then_changed_is_what_is_on_disk(repo):
    repo.commit({"a": "1"})
    repo.files({"a": "2"})
    repo.git("add", "a")
    repo.files({"a": "3"})
    repo.files({"b": "x"})
    repo.git("add", "-N", "b")
    assert working_tree(repo.root).entries == as_git_adds_them(repo)


def test_filters_of_gitattributes_are_applied(repo):
    repo.commit({".gitattributes": "*.txt text eol=crlf\n", "a.txt": "one\r\ntwo\r\n"})
    repo.files({"a.txt": "one\r\nthree\r\n", "b.txt": "new\r\n"})
    tree = working_tree(repo.root)
    assert tree.entries["b.txt"] == f"100644 {hashlib.sha1(b'blob 4' + bytes(1) + b'new' + bytes((10,))).hexdigest()}"
    assert tree.entries == as_git_adds_them(repo)


def test_a_links_entry_is_its_text(repo):
    repo.commit({"a": "1"})
    (repo.root / "link").symlink_to("a")
    (repo.root / "outside").symlink_to("/etc")
    (repo.root / "dangling").symlink_to("nowhere")
    tree = working_tree(repo.root)
    assert tree.entries["link"].startswith("120000 ")
    assert tree.entries == as_git_adds_them(repo)


@pytest.mark.parametrize("name", ["a b", 'quo"te', "back\\slash", "new\nline", "tab\t", "cr\r", "é", "*", "-x", "x:y"])
def test_any_name_is_taken(repo, name):
    repo.commit({"a": "1"})
    repo.files({name: "x"})
    assert working_tree(repo.root).entries == as_git_adds_them(repo)


def test_a_name_that_is_no_text_is_spelled_out(repo):
    repo.commit({"a": "1"})
    (repo.root / os.fsdecode(b"x\xff")).write_text("")
    assert sorted(working_tree(repo.root).entries) == ["a", "x\\xff"]


def test_what_git_was_told_to_overlook_is_read_from_the_disk(repo):
    repo.commit({"a": "1", "b": "2"})
    repo.git("update-index", "--assume-unchanged", "a")
    repo.git("update-index", "--skip-worktree", "b")
    repo.files({"a": "11"})
    (repo.root / "b").unlink()
    clean = working_tree(repo.clone("other").root)
    tree = working_tree(repo.root)
    assert list(tree.entries) == ["a"]
    assert tree.entries["a"] != clean.entries["a"]


def test_a_conflict_is_what_is_on_disk(repo):
    repo.commit({"a": "1\n"})
    repo.git("checkout", "-q", "-b", "other")
    repo.commit({"a": "2\n"})
    repo.git("checkout", "-q", "main")
    repo.commit({"a": "3\n"})
    with pytest.raises(Exception, match="merge"):
        repo.git("merge", "-q", "other")
    assert working_tree(repo.root).entries == as_git_adds_them(repo)


def test_a_workspace_below_the_root_of_its_repository_sees_only_itself(repo):
    commit = repo.commit({"top": "1", "work/dte.toml": "2", "work/a/b": "3"})
    repo.files({"work/new": "4", "other": "5"})
    assert sorted(working_tree(repo.root / "work").entries) == ["a/b", "dte.toml", "new"]
    assert sorted(commit_tree(repo.root / "work", commit).entries) == ["a/b", "dte.toml"]


def test_the_files_of_a_submodule_count_where_it_is_checked_out_and_its_commit_where_not(repo, tmp_path):
    inner = type(repo)(tmp_path / "inner")
    commit = inner.commit({"x": "1", "d/y": "2"})
    repo.commit({"a": "1"})
    repo.git("submodule", "--quiet", "add", f"file://{inner.root}", "lib")
    repo.commit()
    tree = working_tree(repo.root)
    assert sorted(tree.entries) == [".gitmodules", "a", "lib", "lib/d/y", "lib/x"]
    bare = working_tree(repo.clone("other").root)
    assert bare.entries["lib"] == tree.entries["lib"] == f"160000 {commit}"
    assert bare.notices == ("submodule lib is not checked out: git submodule update --init lib",)
    assert list(bare.matching(["lib/**"])) == ["lib"]
    (repo.root / "lib/x").write_text("changed")
    assert working_tree(repo.root).entries["lib/x"] != tree.entries["lib/x"]


def test_a_repository_in_the_repository_is_named_and_left_alone(repo):
    repo.commit({"a": "1"})
    type(repo)(repo.root / "nested").commit({"x": "1"})
    tree = working_tree(repo.root)
    assert list(tree.entries) == ["a"]
    assert "nested/ is a git repository of its own" in tree.notices[0]


def test_without_git_every_file_counts_with_the_hash_that_git_would_give(repo, tmp_path):
    files = {"a": "1", "b/c": "2", "exec": "3"}
    repo.commit(files)
    (repo.root / "exec").chmod(0o755)
    (repo.root / "link").symlink_to("b")
    plain = tmp_path / "plain"
    shutil.copytree(repo.root, plain, symlinks=True, ignore=shutil.ignore_patterns(".git"))
    tree = working_tree(plain)
    assert tree.entries == as_git_adds_them(repo)
    assert not tree.by_git
    assert "is not in a git repository, so every file in it is an input" in tree.notices[0]


def test_without_the_program_git_every_file_counts(repo, monkeypatch):
    repo.commit({"a": "1"})
    monkeypatch.setenv("PATH", "/nowhere")
    tree = working_tree(repo.root)
    assert "a" in tree.entries
    assert "git is not installed" in tree.notices[0]
    assert not any(path.startswith(".git/") for path in tree.entries)


def test_a_repository_that_git_refuses_is_not_taken_for_none(repo):
    repo.commit({"a": "1"})
    (repo.root / ".git/index").write_bytes(b"broken")
    with pytest.raises(UsageError, match="git ls-files failed in"):
        working_tree(repo.root)


def test_a_workspace_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match="there is no directory"):
        working_tree(tmp_path / "nowhere")


def test_a_hook_of_git_does_not_lead_us_elsewhere(repo, monkeypatch):
    repo.commit({"a": "1"})
    monkeypatch.setenv("GIT_DIR", "/nowhere/.git")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere/index")
    assert list(working_tree(repo.root).entries) == ["a"]


@pytest.mark.parametrize(
    ("patterns", "paths"),
    [
        (["**"], ["a", "a.txt", "a/b", "a/c/d", "a0", "b"]),
        (["a"], ["a", "a/b", "a/c/d"]),
        (["a/**"], ["a/b", "a/c/d"]),
        (["a/c", "b"], ["a/c/d", "b"]),
        (["**", "!a"], ["a.txt", "a0", "b"]),
        (["!a"], []),
        ([], []),
        (["a", "a/b"], ["a", "a/b", "a/c/d"]),
    ],
)
def test_the_paths_that_globs_mean_are_found(patterns, paths):
    tree = Tree(dict.fromkeys(["b", "a/c/d", "a/b", "a", "a.txt", "a0"], "100644 x"))
    assert sorted(tree.matching(patterns)) == paths


LINKED = {
    "a/file": "../s/one",
    "a/dir": "../s",
    "a/chain": "dir/inner/../two",
    "a/up": "..",
    "a/loop": "loop2/x",
    "a/loop2": "loop",
    "a/out": "../../elsewhere",
    "a/nothing": "nowhere",
    "a/twice": "to-dir",
    "a/to-dir": "dir",
    "s/inner/back": "../../a",
}
"""Links by what they say, beside the files of the test."""


@pytest.mark.parametrize(
    ("patterns", "paths"),
    [
        (["a/file"], ["a/file", "s/one"]),
        (["s/one"], ["s/one"]),
        (["a/chain"], ["a/chain", "a/dir", "s/two"]),
        (["a/dir/*.md"], ["a/dir", "s/read.md"]),
        (["a/dir/none"], []),
        (["a/to*/*.md", "!**/read.md"], []),
        (["a/loop*", "a/out", "a/nothing"], ["a/loop", "a/loop2", "a/nothing", "a/out"]),
        (["a/twice/*.md"], ["a/dir", "a/to-dir", "a/twice", "s/read.md"]),
        (["a/up/s/t*"], ["a/up", "s/two"]),
        (["a/up/b", "!/b/x"], ["a/up", "b/y"]),
        (["a/*r"], ["a/dir", "a/to-dir"]),
        (["a/dir", "!a", "!b"], []),
        (["a/di?/**", "!a/[!d]*", "!b"], ["a/dir", "s/inner/back", "s/one", "s/read.md", "s/two"]),
    ],
)
def test_what_is_behind_a_link_is_read_where_it_would_be_in_its_place(repo, patterns, paths):
    repo.files(dict.fromkeys(("s/one", "s/two", "s/read.md", "b/x", "b/y"), "text"))
    for name, text in LINKED.items():
        (repo.root / name).parent.mkdir(parents=True, exist_ok=True)
        (repo.root / name).symlink_to(text)
    commit = repo.commit()
    rooted = [pattern.replace("!/", "!") for pattern in patterns]
    assert sorted(working_tree(repo.root).read(rooted)) == paths
    assert sorted(commit_tree(repo.root, commit).read(rooted)) == paths


def test_a_link_to_a_path_of_the_machine_is_followed_within_the_workspace_only(repo, tmp_path):
    repo.files({"s/one": "1"})
    (repo.root / "here").symlink_to(repo.root / "s")
    (repo.root / "beside").symlink_to(tmp_path / "repository")
    assert sorted(working_tree(repo.root).read(["here"])) == ["here", "s/one"]
    assert sorted(working_tree(repo.root).read(["beside"])) == ["beside"]


def test_thousands_of_clean_files_take_well_under_a_second(repo):
    repo.commit({f"d{number % 50}/f{number}": "" for number in range(2_000)})
    started = time.perf_counter()
    tree = working_tree(repo.root)
    took = time.perf_counter() - started
    assert len(tree.entries) == 2_000
    assert took < 0.5
