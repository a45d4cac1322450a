from pathlib import Path

import pytest

from mesh.adapters.native.plan import plan
from mesh.errors import UsageError
from mesh.graph import Graph


def planned(repo, *names, environ=None):
    return plan(repo.root, names, environ=environ or {})


def ids(result):
    return list(result.graph.tasks)


def refusal(repo, *names):
    with pytest.raises(UsageError) as caught:
        planned(repo, *names)
    return str(caught.value)


def keys(repo, *names, environ=None):
    return {task.id: task.key for task in planned(repo, *names, environ=environ).graph.tasks.values()}


MONOREPO = """
[tasks.gen]
command = "make gen"
inputs = ["proto/**"]
outputs = ["gen/**"]

[tasks.build]
each = "packages/*/package.toml"
command = "make"
deps = ["gen"]
outputs = ["dist/**"]

[tasks.test]
each = "packages/*/package.toml"
command = ["pytest", "-q"]
deps = ["build"]

[tasks.deploy]
command = "./deploy"
deps = ["build", "packages/a:test"]
cache = false
where = "main"
description = "to production"
"""
FILES = {
    "dte.toml": MONOREPO,
    ".gitignore": "dist/\ngen/\n",
    "proto/x.proto": "x",
    "packages/a/package.toml": "a",
    "packages/b/package.toml": "b",
    "packages/b/src.py": "b",
}


# --- names -----------------------------------------------------------------------------------------


def test_a_name_means_the_task_in_every_directory_and_all_it_depends_on(repo):
    repo.commit(FILES)
    assert ids(planned(repo, "build")) == ["gen", "packages/a:build", "packages/b:build"]


def test_a_directory_and_a_name_mean_one_task(repo):
    repo.commit(FILES)
    assert ids(planned(repo, "packages/b:test")) == ["gen", "packages/b:build", "packages/b:test"]


def test_a_dependency_is_the_one_of_the_same_directory_or_all_of_that_name(repo):
    repo.commit(FILES)
    tasks = planned(repo, "test", "deploy").graph.tasks
    assert tasks["packages/a:test"].deps == ("packages/a:build",)
    assert tasks["deploy"].deps == ("packages/a:build", "packages/b:build", "packages/a:test")


def test_an_unknown_name_is_answered_with_close_ones_and_all(repo):
    repo.commit(FILES)
    text = refusal(repo, "biuld")
    assert "there is no task 'biuld' in dte.toml; did you mean build" in text
    assert "deploy  to production" in text
    assert "(packages/a:build, in 2 directories)" in text


def test_without_a_name_the_tasks_are_listed(repo):
    repo.commit(FILES)
    assert refusal(repo).startswith("name the tasks to run: dte run TASK…\n  gen")


def test_a_task_of_the_root_directory_is_called_dot(repo):
    repo.commit({"dte.toml": '[tasks.t]\neach = "**/pkg"\ncommand = "x"', "pkg": "", "a/pkg": ""})
    assert ids(planned(repo, ".:t")) == [".:t"]
    assert ids(planned(repo, "t")) == [".:t", "a:t"]


# --- shards ----------------------------------------------------------------------------------------


def test_files_are_divided_into_shards_and_the_bare_name_means_all(repo):
    text = """
[tasks.t]
cwd = "api"
command = "pytest --junitxml=out/{shard}.xml {files} ${shards} {x}"
outputs = ["out/{shard}.xml"]
shards = { files = "tests/test_*.py", max = 2 }
[tasks.all]
command = "x"
deps = ["t"]
"""
    repo.commit({"dte.toml": text, **{f"api/tests/test_{name}.py": "" for name in ("a", "b", "c d")}})
    tasks = planned(repo, "all").graph.tasks
    assert list(tasks) == ["t/1", "t/2", "all"]
    assert tasks["all"].deps == ("t/1", "t/2")
    first = tasks["t/1"]
    assert first.payload["command"] == "pytest --junitxml=out/1.xml tests/test_a.py 'tests/test_c d.py' ${shards} {x}"
    assert (first.payload["shard"], first.payload["shards"], first.payload["cwd"]) == (1, 2, "api")
    assert first.outputs == ("api/out/1.xml",)
    assert first.key != tasks["t/2"].key
    assert ids(planned(repo, "t/2")) == ["t/2"]


def test_a_list_takes_files_as_arguments(repo):
    text = '[tasks.t]\ncommand = ["run", "{files}", "--of={shards}"]\nshards = { files = "*.py", max = 1 }'
    repo.commit({"dte.toml": text, "a b.py": "", "c.py": ""})
    assert planned(repo, "t").graph.tasks["t/1"].payload["command"] == ["run", "a b.py", "c.py", "--of=1"]


def test_there_are_no_more_shards_than_files(repo):
    repo.commit(
        {"dte.toml": '[tasks.t]\ncommand = "x {files}"\nshards = { files = "*.py", max = 8 }', "a.py": "", "b.py": ""}
    )
    assert ids(planned(repo, "t")) == ["t/1", "t/2"]


def test_shards_of_no_file_are_refused(repo):
    repo.commit({"dte.toml": '[tasks.t]\ncommand = "x {files}"\nshards = { files = "*.py", max = 8 }'})
    assert "dte.toml:3: tasks.t.shards: '*.py' matches no file" in refusal(repo, "t")


def test_a_directory_without_files_to_divide_is_a_notice(repo):
    text = '[tasks.t]\neach = "*/p"\ncommand = "x {files}"\nshards = { files = "*.py", max = 8 }\n[tasks.u]\ncommand = "x"\ndeps = ["b:t"]'
    repo.commit({"dte.toml": text, "a/p": "", "a/x.py": "", "b/p": ""})
    result = planned(repo, "t", "u")
    assert ids(result) == ["a:t/1", "u"]
    assert "t: no file in b matches '*.py'; nothing is run there" in result.notices


def test_a_shard_that_does_not_fit_a_command_line_is_refused(repo):
    text = '[tasks.t]\ncommand = "x {files}"\nshards = { files = "f/**", max = 1 }'
    repo.commit({"dte.toml": text, **{f"f/{'long' * 50}{number}": "" for number in range(700)}})
    assert "do not fit in one command line; raise `max`" in refusal(repo, "t")


# --- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[tasks.a]\ncommand = "x"\ndeps = [\n"a2",\n"biuld"]\n[tasks.a2]\ncommand="x"\n[tasks.build]\ncommand = "x"', "5: tasks.a.deps: 'biuld' is not a task; did you mean 'build'?"),
        ('[tasks.a]\ncommand = "x"\ndeps = ["b"]\n[tasks.b]\ncommand = "x"\ndeps = ["c"]\n[tasks.c]\ncommand = "x"\ndeps = ["a"]', "a → b → c → a"),
        ('[tasks.a]\ncommand = "x"\ndeps = ["a"]', "3: tasks.a.deps: tasks wait for each other: a → a"),
        ('[tasks.a]\neach = "none/*"\ncommand = "x"', "2: tasks.a.each: 'none/*' matches no file"),
        ('[tasks.a]\ncommand = "x"\noutputs = ["d/**"]\n[tasks.b]\ncommand = "x"\noutputs = ["d/e"]', "6: tasks.b.outputs: 'd/e' of b and 'd/**' of a can be the same path"),
        ('[tasks.a]\ncommand = "x"\nshards = 2\noutputs = ["d/**"]', "put {shard} into the path"),
        ('[tasks.a]\ncommand = "x"\noutputs = ["**"]', "3: tasks.a.outputs: ** covers .git"),
        ('[tasks.a]\ncommand = "x"\ncwd = "src"\noutputs = ["**"]', "src/** covers the sources in src"),
        ('[tasks.a]\ncommand = "x"\ncwd = "src"\noutputs = ["/src"]', "src covers the sources in src"),
        ('[tasks.a]\ncommand = "x"\noutputs = ["*.toml"]', "covers the sources in the workspace"),
        ('[tasks.a]\ncommand = "x"\ncwd = "nowhere"', "3: tasks.a.cwd: there is no directory 'nowhere'"),
        ('[tasks.a]\ncommand = "x"\ncwd = "out"', "leads out of the workspace through a symbolic link"),
        ('[tasks.a]\ncommand = "x"\noutputs = ["ok",\n"out/x/**"]', "4: tasks.a.outputs: 'out/x/**' leads out"),
        ('[tasks.a]\ncommand = "x"\ninputs = ["/out/*"]', "3: tasks.a.inputs: 'out/*' leads out"),
        ('[tasks.a]\ncommand = "x"\ninputs = ["loop/x"]', "'loop/x' leads out"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_with_its_line_before_anything_runs(repo, text, says):
    (repo.root / "out").symlink_to("/tmp")
    (repo.root / "loop").symlink_to("loop")
    repo.commit({"dte.toml": text, "src/a.c": "x"})
    found = refusal(repo, "a")
    assert found.startswith("dte.toml:")
    assert says in found
    assert len(found.splitlines()) == 1


def test_a_cycle_is_told_on_the_line_of_a_task_in_it(repo):
    repo.commit({"dte.toml": '[tasks.t]\ncommand = "x"\n[tasks.a]\ncommand = "x"\ndeps = ["a"]'})
    assert refusal(repo, "t").startswith("dte.toml:5: tasks.a.deps")


def test_a_directory_that_another_task_makes_may_be_one_to_run_in(repo):
    repo.commit(
        {
            "dte.toml": '[tasks.a]\ncommand = "x"\noutputs = ["gen/**"]\n[tasks.b]\ncommand = "x"\ncwd = "gen/sub"\ndeps = ["a"]'
        }
    )
    assert ids(planned(repo, "b")) == ["a", "b"]


# --- paths -----------------------------------------------------------------------------------------


def test_globs_are_relative_to_the_directory_and_with_a_slash_to_the_workspace(repo):
    text = '[tasks.t]\neach = "p/*/m"\ncommand = "x"\ncwd = "src"\ninputs = ["*.c", "!x.c", "/top"]\noutputs = ["o", "/q/r"]'
    repo.commit({"dte.toml": text, "p/a/m": "", "p/a/src/y.c": "", "p/a/src/x.c": "", "top": "", "p/a/z.c": ""})
    result = planned(repo, "t")
    assert list(result.manifest) == ["p/a/src/y.c", "top"]
    task = result.graph.tasks["p/a:t"]
    assert task.outputs == ("p/a/src/o", "q/r")
    assert task.payload["cwd"] == "p/a/src"


def test_a_directory_with_the_characters_of_a_glob_is_only_itself(repo):
    repo.commit(
        {
            "dte.toml": '[tasks.t]\neach = "*/m"\ncommand = "x"',
            "[id]/m": "",
            "i/m": "",
            "{a,b}/m": "",
            "!n/m": "",
            "a/m": "",
        }
    )
    for name in ("[id]", "i", "{a,b}", "!n", "a"):
        assert list(planned(repo, f"{name}:t").manifest) == [f"{name}/m"]


# --- keys ------------------------------------------------------------------------------------------


def test_a_key_is_the_same_in_another_checkout(repo):
    repo.commit(FILES)
    assert keys(repo, "deploy") == keys(repo.clone("other"), "deploy")


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        ({"packages/b/src.py": "B"}, {"packages/b:build", "packages/b:test", "deploy"}),
        ({"packages/b/new.py": ""}, {"packages/b:build", "packages/b:test", "deploy"}),
        (
            {"proto/x.proto": "y"},
            {"gen", "packages/a:build", "packages/b:build", "packages/a:test", "packages/b:test", "deploy"},
        ),
        ({"README": "x"}, {"deploy"}),
        ({"packages/a/dist/x": "ignored"}, set()),
        ({"dte.toml": MONOREPO + "\n# a comment"}, set()),
        ({"dte.toml": MONOREPO.replace("./deploy", "./ship")}, {"deploy"}),
        (
            {"dte.toml": MONOREPO.replace('["pytest", "-q"]', '"pytest -q"')},
            {"packages/a:test", "packages/b:test", "deploy"},
        ),
        ({"dte.toml": MONOREPO.replace('command = "./deploy"', 'command = "./deploy"\nenv.A = "1"')}, {"deploy"}),
        ({"dte.toml": MONOREPO.replace('description = "to production"', "retries = 3")}, set()),
    ],
)
def test_a_key_changes_with_what_can_change_the_result_and_with_nothing_else(repo, change, changed):
    repo.commit(FILES)
    before = keys(repo, "deploy", "test")
    repo.files(change)
    after = keys(repo, "deploy", "test")
    assert {task_id for task_id in before if before[task_id] != after[task_id]} == changed


def test_a_file_made_executable_changes_the_key(repo):
    repo.commit(FILES)
    before = keys(repo, "packages/b:build")
    (repo.root / "packages/b/src.py").chmod(0o755)
    assert keys(repo, "packages/b:build") != before


def test_outputs_are_never_inputs_of_their_task_nor_of_those_that_wait_for_it(repo):
    repo.commit(FILES | {".gitignore": ""})
    before = keys(repo, "test")
    repo.files({"packages/a/dist/x": "made", "gen/x": "made"})
    assert keys(repo, "test") == before


def test_what_is_behind_a_link_is_part_of_the_key_but_not_what_a_dependency_makes_there(repo):
    toml = """
[tasks.make]
command = "make"
inputs = ["src"]
outputs = ["out/**"]

[tasks.test]
command = "test"
deps = ["make"]
inputs = ["packages/a"]
"""
    repo.commit({"dte.toml": toml, "shared/s.txt": "1", "src/x": "1", "packages/a/x": "1"})
    (repo.root / "packages/a/shared.txt").symlink_to("../../shared/s.txt")
    (repo.root / "packages/a/made").symlink_to("../../out")
    repo.commit()
    before = planned(repo, "test")
    assert sorted(before.manifest) == [
        "packages/a/made",
        "packages/a/shared.txt",
        "packages/a/x",
        "shared/s.txt",
        "src/x",
    ]
    repo.commit({"out/made": "a result that git does not ignore"})
    assert keys(repo, "test") == {task.id: task.key for task in before.graph.tasks.values()}
    repo.commit({"shared/s.txt": "2"})
    assert keys(repo, "test")["test"] != before.graph.tasks["test"].key


def test_passed_values_are_taken_on_main_and_are_part_of_the_key(repo):
    text = '[tasks.t]\ncommand = "x"\npass_env = ["CI", "MODE"]\nsecret_env = ["TOKEN"]'
    repo.commit({"dte.toml": text})
    task = planned(repo, "t", environ={"CI": "1", "OTHER": "2", "TOKEN": "hush"}).graph.tasks["t"]
    assert task.payload["pass_env"] == {"CI": "1"}
    assert task.payload["unset_env"] == ["MODE"]
    assert task.secret_env == ("TOKEN",)
    assert task.key != keys(repo, "t", environ={"CI": "2"})["t"]
    assert task.key != keys(repo, "t", environ={"CI": "1", "MODE": ""})["t"]


def test_a_secret_is_neither_shipped_nor_in_the_key(repo):
    repo.commit({"dte.toml": '[tasks.t]\ncommand = "x"\nsecret_env = ["TOKEN"]'})
    result = planned(repo, "t", environ={"TOKEN": "hush"})
    assert b"hush" not in result.graph.encode()
    assert result.graph.tasks["t"].key == keys(repo, "t", environ={"TOKEN": "other"})["t"]


def test_the_machine_is_in_the_key_of_what_makes_files(repo, monkeypatch):
    repo.commit(FILES)
    before = keys(repo, "packages/a:test")
    monkeypatch.setattr("platform.machine", lambda: "pdp11")
    after = keys(repo, "packages/a:test")
    assert after["gen"] != before["gen"]
    text = '[tasks.t]\ncommand = "x"'
    repo.files({"dte.toml": text})
    here = keys(repo, "t")
    monkeypatch.undo()
    assert keys(repo, "t") == here


def test_a_graph_survives_the_wire(repo):
    repo.commit(FILES)
    graph = planned(repo, "deploy", "test").graph
    assert Graph.decode(graph.encode()).encode() == graph.encode()


def test_a_value_that_is_no_text_is_refused(repo):
    repo.commit({"dte.toml": '[tasks.t]\ncommand = "x"\npass_env = ["X"]'})
    with pytest.raises(UsageError, match="the value of X is not UTF-8"):
        planned(repo, "t", environ={"X": "a\udcff"})


# --- notices ---------------------------------------------------------------------------------------


def test_an_input_that_matches_nothing_is_a_notice(repo):
    repo.commit({"dte.toml": '[tasks.t]\ncommand = "x"\ninputs = ["src/**", "a", "!b"]', "a": ""})
    assert planned(repo, "t").notices == (
        "t: inputs 'src/**' matches no file that git knows (ignored files are never inputs)",
    )


def test_one_slip_in_many_tasks_is_one_notice(repo):
    tasks = "\n".join(f'[tasks.t{number}]\ncommand = "x"\ninputs = ["src/**"]' for number in range(9))
    repo.commit({"dte.toml": tasks})
    assert planned(repo, *(f"t{number}" for number in range(9))).notices == (
        "t0 and 8 more: inputs 'src/**' matches no file that git knows (ignored files are never inputs)",
    )


def test_an_input_that_a_dependency_makes_is_no_notice(repo):
    repo.commit(FILES | {"dte.toml": MONOREPO + '\n[tasks.u]\ncommand = "x"\ninputs = ["gen/*.py"]\ndeps = ["deploy"]'})
    assert planned(repo, "u").notices == ()


def test_an_input_that_a_stranger_makes_is_a_notice(repo):
    repo.commit(FILES | {"dte.toml": MONOREPO + '\n[tasks.u]\ncommand = "x"\ninputs = ["gen/*.py"]'})
    assert "u: inputs 'gen/*.py' is made by gen, which is not in its deps" in planned(repo, "u").notices[0]


def test_an_input_need_not_match_in_every_directory(repo):
    repo.commit(
        {
            "dte.toml": '[tasks.t]\neach = "*/p"\ncommand = "x"\ninputs = ["p", "src/**"]',
            "a/p": "",
            "b/p": "",
            "b/src/x": "",
        }
    )
    assert planned(repo, "t").notices == ()


def test_outputs_among_the_sources_are_a_notice(repo):
    repo.commit({"dte.toml": '[tasks.t]\ncommand = "x"\noutputs = ["gen/**"]', "gen/a": "", "gen/b": ""})
    assert "t: its outputs cover gen/a and 1 more, in git's keeping" in planned(repo, "t").notices[0]


def test_outputs_that_git_does_not_ignore_are_a_notice(repo):
    repo.commit({"dte.toml": '[tasks.t]\ncommand = "x"\noutputs = ["gen/**"]'})
    repo.files({"gen/a": ""})
    assert "add them to .gitignore" in planned(repo, "t").notices[0]


# --- the guide -------------------------------------------------------------------------------------


def test_the_file_in_the_guide_works(repo):
    guide = Path(__file__).parents[3] / "docs/guide/tasks.md"
    text = guide.read_text(encoding="utf-8").split("```toml\n")[1].split("```")[0]
    made = {
        "packages/a/pyproject.toml": "",
        "services/api/tests/test_a.py": "",
        "proto/a": "",
        "buf.yaml": "",
        "uv.lock": "",
    }
    repo.commit({"dte.toml": text, ".gitignore": "dist\ngen\nout\n", **made})
    result = planned(repo, "deploy", "gpu-check")
    assert ids(result) == ["proto", "packages/a:build", "api-test/1", "gpu-check", "deploy"]
    assert result.notices == ()
