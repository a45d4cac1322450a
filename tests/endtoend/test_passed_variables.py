"""Variables of the main job at a task on an agent: those that were asked for, as they are here, and no value where it could be read."""

from tests.endtoend.mesh_under_test import MakeSite
from tests.endtoend.workspaces import toml


def test_a_passed_variable_has_the_main_jobs_value_on_an_agent_and_appears_nowhere_else(site_of: MakeSite) -> None:
    show = "echo url is $API_URL, mode is ${MODE-unset}, other is $OTHER, secret is ${DTE_SECRET-unset}"
    site = site_of(toml(show=f'command = "{show}"\ncache = false'))
    main = site.main(
        "show",
        "--agent-wait",
        "60s",
        "--pass-env",
        "API_URL",
        API_URL="from main",
        OTHER="of main",
        DTE_PASS_ENV="MODE",
    )
    site.agent("agent-1", API_URL="of the agent", MODE="of the agent", OTHER="its own")
    assert main.ended() == 0
    assert main.tasks["show"]["where"] == "agent-1"
    assert "url is from main, mode is of the agent, other is its own, secret is unset" in main.text


def test_names_from_the_environment_are_taken_and_what_is_not_set_here_is_not_set_there(site_of: MakeSite) -> None:
    site = site_of(toml(show='command = "echo url is $API_URL, mode is ${MODE-unset}"\ncache = false'))
    main = site.main("show", "--agent-wait", "60s", API_URL="a value of main", DTE_PASS_ENV="API_URL MODE")
    site.agent("agent-1", MODE="of the agent")
    assert main.ended() == 0
    assert "url is a value of main, mode is unset" in main.text
    told = b"".join(path.read_bytes() for path in main.ledger.rglob("*") if path.is_file())
    told += main.files["json"].read_bytes() + main.files["events"].read_bytes()
    assert b"a value of main" not in told
