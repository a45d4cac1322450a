import pytest

from mesh.adapters.native.affected import Range
from mesh.adapters.native.plan import plan
from mesh.errors import UsageError

TEXT = """
[tasks.lib]
command = "x"
inputs = ["lib/**"]
outputs = ["out/lib"]
[tasks.app]
command = "x"
deps = ["lib"]
inputs = ["app/**"]
[tasks.docs]
command = "x"
inputs = ["docs/**"]
[tasks.all]
command = "x"
"""
FILES = {"dte.toml": TEXT, ".gitignore": "out/", "lib/a": "1", "app/a": "1", "docs/a": "1", "sub/x": "1"}


@pytest.fixture
def branch(repo):
    repo.commit(FILES)
    repo.git("checkout", "-q", "-b", "topic")
    return repo


def affected(repo, *names, base="main", head=""):
    return list(plan(repo.root, names, environ={}, affected=Range(base, head)).graph.tasks)


def refusal(repo, base, head=""):
    with pytest.raises(UsageError) as caught:
        affected(repo, "lib", base=base, head=head)
    return str(caught.value)


def test_nothing_changed_means_nothing_to_run_and_says_so(branch):
    result = plan(branch.root, ["lib", "app"], environ={}, affected=Range("main"))
    assert not result.graph.tasks
    assert "nothing to run: no change since main reaches lib, app" in result.notices


def test_a_committed_change_reaches_its_task(branch):
    branch.commit({"docs/a": "2"})
    assert affected(branch, "lib", "app", "docs") == ["docs"]


def test_a_task_runs_with_its_dependencies_even_where_these_are_not_affected(branch):
    branch.commit({"app/a": "2"})
    assert affected(branch, "app") == ["lib", "app"]
    assert affected(branch, "lib") == []


def test_a_change_of_a_dependency_reaches_who_waits_for_it(branch):
    branch.commit({"lib/a": "2"})
    assert affected(branch, "app", "docs") == ["lib", "app"]


@pytest.mark.parametrize("change", [{"docs/a": "2"}, {"docs/new": "1"}])
def test_what_is_not_committed_counts_unless_a_head_is_named(branch, change):
    branch.files(change)
    assert affected(branch, "docs") == ["docs"]
    assert affected(branch, "docs", head="HEAD") == []


def test_a_deleted_file_reaches_its_task(branch):
    (branch.root / "docs/a").unlink()
    assert affected(branch, "docs") == ["docs"]


def test_a_change_that_was_taken_back_reaches_nobody(branch):
    branch.commit({"docs/a": "2"})
    branch.commit({"docs/a": "1"})
    assert affected(branch, "docs") == []


def test_what_others_did_on_the_base_since_reaches_nobody(branch):
    branch.commit({"docs/a": "2"})
    branch.git("checkout", "-q", "main")
    branch.commit({"lib/a": "from main"})
    branch.git("checkout", "-q", "topic")
    assert affected(branch, "lib", "docs") == ["docs"]


def test_an_ignored_file_reaches_nobody(branch):
    branch.files({"out/lib": "made"})
    assert affected(branch, "lib", "all") == []


def test_a_changed_definition_reaches_its_task_and_no_other(branch):
    branch.commit({"dte.toml": "# moved\n" + TEXT.replace('inputs = ["docs/**"]', 'inputs = ["docs/**"]\nretries = 1')})
    assert affected(branch, "lib", "app", "docs", "all") == ["docs"]


def test_a_changed_default_reaches_all(branch):
    branch.commit({"dte.toml": TEXT + '[defaults]\nenv = { A = "1" }'})
    assert affected(branch, "lib", "docs") == ["lib", "docs"]


def test_every_task_is_affected_by_its_first_definition(repo):
    base = repo.commit({"lib/a": "1"})
    repo.commit(FILES)
    assert affected(repo, "docs", "lib", base=base) == ["lib", "docs"]


def test_a_range_between_two_commits_does_not_look_at_the_disk(branch):
    first = branch.commit({"docs/a": "2"})
    branch.commit({"lib/a": "2"})
    assert affected(branch, "lib", "docs", base="main", head=first) == ["docs"]


def test_a_workspace_below_the_root_is_compared_with_itself(repo):
    repo.commit({f"work/{name}": text for name, text in FILES.items()})
    repo.commit({"lib/a": "another place", "work/docs/a": "2"})
    found = plan(repo.root / "work", ["lib", "docs"], environ={}, affected=Range("HEAD~1")).graph.tasks
    assert list(found) == ["docs"]


def test_a_new_commit_of_a_submodule_reaches_who_reads_it(repo, tmp_path):
    inner = type(repo)(tmp_path / "inner")
    inner.commit({"x": "1"})
    repo.commit(
        FILES
        | {
            "dte.toml": '[tasks.t]\ncommand = "x"\ninputs = ["vendor/**"]\n[tasks.u]\ncommand = "x"\ninputs = ["lib/**"]'
        }
    )
    repo.git("submodule", "--quiet", "add", f"file://{inner.root}", "vendor")
    repo.commit()
    assert affected(repo, "t", "u", base="HEAD") == []
    inner.commit({"x": "2"})
    repo.git("-C", "vendor", "pull", "-q", "origin", "main")
    assert affected(repo, "t", "u", base="HEAD") == ["t"]
    repo.commit()
    assert affected(repo, "t", "u", base="HEAD~1", head="HEAD") == ["t"]


@pytest.mark.parametrize("change", [{"vendor/x": "2"}, {"vendor/new": "1"}])
def test_what_is_not_committed_in_a_submodule_reaches_who_reads_it(repo, tmp_path, change):
    inner = type(repo)(tmp_path / "inner")
    inner.commit({"x": "1", "y": "1"})
    tasks = {"t": '["vendor/**"]', "u": '["vendor/y"]', "v": '["lib/**"]'}
    text = "".join(f'[tasks.{name}]\ncommand = "x"\ninputs = {inputs}\n' for name, inputs in tasks.items())
    repo.commit(FILES | {"dte.toml": text})
    repo.git("submodule", "--quiet", "add", f"file://{inner.root}", "vendor")
    repo.commit()
    repo.files(change)
    assert affected(repo, "t", "u", "v", base="HEAD") == ["t"]
    # Where the commit that was meant has not been fetched, all of it may be new.
    repo.git("update-index", "--cacheinfo", f"160000,{'1' * 40},vendor")
    repo.git("commit", "-q", "-m", "a commit that nobody has")
    assert affected(repo, "t", "u", "v", base="HEAD") == ["t", "u"]


def test_what_a_task_no_longer_depends_on_reaches_it(repo):
    text = """
[tasks.build]
each = "packages/*/package.toml"
command = "x"
[tasks.deploy]
command = "x"
deps = ["build"]
inputs = ["deploy.sh"]
"""
    repo.commit({"dte.toml": text} | {f"packages/{name}/package.toml": "" for name in "abc"})
    repo.git("rm", "-q", "-r", "packages/c")
    assert affected(repo, "build", base="HEAD") == []
    assert "deploy" in affected(repo, "deploy", base="HEAD")
    repo.commit()
    assert "deploy" in affected(repo, "deploy", base="HEAD~1", head="HEAD")


def test_another_division_into_shards_reaches_those_that_change_by_it(repo):
    text = '[tasks.t]\ncommand = "x {files}"\nshards = { files = "t/*.py", max = 2 }\ninputs = ["src/**"]'
    repo.commit({"dte.toml": text, "t/a.py": "", "t/b.py": "", "src/x": ""})
    repo.commit({"t/c.py": ""})
    assert affected(repo, "t", base="HEAD~1") == ["t/1"]


def test_a_change_behind_a_link_reaches_who_reads_it(repo):
    text = '[tasks.t]\ncommand = "x"\ninputs = ["a/link/*"]\n[tasks.u]\ncommand = "x"\ninputs = ["a/x"]'
    repo.commit({"dte.toml": text, "a/x": "1", "s/x": "1", "s/y/x": "1", "t/x": "2"})
    (repo.root / "to").symlink_to("s")
    (repo.root / "a/link").symlink_to("../to")
    repo.commit()
    for change, reached in [({"s/x": "2"}, ["t"]), ({"s/y/x": "2"}, []), ({"t/x": "1"}, [])]:
        repo.commit(change)
        assert (
            affected(repo, "t", "u", base="HEAD~1") == affected(repo, "t", "u", base="HEAD~1", head="HEAD") == reached
        )
    (repo.root / "to").unlink()
    (repo.root / "to").symlink_to("t")
    assert affected(repo, "t", "u", base="HEAD") == ["t"]


def test_an_unknown_base_says_what_to_fetch(branch):
    assert refusal(branch, "nowhere") == "nowhere is not known in this clone: git fetch origin nowhere"
    other = branch.clone("other")
    assert "git fetch origin gone:refs/remotes/origin/gone" in refusal(other, "origin/gone")
    assert "take a branch, a tag or a commit" in refusal(branch, "--all")
    assert "nope is not known" in refusal(branch, "main", "nope")


def test_a_shallow_clone_says_how_to_get_the_history(branch):
    branch.commit({"docs/a": "2"})
    branch.git("checkout", "-q", "main")
    branch.commit({"lib/a": "2"})
    shallow = branch.clone("other", "--depth=1", "--no-single-branch", "--branch=topic")
    found = refusal(shallow, "origin/main")
    assert "this clone is shallow" in found
    assert "git fetch --unshallow" in found
    single = branch.clone("third", "--depth=1", "--branch=topic")
    assert "git fetch origin main:refs/remotes/origin/main (this clone is shallow" in refusal(single, "origin/main")


def test_histories_without_a_common_commit_are_refused(branch):
    branch.git("checkout", "-q", "--orphan", "alone")
    branch.commit({"lib/a": "another beginning"})
    assert "have no commit in common" in refusal(branch, "main")


def test_a_repository_without_a_commit_is_refused(repo):
    repo.files(FILES)
    assert "has no commit yet" in refusal(repo, "HEAD")


def test_without_git_nothing_can_be_compared(tmp_path):
    (tmp_path / "dte.toml").write_text('[tasks.lib]\ncommand = "x"')
    with pytest.raises(UsageError, match="not a git repository"):
        plan(tmp_path, ["lib"], environ={}, affected=Range("main"))
