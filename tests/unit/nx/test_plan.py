"""From nx's plan to the mesh's graph, and back."""

from typing import Any

import pytest

from mesh.adapters.nx.plan import Plan, nx_graph, nx_id
from mesh.errors import RemoteError
from mesh.graph import Graph


def raw(name: str, **more: Any) -> dict[str, Any]:
    project, target = name.split(":")
    return {
        "id": name,
        "target": {"project": project, "target": target},
        "overrides": {},
        "projectRoot": f"packages/{project}",
        "outputs": [f"packages/{project}/dist"],
        "cache": True,
        "parallelism": True,
        "continuous": False,
        "hash": f"hash of {name}",
        **more,
    }


def message(tasks: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {
        "nx": "24.0.6",
        "node": "v20.20.2",
        "runs_single_tasks": True,
        "command": ["run-many"],
        "initiating": [tasks[-1]["id"]] if tasks else [],
        "parallel": 3,
        "bail": False,
        "skip_cache": False,
        "skip_remote_cache": False,
        "other_remote_cache": "",
        "legacy_cache": False,
        "node_path": [],
        "everything_is_here": False,
        "local": [],
        "settled": [],
        "tasks": {task["id"]: task for task in tasks},
        "inputs": {},
        "dependencies": {},
        "continuous_dependencies": {},
        **more,
    }


def plan(*tasks: dict[str, Any], **more: Any) -> Plan:
    return Plan.from_json(message(list(tasks), **more))


def test_a_cacheable_task_may_run_anywhere_under_nx_own_hash():
    task = plan(raw("p1:build")).to_graph().tasks["p1:build"]
    assert (task.where, task.key, task.outputs, task.tool) == ("any", "hash of p1:build", ("packages/p1/dist",), "nx")


def test_what_is_not_cached_runs_on_main():
    assert plan(raw("p1:deploy", cache=False)).to_graph().tasks["p1:deploy"].where == "main"


@pytest.mark.parametrize("output", ["../dist", "/tmp/x", "packages/../../x"])
def test_what_writes_outside_the_workspace_runs_on_main(output: str):
    assert plan(raw("p1:build", outputs=[output])).to_graph().tasks["p1:build"].where == "main"


def test_a_hash_that_depends_on_outputs_is_not_known_beforehand():
    assert plan(raw("p1:test", hash="")).to_graph().tasks["p1:test"].key == ""


def test_what_nx_has_already_is_a_task_only_where_something_waits_for_it_or_it_for_something():
    chain = {"p1:build": ["p0:build"], "p2:build": ["p1:build"], "p3:test": ["p3:gen"]}
    planned = plan(
        raw("p0:build"),
        raw("p1:build"),
        raw("p2:build"),
        raw("p9:build"),
        raw("p3:gen", cache=False),
        raw("p3:test"),
        dependencies=chain,
        local=["p0:build", "p1:build", "p9:build", "p3:test"],
        settled=["p0:build", "p1:build", "p9:build"],
    )
    tasks = planned.to_graph().tasks
    assert {name: (task.where, task.cache) for name, task in tasks.items()} == {
        "p0:build": ("main", False),
        "p1:build": ("main", False),
        "p2:build": ("any", True),
        "p3:gen": ("main", False),
        "p3:test": ("main", False),
    }
    assert planned.needed() == {"p0:build", "p1:build"}


def test_a_task_that_tolerates_no_neighbour_takes_an_agent_of_its_own():
    assert plan(raw("p1:e2e", parallelism=False)).to_graph().tasks["p1:e2e"].whole_agent


@pytest.mark.parametrize("edge", ["p0:build", {"id": "p0:build", "inputs": True}])
def test_edges_are_understood_in_the_forms_of_all_versions(edge: Any):
    graph = plan(raw("p0:build"), raw("p1:build"), dependencies={"p1:build": [edge]}).to_graph()
    assert graph.tasks["p1:build"].deps == ("p0:build",)
    assert nx_graph(graph)["dependencies"]["p1:build"] == [edge]


def test_a_continuous_task_goes_where_its_consumer_goes():
    graph = plan(
        raw("p0:build"),
        raw("db:serve", continuous=True, cache=False),
        raw("p0:serve", continuous=True, cache=False),
        raw("p0:e2e"),
        dependencies={"p0:serve": ["p0:build"]},
        continuous_dependencies={"p0:e2e": ["p0:serve"], "p0:serve": ["db:serve"]},
    ).to_graph()
    assert list(graph.tasks) == ["p0:build", "p0:e2e"]
    assert graph.tasks["p0:e2e"].deps == ("p0:build",)
    again = nx_graph(graph)
    assert again["tasks"].keys() == {"p0:build", "db:serve", "p0:serve", "p0:e2e"}
    assert again["continuousDependencies"]["p0:serve"] == ["db:serve"]


def test_nx_graph_survives_the_wire():
    graph = plan(raw("p0:build"), raw("p1:build"), dependencies={"p1:build": ["p0:build"]}).to_graph()
    assert nx_graph(Graph.decode(graph.encode())) == nx_graph(graph)


def test_tasks_of_a_second_command_have_names_of_their_own():
    graph = plan(raw("p0:build"), raw("p1:build"), dependencies={"p1:build": ["p0:build"]}).to_graph("2/")
    assert graph.tasks["2/p1:build"].deps == ("2/p0:build",)
    assert nx_id(graph.tasks["2/p1:build"]) == "p1:build"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"runs_single_tasks": False, "nx": "20.1.0"}, "nx 20.1.0"),
        ({"skip_cache": True}, "not to use its cache"),
        ({"skip_remote_cache": True}, "not to use its cache"),
        ({"other_remote_cache": "@nx/s3-cache"}, "@nx/s3-cache"),
        ({"legacy_cache": True}, "useLegacyCache"),
    ],
)
def test_what_dte_cannot_do_is_said_beforehand(more: dict[str, Any], reason: str):
    assert reason in plan(raw("p1:build"), **more).objection


def test_where_everything_is_in_nx_cache_the_plan_needs_no_tasks_to_be_left_to_nx():
    assert "already" in Plan.from_json(message([], everything_is_here=True, initiating=["p1:build"])).objection


def test_a_command_that_never_ends_is_left_to_nx():
    assert "p0:serve" in plan(raw("p0:serve", continuous=True)).objection


def test_an_empty_plan_is_left_to_nx():
    assert plan().objection


def test_a_plan_with_a_part_missing_is_malformed():
    broken = message([raw("p1:build")])
    del broken["settled"]
    with pytest.raises(RemoteError, match=r"plan\.settled"):
        Plan.from_json(broken)
