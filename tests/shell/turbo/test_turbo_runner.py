"""One agent's turbo: what it refuses, what it survives, and that nothing is left of what was ended."""

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio

from mesh.adapters.turbo.command import find
from mesh.adapters.turbo.drift import drift
from mesh.adapters.turbo.environment import main_environment
from mesh.adapters.turbo.errors import DriftError, NotKeptError, RestoreError, TurboError
from mesh.adapters.turbo.plan import plan
from mesh.adapters.turbo.session import TurboSession
from mesh.errors import CorruptError, StorageError
from mesh.graph import Graph
from mesh.types import Blob, Digest, TaskId
from tests.shell.turbo.harness import Node, node
from tests.turbo_workspace import make_workspace

pytestmark = [pytest.mark.turbo, pytest.mark.slow, pytest.mark.timeout(300)]

Scene = Callable[[Node, Graph], Awaitable[None]]


def on_agent(tmp_path: Path, arguments: list[str], scene: Scene, **shape: Any) -> None:
    """Play `scene` on an agent that is given the graph of the turbo command `arguments`."""

    async def main() -> None:
        workspace = make_workspace(tmp_path / "main", **shape)
        command = find(tuple(workspace.command(*arguments)), workspace.path)
        assert command is not None
        planned = await plan(command, workspace.path, workspace.environment())
        assert not planned.objection
        async with node("agent", workspace.clone(tmp_path / "agent"), tmp_path / "store") as agent:
            with trio.fail_after(200):
                await scene(agent, planned.to_graph())
        assert not [process for process in psutil.process_iter(["cmdline"]) if str(tmp_path) in str(process.info)]

    trio.run(main)


def ignore(_: bytes) -> None:
    """No log."""


def sleepers(agent: Node) -> list[psutil.Process]:
    running = psutil.process_iter(["cmdline", "cwd"])
    here = str(agent.workspace.path)
    return [
        each
        for each in running
        if "sleep" in (each.info["cmdline"] or []) and (each.info["cwd"] or "").startswith(here)
    ]


async def until_asleep(agent: Node) -> None:
    with trio.fail_after(60):
        while not any("task.mjs" in " ".join(each.info["cmdline"]) for each in sleepers(agent)):  # noqa: ASYNC110 - a process elsewhere sets no event
            await trio.sleep(0.02)


def test_a_file_that_changes_after_the_comparison_is_drift_and_is_named(tmp_path: Path):
    async def scene(agent: Node, graph: Graph) -> None:
        assert await drift(agent.workspace.path, graph, agent.environment) == {}
        (agent.workspace.path / "packages/p0/new.txt").write_text("new")
        with pytest.raises(DriftError, match=r"packages/p0/new\.txt \(only here\)"):
            await agent.runner.run(graph.tasks[TaskId("p0#lint")], ignore)

    on_agent(tmp_path, ["lint"], scene, packages=1, scripts=("lint",))


def test_a_cancelled_task_leaves_no_process(tmp_path: Path):
    async def scene(agent: Node, graph: Graph) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(agent.runner.run, graph.tasks[TaskId("p0#sleep")], ignore)
            await until_asleep(agent)
            nursery.cancel_scope.cancel()
        assert not sleepers(agent)

    on_agent(tmp_path, ["sleep"], scene, packages=1, scripts=("sleep",))


def test_a_task_out_of_time_is_ended_and_has_failed(tmp_path: Path):
    async def scene(agent: Node, graph: Graph) -> None:
        said: list[bytes] = []
        task = replace(graph.tasks[TaskId("p0#sleep")], timeout_ms=8_000)
        outcome = await agent.runner.run(task, said.append)
        assert (outcome.status, outcome.exit_code, outcome.outputs) == ("failure", 124, None)
        assert "timed out after 8 s" in outcome.problem
        assert not sleepers(agent)

    on_agent(tmp_path, ["sleep"], scene, packages=1, scripts=("sleep",))


def test_a_turbo_that_is_told_to_stop_has_done_nothing(tmp_path: Path):
    async def scene(agent: Node, graph: Graph) -> None:
        async def stop() -> None:
            await until_asleep(agent)
            turbos = [
                each
                for each in psutil.process_iter(["cmdline", "cwd"])
                if each.info["cwd"] == str(agent.workspace.path) and "p0#sleep" in (each.info["cmdline"] or [])
            ]
            assert turbos
            for turbo in turbos:
                turbo.send_signal(signal.SIGTERM)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop)
            with pytest.raises(NotKeptError, match="told to stop"):
                await agent.runner.run(graph.tasks[TaskId("p0#sleep")], ignore)

    on_agent(tmp_path, ["sleep"], scene, packages=1, scripts=("sleep",))


@asynccontextmanager
async def on_main(here: Node, script: str) -> AsyncIterator[tuple[TurboSession, trio.Process]]:
    """Turbo as the main job's command, and the session that holds its reads; to its end."""
    command = here.workspace.command(script)
    said = find(tuple(command), here.workspace.path)
    assert said is not None
    planned = await plan(said, here.workspace.path, here.environment)
    async with trio.open_nursery() as nursery, TurboSession.open(nursery, planned, here.loopback) as session:
        environment = main_environment(here.environment, session.url, here.loopback.token)
        async with trio.open_nursery() as running:
            start = partial(trio.run_process, command, cwd=here.workspace.path, env=environment, check=False)
            yield session, await running.start(partial(start, capture_stdout=True, capture_stderr=True))


def test_turbo_on_the_main_job_ends_when_it_is_told_to_and_let_go(tmp_path: Path):
    async def scene(here: Node, graph: Graph) -> None:
        async with on_main(here, "lint") as (session, turbo):
            while not session.visit.release_longest_held():  # noqa: ASYNC110 - what is held tells nobody
                await trio.sleep(0.02)
            turbo.send_signal(signal.SIGTERM)
            session.let_go()

    on_agent(tmp_path, ["lint"], scene, packages=3, scripts=("lint",))


def test_what_turbo_was_let_on_to_and_failed_for_is_told_as_failed(tmp_path: Path):
    async def scene(here: Node, graph: Graph) -> None:
        (here.workspace.path / "packages/p0/BROKEN").touch()
        async with on_main(here, "build") as (session, turbo):
            while "" in session._let_on or not session._let_on:
                session._let_on.clear()
                session.let_on(())
                await trio.sleep(0.02)
            assert await turbo.wait() == 3
            session.command_ended(3)
            assert session.failed_by_themselves(here.workspace.path) == ("p0#build",)

    on_agent(tmp_path, ["build"], scene, packages=1, scripts=("build",))


def test_a_success_that_could_not_be_kept_is_no_success(tmp_path: Path):
    async def scene(agent: Node, graph: Graph) -> None:
        def full() -> None:
            raise StorageError("the disk is full")

        agent.blobs.writer = full
        with pytest.raises(NotKeptError, match="the disk is full"):
            await agent.runner.run(graph.tasks[TaskId("p0#lint")], ignore)

    on_agent(tmp_path, ["lint"], scene, packages=1, scripts=("lint",))


def test_what_is_no_artifact_or_another_tasks_is_not_restored(tmp_path: Path):
    async def scene(agent: Node, graph: Graph) -> None:
        lint, build = graph.tasks[TaskId("p0#lint")], graph.tasks[TaskId("p0#build")]
        outcome = await agent.runner.run(lint, ignore)
        assert outcome.outputs is not None
        for bad in (Blob(Digest(f"sha256:{'0' * 64}"), 5), agent.blobs.put(b"no artifact"), outcome.outputs):
            with pytest.raises(CorruptError):
                await agent.runner.restore(build, bad)
        assert not agent.workspace.files()

    on_agent(tmp_path, ["lint", "build"], scene, packages=1)


def test_a_result_that_turbo_does_not_take_is_no_base_for_another_task(tmp_path: Path):
    async def scene(agent: Node, graph: Graph) -> None:
        build, test = graph.tasks[TaskId("p0#build")], graph.tasks[TaskId("p0#test")]
        outcome = await agent.runner.run(build, ignore)
        assert outcome.outputs is not None
        async with node("other", agent.workspace.clone(tmp_path / "other"), tmp_path / "otherstore") as other:
            path = agent.blobs.find(outcome.outputs.digest)
            assert path is not None
            await other.runner.restore(build, other.blobs.put(path.read_bytes()))
            other.blobs.path(outcome.outputs.digest).unlink()  # lost meanwhile
            with pytest.raises(RestoreError, match="p0#build"):
                await other.runner.run(test, ignore)

    on_agent(tmp_path, ["test"], scene, packages=1)


def test_a_checkout_without_turbo_says_what_to_do(tmp_path: Path):
    async def scene(agent: Node, graph: Graph) -> None:
        (agent.workspace.path / "node_modules").rename(tmp_path / "gone")
        reasons = await drift(agent.workspace.path, graph, agent.environment)
        assert "install the workspace's packages" in reasons[TaskId("p0#lint")]
        with pytest.raises(TurboError, match="install"):
            await agent.runner.run(graph.tasks[TaskId("p0#lint")], ignore)

    on_agent(tmp_path, ["lint"], scene, packages=1, scripts=("lint",))


def test_what_differs_beside_files_is_named_too(tmp_path: Path):
    async def scene(agent: Node, graph: Graph) -> None:
        task = graph.tasks[TaskId("p0#build")]
        payload = dict(task.payload)
        environment = {**payload["environment"], "values": {"BUILD_MODE": "x"}}
        elsewhere = replace(task, key="0" * 16, payload={**payload, "turbo": "2.0.0", "environment": environment})
        reasons = await drift(agent.workspace.path, Graph.of([elsewhere]), agent.environment)
        assert "on the main job" in reasons[task.id]
        assert "variables: BUILD_MODE" in reasons[task.id]

    on_agent(tmp_path, ["build"], scene, packages=1, scripts=("build",))


def test_outputs_that_git_does_not_ignore_keep_their_package_on_the_main_job(tmp_path: Path):
    async def main() -> None:
        workspace = make_workspace(tmp_path / "main", packages=3, scripts=("test", "loud"))
        ignored = workspace.path / ".gitignore"
        ignored.write_text(ignored.read_text().replace("notes\n", ""))
        command = find(tuple(workspace.command("loud", "--filter=p1")), workspace.path)
        assert command is not None
        planned = await plan(command, workspace.path, workspace.environment())
        assert "every task stays on the main job: p1#loud: git does not ignore" in planned.objection
        assert "git does not ignore packages/p1/notes/x" in planned.notices[-1]

    trio.run(main)


def test_a_graph_survives_its_way_to_the_agents(tmp_path: Path):
    async def main() -> None:
        workspace = make_workspace(tmp_path / "main", packages=2)
        command = find(("npx", "turbo", "run", "build", "test", "root"), workspace.path)
        assert command is not None
        graph = (await plan(command, workspace.path, workspace.environment(BUILD_MODE="x"))).to_graph()
        assert Graph.decode(graph.encode()) == graph
        assert graph.tasks[TaskId("p1#build")].outputs == ("packages/p1/dist/**",)
        assert graph.tasks[TaskId("//#root")].where == "any"

    trio.run(main)
