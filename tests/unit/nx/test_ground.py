"""Nothing is restored into a directory that a running task writes."""

import pytest
import trio
import trio.testing

from mesh.adapters.nx.ground import Ground, Present, lies_within
from mesh.graph import Graph, Task
from mesh.types import TaskId


def task(name: str, *outputs: str) -> Task:
    return Task(TaskId(name), "nx", outputs=outputs)


def test_a_directory_lies_within_the_one_that_holds_it():
    assert lies_within(task("a", "dist/a"), task("all", "dist"))
    assert lies_within(task("a", "dist/a"), task("all", "dist/**/*.js"))
    assert not lies_within(task("all", "dist"), task("a", "dist/a"))
    assert not lies_within(task("b", "dist2"), task("all", "dist"))


def test_what_a_task_depends_on_is_in_its_archive_and_all_else_that_is_there_is_put_back():
    compiled, narrow, same, far = (
        task("compiled", "dist"),
        task("narrow", "dist/a"),
        task("same", "dist"),
        task("far", "lib"),
    )
    stripped = Task(TaskId("stripped"), "nx", deps=(compiled.id,), outputs=("dist",))
    graph = Graph.of((compiled, narrow, same, far, stripped))

    def put_back(restored: Task, *present: Task) -> dict[str, bool]:
        there = Present()
        for each in present:
            there.add(each)
        return {each["outputs"][0]: each["whole"] for each in there.to_put_back(restored, graph)}

    assert put_back(stripped, compiled, far) == {}
    assert put_back(stripped, compiled, narrow) == {"dist/a": True}
    assert put_back(stripped, same) == {"dist": False}
    assert put_back(compiled, stripped) == {"dist": True}
    assert put_back(narrow, same) == {}


@pytest.mark.parametrize("running", ["narrow", "reads", "reads what reads"])
def test_a_restore_waits_for_a_run_that_writes_or_reads_there(running: str):
    narrow = task("narrow", "dist/a")
    reads = Task(TaskId("reads"), "nx", deps=(narrow.id,))
    graph = Graph.of((narrow, reads, Task(TaskId("reads what reads"), "nx", deps=(reads.id,))))

    async def main():
        ground, order = Ground(), []

        async def run():
            async with ground.running(graph.tasks[TaskId(running)], graph):
                order.append("runs")
                await trio.testing.wait_all_tasks_blocked()
                order.append("ran")

        async def restore():
            async with ground.restoring(task("wide", "dist")):
                order.append("restored")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await trio.testing.wait_all_tasks_blocked(0.001)
            nursery.start_soon(restore)
        assert order == ["runs", "ran", "restored"]

    trio.run(main)


def test_runs_do_not_wait_for_each_other_nor_for_restores_elsewhere():
    a, b = task("a", "dist"), task("b", "dist/b")
    graph = Graph.of((a, b))

    async def main():
        ground = Ground()
        with trio.fail_after(1):
            async with (
                ground.running(a, graph),
                ground.running(b, graph),
                ground.restoring(task("c", "lib")),
            ):
                pass

    trio.run(main)
