"""What becomes of tasks that do not simply succeed, as a person and as programs see it."""

import secrets
import signal
import time

from mesh.protocol.membership import LINK_GRACE_MS
from tests.endtoend.mesh_under_test import MakeSite, Relay, completions, dte, processes_with, until
from tests.endtoend.workspaces import toml, wait_for


def test_a_failing_task_fails_the_run_and_its_log_is_the_last_thing_one_reads(site_of: MakeSite) -> None:
    site = site_of(
        toml(
            good='command = "echo all is good"',
            bad='command = "echo first line; echo on stderr >&2; for n in $(seq 500); do echo line $n; done; exit 7"\ndeps = ["good"]',
            after='command = "echo never"\ndeps = ["bad"]',
            behind='command = "echo never"\ndeps = ["after", "good"]',
            beside='command = "sleep 1; echo beside"\ndeps = ["good"]',
        )
    )
    main = site.main("behind", "beside", "--agent-wait", "60s")
    site.agents(1)
    assert main.ended() == 1
    tasks = main.tasks
    assert {name: task["status"] for name, task in tasks.items()} == {
        "good": "success",
        "bad": "failure",
        "after": "skipped",
        "behind": "skipped",
        "beside": "success",
    }
    assert (main.json["verdict"], main.json["exit_code"]) == ("failure", 1)
    assert (tasks["bad"]["exit_code"], tasks["after"]["where"]) == (7, "")
    lines = main.out.read_text().splitlines()
    begin = lines.index("first line")
    log = ["first line", "on stderr", *(f"line {number}" for number in range(1, 501))]
    assert lines[begin : begin + len(log)] == log
    assert begin > lines.index("beside")
    assert [line for line in lines[begin + len(log) :] if line and not line.startswith("dte: ")] == []
    assert "dte: failed: bad" in lines
    assert "dte: exit code 1; 5 tasks: 2 succeeded, 1 failed, 2 skipped" in lines
    assert {name: entries[-1].status for name, entries in completions(main.ledger).items()} == {
        name: task["status"] for name, task in tasks.items()
    }
    assert dte("verify", str(main.ledger)).returncode == 0


def test_the_reports_of_a_task_that_failed_are_on_the_main_job_and_nothing_is_made_of_them(site_of: MakeSite) -> None:
    site = site_of(
        toml(
            good='command = "true"',  # an agent on which everything fails is not believed
            test='command = "echo 1 of 9 failed > report; exit 1"\noutputs = ["report", "never-made"]\ndeps = ["good"]',
            publish='command = "cp report published"\ndeps = ["test"]\noutputs = ["published"]',
        )
    )
    main = site.main("publish", "--agent-wait", "60s")
    (agent,) = site.agents(1)
    assert (main.ended(), agent.ended()) == (1, 0)
    assert main.tasks["test"]["where"] == "agent-1"
    assert (site.root / "main/workspace/report").read_text() == "1 of 9 failed\n"
    assert main.tasks["publish"]["status"] == "skipped"
    assert dte("verify", str(main.ledger)).returncode == 0


def test_a_failed_task_is_tried_again_on_another_agent(site_of: MakeSite) -> None:
    both = "touch $SITE/warm-$DTE_TASK; until test $(ls $SITE | grep -c ^warm-) = 2; do sleep 0.05; done"
    flaky = "test -e $SITE/tried || { touch $SITE/tried; echo the first time; exit 3; }"
    site = site_of(
        toml(
            one=f'command = "{both}"',
            two=f'command = "{both}"',
            flaky=f'command = "{flaky}"\nretries = 1\ndeps = ["one", "two"]',
        )
    )
    main = site.main("flaky", "--agent-wait", "60s")
    site.agents(2)
    assert main.ended() == 0
    places = [event["agent"] for event in main.events("task-started") if event["task"] == "flaky"]
    assert sorted(places) == ["agent-1", "agent-2"]
    told = main.tasks["flaky"]
    assert (told["attempts"], told["flaky"]) == (2, True)
    assert [(one["attempt"], one["exit_code"]) for one in told["failed_attempts"]] == [(1, 3)]
    assert told["failed_attempts"][0]["log_digest"] != told["log_digest"]
    assert "dte: flaky, failed before it passed: flaky" in main.text
    assert [entry.status for entry in completions(main.ledger)["flaky"]] == ["failure", "success"]
    assert "failed with exit code 3" in main.text
    assert dte("verify", str(main.ledger)).returncode == 0


def test_retries_come_to_an_end(site_of: MakeSite) -> None:
    site = site_of(toml(bad='command = "echo tried >> $SITE/tries; exit 3"'))
    main = site.main("bad", "--retries", "2", listen=False)
    assert main.ended() == 1
    assert (site.root / "tries").read_text() == "tried\n" * 3
    assert main.tasks["bad"]["attempts"] == 3


def test_a_task_that_may_fail_does_not_fail_the_run(site_of: MakeSite) -> None:
    site = site_of(toml(may='command = "exit 9"\nallow_failure = true', after='command = "true"\ndeps = ["may"]'))
    main = site.main("after", listen=False)
    assert main.ended() == 0
    assert main.json["verdict"] == "success"
    assert {name: task["status"] for name, task in main.tasks.items()} == {"may": "failure", "after": "success"}
    assert "failed, as it is allowed to (exit code 9)" in main.text
    assert "1 failed as allowed" in main.text


def test_a_time_out_ends_the_whole_session_and_whoever_left_it(site_of: MakeSite) -> None:
    mark = secrets.token_hex(8)
    command = "setsid sleep 1001 & sleep 1002 & echo begun; sleep 1003"
    site = site_of(toml(defaults=f'env = {{ TASK_MARK = "{mark}" }}', slow=f'command = "{command}"\ntimeout = "1s"'))
    main = site.main("slow", "--agent-wait", "60s")
    agent = site.agent("agent-1")
    assert (main.ended(), agent.ended()) == (1, 0)
    assert processes_with("TASK_MARK", mark) == []
    assert "timed out after 1 s and was ended" in main.text
    assert "timed out after 1 s and was ended" in agent.text
    assert "begun" in main.text.splitlines()
    assert main.tasks["slow"]["status"] == "failure"


def test_a_grandchild_that_hangs_neither_holds_up_the_task_nor_outlives_it(site_of: MakeSite) -> None:
    mark = secrets.token_hex(8)
    command = "(trap '' TERM; setsid sleep 1001) & echo done"
    site = site_of(toml(defaults=f'env = {{ TASK_MARK = "{mark}" }}', t=f'command = "{command}"'))
    main = site.main("t", "--agent-wait", "60s")
    site.agent("agent-1").ended()
    assert main.ended() == 0
    assert processes_with("TASK_MARK", mark) == []
    assert main.tasks["t"]["status"] == "success"
    (entry,) = completions(main.ledger)["t"]
    assert entry.problem.startswith("left ")
    assert entry.problem.endswith("running in the background, which was ended")


def test_one_thousand_tasks_that_do_nothing_are_all_done(site_of: MakeSite) -> None:
    tasks = {f"n{number}": 'command = ["/bin/true"]\ncache = false\ninputs = []' for number in range(1000)}
    site = site_of(toml(**tasks))
    main = site.main(*tasks, "--agent-wait", "60s")
    agents = [site.agent(name, "--slots", "2") for name in ("agent-1", "agent-2")]
    assert main.ended(110) == 0
    assert [agent.ended() for agent in agents] == [0, 0]
    assert main.json["verdict"] == "success"
    assert [task["status"] for task in main.tasks.values()] == ["success"] * 1000
    assert {task["where"] for task in main.tasks.values()} == {"agent-1", "agent-2"}
    assert len(completions(main.ledger)) == 1000
    assert "1,000 tasks: 1,000 succeeded" in main.text


def test_a_task_that_takes_far_too_long_is_copied_and_the_slower_process_is_ended(site_of: MakeSite) -> None:
    slow = "test -e $SITE/begun || { touch $SITE/begun; echo stuck; echo stuck > out.txt; sleep 300; }; echo done > out.txt; cat out.txt"
    site = site_of(
        toml(slow=f'command = "{slow}"\noutputs = ["out.txt"]', after='command = "cat out.txt"\ndeps = ["slow"]')
    )
    machine = site.machine("main")
    main = site.main("after", "--agent-wait", "60s", on=machine)
    site.agents(2)
    assert main.ended() == 0
    started = [event["agent"] for event in main.events("task-started") if event["task"] == "slow"]
    assert sorted(started) == ["agent-1", "agent-2"]
    assert (main.tasks["slow"]["where"], main.tasks["slow"]["attempts"]) == (started[1], 2)
    assert len(completions(main.ledger)["slow"]) == 1
    assert [line for line in main.out.read_text().splitlines() if line in ("stuck", "done")] == ["done", "done"]
    logs = dte("logs", "--follow", "slow", cwd=machine.workspace, env=site.environ(machine))
    assert logs.stdout.splitlines() == [f"── attempt 2 on {started[1]}: success ──", "done"]
    assert not processes_with("DTE_TASK", "slow")
    assert dte("verify", str(main.ledger)).returncode == 0


def test_the_log_of_a_task_whose_agent_was_out_of_reach_for_a_while_is_shown_once_and_whole(site_of: MakeSite) -> None:
    site = site_of(toml(talks=f'command = "echo begun; {wait_for("go")}; echo ended"\nwhere = "agent"'))
    machine = site.machine("main")
    main = site.main("talks", "--agent-wait", "60s", on=machine)
    relay = Relay(site.address)
    site.agent("agent-1", "--peer", relay.address)
    asked = {"cwd": machine.workspace, "env": site.environ(machine)}
    until("the first line", lambda: dte("logs", "talks", **asked).stdout == "begun\n")
    relay.cut()
    main.happens("agent-left")
    relay.mend()
    main.happens("task-started", 2)
    site.tell("go")
    assert main.ended() == 0
    lines = main.out.read_text().splitlines()
    shown = [line for line in lines if line in ("begun", "ended") or line.startswith("── attempt")]
    assert shown[:1] + shown[2:] == ["begun", "begun", "ended"]
    assert shown[1].startswith("── attempt 1 came to nothing: agent agent-1 is gone")


def test_a_log_that_its_link_cannot_carry_breaks_no_link_and_is_shown_whole(site_of: MakeSite) -> None:
    line = "one of many lines that nobody will ever read"
    command = f"yes {line} | head -n 900000; touch $SITE/written; {wait_for('go')}"
    site = site_of(toml(chatty=f'command = "{command}"\nwhere = "agent"'))
    trace = site.root / "trace"
    main = site.main("chatty", "--agent-wait", "60s")
    relay = Relay(site.address)
    site.agent("agent-1", "--peer", relay.address, "--trace", str(trace))
    main.happens("agent-joined")
    main.happens("task-awarded")
    relay.hold()
    until("the whole log to be written", (site.root / "written").exists)
    relay.release()
    site.tell("go")
    assert main.ended() == 0
    assert main.out.read_text().count(f"{line}\n") == 900_000
    assert "LinkDown" not in trace.read_text().partition("Ended(")[0]


def test_whoever_sends_a_log_is_heard_by_it(site_of: MakeSite) -> None:
    site = site_of(toml(talks='command = "echo a few words"\nwhere = "agent"'))
    trace = site.root / "trace"
    main = site.main("talks", "--agent-wait", "60s", "--trace", str(trace))
    site.agent("agent-1")
    assert main.ended() == 0
    assert "message=Log(" in trace.read_text()


def test_a_main_job_that_was_stopped_for_a_while_takes_nobody_for_dead_who_comes_back(site_of: MakeSite) -> None:
    site = site_of(toml(waits=f'command = "{wait_for("go")}"\nwhere = "agent"'))
    trace = site.root / "trace"
    main = site.main("waits", "--agent-wait", "60s", "--trace", str(trace))
    relay = Relay(site.address)
    site.agent("agent-1", "--peer", relay.address)
    main.happens("task-started")
    relay.cut()
    until("the end of the link", lambda: "LinkDown" in trace.read_text())
    main.signal(signal.SIGSTOP)
    relay.mend()
    time.sleep(2 * LINK_GRACE_MS / 1000)  # nothing happens that could be waited for: that is what is tested
    main.signal(signal.SIGCONT)
    until("a new link", lambda: trace.read_text().count("LinkUp") == 2 or main.events("agent-left"))
    site.tell("go")
    assert main.ended() == 0
    assert main.events("agent-left") == main.events("task-requeued") == []
