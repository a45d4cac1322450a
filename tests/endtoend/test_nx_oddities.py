"""What only some nx workspaces have, under dte against nx alone: each is distributed rightly, or stays on the main job."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.endtoend.mesh_under_test import Machine, Running, Site, git, write_files
from tests.endtoend.test_nx_matrix import QUIET, record, shown
from tests.nx_workspace import Workspace, make_workspace

pytestmark = [pytest.mark.nx, pytest.mark.slow, pytest.mark.timeout(300)]

LIMIT_S = 120
SERIAL = """
const fs = require('node:fs');
const here = 'busy-' + process.argv[2];
fs.writeFileSync(here, '');
setTimeout(() => {
  const others = fs.readdirSync('.').filter((name) => name.startsWith('busy-') && name !== here);
  fs.rmSync(here);
  console.log(others.length ? 'not alone' : 'alone');
  process.exit(others.length);
}, 300);
"""
EXECUTOR = """
const fs = require('node:fs');
const path = require('node:path');
const make = (root, name, text) => {
  fs.mkdirSync(path.join(root, 'packages', name, 'dist'), { recursive: true });
  fs.writeFileSync(path.join(root, 'packages', name, 'dist/made.txt'), text);
};
exports.default = async (options, context) => {
  make(context.root, context.projectName, `made for ${context.projectName}`);
  return { success: true };
};
exports.batch = async (graph, _inputs, _overrides, context) =>
  Object.fromEntries(Object.values(graph.tasks).map((task) => {
    make(context.root, task.target.project, `made for ${task.target.project}`);
    return [task.id, { success: true, terminalOutput: `made ${task.id}\\n` }];
  }));
exports.sync = async (tree) => {
  if (tree.exists('synced.txt')) return;
  tree.write('synced.txt', 'synced');
  return { outOfSyncMessage: 'synced.txt is not there' };
};
exports.hasher = async (task, { hasher, taskGraph, env }) => {
  const { value, details } = await hasher.hashTask(task, taskGraph, env);
  return { value: `${BigInt(value) ^ 1n}`, details };
};
"""
PLUGIN = {
    "tools/plugin/package.json": {
        "name": "plugin",
        "version": "0.0.0",
        "executors": "./executors.json",
        "generators": "./generators.json",
    },
    "tools/plugin/generators.json": {
        "generators": {"sync": {"factory": "./executor.js#sync", "schema": "./schema.json"}}
    },
    "tools/plugin/executors.json": {
        "executors": {
            "hashed": {"implementation": "./executor.js", "schema": "./schema.json", "hasher": "./executor.js#hasher"},
            "batched": {
                "implementation": "./executor.js",
                "batchImplementation": "./executor.js#batch",
                "schema": "./schema.json",
            },
        }
    },
    "tools/plugin/schema.json": {"version": 2, "type": "object", "properties": {}},
}


def targets(name: str) -> dict[str, Any]:
    node = "node tools/odd.js"
    return {
        "linked": {"command": f"{node} write packages/{name}/linked/made.txt", "cache": True, "outputs": ["{projectRoot}/linked"]},
        "reads": {"command": f"cat packages/{name}/linked/made.txt", "cache": True, "dependsOn": ["linked"]},
        "hashed": {"executor": "./tools/plugin:hashed", "cache": True, "outputs": ["{projectRoot}/dist"]},
        "batched": {"executor": "./tools/plugin:batched", "cache": True, "dependsOn": ["^batched"], "outputs": ["{projectRoot}/dist"]},
        "runtime": {"command": "echo ran", "cache": True, "inputs": ["default", {"runtime": "cat machine.txt"}]},
        "serial": {"command": f"node tools/serial.js {name}", "cache": True, "parallelism": False},
        "nested": {"command": f"npx nx run {name}:lint", "cache": True},
        "lint": {"command": f"echo lint {name}", "cache": True},
        "format": {"command": f"{node} write packages/{name}/src/index.js", "cache": False},
        "bundle": {
            "command": f"{node} copy packages/{name}/src/index.js packages/{name}/dist/bundle.js",
            "cache": True,
            "dependsOn": ["format"],
            "outputs": ["{projectRoot}/dist"],
        },
        "narrow": {"command": f"{node} write out/{name}/narrow.txt", "cache": True, "outputs": [f"{{workspaceRoot}}/out/{name}"]},
        "scatter": {"command": f"sleep 1 && {node} write out/{name}/scattered.txt", "cache": True, "dependsOn": ["narrow"]},
        "e2e-ci": {"command": "exit 1", "cache": True},
        "e2e-ci--one": {"command": "echo one", "cache": True, "metadata": {"nonAtomizedTarget": "e2e-ci"}},
        "make": {"command": f"sleep 1 && {node} write packages/{name}/made.txt", "cache": False},
        "use": {"command": f"cat packages/{name}/made.txt", "cache": True, "dependsOn": ["make"]},
        "dotenv": {"command": "echo $FROM_ROOT $FROM_PROJECT $FROM_TARGET", "cache": True},
        "synced": {"command": "echo in sync", "cache": True, "syncGenerators": ["./tools/plugin:sync"]},
        "three": {"command": f"npx nx lint {name} && npx nx narrow {name}", "cache": False},
    }  # fmt: skip


ODD = """
const fs = require('node:fs');
const path = require('node:path');
const [what, from, to] = process.argv.slice(2);
const target = to ?? from;
fs.mkdirSync(path.dirname(target), { recursive: true });
fs.writeFileSync(target, what === 'copy' ? fs.readFileSync(from) : `written to ${target}\\n`);
"""


class Odd(Site):
    """A workspace with all of that, in three clones: nx alone, a main job, one agent."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, {})
        origin = make_workspace(root / "ws", projects=2)
        plugin = {path: json.dumps(value) for path, value in PLUGIN.items()}
        scripts = {"tools/plugin/executor.js": EXECUTOR, "tools/serial.js": SERIAL, "tools/odd.js": ODD}
        write_files(origin.path, {**plugin, **scripts})
        for name in ("p0", "p1"):
            home = origin.path / "packages" / name
            (home / "project.json").write_text(json.dumps({"name": name, "targets": targets(name)}))
            write_files(origin.path, {f"store/{name}/.keep": "", f"packages/{name}/.env": f"FROM_PROJECT={name}\n"})
            write_files(origin.path, {f"packages/{name}/.dotenv.env": "FROM_TARGET=dotenv\n"})
            (home / "linked").symlink_to(f"../../store/{name}")
        wide = {"command": "node tools/odd.js write out/wide.txt", "cache": True, "outputs": ["{workspaceRoot}/out"]}
        p0 = origin.path / "packages/p0/project.json"
        p0.write_text(json.dumps({"name": "p0", "targets": {**targets("p0"), "wide": wide}}))
        write_files(origin.path, {".env": "FROM_ROOT=root\n", "synced.txt": "synced"})
        (origin.path / ".gitignore").write_text("node_modules\ndist\nout\nmade.txt\nmachine.txt\nbusy-*\n.nx\n")
        git(origin.path, "add", "-A")
        git(origin.path, "commit", "-qm", "odd")
        self.plain, self.here, self.there = (
            origin.clone(root / name / "workspace") for name in ("plain", "main", "a0")
        )
        for workspace in (self.plain, self.here, self.there):
            (workspace.path / "machine.txt").write_text("one" if workspace is not self.there else "another")

    def alike(self, *command: str, words: bool = True, **environ: str) -> Running:
        """Run nx alone and under dte, and find no difference in what they leave and note, nor in their `words`."""
        done = self.plain.nx(*command, environment={**self.plain.environment(), **environ})
        main = self.under_dte("npx", "nx", *command, **environ)
        assert main.ended(LIMIT_S) == done.returncode == 0
        assert record(self.here) == record(self.plain)
        assert not words or shown(main.out.read_text()) == shown(done.stdout)
        assert left(self.here) == left(self.plain)
        return main

    def under_dte(self, *command: str, **environ: str) -> Running:
        agent = Machine("a0", self.there.path, self.there.home, self.root / "a0-data")
        main = Machine("main", self.here.path, self.here.home, self.root / "main-data")
        self.agent("a0", "--slots", "2", on=agent, **environ)
        return self.main("--agent-wait", "10s", "--", *command, on=main, **{**QUIET, **environ})


def left(workspace: Workspace) -> dict[str, bytes]:
    """All files but nx's own, what was installed, and what differs on purpose."""
    found = {}
    for file in workspace.path.rglob("*"):
        name = file.relative_to(workspace.path)
        if file.is_file() and name.parts[0] not in ("node_modules", ".nx", ".git") and name.name != "machine.txt":
            found[str(name)] = file.read_bytes()
    return found


def places(main: Running) -> dict[str, str]:
    return {task: told["where"] for task, told in main.tasks.items()}


@pytest.fixture
def odd(tmp_path: Path) -> Iterator[Odd]:
    site = Odd(tmp_path / "site")
    try:
        yield site
    finally:
        site.close()


def test_outputs_behind_a_link_arrive_all_the_same(odd: Odd):
    odd.alike("run-many", "-t", "reads")


def test_a_hasher_of_the_users_own_is_asked_on_both_sides(odd: Odd):
    assert set(places(odd.alike("run-many", "-t", "hashed")).values()) == {"a0"}


def test_what_depends_on_the_output_of_a_program_goes_where_that_is_the_same(odd: Odd):
    main = odd.alike("run-many", "-t", "runtime")
    assert set(places(main).values()) == {"main"}
    assert "what differs: runtime:cat machine.txt" in main.err.read_text()


def test_a_task_that_tolerates_no_neighbour_has_none(odd: Odd):
    assert set(places(odd.alike("run-many", "-t", "serial")).values()) == {"a0"}


def test_an_nx_within_a_task_is_an_ordinary_nx(odd: Odd):
    assert places(odd.alike("run-many", "-t", "nested")) == {"p0:nested": "a0", "p1:nested": "a0"}


def test_what_a_formatter_has_changed_is_what_is_built_elsewhere(odd: Odd):
    main = odd.alike("run-many", "-t", "bundle")
    assert places(main) == {"p0:format": "main", "p1:format": "main", "p0:bundle": "a0", "p1:bundle": "a0"}


def test_what_needs_files_that_a_task_of_the_main_job_does_not_declare_passes_there(odd: Odd):
    main = odd.alike("run-many", "-t", "use")
    assert set(places(main).values()) == {"main"}
    assert (
        "p0:use lacks what p0:make left and does not declare: it failed on a0 and passed on main"
        in main.json["notices"]
    )


def test_files_with_variables_are_read_for_each_task_wherever_it_runs(odd: Odd):
    main = odd.alike("run-many", "-t", "dotenv", "--output-style=static")
    assert set(places(main).values()) == {"a0"}
    assert all(f"root {name} dotenv" in main.out.read_text() for name in ("p0", "p1"))


def test_a_generator_that_keeps_files_in_sync_is_asked_as_nx_asks_it(odd: Odd):
    by_hand = {"CI": "false"}  # in CI nx asks none
    main = odd.alike("run-many", "-t", "synced", **by_hand)
    assert set(places(main).values()) == {"a0"}
    for workspace in (odd.plain, odd.here, odd.there):
        (workspace.path / "synced.txt").unlink()
        git(workspace.path, "commit", "-qam", "out of sync")
    alone = odd.plain.nx("run-many", "-t", "synced", environment=odd.plain.environment(**by_hand))
    again = odd.under_dte("npx", "nx", "run-many", "-t", "synced", **by_hand)
    assert again.ended(LIMIT_S) == alone.returncode == 1
    assert shown(again.out.read_text()) == shown(alone.stdout)
    assert "synced.txt is not there" in alone.stdout + alone.stderr


def test_outputs_within_the_outputs_of_another_task_are_all_there(odd: Odd):
    odd.alike("run-many", "-t", "wide", "narrow")


def test_a_file_that_a_task_makes_among_the_outputs_of_an_earlier_one_is_told_of_since_it_is_not_here(odd: Odd):
    assert odd.plain.nx("run-many", "-t", "scatter", environment=odd.plain.environment()).returncode == 0
    main = odd.under_dte("npx", "nx", "run-many", "-t", "scatter")
    assert main.ended(LIMIT_S) == 0
    assert set(places(main).values()) == {"a0"}
    lacks = {f"out/{name}/scattered.txt" for name in ("p0", "p1")}
    assert lacks <= left(odd.plain).keys()
    assert left(odd.here).keys() == left(odd.plain).keys() - lacks
    for name in ("p0", "p1"):
        told = f"{name}:scatter on a0: it left out/{name}/scattered.txt, which only other tasks declare as outputs"
        assert any(notice.startswith(told) for notice in main.json["notices"])


def test_tasks_that_nx_would_run_in_one_process_run_one_by_one(odd: Odd):
    assert set(places(odd.alike("run-many", "-t", "batched", "--batch", words=False)).values()) == {"a0"}


def test_atomized_tasks_run_without_nx_cloud(odd: Odd):
    odd.plain.nx("run-many", "-t", "e2e-ci--one", environment=odd.plain.environment(NX_SKIP_ATOMIZER_VALIDATION="true"))
    main = odd.under_dte("npx", "nx", "run-many", "-t", "e2e-ci--one")
    assert main.ended(LIMIT_S) == 0
    assert record(odd.here) == record(odd.plain)
    assert set(places(main).values()) == {"a0"}


def test_each_nx_of_a_script_is_distributed(odd: Odd):
    main = odd.under_dte("sh", "-c", "npx nx run-many -t lint && npx nx run-many -t narrow && echo done")
    assert main.ended(LIMIT_S) == 0
    assert places(main) == dict.fromkeys(("p0:lint", "p1:lint", "2/p0:narrow", "2/p1:narrow"), "a0")
    assert "done" in main.out.read_text()
