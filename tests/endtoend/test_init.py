"""What `dte init` writes is a CI file by its provider's schema, and its shell does what it says: a run over several machines, to the letter."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from itertools import product
from pathlib import Path

import pytest

from mesh.cli.ci.template import write_ci
from mesh.cli.ci.workspace import tools_of
from tests.endtoend.ci_jobs import CIS, start_job
from tests.endtoend.mesh_under_test import Machine, MakeSite, Running, Site, dte, git, write_files
from tests.nx_workspace import make_workspace

pytestmark = pytest.mark.slow

FILES = {
    "dte.toml": """
[tasks.build]
each = "packages/*/source"
command = "mkdir -p out && cat source > out/made && sleep 0.2"
inputs = ["source"]
outputs = ["out/**"]

[tasks.test]
each = "packages/*/source"
command = "grep -q source out/made"
deps = ["build"]
inputs = ["source"]

[tasks.deploy]
command = "touch deployed"
where = "main"
""",
    ".gitignore": "out/\nnode_modules/\ndeployed\n",
    **{f"packages/{name}/source": f"source of {name}\n" for name in "abcdef"},
    # Nothing to install, so that `npm ci` can be run as it is written without a network.
    "package.json": '{"name": "sample", "version": "1.0.0", "private": true}',
    "package-lock.json": json.dumps(
        {
            "name": "sample",
            "version": "1.0.0",
            "lockfileVersion": 3,
            "requires": True,
            "packages": {"": {"name": "sample", "version": "1.0.0"}},
        }
    ),
}
EVERY = pytest.mark.parametrize("name", CIS)


def init(site: Site, name: str, *arguments: str) -> None:
    """Write and commit the CI file in the repository that machines clone."""
    done = dte("init", f"--ci={name}", "--agents", "2", *arguments, cwd=site.origin)
    assert done.returncode == 0, done.stderr
    assert f"wrote {CIS[name].path}: a main job and 2 agent jobs" in done.stdout
    git(site.origin, "add", "--all")
    git(site.origin, "commit", "--quiet", "--message=ci")


def result(site: Site) -> dict[str, str]:
    """Where each task ran."""
    return {task["id"]: task["where"] for task in json.loads((site.root / "result.json").read_text())["tasks"]}


def start_run(site: Site, name: str, told: Mapping[str, str], *, base: str = "") -> tuple[Running, Running, Machine]:
    """A main job, which waits for somebody to come, and one of its agent jobs."""
    more = {
        "DTE_LISTEN": "127.0.0.1:0",
        "DTE_JSON": str(site.root / "result.json"),
        "DTE_SLOTS": "1",
        "DTE_AGENT_WAIT": "60s",
    }
    machine, other = site.machine("main"), site.machine("other")
    _check_out(machine, base)
    _check_out(other, base)
    main = start_job(site, CIS[name], "main", machine, told, base=base, **more)
    return main, start_job(site, CIS[name], "agent", other, told, number=2, base=base, **more), machine


def _check_out(machine: Machine, base: str) -> None:
    if base:
        machine.git("checkout", "--quiet", "change")


@EVERY
def test_the_jobs_that_are_written_are_one_run_that_finds_itself_by_address(site_of: MakeSite, name: str) -> None:
    site = site_of(FILES)
    init(site, name)
    main, agent, machine = start_run(site, name, {"DTE_SECRET": site.secret, "DTE_PEER": site.address})
    assert main.ended() == 0
    assert agent.ended() == 0
    where = result(site)
    assert sorted(where) == sorted(f"packages/{name}:{task}" for name in "abcdef" for task in ("build", "test"))
    assert set(where.values()) <= {"agent-2", "main"}
    assert any(place != "main" for place in where.values())
    assert (machine.workspace / "packages/f/out/made").read_text() == "source of f\n"
    assert not (machine.workspace / "deployed").exists()
    assert "run github:77:1" in agent.text or name != "github"


def test_the_jobs_that_are_written_find_each_other_in_a_shared_directory(site_of: MakeSite) -> None:
    site = site_of(FILES)
    init(site, "github")
    shared = site.root / "shared"
    shared.mkdir()
    main, agent, _ = start_run(site, "github", {"DTE_SECRET": site.secret, "DTE_RENDEZVOUS": str(shared)})
    assert main.ended() == 0
    assert agent.ended() == 0
    assert any(place != "main" for place in result(site).values())


@EVERY
def test_without_a_secret_the_main_job_does_everything_and_nobody_fails(site_of: MakeSite, name: str) -> None:
    site = site_of(FILES)
    init(site, name)
    main, agent, _ = start_run(site, name, {"DTE_PEER": site.address})
    assert main.ended() == 0
    assert agent.ended() == 0
    assert "DTE_SECRET is not set" in agent.text
    assert set(result(site).values()) == {"main"}


@EVERY
def test_a_pull_request_runs_only_what_it_affects(site_of: MakeSite, name: str) -> None:
    site = site_of(FILES)
    init(site, name)
    git(site.origin, "checkout", "--quiet", "-b", "change")
    write_files(site.origin, {"packages/c/source": "source that has changed\n"})
    git(site.origin, "commit", "--quiet", "--all", "--message=change")
    git(site.origin, "checkout", "--quiet", "main")
    main, agent, machine = start_run(site, name, {"DTE_SECRET": site.secret, "DTE_PEER": site.address}, base="main")
    assert main.ended() == 0
    assert agent.ended() == 0
    assert sorted(result(site)) == ["packages/c:build", "packages/c:test"]
    assert (machine.workspace / "packages/c/out/made").read_text() == "source that has changed\n"


def test_a_failing_task_fails_the_main_job_only(site_of: MakeSite) -> None:
    site = site_of(FILES | {"packages/b/source": "nothing of the kind\n"})
    init(site, "github")
    main, agent, _ = start_run(site, "github", {"DTE_SECRET": site.secret, "DTE_PEER": site.address})
    assert main.ended() == 1
    assert agent.ended() == 0


@pytest.mark.nx
@pytest.mark.timeout(300)
def test_an_nx_workspace_is_distributed_by_what_is_written_for_it(site_of: MakeSite, tmp_path: Path) -> None:
    site = site_of({"unused": ""})
    shutil.rmtree(site.origin)
    workspace = make_workspace(site.origin, projects=4, targets=("build", "test"))
    init(site, "github")
    told = {"DTE_SECRET": site.secret, "DTE_PEER": site.address}
    more = {"DTE_LISTEN": "127.0.0.1:0", "DTE_JSON": str(site.root / "result.json"), "DTE_AGENT_WAIT": "60s"}
    jobs = []
    for job, number in (("agent", 1), ("main", 0)):
        machine = Machine(job, site.root / job / "workspace", site.root / job / "home", site.root / job / "data")
        machine.home.mkdir(parents=True)
        workspace.clone(machine.workspace)  # with what `npm install` would have installed
        skip = ("Install dependencies",)
        jobs.append(start_job(site, CIS["github"], job, machine, told, number=number, skip=skip, **more))
    agent, main = jobs
    assert main.ended(200) == 0
    assert agent.ended() == 0
    assert sorted(result(site)) == sorted(f"p{number}:{target}" for number in range(4) for target in ("build", "test"))
    assert "agent-1" in result(site).values()
    assert "Successfully ran targets" in main.text
    assert (site.root / "main/workspace/packages/p3/dist/index.js").is_file()


@EVERY
def test_what_is_written_fits_the_schema_of_its_provider(name: str, tmp_path: Path) -> None:
    contents = {"nx.json": "{}", "turbo.json": '{"tasks": {"build": {}}}', "dte.toml": FILES["dte.toml"]}
    locks = ["package-lock.json", "pnpm-lock.yaml", "yarn.lock", "bun.lock", "uv.lock", "requirements.txt", ""]
    written = []
    for tool, lock in product(contents, locks):
        root = tmp_path / f"{tool}-{lock}"
        files = {tool: contents[tool], ".nvmrc": "22\n", lock or "none": ""}
        write_files(root, files | ({} if lock in ("uv.lock", "requirements.txt") else {"package.json": "{}"}))
        written.append(root / "ci.yml")
        runner = "self-hosted, 2-cores" if name == "github" else "team/ci"
        text = write_ci(root, name, next(iter(tools_of(root))), agents=4, runner=runner, package="dte-mesh>=0.1")
        written[-1].write_text(text)
    checked = check_schema(name, written)
    assert checked.returncode == 0, checked.stdout[:3000] + checked.stderr


def check_schema(name: str, files: list[Path]) -> "subprocess.CompletedProcess[str]":
    program = str(Path(sys.executable).with_name("check-jsonschema"))
    command = [program, *CIS[name].schema, *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


@EVERY
def test_a_schema_finds_what_is_wrong(name: str, tmp_path: Path) -> None:
    (tmp_path / "wrong.yml").write_text("jobs: 7\n")
    checked = check_schema(name, [tmp_path / "wrong.yml"])
    assert checked.returncode == 1, checked.stdout + checked.stderr
    assert "Schema validation errors" in checked.stdout


def test_a_file_that_is_there_is_shown_as_a_difference_and_stays(tmp_path: Path) -> None:
    write_files(tmp_path, {"nx.json": "{}", "azure-pipelines.yml": "steps: []\n"})
    refused = dte("init", "--ci=azure", cwd=tmp_path)
    assert refused.returncode == 2
    assert "-steps: []" in refused.stdout
    assert "+  - job: main" in refused.stdout
    assert "--force" in refused.stderr
    assert (tmp_path / "azure-pipelines.yml").read_text() == "steps: []\n"
    forced = dte("init", "--ci=azure", "--force", cwd=tmp_path)
    assert forced.returncode == 0
    written = (tmp_path / "azure-pipelines.yml").read_text()
    assert "- job: main" in written
    again = dte("init", "--ci=azure", cwd=tmp_path)
    assert (again.returncode, "is there already" in again.stdout) == (0, True)
    printed = dte("init", "--ci=azure", "--print", cwd=tmp_path)
    assert printed.stdout == written


def test_printing_writes_nothing(tmp_path: Path) -> None:
    write_files(tmp_path, {"turbo.json": '{"tasks": {"build": {}}}'})
    assert dte("init", "--ci=github", "--print", cwd=tmp_path).returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["turbo.json"]


@pytest.mark.parametrize(
    ("arguments", "files", "words"),
    [
        (("--ci=jenkins",), {"nx.json": "{}"}, "github, circleci, azure"),
        ((), {"nx.json": "{}"}, "github, circleci, azure"),
        (("--ci=github", "--agents", "0"), {"nx.json": "{}"}, "1 to 256"),
        (("--ci=github", "--agents", "257"), {"nx.json": "{}"}, "1 to 256"),
        (("--ci=github", "--runner", " , "), {"nx.json": "{}"}, "--runner"),
        (("--ci=github",), {"README": ""}, "there is no nx.json, turbo.json or dte.toml"),
        (("--ci=github",), {"turbo.json": "{"}, "turbo.json cannot be read"),
        (("--ci=github",), {"turbo.json": '{"tasks": {"dev": {"persistent": true}}}'}, "names no task"),
        (("--ci=github",), {"dte.toml": "[tasks.a]\n"}, "dte.toml:1: tasks.a has no command"),
    ],
)
def test_what_cannot_be_written_is_told_with_what_to_do(
    arguments: tuple[str, ...], files: dict[str, str], words: str, tmp_path: Path
) -> None:
    write_files(tmp_path, files)
    done = dte("init", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files)


def test_a_folder_within_a_repository_is_not_where_a_ci_file_belongs(tmp_path: Path) -> None:
    write_files(tmp_path, {"app/nx.json": "{}"})
    git(tmp_path, "init", "--quiet")
    done = dte("init", "--ci=github", cwd=tmp_path / "app")
    assert done.returncode == 2
    assert f"a folder of the repository {tmp_path}" in done.stderr


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    write_files(tmp_path, {"nx.json": "{}", ".github": "a file where a folder is needed"})
    done = dte("init", "--ci=github", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "dte: .github/workflows/dte.yml cannot be written: Not a directory\n")
