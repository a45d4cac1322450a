"""A real nx on a main job and two agents: whoever looks at the main job cannot tell it from nx alone."""

import re
from pathlib import Path

import pytest
import trio

from mesh.adapters.nx.session import NxSession
from tests.nx_workspace import Workspace, make_workspace
from tests.shell.nx.harness import Mesh, Ran, node

pytestmark = [pytest.mark.nx, pytest.mark.slow]

PORT = 18_423


def distributed(main: Workspace, folder: Path, *arguments: str, agents: int = 2, **environment: str) -> Ran:
    """Run the command on `main` with agents in clones of it."""

    async def run() -> Ran:
        clones = [main.clone(folder / f"agent{number}") for number in range(agents)]
        async with trio.open_nursery() as nursery, node(main, folder / "store") as here:
            ready: list[trio.Event] = []
            places = []

            async def hold(number: int) -> None:
                async with node(clones[number], folder / f"store{number}") as place:
                    await place.runner.start()
                    places.append(place)
                    ready[number].set()
                    await trio.sleep_forever()

            for number in range(agents):
                ready.append(trio.Event())
                nursery.start_soon(hold, number)
            for event in ready:
                await event.wait()
            ran = await Mesh(here, places).run(*arguments, **environment)
            nursery.cancel_scope.cancel()
        return ran

    return trio.run(run)


def shown(output: str) -> list[str]:
    """What a person reads, less what differs between two runs of nx alone: order, the blank lines that depend on it, and durations."""
    lines = filter(None, (line.rstrip() for line in output.replace("\r", "").splitlines()))
    return sorted(line for line in lines if not re.match(r"\s+(Run duration|Critical path|Recoverable time): ", line))


@pytest.mark.parametrize("style", ["static", ""])
def test_output_files_and_exit_code_are_those_of_nx_alone(tmp_path: Path, style: str):
    main = make_workspace(tmp_path / "main")
    alone = main.clone(tmp_path / "alone")
    arguments = ["run-many", "-t", "build", "test", "lint", *([f"--output-style={style}"] if style else [])]
    ran = distributed(main, tmp_path, *arguments)
    expected = alone.nx(*arguments)
    assert (ran.exit_code, ran.stderr, expected.returncode) == (0, "", 0)
    assert shown(ran.stdout) == shown(expected.stdout)
    assert main.files() == alone.files()
    assert set(ran.where.values()) == {1, 2}


def test_a_failing_test_fails_the_run_with_its_log_and_skips_what_needs_it(tmp_path: Path):
    main = make_workspace(tmp_path / "main", projects=6)
    (main.path / "packages/p2/FAIL").touch()
    (main.path / "packages/p1/BROKEN").touch()  # what p3 and p4 depend on
    alone = main.clone(tmp_path / "alone")
    ran = distributed(main, tmp_path, "run-many", "-t", "build", "test")
    expected = alone.nx("run-many", "-t", "build", "test")
    assert ran.exit_code == expected.returncode != 0  # 1; but nx before 24 says 130 where tasks were skipped
    assert "1 test failed in p2" in ran.stdout
    assert set(ran.skipped) == {"p1:test", "p3:build", "p3:test", "p4:build", "p4:test"}
    assert ran.outcomes["p2:test"].exit_code == 7
    assert shown(ran.stdout) == shown(expected.stdout)
    assert main.files() == alone.files()


def test_one_project_is_shown_in_full_as_nx_does(tmp_path: Path):
    main = make_workspace(tmp_path / "main", projects=4)
    alone = main.clone(tmp_path / "alone")
    ran = distributed(main, tmp_path, "test", "p1")
    assert shown(ran.stdout) == shown(alone.nx("test", "p1").stdout)
    assert "tests of p1" in ran.stdout
    assert ran.where.keys() == {"p0:build", "p1:build", "p1:test"}


def test_outputs_that_nx_does_not_cache_reach_the_agents_all_the_same(tmp_path: Path):
    main = make_workspace(tmp_path / "main", projects=2, targets=("generate", "use", "build", "deploy"))
    alone = main.clone(tmp_path / "alone")
    ran = distributed(main, tmp_path, "run-many", "-t", "use", "deploy", agents=1)
    alone.nx("run-many", "-t", "use", "deploy")
    assert ran.exit_code == 0
    assert main.files() == alone.files()
    assert {task for task, place in ran.where.items() if place == 0} == {
        "p0:generate",
        "p1:generate",
        "p0:deploy",
        "p1:deploy",
    }


def test_a_continuous_task_runs_beside_its_consumer_and_ends_with_it(tmp_path: Path):
    main = make_workspace(tmp_path / "main", projects=1, targets=("build", "serve", "e2e"), port=PORT)
    ran = distributed(main, tmp_path, "e2e", "p0", agents=1)
    assert ran.exit_code == 0
    assert ran.where == {"p0:build": 1, "p0:e2e": 1}
    assert "e2e ok" in ran.stdout

    async def nobody_listens() -> None:
        with pytest.raises(OSError, match="connect"):
            await trio.open_tcp_stream("127.0.0.1", PORT)

    trio.run(nobody_listens)


def test_no_task_sees_the_secret_or_the_shim(tmp_path: Path):
    main = make_workspace(tmp_path / "main", projects=1, targets=("env",))
    ran = distributed(main, tmp_path, "env", "p0", "--skip-nx-cache", agents=0, NODE_OPTIONS="--no-warnings")
    assert ran.declined
    assert ran.exit_code == 0
    assert '"NODE_OPTIONS":"--no-warnings"' in ran.stdout
    for left in ("hush", "DTE_", "main.cjs", "NX_SELF_HOSTED"):
        assert left not in ran.stdout
    ran = distributed(main, tmp_path, "env", "p0", agents=1)
    assert ran.where == {"p0:env": 1}
    assert not re.search(r"hush|DTE_(?!TASK_COOKIE)|main\.cjs", ran.stdout)


def test_where_everything_is_in_the_local_cache_nx_is_left_alone(tmp_path: Path):
    main = make_workspace(tmp_path / "main", projects=2, targets=("build", "lint"))
    main.nx("run-many", "-t", "build", "lint")
    ran = distributed(main, tmp_path, "run-many", "-t", "build", "lint", agents=0)
    assert ran.declined
    assert "existing outputs match the cache" in ran.stdout or "local cache" in ran.stdout
    assert "in this machine's nx cache already" in ran.stderr


def test_without_dte_nx_runs_everything_itself(tmp_path: Path):
    from mesh.adapters.nx.environment import main_environment

    main = make_workspace(tmp_path / "main", projects=2, targets=("build",))
    environment = main_environment(main.environment(), str(tmp_path / "nobody"), "http://127.0.0.1:9/nx", "token")
    result = main.nx("run-many", "-t", "build", environment=environment)
    assert result.returncode == 0
    assert "dte could not be reached" in result.stderr
    assert len(main.files()) == 2


def test_if_dte_dies_nx_ends_with_an_error_and_never_a_success(tmp_path: Path):
    main = make_workspace(tmp_path / "main", projects=2, targets=("build",))

    class Dying(Mesh):
        async def _handle(self, session: NxSession) -> None:
            self.reached += 1
            await session.accept()

    async def run() -> Ran:
        async with node(main, tmp_path / "store") as here:
            return await Dying(here, []).run("run-many", "-t", "build")

    ran = trio.run(run)
    assert ran.exit_code == 1
    assert "connection to dte was lost" in ran.stdout + ran.stderr
    assert "Successfully ran" not in ran.stdout


def test_a_cloud_id_in_nx_json_leads_nx_to_dte_all_the_same(tmp_path: Path):
    main = make_workspace(tmp_path / "main", projects=2, targets=("build",))
    nx_json = main.path / "nx.json"
    nx_json.write_text(
        nx_json.read_text().replace('"analytics"', '"nxCloudId": "0123456789abcdef01234567", "analytics"')
    )
    ran = distributed(main, tmp_path, "run-many", "-t", "build", agents=1)
    assert (ran.exit_code, ran.declined) == (0, False)
    assert len(main.files()) == 2
