"""The workspace that Nx's own generators wrote, through the mesh and through nx alone in another clone: one exit code, one set of results.

What is compared is what nx itself tells of its last run (each task, its hash, its exit code), and every declared artifact, byte for byte.
"""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.endtoend.mesh_under_test import Machine, Running, Site, free_port, git, write_files
from tests.nx_generated import artifacts, copy, make_generated, statuses
from tests.nx_workspace import Workspace

# One process runs them all: they share their machines, which take a while to make.
pytestmark = [pytest.mark.nx, pytest.mark.matrix, pytest.mark.timeout(600), pytest.mark.xdist_group("nx_generated")]

FIRST = "first"
LIMIT_S = 240
INTERRUPTED = 130
TARGETS = ("lint", "test", "test-ci", "build", "typecheck", "notes", "smoke")
EVERYTHING = ("run-many", "-t", *TARGETS)
QUIET = {"CI": "1", "NX_NO_CLOUD": "true", "NX_DAEMON": "false"}
ATOMIZED = {"NX_SKIP_ATOMIZER_VALIDATION": "true"}
"""Without it nx alone refuses `test-ci`."""


CHANGED = "import { core } from '@gen/core';\n\nexport function text(): string {\n  return ['text on', core()].join(' ');\n}\n"
FAILING = "import { core } from './core.js';\n\nit('fails', () => {\n  expect(core()).toEqual('nothing');\n});\n"
BROKEN = "import { nothing } from './nowhere';\n\ndocument.title = nothing();\n"


class GeneratedSite(Site):
    """Clones that are made once, and put back to the first commit, with an empty home, by `machine`."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, {})
        self.workspace = make_generated(root / "ws", free_port())
        git(self.workspace.path, "tag", FIRST)

    def machine(self, name: str) -> Machine:
        place = self.root / name
        if not place.exists():
            copy(self.workspace, place / "workspace")
        workspace = Workspace(place / "workspace")
        for folder in (workspace.home, place / "data"):
            shutil.rmtree(folder, ignore_errors=True)
        workspace.home.mkdir()
        git(workspace.path, "reset", "--quiet", "--hard", FIRST)
        git(workspace.path, "clean", "-fdxq", "--exclude=node_modules")
        return Machine(name, workspace.path, workspace.home, place / "data")

    def change(self, files: Mapping[str, str], *machines: Machine) -> None:
        """One more commit after the first, checked out on all `machines`; what tasks left there stays."""
        git(self.workspace.path, "reset", "--quiet", "--hard", FIRST)
        write_files(self.workspace.path, files)
        git(self.workspace.path, "commit", "--quiet", "--all", "--message=change")
        for machine in machines:
            machine.git("fetch", "--quiet", str(self.workspace.path), "main")
            machine.git("reset", "--quiet", "--hard", "FETCH_HEAD")

    def nx(self, on: Machine, *arguments: str, wait: str = "60s") -> Running:
        return self.main("--agent-wait", wait, "--", "npx", "nx", *arguments, on=on, **QUIET)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GeneratedSite]:
    site = GeneratedSite(tmp_path_factory.mktemp("generated") / "site")
    try:
        yield site
    finally:
        site.close()


def alone(machine: Machine, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """The measure of all else. Now and then nx 23 interrupts its own `vite preview`, skips what needs that, and ends with 130: that run tells nothing of dte, and is made once more from the start."""
    done = once(machine, *arguments)
    if done.returncode != INTERRUPTED:
        return done
    workspace = Workspace(machine.workspace)
    git(workspace.path, "clean", "-fdxq", "--exclude=node_modules")
    shutil.rmtree(workspace.home)
    workspace.home.mkdir()
    return once(machine, *arguments)


def once(machine: Machine, *arguments: str) -> "subprocess.CompletedProcess[str]":
    workspace = Workspace(machine.workspace)
    return subprocess.run(
        workspace.command(*arguments),
        cwd=workspace.path,
        env=workspace.environment(**ATOMIZED),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def same(
    site: GeneratedSite, plain: Machine, main: Machine, agents: tuple[Machine, ...], arguments: tuple[str, ...]
) -> Running:
    """Run `arguments` by nx alone on `plain`, then through the mesh on `main`, and compare all there is to compare."""
    expected = alone(plain, *arguments)
    there = [site.agent(agent.name, on=agent, **{**QUIET, "CI": "true"}) for agent in agents]
    run = site.nx(main, *arguments, wait="60s" if agents else "1s")
    assert run.ended(LIMIT_S) == expected.returncode, expected.stdout[-3000:]
    assert [agent.ended(LIMIT_S) for agent in there] == [0] * len(agents)
    ours, theirs = Workspace(main.workspace), Workspace(plain.workspace)
    assert statuses(ours) == statuses(theirs)
    assert artifacts(ours) == artifacts(theirs)
    return run


def test_a_generated_workspace_is_the_same_through_the_mesh_and_so_is_what_a_change_affects(site: GeneratedSite):
    plain, main, agents = site.machine("plain"), site.machine("main"), (site.machine("a1"), site.machine("a2"))
    run = same(site, plain, main, agents, EVERYTHING)
    where = {task: told["where"] for task, told in run.tasks.items()}
    assert where.pop("@gen/core:stamp") == "main"  # not cacheable
    assert {*where.values()} == {"a1", "a2"}
    assert any("apps/shop/out-tsc/, which no task declares" in notice for notice in run.json["notices"])
    left = artifacts(Workspace(main.workspace))
    assert left.keys() >= {"packages/text/notes/all.txt", "packages/text/dist/index.js", "apps/shop/dist/index.html"}

    same(site, plain, main, (), EVERYTHING)

    site.change({"packages/text/src/lib/text.ts": CHANGED}, plain, main, *agents)
    run = same(site, plain, main, agents, ("affected", "--base=HEAD~1", "-t", *TARGETS))
    assert not [task for task in run.tasks if task.startswith("@gen/core:lint")]
    assert run.tasks["@gen/shop:build"]["where"] in ("a1", "a2")


def test_a_failing_test_and_a_build_that_does_not_compile_are_the_same(site: GeneratedSite):
    plain, main, agent = site.machine("plain"), site.machine("main"), site.machine("a1")
    site.change({"packages/core/src/lib/core.spec.ts": FAILING, "apps/shop/src/main.ts": BROKEN}, plain, main, agent)
    run = same(site, plain, main, (agent,), ("run-many", "-t", "test", "build"))
    assert "expected 'core' to deeply equal 'nothing'" in run.text
    assert run.tasks["@gen/core:test"]["status"] == "failure"


def test_a_task_of_which_an_agent_has_another_input_is_not_run_there(site: GeneratedSite):
    plain, main, agents = site.machine("plain"), site.machine("main"), (site.machine("a1"), site.machine("a2"))
    agents[1].write("packages/core/src/lib/only-here.ts", "export const here = true;\n")
    run = same(site, plain, main, agents, ("run-many", "-t", "build", "lint"))
    assert run.tasks["@gen/core:build"]["where"] == run.tasks["@gen/core:lint"]["where"] == "a1"
    assert "what differs: @gen/core:" in run.text


def test_without_agents_nothing_is_different_either(site: GeneratedSite):
    plain, main = site.machine("plain"), site.machine("main")
    run = same(site, plain, main, (), ("run-many", "-t", "build", "smoke"))
    assert "no agent came within 1 s" in run.text
