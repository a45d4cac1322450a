"""What a run does about tasks that fail, as who waits for it sees it: native tasks on real agents."""

import os

from tests.endtoend.mesh_under_test import MakeSite, completions, dte, until
from tests.endtoend.workspaces import toml, wait_for


def test_after_enough_failures_nothing_new_is_started_and_what_runs_finishes(site_of: MakeSite) -> None:
    site = site_of(
        toml(
            bad=f'command = "{wait_for("slow-runs")}; touch $SITE/bad-ran; exit 3"',
            slow=f'command = "{wait_for("bad-failed")}; touch $SITE/slow-ended"',
            behind='command = "touch $SITE/behind-ran"\ndeps = ["slow"]',
        )
    )
    main = site.main("bad", "behind", "--fail-after", "1", "--agent-wait", "60s")
    site.agents(2)
    # Only what the main job knows to run has begun: a file that the task itself makes can be there a moment sooner.
    main.happens("task-started", 2)
    site.tell("slow-runs")
    main.happens("task-ended", 2)
    site.tell("bad-failed")
    assert main.ended() == 1
    assert {name: task["status"] for name, task in main.tasks.items()} == {
        "bad": "failure",
        "slow": "success",
        "behind": "skipped",
    }
    assert (site.root / "slow-ended").exists()
    assert not (site.root / "behind-ran").exists()
    assert "1 task has failed, and --fail-after is 1" in main.text
    assert [entry.problem for entry in completions(main.ledger)["behind"]] == [
        "not started: 1 task has failed, and --fail-after is 1"
    ]
    assert dte("verify", str(main.ledger)).returncode == 0


def test_an_agent_on_which_everything_fails_leaves_and_turns_no_run_red(site_of: MakeSite) -> None:
    check = 'command = "test -z \\"$NO_COMPILER\\" || { echo no compiler; exit 127; }"'
    names = [f"t{number}" for number in range(6)]
    site = site_of(toml(**dict.fromkeys(names, check)))
    main = site.main(*names, "--agent-wait", "60s")
    broken = site.agent("agent-1", "--slots", "3", NO_COMPILER="yes")
    main.happens("task-requeued", 3)
    site.agent("agent-2")
    assert main.ended() == 0
    assert broken.ended() == 0
    assert "agent-1" not in {task["where"] for task in main.tasks.values()}
    assert "agent agent-1 gets no more tasks" in main.text
    assert "the main job gives this agent no tasks" in broken.text
    flaky = [task for task in main.tasks.values() if task["flaky"]]
    assert len(flaky) >= 3
    assert all(task["failed_attempts"][0]["where"] == "agent-1" for task in flaky)
    assert dte("verify", str(main.ledger)).returncode == 0


def test_a_task_that_fails_on_every_agent_stays_failed(site_of: MakeSite) -> None:
    site = site_of(toml(bad='command = "echo tried on $WHO; exit 5"'))
    main = site.main("bad", "--agent-wait", "60s")
    for name in ("agent-1", "agent-2"):
        site.agent(name, WHO=name)
    assert main.ended() == 1
    assert main.tasks["bad"]["status"] == "failure"
    assert main.tasks["bad"]["exit_code"] == 5


def test_the_log_of_a_task_can_be_read_while_it_runs_and_afterwards_with_every_attempt(site_of: MakeSite) -> None:
    command = f"echo begun; {wait_for('go')}; echo tried on $WHO; test $WHO = agent-2"
    site = site_of(toml(talks=f'command = "{command}"\nretries = 1\ncache = false'))
    machine = site.machine("main")
    main = site.main("talks", "--agent-wait", "60s", on=machine)
    site.agent("agent-1", WHO="agent-1")
    main.happens("task-started")
    site.agent("agent-2", WHO="agent-2")

    def logs(*arguments: str) -> str:
        return dte("logs", *arguments, cwd=machine.workspace, env=site.environ(machine)).stdout

    until("the first line", lambda: logs("talks") == "begun\n")
    followed = site.start(machine, "logs", "-f", "talks", name="followed")
    elsewhere = site.start(machine, "logs", "-f", "talks", "--peer", site.address, name="elsewhere")
    for one in (followed, elsewhere):
        one.says("begun")
    main.happens("agent-joined", 2)
    site.tell("go")
    assert main.ended() == 0
    assert followed.ended() == 0
    both = [
        "── attempt 1 on agent-1: failure (exit code 1) ──",
        "begun",
        "tried on agent-1",
        "── attempt 2 on agent-2: success ──",
        "begun",
        "tried on agent-2",
    ]
    assert followed.out.read_text().splitlines()[-3:] in (
        both[-3:],
        ["── attempt 2 on agent-2: running ──", *both[-2:]],
    )
    assert logs("talks").splitlines() == both
    assert logs("talks", "--attempt", "1").splitlines() == ["begun", "tried on agent-1"]
    assert logs().splitlines() == ["talks  success  2 attempts"]
    assert "no run here has had a task" in dte("logs", "other", cwd=machine.workspace, env=site.environ(machine)).stderr


def test_a_run_goes_on_where_the_names_of_files_are_no_utf_8(site_of: MakeSite) -> None:
    site = site_of(toml(t='command = "echo done"'))
    machine = site.machine("main")
    machine.workspace = machine.workspace.rename(machine.workspace.with_name(os.fsdecode(b"w\xe9")))
    command = site.main("--", os.fsdecode(b"caf\xe9"), on=machine, listen=False)
    assert command.ended() == 127
    assert "caf?: command not found" in command.json["notices"]
    assert site.main("t", on=machine, listen=False).ended() == 0
    said = dte("logs", "t", cwd=machine.workspace, env=site.environ(machine))
    assert said.stdout == "done\n"


def test_no_task_fails_for_want_of_descriptors(site_of: MakeSite) -> None:
    names = [f"t{number}" for number in range(60)]
    site = site_of(toml(**dict.fromkeys(names, 'command = "sleep 0.1; echo done"')))
    main = site.main(*names, "--slots", "40", listen=False, first="ulimit -n 100")
    assert main.ended() == 0
    assert "9 tasks at a time and not 40: more files may not be open (ulimit -n)" in main.text
    assert {task["attempts"] for task in main.tasks.values()} == {1}


def test_as_many_files_as_the_system_allows_may_be_open(site_of: MakeSite) -> None:
    names = [f"t{number}" for number in range(60)]
    site = site_of(toml(**dict.fromkeys(names, 'command = "sleep 0.1; echo done"')))
    main = site.main(*names, "--slots", "40", listen=False, first="ulimit -S -n 100")
    assert main.ended() == 0
    assert "tasks at a time" not in main.text


def test_a_task_that_hangs_is_told_with_its_agent_and_its_last_line(site_of: MakeSite) -> None:
    site = site_of(toml(hangs=f'command = "echo waiting for the database; {wait_for("go")}"'))
    main = site.main("hangs", "--agent-wait", "60s", "--stall-after", "1s")
    site.agent("agent-1")
    main.says("nothing was heard of hangs on agent-1 for 1 s; its last line: waiting for the database")
    site.tell("go")
    assert main.ended() == 0
