"""Which variables reach turbo, on the main job and on an agent."""

from pathlib import Path

import pytest

from mesh.adapters.turbo.environment import (
    agent_environment,
    hashed_of_ours,
    main_environment,
    planning_environment,
    shipped,
    worker_environment,
)

BASE = {
    "PATH": "/bin",
    "DTE_SECRET": "hush",
    "DTE_TASK_COOKIE": "/c",
    "TURBO_API": "https://theirs",
    "TURBO_TOKEN": "theirs",
    "TURBO_TEAM": "us",
    "TURBO_PREFLIGHT": "1",
    "TURBO_RUN_SUMMARY": "true",
    "TURBO_SCM_BASE": "main",
    "NO_PROXY": "corp",
}


def test_planning_asks_nobody_and_is_otherwise_the_users_own():
    environment = planning_environment(BASE)
    assert not {"TURBO_API", "TURBO_TOKEN", "TURBO_TEAM", "TURBO_RUN_SUMMARY", "DTE_SECRET"} & environment.keys()
    assert environment["TURBO_CACHE"] == "local:rw"
    assert environment["TURBO_SCM_BASE"] == "main"


def test_on_the_main_job_turbo_finds_our_cache_and_waits_for_it():
    environment = main_environment(BASE, "http://127.0.0.1:1/turbo/x", "t")
    assert environment["TURBO_API"] == "http://127.0.0.1:1/turbo/x"
    assert environment["TURBO_TOKEN"] == "t"
    assert environment["TURBO_TEAM"] == "us"  # a part of signatures
    assert environment["TURBO_REMOTE_CACHE_TIMEOUT"] == "0"
    assert environment["TURBO_TELEMETRY_DISABLED"] == "1"
    assert environment["NO_PROXY"] == "corp,127.0.0.1,localhost"
    assert "TURBO_PREFLIGHT" not in environment
    assert environment["TURBO_RUN_SUMMARY"] == "true"  # the account of its run is the user's
    assert main_environment({}, "u", "t")["TURBO_TEAM"] == "dte"  # without one turbo asks no remote cache


def test_no_process_sees_the_secret_and_each_can_be_found_again():
    for environment in (
        planning_environment(BASE),
        main_environment(BASE, "u", "t"),
        agent_environment(BASE, shipped({}, ())),
    ):
        assert {name for name in environment if name.startswith("DTE_")} == {"DTE_TASK_COOKIE"}


def test_an_agent_has_the_main_jobs_value_of_whatever_is_hashed():
    main = {"MODE": "fast", "PUBLIC_A": "1", "PUBLIC_SECRET": "2", "CI": "true", "OTHER": "x"}
    there = shipped(main, ("MODE", "UNSET", "PUBLIC_*", "!PUBLIC_SECRET"))
    assert there["values"] == {"MODE": "fast", "PUBLIC_A": "1", "CI": "true"}
    agent = {
        "MODE": "slow",
        "UNSET": "set",
        "PUBLIC_B": "3",
        "PUBLIC_SECRET": "own",
        "OTHER": "own",
        "TURBO_FORCE": "1",
    }
    environment = agent_environment(agent, there)
    assert environment["MODE"] == "fast"
    assert environment["PUBLIC_A"] == "1"
    assert environment["PUBLIC_SECRET"] == environment["OTHER"] == "own"
    assert not {"UNSET", "PUBLIC_B", "TURBO_FORCE"} & environment.keys()


def test_what_the_main_job_does_not_have_an_agent_does_not_have_either():
    assert "CI" not in agent_environment({"CI": "1"}, shipped({}, ()))


def test_an_escaped_star_is_a_star():
    there = shipped({"A*": "1", "AB": "2"}, (r"A\*",))
    assert there["values"] == {"A*": "1"}


def test_a_task_on_an_agent_reads_and_writes_only_our_cache(tmp_path: Path):
    key = {"TURBO_REMOTE_CACHE_SIGNATURE_KEY": "k", "TURBO_CACHE": "local:", "TURBO_TEAM": "theirs"}
    environment = worker_environment(key, shipped({"TURBO_TEAMID": "team_1"}, ()), tmp_path, "u", "t")
    assert environment["TURBO_CACHE_DIR"] == str(tmp_path)
    assert (environment["TURBO_API"], environment["TURBO_TOKEN"]) == ("u", "t")
    assert environment["TURBO_REMOTE_CACHE_SIGNATURE_KEY"] == "k"
    assert environment["TURBO_TEAMID"] == "team_1"
    assert "TURBO_CACHE" not in environment
    assert "TURBO_TEAM" not in environment
    assert environment["pnpm_config_verify_deps_before_run"] == "false"


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        (("TURBO_TOKEN", "MODE"), ("TURBO_TOKEN",)),
        (("*", "!TURBO_*"), ("NO_PROXY", "no_proxy")),
        (("*", "!TURBO_*", "!NO_PROXY", "!no_proxy"), ()),
        (("NODE_*", "CI", "HOME"), ()),
    ],
)
def test_variables_that_dte_sets_for_a_run_alone_and_turbo_hashes_are_named(
    patterns: tuple[str, ...], found: tuple[str, ...]
):
    assert sorted(hashed_of_ours(BASE, [("MODE",), patterns])) == sorted(found)
