"""`dte doctor` on real workspaces, and about real peers."""

import json
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.endtoend.mesh_under_test import Site, dte, until
from tests.endtoend.workspaces import toml
from tests.nx_workspace import make_workspace

pytestmark = pytest.mark.slow

MakeSite = Callable[[Mapping[str, str]], Site]
GATED = toml(build='command = "until test -e ../../gate; do sleep 0.1; done"')


def ask(site: Site, *arguments: str, **more: str) -> tuple[int, list[str]]:
    """The exit code and the lines of `dte doctor` in the repository that machines clone."""
    machine = site.machine(f"doctor-{len(list(site.root.iterdir()))}")
    done = dte("doctor", *arguments, cwd=machine.workspace, env=site.environ(machine, **more))
    assert not done.stderr, done.stderr
    assert site.secret not in done.stdout
    return done.returncode, done.stdout.splitlines()


def test_a_run_that_can_be_joined_is_told_as_such_by_address_and_by_shared_directory(site_of: MakeSite) -> None:
    site = site_of(GATED)
    shared = site.root / "shared"
    main = site.main("--rendezvous", str(shared), "build")
    until("main to be in the directory", lambda: [*shared.glob("*/*.json")])
    code, lines = ask(site, "--peer", site.address, "--rendezvous", str(shared))
    assert code == 0, lines
    met = f"ok: {site.address} is the main job of run {site.run_id}, called main, and trusts us"
    assert [line for line in lines if site.address in line] == [met]
    assert f"ok: {shared} has the addresses of 1 node" in lines
    (site.root / "gate").touch()
    assert main.ended() == 0


def test_each_way_in_which_a_peer_cannot_be_met_has_its_own_words(site_of: MakeSite) -> None:
    site = site_of(GATED)
    main = site.main("build")
    main.happens("task-started")
    code, lines = ask(site, "--peer", site.address, DTE_SECRET="another secret, long enough")
    assert (code, "does not share this run's secret" in lines[-1]) == (1, True)
    code, lines = ask(site, "--peer", site.address, "--run-id", "another")
    assert (code, "does not share this run's secret and run id" in lines[-1]) == (1, True)
    code, lines = ask(site, "--peer", site.address, DTE_SECRET="")
    assert (code, "cannot be asked without the run's secret" in lines[-1]) == (1, True)
    (site.root / "gate").touch()
    assert main.ended() == 0
    code, lines = ask(site, "--peer", site.address)
    assert (code, "refused the connection" in lines[-1]) == (1, True)


def test_one_who_does_not_answer_is_told_after_a_time_and_hides_nobody(site_of: MakeSite) -> None:
    site = site_of(GATED)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"127.0.0.1:{silent.getsockname()[1]}"
        code, lines = ask(site, "--peer", f"{place},{site.address}", "--peer", "no-such-host.invalid:1")
    assert code == 1
    assert [line for line in lines if f"bad: {place} did not finish the TLS handshake" in line]
    assert [line for line in lines if f"bad: {site.address} refused" in line]
    assert [line for line in lines if "no-such-host.invalid:1 cannot be resolved" in line]


def test_a_shared_directory_that_is_none_is_told(site_of: MakeSite) -> None:
    site = site_of(GATED)
    code, lines = ask(site, "--rendezvous", str(site.root / "missing/shared"))
    assert (code, lines[-1].startswith("bad: the rendezvous directory")) == (1, True)
    code, lines = ask(site, "--rendezvous", str(site.root))
    assert (code, f"nobody of run {site.run_id} is in {site.root} yet" in lines[-1]) == (0, True)


def test_a_program_reads_the_same(site_of: MakeSite) -> None:
    site = site_of(GATED)
    code, (line,) = ask(site, "--json")
    told = json.loads(line)
    assert (code, told["version"], told["ok"]) == (0, 1, True)
    assert {"level": "ok", "what": "dte.toml: agents can run 1 of 1 tasks", "advice": ""} in told["checks"]


def test_a_folder_that_is_no_workspace_is_bad(site_of: MakeSite) -> None:
    code, lines = ask(site_of({"README": "nothing here"}))
    assert code == 1
    assert [line for line in lines if line.startswith("bad: there is no nx.json, turbo.json or dte.toml")]


@pytest.mark.nx
@pytest.mark.timeout(300)
def test_an_nx_workspace_is_told_task_by_task_and_nothing_is_run(site_of: MakeSite, tmp_path: Path) -> None:
    targets = ("build", "deploy", "generate", "serve", "e2e", "alone", "wide")
    workspace = make_workspace(tmp_path / "nx", projects=4, targets=targets)
    environ = workspace.environment(DTE_DATA_DIR=str(tmp_path / "data"))

    def doctor(*arguments: str) -> tuple[int, list[str]]:
        done = dte("doctor", *arguments, cwd=workspace.path, env=environ)
        lines = done.stdout.splitlines()
        return done.returncode, [
            line for line in lines if ": p" in line or "agents can run" in line or "target" in line
        ]

    code, lines = doctor()
    assert code == 0
    assert sorted(lines) == sorted(
        [
            "ok: nx: agents can run 16 of 24 tasks",
            *(
                f"warn: only on the main job: p0:{target} and 3 more, with `cache: false`: it may deploy, or rewrite the repository"
                " — if all it does is make its outputs, set `cache: true` in nx.json"
                for target in ("deploy", "generate")
            ),
            "ok: continuous: p0:serve and 3 more: started beside the tasks that need it, and stopped after them",
            "ok: with an agent of its own while it runs: p0:alone and 3 more (`parallelism: false`)",
            "warn: p0:wide and 3 more: its outputs packages/p0 are not ignored by git, so they count as inputs of tasks — add them to .gitignore",
            "warn: p0:wide and 3 more: its outputs packages/p0 are in git's keeping, and are replaced whenever the task runs — take them out of the outputs, or out of git (git rm --cached)",
        ]
    )
    assert doctor("build") == (0, ["ok: nx: agents can run 4 of 4 tasks"])
    code, lines = doctor("nonsense")
    assert (code, lines[0].startswith("bad: no project has a target 'nonsense'; there are alone, build")) == (1, True)
    assert not workspace.files()


@pytest.mark.parametrize("command", [("nx", "affected", "-t", "build"), ("pnpm", "exec", "turbo", "run", "build")])
def test_a_command_in_place_of_targets_is_told_what_is_wanted(tmp_path: Path, command: tuple[str, ...]) -> None:
    done = dte("doctor", "--", *command, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "dte: name targets, not a command: `dte doctor build test`, or `dte doctor` for all\n"


def test_an_nx_workspace_without_nx_is_told_how_to_install_it(site_of: MakeSite) -> None:
    code, lines = ask(site_of({"nx.json": "{}", "package.json": "{}", "package-lock.json": "{}"}))
    assert code == 1
    assert "bad: nx.json is here, but nx is not installed — install dependencies first: npm ci" in lines
