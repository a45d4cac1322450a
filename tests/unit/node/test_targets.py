"""What `dte join --targets GLOB` means for each tool's tasks, and what an agent that was let go ends with."""

import pytest

from mesh.graph import Task
from mesh.node.agent import exit_code_of
from mesh.node.peer import Outcome
from mesh.node.targets import beside
from mesh.protocol.effects import End
from mesh.types import TaskId


def nx(name, project, target):
    payload = {"tasks": [{"task": {"id": name, "target": {"project": project, "target": target}}}]}
    return Task(id=TaskId(name), tool="nx", payload=payload)


TASKS = {
    task.id: task
    for task in (
        nx("web:build:production", "web", "build"),
        nx("2/:app:test", ":app", "test"),
        nx("shop:e2e-ci--src/cart.spec.ts", "shop", "e2e-ci--src/cart.spec.ts"),
        Task(id=TaskId("@acme/web#build"), tool="turbo"),
        Task(id=TaskId("2///#lint"), tool="turbo"),
        Task(id=TaskId("packages/web:build"), tool="native"),
        Task(id=TaskId("deploy"), tool="native"),
        Task(id=TaskId("packages/web:unit/2"), tool="native"),
    )
}


def taken(*globs):
    return [task for task in TASKS if task not in beside(globs, TASKS)]


@pytest.mark.parametrize(
    ("globs", "tasks"),
    [
        (["build"], ["web:build:production", "@acme/web#build", "packages/web:build"]),
        (["test"], ["2/:app:test"]),
        (["e2e*"], ["shop:e2e-ci--src/cart.spec.ts"]),
        (["lint", "deploy"], ["2///#lint", "deploy"]),
        (["unit"], ["packages/web:unit/2"]),
        (["unit/2"], ["packages/web:unit/2"]),
        (["web:*"], ["web:build:production"]),
        (["@acme/*"], ["@acme/web#build"]),
        (["*"], list(TASKS)),
        (["buil"], []),
        ([], list(TASKS)),
    ],
)
def test_a_glob_means_a_target_or_a_whole_id(globs, tasks):
    assert taken(*globs) == tasks


def test_the_reason_names_the_globs():
    assert beside(["test", "e2e*"], TASKS)[TaskId("deploy")] == "it is there for test, e2e* only"


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (End("success", ""), 0),
        (End("failure", ""), 1),
        (End(None, "the main job did not come back"), 1),
        (End(None, "this agent is not needed any more", released=True), 0),
    ],
)
def test_an_agent_that_was_let_go_ends_well_also_where_it_follows_the_run(end, code):
    assert exit_code_of(Outcome(end), exit_with_run=True) == code
    assert exit_code_of(Outcome(end), exit_with_run=False) == 0
