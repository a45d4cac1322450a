"""The run's secret is in the environment of the nodes, and nowhere else."""

from tests.endtoend.mesh_under_test import MakeSite
from tests.endtoend.workspaces import toml, wait_for

SHOWN = """command = '''env; cat /proc/self/environ | tr "\\\\0" "\\\\n"; mkdir -p out; env > out/$DTE_TASK'''"""


def test_no_file_no_task_and_no_command_line_has_the_secret(site_of: MakeSite) -> None:
    one = f'{SHOWN}\noutputs = ["out/one"]'
    site = site_of(
        toml(
            one=one,
            two=one.replace("out/one", "out/two") + '\nwhere = "main"',
            hold=f'command = "{wait_for("go")}"\ndeps = ["one", "two"]',
        )
    )
    trace = [str(site.root / name) for name in ("main-trace", "agent-trace")]
    main = site.main("hold", "--agent-wait", "60s", "--trace", trace[0], COPY=site.secret)
    agent = site.agent("agent-1", "--trace", trace[1], COPY=f"a copy of {site.secret}")
    main.happens("task-ended", 2)
    assert len(site.processes()) >= 2
    assert all(site.secret not in " ".join(process.cmdline()) for process in site.processes())
    site.tell("go")
    assert (main.ended(), agent.ended()) == (0, 0)
    assert {main.tasks["one"]["where"], main.tasks["two"]["where"]} == {"agent-1", "main"}
    assert "DTE_TASK=one" in main.text
    assert "DTE_TASK=two" in main.text
    assert "DTE_SECRET" not in main.text
    files = [path for path in site.root.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(files) > 30
    assert [path for path in files if site.secret.encode() in path.read_bytes()] == []


def test_a_secret_may_come_from_a_file_and_tasks_do_not_see_it_either(site_of: MakeSite) -> None:
    site = site_of(toml(one=f'{SHOWN}\noutputs = ["out/one"]'))
    secret_file = site.root / "secret"
    secret_file.write_text(f"{site.secret}\n")
    main = site.main("one", "--agent-wait", "60s", "--secret-file", str(secret_file), DTE_SECRET="", COPY=site.secret)
    agent = site.agent("agent-1", COPY=site.secret)
    assert (main.ended(), agent.ended()) == (0, 0)
    assert site.secret not in main.text
    assert "COPY" not in main.text


def test_a_command_and_what_a_task_is_passed_have_no_copy_of_it(site_of: MakeSite) -> None:
    site = site_of(toml(one=f'{SHOWN}\npass_env = ["PASSED"]\noutputs = ["out/one"]'))
    copies = {"COPY": f"a copy of {site.secret}", "PASSED": site.secret, "KEPT": "as it is"}
    command = site.main("--", "env", **copies)
    assert command.ended() == 0
    assert site.secret not in command.text
    assert "KEPT=as it is" in command.text.splitlines()
    main = site.main("one", "--agent-wait", "60s", on=site.machine("other"), **copies)
    agent = site.agent("agent-1")
    assert (main.ended(), agent.ended()) == (0, 0)
    assert site.secret not in main.text
    assert "PASSED" not in main.text


def test_a_secret_that_is_too_short_is_told_though_it_stands_in_every_path(site_of: MakeSite) -> None:
    main = site_of(toml(t='command = "true"')).main("--", "true", DTE_SECRET="/")
    assert main.ended() == 2
    assert "the secret has 1 bytes and must have at least 16" in main.text
    assert "Traceback" not in main.text


def test_an_agent_without_a_secret_is_told_where_it_comes_from(site_of: MakeSite) -> None:
    site = site_of(toml(t='command = "true"'))
    agent, main = site.agent("agent-1", DTE_SECRET=""), site.main("t", DTE_SECRET="")
    assert (agent.ended(), main.ended()) == (2, 2)
    assert "there is no secret; set DTE_SECRET (or --secret-file) to the one the main job has" in agent.text
    assert "agents elsewhere can only join with a secret; set DTE_SECRET" in main.text


def test_agents_on_this_machine_need_no_secret_of_the_users(site_of: MakeSite) -> None:
    site = site_of(toml(one=SHOWN, two=SHOWN))
    main = site.main("one", "two", "--agents", "2", listen=False, DTE_SECRET="")
    assert main.ended() == 0
    assert {task["where"] for task in main.tasks.values()} <= {"agent-1", "agent-2"}
    assert "DTE_SECRET" not in main.text
    site.is_quiet()
