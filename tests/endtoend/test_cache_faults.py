"""What can happen to a result on its way into a tool: the run ends in time and with the right code, and what was lost is made on the main job."""

import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import nx_workspace, turbo_workspace
from tests.endtoend.mesh_under_test import Machine, Running, Site
from tests.endtoend.test_disks import Mount, mount

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
LIMIT_S = 120

__all__ = ["mount"]

Workspace = nx_workspace.Workspace | turbo_workspace.Workspace
TOOLS = [pytest.param("nx", marks=pytest.mark.nx), pytest.param("turbo", marks=pytest.mark.turbo)]
COMMANDS = {"nx": ("nx", "run-many", "-t", "build", "test"), "turbo": ("turbo", "run", "build", "test")}
QUIET = {"CI": "1", "NX_NO_CLOUD": "true", "NX_DAEMON": "false", "TURBO_TELEMETRY_DISABLED": "1", "NO_COLOR": "1"}
SMALL = "size=600k"
"""Room for all that a run keeps but for what p0's build makes."""
LARGE = random.Random(7).randbytes(1_000_000).hex()
LARGE_BYTES = 700_000
"""Less than what of it is stored, packed by either tool, and more than anything else that is."""
_WAIT = """
if (process.argv[2] === 'build' && `${{process.argv[3]}} ${{process.cwd()}}`.match(/p1/)) {{
  const limit = Date.now() + 60_000;
  while (!process.getBuiltinModule('fs').existsSync('{gate}') && Date.now() < limit) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
}}
"""


class ToolSite(Site):
    """Three packages of which p0's build, which the others need, leaves a megabyte that cannot be compressed much."""

    def __init__(self, root: Path, tool: str) -> None:
        super().__init__(root, {})
        self.tool = tool
        self.places: dict[str, Workspace] = {}
        make: Callable[[Path, int], Workspace] = (
            nx_workspace.make_workspace if tool == "nx" else turbo_workspace.make_workspace
        )
        self.workspace = make(root / "ws", 3)
        self.gate = root / "p1-may-be-built"
        self.gate.touch()
        (self.workspace.path / "packages/p0/src/index.js").write_text(LARGE)
        script = self.workspace.path / ("tools/task.js" if tool == "nx" else "tools/task.mjs")
        script.write_text(_WAIT.format(gate=self.gate) + script.read_text())
        turbo_workspace.commit(self.workspace.path)

    def clone(self, name: str) -> Workspace:
        if name not in self.places:
            self.places[name] = self.workspace.clone(self.root / name / "workspace")
        return self.places[name]

    def machine(self, name: str) -> Machine:
        workspace = self.clone(name)
        return Machine(name, workspace.path, workspace.home, self.root / name / "data")

    def run(self, on: Machine | None = None, agent_wait: str = "60s") -> Running:
        return self.main("--agent-wait", agent_wait, "--", "npx", *COMMANDS[self.tool], on=on, **QUIET)

    def as_alone(self) -> bool:
        """Whether main's files are those that the tool alone leaves."""
        alone = self.clone("alone")
        plain = alone.nx if isinstance(alone, nx_workspace.Workspace) else alone.turbo
        assert plain(*COMMANDS[self.tool][1:]).returncode == 0
        return self.clone("main").files() == alone.files() != {}


@pytest.fixture(params=TOOLS)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ToolSite]:
    site = ToolSite(tmp_path / "site", request.param)
    try:
        yield site
    finally:
        site.close()


def names(main: Running) -> dict[str, str]:
    """Where each task ran, by a name that both tools share."""
    return {name.replace("#", ":"): task["where"] for name, task in main.tasks.items()}


def test_a_main_job_that_cannot_hold_a_result_has_the_tool_make_it(site: ToolSite, mount: Mount) -> None:
    machine = site.machine("main")
    mount(machine.data, SMALL)
    main, agent = site.run(on=machine), site.agent("a1", **QUIET)
    assert (main.ended(LIMIT_S), agent.ended(LIMIT_S)) == (0, 0)
    assert "no space left on device" in main.text
    assert main.json["verdict"] == "success"
    assert names(main)["p0:build"] == names(main)["p1:build"] == "a1"
    assert site.as_alone()


def test_an_agent_that_cannot_hold_a_result_leaves_the_task_to_others(site: ToolSite, mount: Mount) -> None:
    machine = site.machine("a1")
    mount(machine.data, SMALL)
    main, agent = site.run(agent_wait="15s"), site.agent("a1", on=machine, **QUIET)
    assert (main.ended(LIMIT_S), agent.ended(LIMIT_S)) == (0, 0)
    assert "no space left on device" in main.text
    assert main.json["verdict"] == "success"
    assert names(main)["p0:build"] == "main"
    assert site.as_alone()


def test_a_main_job_alone_that_can_store_nothing_still_does_its_work(site: ToolSite, mount: Mount) -> None:
    machine = site.machine("main")
    mount(machine.data, SMALL)
    main = site.run(on=machine, agent_wait="1s")
    assert main.ended(LIMIT_S) == 0
    assert main.json["verdict"] == "success"
    assert site.as_alone()


def test_the_only_agent_dies_while_the_tool_waits_for_it(site: ToolSite) -> None:
    main, agent = site.run(), site.agent("a1", **QUIET)
    main.happens("task-started")
    agent.signal(signal.SIGKILL)
    assert main.ended(LIMIT_S) == 0
    assert "no agent is left: the main job goes on alone" in main.text
    assert main.json["verdict"] == "success"
    assert site.as_alone()


def test_what_both_have_lost_is_not_asked_of_an_agent_that_comes_later(site: ToolSite) -> None:
    site.gate.unlink()
    main, agent = site.run(agent_wait="15s"), site.agent("a1", **QUIET)
    main.happens("task-delivered")
    stores = [site.root / place / "data/blobs/sha256" for place in ("main", "a1")]
    lost = [blob for store in stores for blob in store.glob("*/*") if blob.stat().st_size > LARGE_BYTES]
    assert len(lost) == 2
    for blob in lost:
        blob.unlink()
    late = site.agent("a2", **QUIET)
    main.says("a2 joined")
    site.gate.touch()
    assert (main.ended(LIMIT_S), agent.ended(LIMIT_S), late.ended(LIMIT_S)) == (0, 0, 0)
    assert main.json["verdict"] == "success"
    assert site.as_alone()
