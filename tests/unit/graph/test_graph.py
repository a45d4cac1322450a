"""Graphs are checked once, at their door: behind it nobody meets a cycle, an unknown name or a wrong order."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.errors import RemoteError
from mesh.graph import Graph, Task, graph
from mesh.types import TaskId
from mesh.wire import canonical


def task(name, *deps):
    return Task(id=TaskId(name), tool="test", deps=tuple(TaskId(dep) for dep in deps))


def refused(word, tasks):
    with pytest.raises(RemoteError) as caught:
        Graph.of(tasks)
    assert caught.value.word == word
    return str(caught.value)


def test_tasks_stand_behind_all_they_depend_on_and_else_in_the_order_in_which_they_were_named():
    made = Graph.of([task("c", "a", "b"), task("z"), task("a"), task("b", "a")])
    assert list(made.tasks) == ["z", "a", "b", "c"]


def test_a_dependency_that_is_named_twice_counts_once():
    assert list(Graph.of([task("b", "a", "a"), task("a")]).tasks) == ["a", "b"]


def test_a_cycle_is_refused_and_shown():
    said = refused("cycle", [task("a", "c"), task("b", "a"), task("c", "b"), task("d", "a"), task("e")])
    assert "a → c → b → a" in said


def test_a_task_that_depends_on_itself_is_a_cycle():
    assert "a → a" in refused("cycle", [task("a", "a")])


def test_an_unknown_dependency_is_refused_by_name():
    assert "b depends on a" in refused("unknown-dependency", [task("b", "a")])


def test_two_tasks_of_one_name_are_refused():
    refused("duplicate-task", [task("a"), task("a")])


def test_dependents_and_the_closure_are_in_the_order_of_the_graph():
    made = Graph.of([task("a"), task("b", "a"), task("c", "a"), task("d", "c", "b")])
    assert made.dependents() == {"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}
    assert made.closure(TaskId("d")) == ["a", "b", "c"]
    assert made.closure(TaskId("b")) == ["a"]
    assert made.closure(TaskId("a")) == []


def test_a_graph_that_was_encoded_is_decoded_again():
    made = Graph.of([task("b", "a"), task("a")])
    again = Graph.decode(made.encode())
    assert again == made
    assert list(again.tasks) == list(made.tasks)


def test_another_version_is_refused_with_both():
    with pytest.raises(RemoteError, match="graph format 2; this dte reads 1") as caught:
        Graph.decode(canonical.encode({"version": 2, "tasks": []}))
    assert caught.value.word == "version"


@pytest.mark.parametrize(
    "data", [b"", b"[]", b'{"version":1}', b'{"version":1,"tasks":{}}', b'{"version":1,"tasks":[1]}']
)
def test_what_is_no_graph_is_malformed(data):
    with pytest.raises(RemoteError) as caught:
        Graph.decode(data)
    assert caught.value.word == "malformed"


def test_more_bytes_than_the_limit_are_refused_before_they_are_read(monkeypatch):
    monkeypatch.setattr(graph, "GRAPH_BYTES_MAX", 10)
    with pytest.raises(RemoteError) as caught:
        Graph.decode(b"not even JSON")
    assert caught.value.word == "too-large"


def test_more_tasks_than_the_limit_are_refused(monkeypatch):
    data = Graph.of([task("a"), task("b")]).encode()
    monkeypatch.setattr(graph, "GRAPH_TASKS_MAX", 1)
    with pytest.raises(RemoteError, match="at most 1 items"):
        Graph.decode(data)


@settings(deadline=None)
@given(st.data())
def test_any_names_in_any_order_make_a_topological_order_or_are_refused(data):
    names = data.draw(st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=8))
    tasks = [task(name, *data.draw(st.lists(st.sampled_from(names), max_size=3))) for name in names]
    try:
        made = Graph.of(tasks)
    except RemoteError as error:
        assert error.word == "cycle"  # noqa: PT017  that it is refused is no failure
        return
    place = {name: index for index, name in enumerate(made.tasks)}
    assert sorted(place) == sorted(names)
    assert all(place[dep] < place[one.id] for one in tasks for dep in one.deps)
