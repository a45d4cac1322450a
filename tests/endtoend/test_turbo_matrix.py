"""Each supported turbo, with and without dte, on clones of one commit: nobody can tell the two apart afterwards.

Compared are the exit code, what is printed, the bytes of all outputs and logs, and how turbo's own summary says that each task ended; and dte's
own report must say the same of each task.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.endtoend.mesh_under_test import Running
from tests.endtoend.turbo_site import LIMIT_S, QUIET, TurboSite, shown
from tests.remote_cache import TOKEN, remote_cache
from tests.turbo_workspace import Workspace, commit, make_workspace

VERSIONS = os.environ.get("DTE_TEST_TURBO_VERSIONS", "2.11.0 2.11.11").split()
"""The oldest and the newest that are promised."""
pytestmark = [
    pytest.mark.matrix,
    pytest.mark.turbo,
    pytest.mark.timeout(300),
    pytest.mark.parametrize("version", VERSIONS),
]

MakeTurboSite = Callable[..., TurboSite]


@pytest.fixture
def site_with(version: str, tmp_path: Path) -> Iterator[MakeTurboSite]:
    """Make a site from what `make_workspace` takes."""
    sites: list[TurboSite] = []

    def make(prepare: Callable[[Path], None] = lambda path: None, packages: int = 3, **about: Any) -> TurboSite:
        root = tmp_path / f"site-{len(sites)}"
        workspace = make_workspace(root / "ws", packages=packages, version=version, **about)
        prepare(workspace.path)
        commit(workspace.path)
        sites.append(TurboSite(root, workspace))
        return sites[-1]

    try:
        yield make
    finally:
        for site in sites:
            site.close()


@dataclass(frozen=True)
class Both:
    """One command on two machines: `alone` by turbo itself, `main` by dte."""

    code: int
    main: Running
    plain: "subprocess.CompletedProcess[str]"
    where: dict[str, str]
    statuses: dict[str, str]


def both(
    site: TurboSite, *arguments: str, agents: int = 1, agent_wait: str = "60s", endless: str = "", **environment: str
) -> Both:
    """Run `arguments` on both, and compare all that can be compared; of an `endless` task turbo alone sometimes tells its end, sometimes not."""
    command = ("run", *arguments[: _end(arguments)], "--summarize", *arguments[_end(arguments) :])
    alone, main_place = site.clone("alone"), site.clone("main")
    plain = alone.turbo(*command, **environment)
    helpers = [site.agent(f"a{number}", "--slots", "2", **alone.variables) for number in range(agents)]
    main = site.turbo(*command, agent_wait=agent_wait, **environment)
    assert main.ended(LIMIT_S) == plain.returncode
    assert [helper.ended(LIMIT_S) for helper in helpers] == [0] * agents
    count = "Tasks:" if endless else "\0"
    assert [line for line in shown(main.out.read_text()) if count not in line] == [
        line for line in shown(plain.stdout) if count not in line
    ]
    assert left_by(main_place) == left_by(alone)
    summary = _without(endless, main_place.summary())
    assert summary == _without(endless, alone.summary())
    told = main.tasks
    statuses = {name: task["status"] for name, task in told.items()}
    if told:
        ended = {name: status for name, status in statuses.items() if status not in ("skipped", "cancelled")}
        # With --continue turbo runs tasks behind one that has failed; to dte these are skipped, and it says that they ran.
        told_otherwise = set(summary) - set(ended) - {endless}
        assert all("--continue" in arguments[-1] and name in main.err.read_text() for name in told_otherwise)
        assert _without(endless, ended) == {
            name: status for name, status in summary.items() if name not in told_otherwise
        }
        assert main.json["verdict"] == ("success" if plain.returncode == 0 else "failure")
    return Both(plain.returncode, main, plain, {name: task["where"] for name, task in told.items()}, statuses)


def _end(arguments: tuple[str, ...]) -> int:
    return arguments.index("--") if "--" in arguments else len(arguments)


def _without(task: str, statuses: dict[str, str]) -> dict[str, str]:
    return {name: status for name, status in statuses.items() if name != task}


def left_by(workspace: Workspace) -> dict[str, Any]:
    """All outputs, and the log that turbo keeps of each task, in which the two streams come in any order."""
    logs = {
        str(log.relative_to(workspace.path)): shown(log.read_text())
        for log in workspace.path.glob("packages/*/.turbo/*.log")
    }
    return {**workspace.files(), **logs}


def broken(*marks: str) -> Callable[[Path], None]:
    """Make tasks fail: the files that tell them to."""

    def prepare(path: Path) -> None:
        for mark in marks:
            (path / "packages" / mark).touch()

    return prepare


def test_all_green_with_a_root_task_and_arguments_for_the_tasks(site_with: MakeTurboSite):
    ran = both(site_with(), "build", "test", "lint", "root", "--", "--loudly", agents=2)
    assert ran.code == 0
    assert set(ran.where.values()) == {"a0", "a1"}
    assert len(ran.where) == 10
    assert "tests of p1 --loudly" in ran.main.out.read_text()


def test_arguments_reach_the_tasks_that_the_command_names_and_no_others(site_with: MakeTurboSite):
    ran = both(site_with(picky), "test", "--filter=p1", "--filter=p2", "--", "--loudly", agents=2)
    assert ran.code == 0
    assert set(ran.where.values()) == {"a0", "a1"}
    assert "tests of p1 --loudly" in ran.main.out.read_text()


def picky(path: Path) -> None:
    """A compiler that is told what it does not know does nothing."""
    tool = path / "tools/task.mjs"
    tool.write_text("if (process.argv[2] === 'build' && process.argv[3]) process.exit(9);\n" + tool.read_text())


def test_one_failing(site_with: MakeTurboSite):
    ran = both(site_with(broken("p0/BROKEN")), "build", "test")
    assert ran.code == 3
    assert ran.statuses.pop("p0#build") == "failure"
    assert set(ran.statuses.values()) == {"skipped"}


@pytest.mark.parametrize("how", ["always", "dependencies-successful"])
def test_one_failing_and_the_rest_goes_on(site_with: MakeTurboSite, how: str):
    ran = both(site_with(broken("p1/BROKEN", "p2/FAIL")), "build", "test", "lint", f"--continue={how}")
    assert ran.code != 0
    assert {name for name, status in ran.statuses.items() if status == "failure"} == {"p1#build", "p2#test"}
    assert ran.statuses["p1#test"] == "skipped"
    assert ("p1#test ran on the main job, behind a failure" in ran.main.err.read_text()) == (how == "always")


def test_without_agents(site_with: MakeTurboSite):
    ran = both(site_with(), "build", "test", agents=0, agent_wait="1s")
    assert set(ran.where.values()) == {"main"}


def test_again_and_then_after_a_change(site_with: MakeTurboSite):
    site = site_with()
    both(site, "build", "test", agents=0, agent_wait="1s")
    again = both(site, "build", "test", agents=0)
    assert "FULL TURBO" in again.main.out.read_text()
    assert {task["cache"] for task in again.main.tasks.values()} == {"hit"}
    for place in ("alone", "main", "a0"):
        workspace = site.clone(place)
        (workspace.path / "packages/p1/src/index.js").write_text("module.exports = 'changed';\n")
        commit(workspace.path)
    ran = both(site, "build", "test", "--affected", TURBO_SCM_BASE="HEAD~1")
    assert ran.where == {"p0#build": "main", "p1#build": "a0", "p1#test": "a0"}


def test_only_what_a_filter_names(site_with: MakeTurboSite):
    ran = both(site_with(), "test", "--filter=p1")
    assert ran.where == dict.fromkeys(("p0#build", "p1#build", "p1#test"), "a0")


def test_what_is_not_cached_but_makes_what_others_read(site_with: MakeTurboSite):
    only = {"p0": ("generate", "use"), "p1": ("lint",)}
    ran = both(site_with(packages=2, only=only), "generate", "use", "lint")
    assert ran.where == {"p0#generate": "main", "p0#use": "main", "p1#lint": "a0"}


def test_a_persistent_task_beside_another(site_with: MakeTurboSite):
    only = {"p0": ("build", "e2e", "serve"), "p1": ("build",)}
    ran = both(site_with(packages=2, only=only), "build", "e2e", endless="p0#serve")
    assert ran.where == {"p0#build": "a0", "p1#build": "a0", "p0#e2e": "main", "p0#serve": "main"}


def test_an_agent_with_another_input_does_only_what_is_the_same_there(site_with: MakeTurboSite):
    site = site_with()
    drifted = site.clone("a1").path
    (drifted / "packages/p0/src/index.js").write_text("changed")
    ran = both(site, "build", "lint", agents=2)
    assert "packages/p0/src/index.js (another content)" in ran.main.err.read_text()
    needs_p0 = {name for name in ran.where if name.endswith("#build") or name == "p0#lint"}
    assert {ran.where[name] for name in needs_p0} == {"a0"}


@pytest.mark.parametrize("mode", ["strict", "loose"])
def test_tasks_see_the_variables_that_they_would_see(site_with: MakeTurboSite, mode: str):
    ran = both(
        site_with(packages=1, scripts=("build",)),
        "build",
        f"--env-mode={mode}",
        BUILD_MODE="fast & loud",
        FLAVOUR="sweet",
    )
    assert ran.where == {"p0#build": "a0"}


def test_signed_results(site_with: MakeTurboSite, monkeypatch: pytest.MonkeyPatch):
    key = {"TURBO_REMOTE_CACHE_SIGNATURE_KEY": "k" * 32}
    site = site_with(packages=2, scripts=("build",), remoteCache={"signature": True})
    site.clone("alone").variables = key
    ran = both(site, "build", **key)
    assert set(ran.where.values()) == {"a0"}


def test_the_users_own_remote_cache_is_filled_and_read_as_by_turbo_alone(site_with: MakeTurboSite):
    site = site_with(packages=2, scripts=("build",))
    with remote_cache() as theirs, remote_cache() as ours:

        def variables(url: str) -> dict[str, str]:
            return {"TURBO_API": url, "TURBO_TOKEN": TOKEN, "TURBO_TEAM": "us"}

        assert site.clone("alone").turbo("run", "build", **variables(theirs.url)).returncode == 0
        agent, main = site.agent("a0"), site.turbo("run", "build", **variables(ours.url))
        assert (main.ended(LIMIT_S), agent.ended(LIMIT_S)) == (0, 0)
        assert {task["where"] for task in main.tasks.values()} == {"a0"}
        assert ours.kept.keys() == theirs.kept.keys() != set()
        assert ours.tokens == {TOKEN}
        later = site.main(
            *("--agent-wait", "1s", "--", "npx", "turbo", "run", "build"),
            on=site.machine("later"),
            **QUIET,
            **variables(ours.url),
        )
        assert later.ended(LIMIT_S) == 0
        assert "Cached:    2 cached, 2 total" in later.out.read_text()
    assert left_by(site.clone("later")) == left_by(site.clone("main")) == left_by(site.clone("alone"))
