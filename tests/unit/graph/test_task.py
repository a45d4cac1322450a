"""Tasks as they travel: what is written is read again, and what is no task is refused with the name of its field."""

import pytest

from mesh.errors import RemoteError
from mesh.graph import Resources, Task
from mesh.graph.task import RETRIES_MAX, TASK_ID_CHARS_MAX
from mesh.types import TaskId

FULL = Task(
    id=TaskId("app:build"),
    tool="native",
    deps=(TaskId("lib:build"),),
    key="0011",
    cache=False,
    outputs=("dist/**",),
    where="agent",
    runs_on=("gpu",),
    resources=Resources(cpu=2, memory_bytes=3, gpu=1),
    mutex="db",
    whole_agent=True,
    allow_failure=True,
    timeout_ms=5,
    retries=RETRIES_MAX,
    secret_env=("TOKEN",),
    description="builds it",
    payload={"command": ["make"], "nested": {"a": [1, None, True]}},
)


@pytest.mark.parametrize("task", [FULL, Task(id=TaskId("a"), tool="native")], ids=["full", "plain"])
def test_a_task_that_was_written_is_read_again(task):
    assert Task.from_json(task.to_json()) == task


def test_unknown_fields_are_ignored():
    assert Task.from_json({**FULL.to_json(), "since_next_year": 1}) == FULL


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", 1),
        ("id", "x" * (TASK_ID_CHARS_MAX + 1)),
        ("tool", None),
        ("deps", "lib:build"),
        ("deps", [1]),
        ("cache", 1),
        ("where", "moon"),
        ("resources", []),
        ("resources", {"cpu": -1, "memory_bytes": 0, "gpu": 0}),
        ("resources", {"cpu": 1.5, "memory_bytes": 0, "gpu": 0}),
        ("whole_agent", "yes"),
        ("timeout_ms", -1),
        ("timeout_ms", True),
        ("retries", RETRIES_MAX + 1),
        ("payload", []),
    ],
)
def test_a_field_of_the_wrong_kind_is_malformed_and_named(field, value):
    with pytest.raises(RemoteError, match=field if field != "resources" else "resources|cpu") as caught:
        Task.from_json({**FULL.to_json(), field: value})
    assert caught.value.word == "malformed"


@pytest.mark.parametrize("field", [name for name in FULL.to_json() if name != "where"])
def test_a_field_that_is_missing_is_malformed(field):
    value = FULL.to_json()
    del value[field]
    with pytest.raises(RemoteError) as caught:
        Task.from_json(value)
    assert caught.value.word == "malformed"
