"""A real turbo on a main job and two agents: whoever looks at the main job cannot tell it from turbo alone."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import trio

from mesh.adapters.turbo.command import find
from mesh.adapters.turbo.plan import plan
from mesh.cache.server import LoopbackCache
from mesh.net.http import Request, Response
from tests.shell.turbo.harness import MAIN, Ran, distributed, mesh, over
from tests.turbo_workspace import commit, make_workspace

pytestmark = [pytest.mark.turbo, pytest.mark.slow, pytest.mark.timeout(400)]


def shown(output: str) -> list[str]:
    """What a person reads, less what differs between two runs of turbo alone, and whether a result came from a cache."""
    return sorted(
        re.sub(r"cache (miss, executing|hit, replaying logs) ", "cache ", line.rstrip())
        for line in output.replace("\r", "").splitlines()
        if not re.match(r"\s*(Time|Cached):|\s+• Remote caching", line)
    )


class Shelf:
    """A remote cache as a user may have one: it keeps what it is given."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[dict[str, str], bytes]] = {}
        self.queries: set[str] = set()

    async def answer(self, request: Request, path: str) -> Response:
        body = b"".join([piece async for piece in request.body])
        path, _, query = path.partition("?")
        self.queries.add(query)
        name = path.removeprefix("/v8/artifacts/")
        if request.method == "PUT":
            said = {key: value for key, value in request.headers.items() if key.startswith("x-artifact-")}
            self.kept[name] = (said, body)
            return Response(202, {}, b'{"urls":[]}')
        if name not in self.kept:
            return Response(404)
        return Response(200, self.kept[name][0], self.kept[name][1])

    async def refuse(self, request: Request) -> Response:
        return Response(403)


def test_output_files_and_exit_code_are_those_of_turbo_alone(tmp_path: Path):
    main = make_workspace(tmp_path / "main", packages=4)
    alone = main.clone(tmp_path / "alone")
    arguments = ["run", "build", "test", "lint", "root", "--", "--loudly"]
    ran = distributed(main, tmp_path, *arguments)
    expected = alone.turbo(*arguments)
    assert (ran.exit_code, expected.returncode) == (0, 0)
    assert shown(ran.stdout) == shown(expected.stdout)
    assert main.files() == alone.files()
    assert len(main.files()) == 4 * 4
    assert len(ran.statuses) == 13
    assert set(ran.statuses.values()) == {"success"}
    assert set(ran.where.values()) == {"agent0", "agent1"}
    assert "13 cached, 13 total" in ran.stdout
    assert "tests of p1 --loudly" in ran.logs["p1#test"]


def test_a_failing_task_ends_the_run_as_it_would_have_ended(tmp_path: Path):
    main = make_workspace(tmp_path / "main", packages=2)
    (main.path / "packages/p0/BROKEN").touch()
    alone = main.clone(tmp_path / "alone")
    ran = distributed(main, tmp_path, "run", "build", "test")
    expected = alone.turbo("run", "build", "test")
    assert ran.exit_code == expected.returncode == 3
    assert "p0 is broken" in ran.stdout + ran.stderr
    assert ran.statuses == {"p0#build": "failure", "p0#test": "skipped", "p1#build": "skipped", "p1#test": "skipped"}
    assert ran.outcomes["p0#build"].exit_code == 3
    assert "p0 is broken" in ran.logs["p0#build"]
    assert main.files() == alone.files() == {}


@pytest.mark.parametrize("how", ["--continue", "--continue=dependencies-successful"])
def test_with_continue_the_rest_is_done_and_the_exit_code_is_that_of_turbo(tmp_path: Path, how: str):
    main = make_workspace(tmp_path / "main", packages=3)
    (main.path / "packages/p1/FAIL").touch()
    alone = main.clone(tmp_path / "alone")
    ran = distributed(main, tmp_path, "run", "build", "test", how)
    expected = alone.turbo("run", "build", "test", how)
    assert ran.exit_code == expected.returncode == 7
    assert "1 test failed in p1" in ran.stdout + ran.stderr
    assert {task for task, status in ran.statuses.items() if status != "success"} == {"p1#test"}
    assert main.files() == alone.files()
    assert ran.recovered == ()


def test_without_agents_it_is_turbo_alone(tmp_path: Path):
    main = make_workspace(tmp_path / "main", packages=3)
    alone = main.clone(tmp_path / "alone")
    ran = distributed(main, tmp_path, "build", "test", agents=0)
    expected = alone.turbo("build", "test")
    assert ran.exit_code == expected.returncode == 0
    assert shown(ran.stdout) == shown(expected.stdout)
    assert "0 cached, 6 total" in ran.stdout
    assert main.files() == alone.files()
    assert set(ran.statuses.values()) == {"success"}
    assert set(ran.where.values()) == {MAIN}


def test_without_agents_a_failure_does_not_stop_what_waits_for_a_place_behind_it(tmp_path: Path):
    main = make_workspace(tmp_path / "main", packages=4, scripts=("build", "lint"))
    (main.path / "packages/p0/BROKEN").touch()
    alone = main.clone(tmp_path / "alone")
    arguments = ["build", "lint", "--continue=dependencies-successful", "--concurrency=2"]
    ran = distributed(main, tmp_path, *arguments, agents=0, main_slots=1)
    assert ran.exit_code == alone.turbo(*arguments).returncode == 3
    lints = {f"p{number}#lint": "success" for number in range(4)}
    builds = {f"p{number}#build": "skipped" for number in range(1, 4)}
    assert ran.statuses == {**lints, **builds, "p0#build": "failure"}


def test_what_an_agent_is_at_is_not_done_here_too_where_a_failure_is_only_known_at_the_end(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("mesh.adapters.turbo.session.PATIENCE_MS", 300)
    main = make_workspace(tmp_path / "main", packages=2, only={"p0": ("build",), "p1": ("env",)})
    (main.path / "packages/p0/BROKEN").touch()
    tool = main.path / "tools/task.mjs"
    tool.write_text(
        f"if (process.argv[2] === 'env') await new Promise((go) => setTimeout(go, 4000));\n{tool.read_text()}"
    )
    commit(main.path)
    agent = main.clone(tmp_path / "agent0")
    (agent.path / "packages/p0/src/index.js").write_text("changed")
    ran = over(main, [agent], tmp_path, "build", "env", "--continue")
    assert ran.exit_code == 3
    assert ran.where == {"p0#build": MAIN, "p1#env": "agent0"}
    assert "p1:env: cache hit" in ran.stdout
    assert "p0 is broken" in ran.stdout + ran.stderr


def test_a_failure_of_what_stays_here_ends_turbo_though_agents_are_at_work(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("mesh.adapters.turbo.session.PATIENCE_MS", 300)
    stays = {"fail": {"outputs": ["src/made.js"]}, "sleep": {}}
    main = make_workspace(tmp_path / "main", packages=2, only={"p0": ("fail",), "p1": ("sleep",)}, tasks=stays)
    ran = distributed(main, tmp_path, "fail", "sleep", agents=1)
    assert ran.exit_code == 1
    assert ran.statuses == {"p0#fail": "failure", "p1#sleep": "cancelled"}
    assert ran.where == {"p0#fail": MAIN}


def test_outputs_that_turn_out_to_be_inputs_cost_time_and_nothing_else(tmp_path: Path):
    main = make_workspace(tmp_path / "main", packages=3, scripts=("build", "lint"))
    rules = main.path / "turbo.json"
    tasks = json.loads(rules.read_text())
    tasks["tasks"]["build"]["outputs"] = ["dist/**", "notes/**"]
    tasks["tasks"]["lint"]["dependsOn"] = ["build"]
    rules.write_text(json.dumps(tasks))
    tool = main.path / "tools/task.mjs"
    notes = "import * as files from 'node:fs'; if (process.argv[2] === 'build') { files.mkdirSync('notes', { recursive: true }); files.writeFileSync('notes/x', 'made'); }"
    tool.write_text(f"{notes}\n{tool.read_text()}")
    ignored = main.path / ".gitignore"
    ignored.write_text(ignored.read_text().replace("notes\n", ""))
    commit(main.path)
    alone = main.clone(tmp_path / "alone")
    ran = distributed(main, tmp_path, "build", "lint")
    assert ran.plan.notices == ()
    assert ran.exit_code == alone.turbo("build", "lint").returncode == 0
    assert main.files() == alone.files()
    assert any("packages/p0/notes/x" in path for path in main.files())
    assert set(ran.statuses.values()) == {"success"}
    assert any("notes/x (only here)" in reason for reason in ran.handed)


@pytest.mark.parametrize("changes", [False, True])
def test_a_committed_file_among_the_outputs_travels_only_as_it_is_committed(tmp_path: Path, changes: bool):
    made = {"regenerate": {"outputs": ["src/made.js"]}, "lint": {"dependsOn": ["^regenerate"]}}
    scripts = {"p0": ("regenerate",), "p1": ("lint",)}
    main = make_workspace(tmp_path / "main", packages=2, only=scripts, tasks=made)
    file = main.path / "packages/p0/src/made.js"
    file.write_text("// as it was" if changes else "// made anew for p0")
    commit(main.path)
    ran = distributed(main, tmp_path, "regenerate", "lint", agents=1)
    assert (ran.exit_code, ran.plan.notices) == (0, ())
    assert file.read_text() == "// made anew for p0"
    assert (ran.outcomes["p0#regenerate"].outputs is None) == changes
    assert ran.where["p0#regenerate"] == "agent0"
    assert ("2 cached" in ran.stdout) == (not changes)


def test_an_agent_with_a_changed_input_is_told_and_does_nothing_that_needs_it(tmp_path: Path):
    main = make_workspace(tmp_path / "main", packages=3, scripts=("build", "lint"))
    alone = main.clone(tmp_path / "alone")
    clones = [main.clone(tmp_path / f"agent{number}") for number in range(2)]
    (clones[1].path / "packages/p0/src/index.js").write_text("changed")
    (clones[1].path / "packages/p2/left.txt").write_text("left over")
    ran = over(main, clones, tmp_path, "build", "lint")
    assert ran.exit_code == alone.turbo("build", "lint").returncode == 0
    assert main.files() == alone.files()
    assert ran.cannot["agent0"] == {}
    cannot = ran.cannot["agent1"]
    assert set(cannot) == {"p0#build", "p0#lint", "p1#build", "p2#build", "p2#lint"}
    assert "packages/p0/src/index.js (another content)" in cannot["p0#build"]
    assert "packages/p2/left.txt (only here)" in cannot["p2#lint"]
    assert "what it depends on: p0#build" in cannot["p1#build"]
    assert all(ran.where[task] == "agent0" for task in cannot)
    assert "6 cached, 6 total" in ran.stdout


def test_what_turbo_does_not_cache_runs_once_and_on_the_main_job(tmp_path: Path):
    only = {"p0": ("build", "deploy", "after"), "p1": ("build",)}
    main = make_workspace(tmp_path / "main", packages=2, only=only)
    tool = main.path / "tools/task.mjs"
    tool.write_text(tool.read_text().replace("tasks[what]();", "(tasks[what] ?? tasks.lint)();"))
    commit(main.path)
    ran = distributed(main, tmp_path, "build", "deploy", "after")
    assert ran.exit_code == 0
    assert ran.where["p0#deploy"] == ran.where["p0#after"] == MAIN
    assert ran.where["p0#build"] != MAIN
    assert ran.where["p1#build"] != MAIN
    assert ran.statuses == dict.fromkeys(("p0#build", "p1#build", "p0#deploy", "p0#after"), "success")
    assert ran.stdout.count("deployed p0") == 1
    assert "deployed" not in "".join(ran.logs.values())
    assert "p0#deploy stays on the main job: turbo does not cache it" in ran.plan.notices[0]


def test_a_deployment_that_fails_is_a_failure(tmp_path: Path):
    main = make_workspace(tmp_path / "main", packages=1, scripts=("build", "deploy"))
    (main.path / "packages/p0/FAIL").touch()
    ran = distributed(main, tmp_path, "build", "deploy", agents=1)
    assert ran.exit_code == 9
    assert ran.statuses == {"p0#build": "success", "p0#deploy": "failure"}
    assert ran.outcomes["p0#deploy"].exit_code == 9


def test_a_package_without_the_script_is_no_task_and_passes_its_dependencies_on(tmp_path: Path):
    only = {"p0": ("build",), "p1": (), "p3": ("build",)}
    main = make_workspace(tmp_path / "main", packages=4, only=only)
    tool = main.path / "tools/task.mjs"
    tool.write_text(tool.read_text().replace("${read(`../${dep}/dist/index.js`).length}", ""))
    commit(main.path)
    ran = distributed(main, tmp_path, "build", agents=1)
    assert ran.exit_code == 0
    assert set(ran.statuses) == {"p0#build", "p2#build", "p3#build"}
    assert ran.handed == []


def test_the_main_jobs_variables_reach_the_agents_and_theirs_do_not_matter(tmp_path: Path):
    main = make_workspace(tmp_path / "main", packages=2, scripts=("build", "env"))
    alone = main.clone(tmp_path / "alone")
    variables = {"BUILD_MODE": "fast & loud", "PUBLIC_URL": "https://x", "FLAVOUR": "sweet", "PUBLIC_NOISE": "1"}
    ran = distributed(main, tmp_path, "build", "env", "--env-mode=loose", agents=1, **variables)
    alone.turbo("build", **variables)
    assert ran.exit_code == 0
    assert set(ran.where.values()) == {"agent0"}
    assert main.files() == alone.files()
    for told in ('"BUILD_MODE":"fast & loud"', '"PUBLIC_URL":"https://x"', '"FLAVOUR":"sweet"', '"CI":"1"'):
        assert told in ran.logs["p0#env"]
    assert "PUBLIC_NOISE" not in ran.logs["p0#env"]


def test_no_task_sees_the_secret(tmp_path: Path):
    main = make_workspace(tmp_path / "main", packages=1, scripts=("env",))
    ran = distributed(main, tmp_path, "env", "--env-mode=loose", agents=0)
    assert ran.where == {"p0#env": MAIN}
    assert '"TURBO_HASH"' in ran.stdout
    assert not re.search("hush|DTE_(?!TASK_COOKIE)", ran.stdout)


def test_where_everything_is_in_turbos_own_cache_turbo_is_left_alone(tmp_path: Path):
    main = make_workspace(tmp_path / "main", packages=2, scripts=("build",))
    main.turbo("build")
    ran = distributed(main, tmp_path, "build", agents=0)
    assert "in this machine's turbo cache already" in ran.plan.objection
    assert ran.exit_code == 0
    assert "2 cached, 2 total" in ran.stdout


@pytest.mark.parametrize("option", [(), ("--cache-dir=.turbo/of-ci",), ("--root-turbo-json", "ci.json")])
def test_what_is_in_turbos_own_cache_is_passed_on_and_not_run_again(tmp_path: Path, option: tuple[str, ...]):
    main = make_workspace(tmp_path / "main", packages=3, scripts=("build",))
    rules = json.loads((main.path / "turbo.json").read_text())
    (main.path / "ci.json").write_text(json.dumps({**rules, "cacheDir": ".turbo/of-ci"}))
    commit(main.path)
    main.turbo("build", *option)
    subprocess.run(["git", "clean", "-fdxq", "-e", "node_modules", "-e", ".turbo"], cwd=main.path, check=True)
    (main.path / "packages/p1/src/index.js").write_text("module.exports = 'changed';")
    commit(main.path)
    alone = main.clone(tmp_path / "alone")
    ran = distributed(main, tmp_path, "build", *option)
    alone.turbo("build", *option)
    assert ran.exit_code == 0
    assert ran.where["p0#build"] == ran.where["p2#build"] == MAIN
    assert ran.where["p1#build"] != MAIN
    assert ran.logs["p0#build"] == ""
    assert main.files() == alone.files()
    assert "3 cached, 3 total" in ran.stdout


def test_a_turbo_that_hashes_something_else_than_when_it_was_asked_is_named(tmp_path: Path):
    main = make_workspace(tmp_path / "main", packages=1, scripts=("build",))
    ran = over(main, [], tmp_path, "build", LATE_BUILD_MODE="another")
    assert ran.exit_code == 0
    assert ran.statuses == {"p0#build": "cancelled"}, "that is no success of what was planned"
    assert [notice.partition(",")[0] for notice in ran.notices] == [
        "turbo did 1 task(s) here whose hashes are not those of its own plan"
    ]
    assert distributed(main, tmp_path, "build", agents=0).notices == ()


@pytest.mark.parametrize(
    "settings",
    [
        {"globalEnv": ["*"]},
        {"globalEnv": ["TURBO_TOKEN"]},
        {"tasks": {"build": {"env": ["*", "!TURBO_CACHE"]}}},
    ],
)
def test_where_turbo_hashes_what_dte_sets_it_is_left_alone(tmp_path: Path, settings: dict[str, object]):
    main = make_workspace(tmp_path / "main", packages=1, scripts=("build",), **settings)
    ran = distributed(main, tmp_path, "build", agents=0)
    assert "has turbo hash TURBO_" in ran.plan.objection
    assert ran.exit_code == 0
    assert "1 successful, 1 total" in ran.stdout


@pytest.mark.parametrize("theirs", ["", "the same", "another"])
def test_signed_results_are_only_taken_from_who_signs_with_the_same_key(tmp_path: Path, theirs: str):
    main = make_workspace(tmp_path / "main", packages=1, scripts=("build",), remoteCache={"signature": True})
    name, key = "TURBO_REMOTE_CACHE_SIGNATURE_KEY", "k" * 32
    agent = main.clone(tmp_path / "agent0")
    agent.variables = {"": {}, "the same": {name: key}, "another": {name: "l" * 32}}[theirs]
    ran = over(main, [agent], tmp_path, "build", **{name: key})
    assert ran.exit_code == 0
    assert ran.where == {"p0#build": "agent0" if theirs else MAIN}
    assert (f"{name} is not set here" in ran.cannot["agent0"].get("p0#build", "")) == (not theirs)
    assert ("1 cached, 1 total" in ran.stdout) == (theirs == "the same")
    assert ran.not_taken == (("p0#build",) if theirs == "another" else ())
    assert len(main.files()) == 3


def test_the_users_own_cache_is_filled_and_then_read(tmp_path: Path):
    main = make_workspace(tmp_path / "main", packages=2, scripts=("build",))
    again = main.clone(tmp_path / "again")
    agents = [main.clone(tmp_path / "agent0"), main.clone(tmp_path / "agent1")]
    shelf = Shelf()

    async def run() -> tuple[Ran, Ran]:
        server = LoopbackCache({"shelf": shelf})
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve)
            own = {"TURBO_API": server.url("shelf"), "TURBO_TOKEN": server.token, "TURBO_TEAM": "us"}
            first = await mesh(main, agents[:1], tmp_path / "1", "build", **own)
            filled = dict(shelf.kept)
            second = await mesh(again, agents[1:], tmp_path / "2", "build", **own)
            assert filled.keys() == shelf.kept.keys() == {task.hash for task in first.plan.dry.tasks.values()}
            nursery.cancel_scope.cancel()
        return first, second

    first, second = trio.run(run)
    assert set(first.where.values()) == {"agent0"}
    assert set(second.where.values()) == {MAIN}
    assert "2 cached, 2 total" in second.stdout
    assert main.files() == again.files()
    assert shelf.queries == {"slug=us"}


def test_a_cache_of_the_users_that_does_not_answer_costs_nothing_but_time(tmp_path: Path):
    main = make_workspace(tmp_path / "main", packages=1, scripts=("build",))
    own = {"TURBO_API": "http://127.0.0.1:9", "TURBO_TOKEN": "t", "TURBO_TEAM": "us"}
    ran = distributed(main, tmp_path, "build", agents=1, **own)
    assert (ran.exit_code, ran.where) == (0, {"p0#build": "agent0"})
    assert "1 cached, 1 total" in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "settings", "reason"),
    [
        (["--force"], {}, "turbo --force uses no results"),
        (["--no-cache"], {}, "turbo --no-cache keeps no results"),
        (["--cache=local:rw"], {}, "remote:rw"),
        (["--only"], {}, "names of its own"),
        ([], {"remoteCache": {"enabled": False}}, "turns its remote cache off"),
        (["--root-turbo-json=ci.json"], {}, "turns its remote cache off"),
        ([], {"remoteCache": {"signature": True}}, "TURBO_REMOTE_CACHE_SIGNATURE_KEY is not set"),
    ],
)
def test_what_cannot_be_distributed_runs_plainly_and_says_why(tmp_path: Path, arguments, settings, reason):
    main = make_workspace(tmp_path / "main", packages=1, scripts=("lint",), **settings)
    (main.path / "ci.json").write_text('{"tasks": {"lint": {}}, "remoteCache": {"enabled": false}}')
    ran = distributed(main, tmp_path, "run", "lint", *arguments, agents=0)
    assert reason in ran.plan.objection
    assert ran.exit_code == 0
    assert "lint ok p0" in ran.stdout
    assert ran.statuses == {}


@pytest.mark.parametrize(
    ("arguments", "variable"),
    [
        (("--profile", "lint.trace"), ""),
        (("--log-file", ".turbo/lint.json"), ""),
        (("--summarize", "true"), ""),
        (("--remote-only",), ""),
        ((), "TURBO_REMOTE_ONLY"),
    ],
)
def test_what_is_not_for_agents_keeps_nothing_from_them(tmp_path: Path, arguments: tuple[str, ...], variable: str):
    main = make_workspace(tmp_path / "main", packages=1, scripts=("lint",))
    ran = distributed(main, tmp_path, "run", "lint", *arguments, agents=1, **({variable: "true"} if variable else {}))
    assert (ran.exit_code, ran.plan.objection) == (0, "")
    assert ran.where == {"p0#lint": "agent0"}


def test_a_turbo_that_is_to_leave_its_own_cache_alone_does_so(tmp_path: Path):
    main = make_workspace(tmp_path / "main", packages=1, scripts=("lint",))
    main.turbo("run", "lint")
    ran = distributed(main, tmp_path, "run", "lint", "--remote-only", agents=1)
    assert ran.where == {"p0#lint": "agent0"}


def test_in_a_directory_below_turbos_workspace_turbo_is_left_alone(tmp_path: Path):
    main = make_workspace(tmp_path / "main", packages=1, scripts=("lint",))
    inside = main.path / "packages/p0"
    (inside / "turbo.json").write_text('{"extends": ["//"], "tasks": {"lint": {}}}')
    (inside / "node_modules").symlink_to("../../node_modules")
    command = find(tuple(main.command("run", "lint")), inside)
    assert command is not None
    planned = trio.run(plan, command, inside, main.environment())
    assert "turbo's workspace begins above" in planned.objection


def test_what_turbo_itself_refuses_it_is_left_to_say(tmp_path: Path):
    main = make_workspace(tmp_path / "main", packages=1, scripts=("lint",))
    ran = distributed(main, tmp_path, "run", "nonsense", agents=0)
    assert ran.exit_code == main.turbo("run", "nonsense").returncode != 0
    assert "nonsense" in ran.stderr
    assert "nonsense" in ran.plan.objection
