"""What dte finds itself in when it is started: streams that are closed, options out of all bounds, names that are paths, other runs beside it."""

from pathlib import Path

import pytest

from tests.endtoend.mesh_under_test import MakeSite, dte
from tests.endtoend.workspaces import toml

ONE = toml(t='command = "echo done"')
HUGE = "99999999999999999999"


@pytest.mark.parametrize("closed", ["exec >&-", "exec 2>&-", "exec <&- >&- 2>&-"])
@pytest.mark.parametrize("events", [(), ("--events", "-")], ids=["", "events"])
def test_a_run_goes_on_whatever_stream_is_closed(site_of: MakeSite, closed: str, events: tuple[str, ...]) -> None:
    site = site_of(ONE)
    machine = site.machine("main")
    result = site.root / "result"
    run = site.start(machine, "run", "t", "--json", str(result), *events, first=closed)
    assert run.ended() == 0
    assert "Traceback" not in run.text
    assert '"verdict":"success"' in result.read_text()
    assert site.start(machine, "logs", "t", first=closed).ended() == 0


def test_a_secret_from_a_stream_that_is_closed_is_an_empty_one(site_of: MakeSite) -> None:
    main = site_of(ONE).main("t", "--secret-file", "-", first="exec <&-")
    assert main.ended() == 2
    assert "the secret is empty" in main.text


@pytest.mark.parametrize(
    "option", ["--agents", "--slots", "--main-slots", "--retries", "--task-timeout", "--agent-wait", "--stall-after"]
)
def test_a_number_out_of_all_bounds_is_a_usage_error(tmp_path: Path, option: str) -> None:
    more = ["--listen", ":0"] if option == "--agent-wait" else []
    run = dte("run", "t", option, HUGE, *more, cwd=tmp_path)
    assert run.returncode == 2
    assert run.stderr.startswith(f"dte: {option} {HUGE}: ")


def test_agents_of_two_runs_of_one_name_write_apart_and_below_the_data_directory(site_of: MakeSite) -> None:
    site = site_of(ONE)
    machine = site.machine("main")
    for _ in range(2):
        run = site.start(machine, "run", "t", "--agents", "1", DTE_RUN_ID="../../../outside")
        assert run.ended() == 0
    assert not (site.root / "outside").exists()
    logs = list(machine.data.glob("agents/*/agent-1.log"))
    assert len(logs) == 2
    assert all("looks for run ../../../outside" in log.read_text() for log in logs)
