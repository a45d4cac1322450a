"""Which variables of the main job its tasks get, wherever they run."""

import pytest

from mesh.adapters.nx.environment import forwarded
from mesh.errors import UsageError
from mesh.exec.passing import RUN_ENV, applied, check_names, shipped, taken
from mesh.graph import Task
from mesh.types import TaskId

MAIN = {
    "API_URL": "http://main",
    "AWS_REGION": "eu",
    "AWS_KEY": "k",
    "DTE_SECRET": "s3cret",
    "OTHER": "o",
}


def test_what_is_named_is_shipped_and_nothing_else():
    assert shipped(MAIN, ("API_URL", "AWS_*")) == {
        "values": {"API_URL": "http://main", "AWS_REGION": "eu", "AWS_KEY": "k"},
        "unset": [],
    }


def test_the_meshs_own_are_never_shipped():
    told = shipped(MAIN, ("*",))
    assert "DTE_SECRET" not in told["values"]
    assert "OTHER" in told["values"]


def test_what_is_named_and_not_set_on_the_main_job_is_not_set_for_the_task():
    payload = {RUN_ENV: shipped(MAIN, ("API_URL", "GONE"))}
    assert applied({"GONE": "agent's", "API_URL": "agent's", "HOME": "/h"}, payload) == {
        "API_URL": "http://main",
        "HOME": "/h",
    }


def test_a_payload_without_variables_changes_nothing():
    assert taken({}) == ({}, ())
    assert applied({"A": "1"}, {}) == {"A": "1"}


def test_an_agent_takes_none_of_dtes_own_variables_from_a_payload():
    assert taken({RUN_ENV: {"values": {"DTE_SECRET": "x", "A": "1"}, "unset": []}}) == ({"A": "1"}, ())


@pytest.mark.parametrize(("name", "why"), [("DTE_SECRET", "never given"), ("A=1", "only the name")])
def test_a_name_that_cannot_be_passed_is_refused_with_the_reason(name, why):
    with pytest.raises(UsageError, match=why):
        check_names(["OK", name])


def test_a_value_that_is_no_text_is_refused_by_its_name():
    with pytest.raises(UsageError, match="--pass-env BAD"):
        shipped({"BAD": b"\xff".decode(errors="surrogateescape")}, ("BAD",))


def test_a_task_does_not_show_its_variables_where_it_is_printed():
    task = Task(id=TaskId("a"), tool="nx", payload={RUN_ENV: shipped(MAIN, ("AWS_KEY", "API_URL"))})
    assert "http://main" not in repr(task)


def test_nx_gets_what_it_works_by_and_not_who_the_main_job_is():
    main = dict.fromkeys(
        [
            "CI",
            "NX_VERBOSE_LOGGING",
            "NX_BASE",
            "NX_PREFER_TS_NODE",
            "NX_CLOUD_ACCESS_TOKEN",
            "NX_CI_EXECUTION_ID",
            "NX_BRANCH",
            "NX_AGENT_NAME",
            "NX_SELF_HOSTED_REMOTE_CACHE_ACCESS_TOKEN",
            "NX_CACHE_DIRECTORY",
            "NX_DAEMON",
            "GITHUB_RUN_ID",
            "PATH",
        ],
        "x",
    )
    assert forwarded(main) == ("CI", "NX_VERBOSE_LOGGING", "NX_BASE", "NX_PREFER_TS_NODE")
