"""Every way in which people start nx and turbo, through a real mesh: each is distributed, whoever starts it."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.endtoend.mesh_under_test import Machine, Running, Site, git, write_files
from tests.nx_workspace import NX_VERSION, Workspace, make_workspace
from tests.package_managers import VERSIONS, bin_of, pnpm_install, pnpm_workspace, yarn_install
from tests.turbo_workspace import TURBO_VERSION

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LIMIT_S = 200
QUIET = {"CI": "1", "NX_NO_CLOUD": "true", "NX_DAEMON": "false", "TURBO_TELEMETRY_DISABLED": "1"}
NX_JSON = {
    "analytics": False,
    "targetDefaults": {
        "build": {"cache": True, "dependsOn": ["^build"], "outputs": ["{projectRoot}/dist"]},
        "test": {"cache": True, "dependsOn": ["build"]},
        "lint": {"cache": True},
    },
}
TURBO_JSON = {
    "tasks": {
        "build": {"dependsOn": ["^build"], "outputs": ["dist/**"]},
        "test": {"dependsOn": ["build"]},
        "lint": {},
    }
}


class Forms(Site):
    """One main job and one agent, with `path` before everything else on PATH."""

    def __init__(self, root: Path, *path: Path) -> None:
        super().__init__(root, {})
        self.path = ":".join(str(each) for each in path)

    def run(self, main: Machine, agent: Machine, *command: str) -> Running:
        """`dte run -- COMMAND`, which must end well."""
        more = {**QUIET, "PATH": f"{self.path}:{self.environ(main)['PATH']}"}
        there = self.agent("a1", on=agent, **more)
        run = self.main("--agent-wait", "60s", "--", *command, on=main, **more)
        assert run.ended(LIMIT_S) == 0
        assert there.ended(LIMIT_S) == 0
        ran = [task for task in run.tasks.values() if task["cache"] == "none"]
        assert {task["where"] for task in ran} == {"a1"}
        return run

    def pnpm(self, tool: str, version: str, **files: object) -> tuple[Machine, Machine]:
        """A main job that pnpm has installed, and an agent whose node_modules were copied from there, as from a CI's cache."""
        pnpm_workspace(self.root / "ws", tool, version, files)
        main, agent = (self._machine(name) for name in ("main", "a1"))
        git(self.root, "clone", "--quiet", str(self.root / "ws"), str(main.workspace))
        pnpm_install(main.workspace, "--frozen-lockfile")
        shutil.copytree(main.workspace, agent.workspace, symlinks=True)
        return main, agent

    def _machine(self, name: str) -> Machine:
        place = self.root / name
        (place / "home").mkdir(parents=True)
        return Machine(name, place / "workspace", place / "home", place / "data")


@pytest.fixture
def forms(tmp_path: Path) -> Iterator[Forms]:
    site = Forms(tmp_path / "site", bin_of("pnpm"), bin_of("yarn"))
    try:
        yield site
    finally:
        site.close()


def ids(run: Running) -> list[str]:
    """The tasks, without the number of the command that planned them."""
    return sorted(task.rpartition("/")[2] for task in run.tasks)


@pytest.mark.nx
def test_nx_by_npx_npm_exec_yarn_its_own_program_a_script_that_calls_it_twice_and_a_task(forms: Forms):
    targets = ("build", "test", "lint", "env", "alone")
    made = make_workspace(forms.root / "ws", 2, targets)
    script = "nx run-many -t env && nx run-many -t alone"
    write_files(made.path, {"ci.sh": CI_SH, "package.json": _with_script(made.path, script)})
    project = json.loads((made.path / "packages/p0/project.json").read_text())
    project["targets"]["nested"] = {"command": "npx nx run p1:lint", "cache": True}
    (made.path / "packages/p0/project.json").write_text(json.dumps(project))
    git(made.path, "add", "--all")
    git(made.path, "commit", "--quiet", "--message=script")
    places = [made.clone(forms.root / name / "workspace") for name in ("main", "a1")]
    main, agent = (
        Machine(name, place.path, place.home, forms.root / name / "data")
        for name, place in zip(("main", "a1"), places, strict=True)
    )
    run = forms.run(main, agent, "bash", "ci.sh")
    assert ids(run) == sorted(
        [*(f"p{number}:{target}" for number in (0, 1) for target in targets), *BUILDS_FOR_TEST, "p0:nested"]
    )
    found = {name: task["where"] for name, task in run.tasks.items() if task["cache"] == "hit"}
    assert found == {f"2/{name}": "main" for name in BUILDS_FOR_TEST}
    assert run.text.count("lint ok p1") == 2  # for itself, and for the nx within a task
    assert Workspace(main.workspace).files().keys() >= {"packages/p1/dist/index.js", "coverage/p1/report.txt"}


CI_SH = """set -e
npx nx run-many -t build
npm exec nx -- run-many -t test
yarn --silent nx run p0:lint
./node_modules/.bin/nx run p1:lint
npx nx run p0:nested
npm run ci
"""
BUILDS_FOR_TEST = ("p0:build", "p1:build")
"""The second command plans them again, and finds them in nx's own cache."""


def _with_script(root: Path, script: str) -> str:
    text = (root / "package.json").read_text()
    return text.replace('"private": true', f'"scripts": {{"ci": "{script}"}}, "private": true')


@pytest.mark.nx
def test_nx_by_its_wrapper_in_a_workspace_without_packages(forms: Forms):
    made = make_workspace(forms.root / "ws", 2, ("build", "lint"))
    modules = made.path / "node_modules"
    wrapper = (modules / "nx/dist/src/command-line/init/implementation/dot-nx/nxw.js").read_text()
    manifest = {"name": "nx-installation", "devDependencies": {"nx": NX_VERSION}}
    nx_json = {**json.loads((made.path / "nx.json").read_text()), "installation": {"version": NX_VERSION}}
    files = {".nx/nxw.js": wrapper, "nx": '#!/bin/sh\nexec node .nx/nxw.js "$@"\n', "nx.json": json.dumps(nx_json)}
    write_files(made.path, {**files, ".gitignore": ".nx/installation\n.nx/cache\n.nx/workspace-data\ndist\n"})
    git(made.path, "rm", "--quiet", "--cached", "package.json")
    (made.path / "package.json").unlink()
    git(made.path, "add", "--all")
    git(made.path, "commit", "--quiet", "--message=wrapper")
    for name in ("main", "a1"):
        shutil.copytree(made.path, forms.root / name / "workspace", ignore=shutil.ignore_patterns("node_modules"))
    places = [Workspace(forms.root / name / "workspace") for name in ("main", "a1")]
    for place in places:
        write_files(place.path, {".nx/installation/package.json": json.dumps(manifest)})
        subprocess.run(["cp", "-al", str(modules), str(place.path / ".nx/installation/node_modules")], check=True)
    main, agent = (
        Machine(name, place.path, place.home, forms.root / name / "data")
        for name, place in zip(("main", "a1"), places, strict=True)
    )
    run = forms.run(main, agent, "./nx", "run-many", "-t", "build", "lint")
    assert ids(run) == ["p0:build", "p0:lint", "p1:build", "p1:lint"]
    assert Workspace(main.workspace).files().keys() >= {"packages/p0/dist/index.js"}


@pytest.mark.nx
def test_nx_by_pnpm_and_no_script_on_an_agent_installs_anything(forms: Forms):
    main, agent = forms.pnpm(
        "nx",
        NX_VERSION,
        **{
            "nx.json": NX_JSON,
            "scripts": {"ci": "pnpm nx run-many -t lint && pnpm exec nx run-many -t build test"},
            # No package declares it: only as pnpm starts nx is it found, by nx, which hashes it, and by the task.
            "packages/p0/index.js": "require('semver');",
        },
    )
    before = (agent.workspace / "node_modules/.pnpm").stat().st_ino
    run = forms.run(main, agent, "pnpm", "run", "ci")
    assert ids(run) == sorted(f"p{number}:{target}" for number in range(3) for target in ("build", "test", "lint"))
    assert (main.workspace / "packages/p2/dist/index.js").read_text() == "p2 of p1 of p0"
    assert (agent.workspace / "node_modules/.pnpm").stat().st_ino == before


@pytest.mark.nx
def test_nx_by_a_script_that_sets_node_options_anew_and_tasks_on_agents_have_them(forms: Forms):
    made = make_workspace(forms.root / "ws", 2, ("env", "lint"))
    script = "NODE_OPTIONS=--max-old-space-size=3000 nx run-many -t env --output-style=static && nx run-many -t lint"
    write_files(made.path, {"package.json": _with_script(made.path, script)})
    git(made.path, "commit", "--quiet", "--all", "--message=script")
    places = [made.clone(forms.root / name / "workspace") for name in ("main", "a1")]
    main, agent = (
        Machine(name, place.path, place.home, forms.root / name / "data")
        for name, place in zip(("main", "a1"), places, strict=True)
    )
    run = forms.run(main, agent, "npm", "run", "ci")
    assert ids(run) == ["p0:env", "p0:lint", "p1:env", "p1:lint"]
    seen = [json.loads(line) for line in run.out.read_text().splitlines() if line.startswith('{"')]
    assert [each["NODE_OPTIONS"] for each in seen] == ["--max-old-space-size=3000"] * 2
    assert not any("/dte-nx-" in each["PATH"] for each in seen)


@pytest.mark.nx
def test_nx_by_yarn_without_a_node_modules(forms: Forms):
    made = make_workspace(forms.root / "ws", 2, ("build", "test"))
    place = forms.root / "main/workspace"
    shutil.copytree(made.path, place, ignore=shutil.ignore_patterns("node_modules", "package-lock.json"))
    manifest = json.loads((place / "package.json").read_text())
    manifest |= {"packageManager": f"yarn@{VERSIONS['@yarnpkg/cli-dist']}", "devDependencies": {"nx": NX_VERSION}}
    ignored = ".nx\ndist\ncoverage\n.yarn\n.pnp.*\n"
    write_files(place, {"package.json": json.dumps(manifest), ".gitignore": ignored})
    yarn_install(place)
    git(place, "add", "--all")
    git(place, "commit", "--quiet", "--message=yarn")
    shutil.copytree(place, forms.root / "a1/workspace", symlinks=True)
    assert not (place / "node_modules/nx").exists()
    main, agent = (
        Machine(name, forms.root / name / "workspace", forms.root / name / "home", forms.root / name / "data")
        for name in ("main", "a1")
    )
    for machine in (main, agent):
        machine.home.mkdir()
    run = forms.run(main, agent, str(bin_of("@yarnpkg/cli-dist") / "yarn"), "nx", "run-many", "-t", "build", "test")
    assert ids(run) == ["p0:build", "p0:test", "p1:build", "p1:test"]
    assert Workspace(main.workspace).files().keys() >= {"packages/p1/dist/index.js", "coverage/p1/report.txt"}


@pytest.mark.turbo
def test_turbo_by_pnpm_and_no_script_on_an_agent_installs_anything(forms: Forms):
    main, agent = forms.pnpm("turbo", TURBO_VERSION, **{"turbo.json": TURBO_JSON})
    before = (agent.workspace / "node_modules/.pnpm").stat().st_ino
    run = forms.run(main, agent, "pnpm", "turbo", "run", "build", "test", "lint")
    assert ids(run) == sorted(f"p{number}#{script}" for number in range(3) for script in ("build", "test", "lint"))
    assert (main.workspace / "packages/p2/dist/index.js").read_text() == "p2 of p1 of p0"
    assert (agent.workspace / "node_modules/.pnpm").stat().st_ino == before
