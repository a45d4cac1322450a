"""One agent's nx: what it refuses, what it survives, and that nothing is left of what was ended."""

import os
import shutil
import signal
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio

from mesh.adapters.nx.errors import DriftError, NotKeptError, WorkerError
from mesh.adapters.nx.session import Delivery, NxSession
from mesh.errors import CorruptError, StorageError
from mesh.graph import Graph
from mesh.types import Blob, Digest, TaskId
from tests.nx_workspace import make_workspace
from tests.shell.nx.harness import Mesh, Node, node

pytestmark = [pytest.mark.nx, pytest.mark.slow]


def on_agent(
    tmp_path: Path, arguments: list[str], scene: Callable[[Node, Graph], Awaitable[None]], **shape: Any
) -> None:
    """Play `scene` on an agent that knows the graph of the nx command `arguments`."""

    class Planning(Mesh):
        graph: Graph

        async def _handle(self, session: NxSession) -> None:
            self.graph = session.graph
            await session.accept()
            for task in session.graph.tasks:
                await session.deliver(Delivery(task, "skipped"))
            await session.finish()

    async def main() -> None:
        workspace = make_workspace(tmp_path / "main", **shape)
        async with node(workspace, tmp_path / "store") as here:
            planning = Planning(here, [])
            await planning.run(*arguments)
        async with node(workspace.clone(tmp_path / "agent"), tmp_path / "store0") as agent:
            agent.runner.load(planning.graph)
            with trio.fail_after(60):
                await scene(agent, planning.graph)
        assert not [process for process in psutil.process_iter(["cmdline"]) if str(tmp_path) in str(process.info)]

    trio.run(main)


async def until_asleep(agent: Node) -> None:
    with trio.fail_after(20):
        while not sleepers(agent):  # noqa: ASYNC110 - a process elsewhere sets no event
            await trio.sleep(0.02)


def sleepers(agent: Node) -> list[psutil.Process]:
    here = str(agent.workspace.path)
    running = psutil.process_iter(["cmdline", "cwd"])
    return [each for each in running if "sleep" in (each.info["cmdline"] or []) and each.info["cwd"] == here]


def worker_of(agent: Node) -> int:
    """The process of the nx that is kept running there."""
    worker = agent.runner._plans[-1].kept.worker
    assert worker._process is not None
    return worker._process.pid


def test_a_changed_file_is_drift_and_is_named(tmp_path: Path):
    async def scene(agent: Node, graph: Graph) -> None:
        (agent.workspace.path / "packages/p0/src/index.js").write_text("changed")
        with pytest.raises(DriftError) as caught:
            await agent.runner.run(graph.tasks[TaskId("p0:build")], lambda _: None)
        assert caught.value.inputs
        assert "p0" in str(caught.value)
        assert not agent.workspace.files()  # it was not run
        await agent.runner.run(graph.tasks[TaskId("p1:lint")], lambda _: None)  # and nx is still of use
        # On the machine that planned it, nx itself would ask no further.
        outcome = await agent.runner.run(graph.tasks[TaskId("p0:build")], lambda _: None, planned_here=True)
        assert outcome.status == "success"
        assert (agent.workspace.path / "packages/p0/dist/index.js").read_text() == "changed"

    on_agent(tmp_path, ["run-many", "-t", "build", "lint"], scene, projects=2)


def test_a_cancelled_task_leaves_no_process_and_nx_goes_on(tmp_path: Path):
    async def scene(agent: Node, graph: Graph) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(agent.runner.run, graph.tasks[TaskId("p0:sleep")], lambda _: None)
            await until_asleep(agent)
            worker = worker_of(agent)
            nursery.cancel_scope.cancel()
        assert not sleepers(agent)
        outcome = await agent.runner.run(graph.tasks[TaskId("p0:lint")], lambda _: None)
        assert outcome.status == "success"
        assert worker_of(agent) == worker

    on_agent(tmp_path, ["run-many", "-t", "sleep", "lint"], scene, projects=1, targets=("sleep", "lint"))


def test_what_a_task_prints_is_told_while_it_runs(tmp_path: Path):
    async def scene(agent: Node, graph: Graph) -> None:
        told = trio.Event()
        said: list[bytes] = []

        def log(data: bytes) -> None:
            said.append(data)
            if b"asleep" in b"".join(said):
                told.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(agent.runner.run, graph.tasks[TaskId("p0:sleep")], log)
            await told.wait()
            assert sleepers(agent)
            nursery.cancel_scope.cancel()

    on_agent(tmp_path, ["run-many", "-t", "sleep"], scene, projects=1, targets=("sleep",))


def test_a_task_out_of_time_is_ended_and_its_neighbour_is_not(tmp_path: Path):
    async def scene(agent: Node, graph: Graph) -> None:
        said: list[bytes] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(agent.runner.run, graph.tasks[TaskId("p1:sleep")], lambda _: None)
            await until_asleep(agent)
            outcome = await agent.runner.run(replace(graph.tasks[TaskId("p0:sleep")], timeout_ms=1_500), said.append)
            assert len({process.cmdline()[-2] for process in sleepers(agent)}) == 1
            nursery.cancel_scope.cancel()
        assert (outcome.status, outcome.exit_code, outcome.outputs) == ("failure", 124, None)
        assert outcome.problem == "timed out after 1.5 s and was ended"
        assert b"asleep" in (outcome.log or b"".join(said))

    on_agent(tmp_path, ["run-many", "-t", "sleep"], scene, projects=2, targets=("sleep",))


def test_a_worker_that_dies_is_said_and_replaced(tmp_path: Path):
    async def scene(agent: Node, graph: Graph) -> None:
        task = graph.tasks[TaskId("p0:lint")]
        await agent.runner.run(task, lambda _: None)

        async def lose() -> None:
            with pytest.raises(WorkerError, match="ended unexpectedly"):
                await agent.runner.run(graph.tasks[TaskId("p0:sleep")], lambda _: None)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(lose)
            await until_asleep(agent)
            os.kill(worker_of(agent), signal.SIGKILL)
        outcome = await agent.runner.run(graph.tasks[TaskId("p0:build")], lambda _: None)
        assert outcome.status == "success"
        assert not sleepers(agent)

    on_agent(
        tmp_path, ["run-many", "-t", "sleep", "lint", "build"], scene, projects=1, targets=("sleep", "lint", "build")
    )


def test_a_workspace_that_nx_cannot_load_is_said_with_the_reason(tmp_path: Path):
    async def main() -> None:
        workspace = make_workspace(tmp_path / "main", projects=1)
        (workspace.path / "nx.json").write_text("{")
        async with node(workspace, tmp_path / "store") as here:
            with pytest.raises(WorkerError, match=r"cannot load this workspace.*nx\.json"):
                await here.runner.start()

    trio.run(main)


def test_closing_does_not_wait_for_an_nx_that_is_still_loading(tmp_path: Path):
    async def main() -> None:
        workspace = make_workspace(tmp_path / "main", projects=1)
        slow = tmp_path / "bin/node"  # one that never gets ready, as it may seem on a machine that is busy
        slow.parent.mkdir()
        slow.write_text("#!/bin/sh\nexec sleep 600\n")
        slow.chmod(0o755)
        path = f"{slow.parent}:{os.environ['PATH']}"
        async with (
            node(workspace, tmp_path / "store", PATH=path) as here,
            trio.open_nursery() as nursery,
        ):

            async def start() -> None:
                with pytest.raises(WorkerError, match="before it was ready"):
                    await here.runner.start()

            nursery.start_soon(start)
            await until_asleep(here)
            with trio.fail_after(20):
                await here.runner.aclose()
        assert not [process for process in psutil.process_iter(["cwd"]) if str(tmp_path) in str(process.info)]

    trio.run(main)


def test_without_node_the_reason_is_said(tmp_path: Path):
    async def main() -> None:
        workspace = make_workspace(tmp_path / "main", projects=1)
        async with node(workspace, tmp_path / "store", PATH=str(tmp_path)) as here:
            with pytest.raises(WorkerError, match="install Node"):
                await here.runner.start()

    trio.run(main)


def test_a_missing_or_broken_archive_is_never_taken_for_restored(tmp_path: Path):
    async def scene(agent: Node, graph: Graph) -> None:
        task = graph.tasks[TaskId("p0:build")]
        with pytest.raises(CorruptError):
            await agent.runner.restore(task, Blob(Digest(f"sha256:{'0' * 64}"), 5))
        with pytest.raises(CorruptError):
            await agent.runner.restore(task, agent.blobs.put(b"no archive"))
        assert not agent.workspace.files()

    on_agent(tmp_path, ["run-many", "-t", "build"], scene, projects=1, targets=("build",))


def test_a_success_that_could_not_be_kept_is_no_success(tmp_path: Path):
    async def scene(agent: Node, graph: Graph) -> None:
        def full() -> None:
            raise StorageError("the disk is full")

        agent.blobs.writer = full
        with pytest.raises(NotKeptError, match="the disk is full"):
            await agent.runner.run(graph.tasks[TaskId("p0:build")], lambda _: None)

    on_agent(tmp_path, ["run-many", "-t", "build"], scene, projects=1, targets=("build",))


def test_a_wide_output_does_not_wipe_the_narrow_one_within_it(tmp_path: Path):
    async def scene(agent: Node, graph: Graph) -> None:
        build, wide = graph.tasks[TaskId("p0:build")], graph.tasks[TaskId("p0:wide")]
        built = await agent.runner.run(build, lambda _: None)
        made = agent.workspace.path / "packages/p0"
        widened = await agent.runner.run(wide, lambda _: None)
        content = (made / "dist/index.js").read_bytes()
        await agent.runner.restore(build, built.outputs)
        shutil.rmtree(made / "dist")
        await agent.runner.restore(wide, widened.outputs)
        assert (made / "dist/index.js").read_bytes() == content

    on_agent(tmp_path, ["run-many", "-t", "wide"], scene, projects=1, targets=("build", "wide"))


def test_what_a_failed_task_left_of_its_outputs_is_put_beside_what_is_there(tmp_path: Path):
    async def scene(agent: Node, graph: Graph) -> None:
        test, reports = graph.tasks[TaskId("p0:test")], agent.workspace.path / "coverage/p0"
        reports.mkdir(parents=True)
        (reports / "junit.xml").write_text("1 failure")
        failed = await agent.runner.run(test, lambda _: None)  # there is no build of what it tests
        assert (failed.status, failed.outputs is None) == ("failure", False)
        (reports / "junit.xml").rename(reports / "earlier.xml")
        await agent.runner.show_remains(test, failed.outputs)
        assert {file.name for file in reports.iterdir()} == {"junit.xml", "earlier.xml"}

    on_agent(tmp_path, ["run-many", "-t", "test"], scene, projects=1, targets=("build", "test"))


def test_of_two_tasks_that_declare_the_same_directory_none_wipes_what_the_other_made(tmp_path: Path):
    async def scene(agent: Node, graph: Graph) -> None:
        build, beside = graph.tasks[TaskId("p0:build")], graph.tasks[TaskId("p0:beside")]
        made = agent.workspace.path / "packages/p0/dist"
        archives = []
        for task in (build, beside):
            archives.append((await agent.runner.run(task, lambda _: None)).outputs)
            shutil.rmtree(made)
        for task, archive in zip((build, beside), archives, strict=True):
            await agent.runner.restore(task, archive)
        assert {file.name for file in made.iterdir()} == {"index.js", "beside.js"}

    on_agent(tmp_path, ["run-many", "-t", "build", "beside"], scene, projects=1, targets=("build", "beside"))
