"""Scripts that run nx several times, and change the workspace in between: each nx finds it as it is then, as nx alone does."""

from pathlib import Path

import pytest

from tests.endtoend.nx_site import NxSite, cacheable, main_only, places
from tests.nx_workspace import NX_VERSION
from tests.remote_cache import TOKEN, remote_cache

pytestmark = [pytest.mark.nx, pytest.mark.slow, pytest.mark.timeout(300)]

SOURCE = "packages/p0/a.txt"
BUILT = "packages/p0/dist/a.txt"
SHOWN = ("TOKEN", "NODE_ENV", "OF_MAIN", "npm_lifecycle_event", "NX_OF_OURS")
SHOW = f"mkdir -p packages/p0/out; echo {' '.join(f'{name}=$' + name for name in SHOWN)} >> packages/p0/out/"
TARGETS = {
    "deploy": main_only(f"{SHOW}deploy"),
    "show": cacheable(f"{SHOW}show", "{projectRoot}/out/show"),
    "build": cacheable(f"mkdir -p packages/p0/dist && cat {SOURCE} > {BUILT}", "{projectRoot}/dist"),
    "test": cacheable(f"grep -q GOOD {SOURCE} || exit 1"),
    "codegen": main_only(f"echo generated > {SOURCE}"),
}


@pytest.fixture
def site(tmp_path: Path):
    site = NxSite(tmp_path / "site", {"p0": TARGETS}, {SOURCE: "GOOD\n"})
    try:
        yield site
    finally:
        site.close()


@pytest.mark.parametrize("agents", [0, 1])
def test_what_an_earlier_nx_has_changed_is_tested_as_it_is_now(site: NxSite, agents: int):
    script = "npx nx run p0:test && npx nx run p0:codegen && npx nx run p0:test"
    assert site.alone("sh", "-c", script)[0] == 1
    main = site.under_dte("sh", "-c", script, agents=agents)
    assert main.process.returncode == 1
    statuses = {task: told["status"] for task, told in main.tasks.items()}
    assert statuses == {"p0:test": "success", "2/p0:codegen": "success", "3/p0:test": "failure"}


def test_a_task_that_was_edited_between_two_nx_is_run_as_it_says_now(site: NxSite):
    script = "npx nx run p0:build && sed -i 's/cat /nl /' packages/p0/project.json && npx nx run p0:build"
    assert site.alone("sh", "-c", script)[0] == 0
    main = site.under_dte("sh", "-c", script, agents=0)
    assert main.process.returncode == 0
    assert main.tasks["2/p0:build"]["cache"] == "none"
    built = {each: (each.path / BUILT).read_text() for each in (site.plain, site.here)}
    assert built[site.here] == built[site.plain] != "GOOD\n"


def test_a_project_that_was_made_between_two_nx_is_there(site: NxSite):
    made = '{"name":"p9","targets":{"hey":{"command":"echo hey there; sleep 0.3","cache":true}}}'
    make = f"mkdir -p packages/p9 && echo '{made}' > packages/p9/project.json"
    main = site.under_dte("sh", "-c", f"npx nx run p0:test && {make} && npx nx run p9:hey", agents=0)
    assert main.process.returncode == 0
    assert "hey there" in main.text


def test_the_users_cache_gets_nothing_that_was_made_of_other_sources_than_its_hash_says(site: NxSite):
    with remote_cache() as ours, remote_cache() as theirs:
        script = "npx nx run p0:test && npx nx run p0:codegen && npx nx run p0:build"
        for cache, run in (
            (theirs, site.alone),
            (ours, lambda *command, **env: site.under_dte(*command, agents=0, **env)),
        ):
            run(
                *("sh", "-c", script),
                NX_SELF_HOSTED_REMOTE_CACHE_SERVER=cache.url,
                NX_SELF_HOSTED_REMOTE_CACHE_ACCESS_TOKEN=TOKEN,
            )
        assert ours.kept.keys() == theirs.kept.keys() != set()


def test_what_a_script_sets_for_one_nx_its_tasks_have_wherever_they_run_and_those_of_the_next_have_not(site: NxSite):
    script = "TOKEN=abc NODE_ENV=production NX_OF_OURS=set npx nx run-many -t deploy show && npx nx run p0:deploy"
    own = {"OF_MAIN": "kept", "NODE_ENV": "test"}
    main = site.under_dte("sh", "-c", script, **own)
    assert main.process.returncode == 0
    assert places(main) == {"p0:deploy": "main", "p0:show": "a0", "2/p0:deploy": "main"}
    here, there = "OF_MAIN=kept npm_lifecycle_event=npx", "OF_MAIN= npm_lifecycle_event="
    deployed = (site.here.path / "packages/p0/out/deploy").read_text().splitlines()
    assert deployed == [
        f"TOKEN=abc NODE_ENV=production {here} NX_OF_OURS=set",
        f"TOKEN= NODE_ENV=test {here} NX_OF_OURS=",
    ]
    shown = (site.here.path / "packages/p0/out/show").read_text()
    assert shown == f"TOKEN=abc NODE_ENV=production {there} NX_OF_OURS=set\n"


@pytest.mark.parametrize("version", [NX_VERSION, "20.8.4"])
def test_what_has_run_on_the_main_job_is_in_the_cache_of_its_nx(tmp_path: Path, version: str):
    site = NxSite(tmp_path / "site", {"p0": TARGETS}, {SOURCE: "GOOD\n"}, version)
    try:
        with remote_cache() as cache:
            main = site.under_dte(
                *("sh", "-c", f"npx nx run p0:build && rm {BUILT} && npx nx run p0:build"),
                agents=0,
                NX_SELF_HOSTED_REMOTE_CACHE_SERVER=cache.url,
                NX_SELF_HOSTED_REMOTE_CACHE_ACCESS_TOKEN=TOKEN,
            )
            assert len([asked for asked in cache.asked if asked.startswith("PUT")]) == 1
        assert main.process.returncode == 0
        assert {task: told["cache"] for task, told in main.tasks.items()} == {"p0:build": "none", "2/p0:build": "hit"}
        assert "every result is in this machine's nx cache already" in main.text
        assert (site.here.path / BUILT).read_text() == "GOOD\n"
    finally:
        site.close()


def test_two_nx_at_once_do_not_disturb_each_other(tmp_path: Path):
    made = "packages/p0/made"
    targets = {
        "one": cacheable(f"mkdir -p {made} && echo 1 > {made}/one", "{projectRoot}/made/one"),
        "wait": main_only("while [ ! -e packages/p0/over ]; do sleep 0.1; done", dependsOn=["one"]),
        "two": cacheable(f"cat {made}/one > {made}/two", "{projectRoot}/made/two", dependsOn=["wait"]),
        "other": cacheable(f"mkdir -p {made} && echo 2 > {made}/other", "{projectRoot}/made/other"),
    }
    site = NxSite(tmp_path / "site", {"p0": targets}, {".gitignore": "node_modules\n.nx\nmade\nover\n"})
    try:
        # The first one's last task is still to come when nothing of it runs on the agent, and the second one is there.
        script = "npx nx run p0:two & npx nx run p0:other && touch packages/p0/over && wait $!"
        main = site.under_dte("sh", "-c", script)
        assert main.process.returncode == 0
        assert {told["status"] for told in main.tasks.values()} == {"success"}
        left = {path.name: path.read_text() for path in (site.here.path / made).iterdir()}
        assert left == {"one": "1\n", "two": "1\n", "other": "2\n"}
    finally:
        site.close()
