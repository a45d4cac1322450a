import pytest

from mesh.adapters.native.drift import drift
from mesh.adapters.native.plan import plan
from mesh.graph import Graph

TEXT = """
[tasks.gen]
command = "x"
inputs = ["proto/**"]
outputs = ["gen/**"]
[tasks.lint]
command = "x"
inputs = ["src/**"]
secret_env = ["TOKEN"]
[tasks.test]
command = "x"
deps = ["gen"]
[tasks.deploy]
command = "x"
where = "main"
secret_env = ["KEY"]
"""
FILES = {"dte.toml": TEXT, "proto/x": "1", "src/a": "1", "src/b": "1", "src/c": "1", "src/d": "1"}
ENVIRON = {"TOKEN": "here"}


@pytest.fixture
def main(repo):
    repo.commit(FILES)
    return repo


@pytest.fixture
def agent(main):
    return main.clone("agent")


def drifted(main, agent, *, with_manifest=True, environ=ENVIRON):
    made = plan(main.root, ["gen", "lint", "test", "deploy"], environ={})
    graph = Graph.decode(made.graph.encode())
    return drift(agent.root, graph, made.manifest if with_manifest else None, environ=environ)


def test_the_same_commit_does_not_drift(main, agent):
    assert drifted(main, agent) == {}
    assert drifted(main, agent, with_manifest=False) == {}


def test_another_content_is_named(main, agent):
    agent.files({"src/a": "2"})
    assert drifted(main, agent)["lint"] == "its inputs are not main's: src/a (another content)"


def test_a_file_on_one_side_only_is_named(main, agent):
    main.files({"src/new": "1"})
    agent.files({"src/extra": "1"})
    (agent.root / "src/b").chmod(0o755)
    assert (
        drifted(main, agent)["lint"]
        == "its inputs are not main's: src/b (another mode), src/extra (only here), src/new (not here)"
    )


def test_what_is_behind_a_link_is_compared_as_well(main, agent):
    for repo in (main, agent):
        (repo.root / "src/link").symlink_to("../proto")
    assert drifted(main, agent) == {}
    agent.files({"proto/x": "2"})
    assert drifted(main, agent)["lint"] == "its inputs are not main's: proto/x (another content)"
    agent.files({"proto/x": "1"})
    (agent.root / "src/link").unlink()
    (agent.root / "src/link").symlink_to("../other")
    assert drifted(main, agent)["lint"] == "its inputs are not main's: src/link (another content)"


def test_three_paths_are_named_and_the_rest_is_counted(main, agent):
    agent.files({f"src/{name}": "2" for name in "abcd"})
    assert drifted(main, agent)["lint"].endswith("src/c (another content) and 1 more")


def test_without_mains_manifest_it_is_only_said_that_something_differs(main, agent):
    agent.files({"src/a": "2"})
    assert drifted(main, agent, with_manifest=False)["lint"] == "its inputs or its definition are not main's"


def test_only_the_tasks_that_read_a_file_drift_by_it(main, agent):
    agent.files({"proto/x": "2"})
    assert set(drifted(main, agent)) == {"gen", "test"}
    agent.files({"proto/x": "1", "src/a": "2"})
    assert set(drifted(main, agent)) == {"lint", "test"}


def test_results_that_the_run_brought_here_are_no_drift(main, agent):
    agent.files({"gen/x": "restored"})
    assert drifted(main, agent) == {}


def test_a_missing_secret_is_named_but_not_that_of_a_task_of_mains(main, agent):
    for environ in ({}, {"TOKEN": ""}):
        assert drifted(main, agent, environ=environ) == {"lint": "TOKEN (secret_env) is not set here"}


def test_another_machine_is_named_where_files_are_made(main, agent, monkeypatch):
    made = plan(main.root, ["gen", "lint"], environ={})
    monkeypatch.setattr("platform.machine", lambda: "pdp11")
    found = drift(agent.root, made.graph, made.manifest, environ=ENVIRON)
    assert set(found) == {"gen"}
    assert found["gen"].endswith("and this is linux/pdp11")


def test_another_making_of_keys_is_named(main, agent, monkeypatch):
    made = plan(main.root, ["lint"], environ={})
    monkeypatch.setattr("mesh.adapters.native.drift.KEY_VERSION", 9)
    found = drift(agent.root, made.graph, made.manifest, environ=ENVIRON)
    assert "run the same dte on both" in found["lint"]


def test_tasks_of_other_tools_are_not_looked_at(main, agent):
    made = plan(main.root, ["lint"], environ={})
    task = made.graph.tasks["lint"]
    other = type(task)(id="x", tool="nx", payload={})
    assert drift(agent.root, Graph.of([task, other]), made.manifest, environ=ENVIRON) == {}


def test_values_of_main_do_not_drift(main, agent):
    main.commit({"dte.toml": TEXT.replace('inputs = ["src/**"]', 'inputs = ["src/**"]\npass_env = ["A", "B"]')})
    agent.git("pull", "-q")
    made = plan(main.root, ["lint"], environ={"A": "on main"})
    assert drift(agent.root, made.graph, made.manifest, environ={"TOKEN": "x", "B": "here"}) == {}
