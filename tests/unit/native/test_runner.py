"""Native tasks, run for real in a workspace: what goes in, what comes out, and what is said when it does not."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio

from mesh.adapters.base import Outcome, Runner
from mesh.adapters.native.runner import NativeRunner
from mesh.errors import CorruptError, StorageError
from mesh.exec.cookie import COOKIE_VARIABLE, new_cookie
from mesh.graph import Task
from mesh.store.blobs import BlobStore
from mesh.types import Blob, TaskId


class Machine:
    """One machine with a workspace, a store and a runner."""

    def __init__(self, root: Path, **environ: str) -> None:
        self.workspace = root / "workspace"
        self.workspace.mkdir(parents=True)
        self.store = root / "store"
        self.blobs = BlobStore(self.store)
        self.cookie = new_cookie({})
        self.log = bytearray()
        self.runner = NativeRunner(
            self.workspace,
            self.blobs,
            run_id="run-7",
            cookie=self.cookie,
            environ={"PATH": os.environ["PATH"], **environ},
        )

    def run(self, one: Task) -> Outcome:
        return trio.run(self.runner.run, one, self.log.extend)

    def restore(self, one: Task, outputs: Blob) -> None:
        trio.run(self.runner.restore, one, outputs)

    def copy(self, other: "Machine", blob: Blob) -> None:
        self.blobs.put(other.blobs.path(blob.digest).read_bytes())


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "one", TOKEN="t", DTE_SECRET="s3cret")


@pytest.fixture
def other(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "two")


def task(command: str | list[str], *outputs: str, payload: dict[str, Any] | None = None, **fields: Any) -> Task:
    shell = isinstance(command, str)
    full = {"command": command, "shell": shell, "cwd": "", "env": {}, "pass_env": {}, **(payload or {})}
    return Task(TaskId("t"), "native", outputs=outputs, payload=full, **fields)


def test_it_is_a_runner(machine: Machine) -> None:
    runner: Runner = machine.runner
    trio.run(runner.aclose)


def test_a_task_that_does_well_leaves_its_log_and_its_outputs(machine: Machine, other: Machine) -> None:
    one = task("mkdir -p out/sub; echo made > out/sub/a; echo logged", "out/**")
    outcome = machine.run(one)
    assert (outcome.status, outcome.exit_code, outcome.problem) == ("success", 0, "")
    assert machine.log == b"logged\n"
    assert outcome.started_ms <= outcome.ended_ms
    assert outcome.outputs is not None
    assert outcome.outputs.size == machine.blobs.path(outcome.outputs.digest).stat().st_size
    other.copy(machine, outcome.outputs)
    other.restore(one, outcome.outputs)
    assert (other.workspace / "out/sub/a").read_text() == "made\n"


def test_a_command_may_be_a_list_which_no_shell_reads(machine: Machine) -> None:
    machine.run(task(["echo", "$HOME", "a  b", "*"]))
    assert machine.log == b"$HOME a  b *\n"


def test_a_task_without_outputs_has_none(machine: Machine) -> None:
    assert machine.run(task("true")).outputs is None


def test_a_failure_keeps_its_exit_code_and_what_it_made_of_its_outputs(machine: Machine, other: Machine) -> None:
    one = task("echo red > report; exit 3", "report", "never-made")
    outcome = machine.run(one)
    assert (outcome.status, outcome.exit_code, outcome.problem) == ("failure", 3, "")
    assert outcome.outputs is not None
    other.copy(machine, outcome.outputs)
    other.restore(one, outcome.outputs)
    assert (other.workspace / "report").read_text() == "red\n"


def test_a_declared_output_that_was_not_made_is_a_failure_that_names_it(machine: Machine) -> None:
    outcome = machine.run(task("echo x > a", "a", "b", "c/*"))
    assert (outcome.status, outcome.exit_code, outcome.outputs) == ("failure", 1, None)
    assert outcome.problem == "succeeded without making its output b"


def test_a_wildcard_may_mean_nothing(machine: Machine) -> None:
    assert machine.run(task("true", "out/**")).status == "success"


def test_outputs_of_an_earlier_run_are_gone_when_the_command_begins(machine: Machine) -> None:
    (machine.workspace / "out").mkdir()
    (machine.workspace / "out/old").write_text("old")
    (machine.workspace / "source").write_text("mine")
    machine.run(task("ls", "out/**"))
    assert machine.log == b"source\n"


def test_a_task_may_run_in_the_directory_that_its_outputs_fill(machine: Machine) -> None:
    (machine.workspace / "gen").mkdir()
    (machine.workspace / "gen/old").write_text("old")
    assert machine.run(task("echo x > new; ls", "gen/**", payload={"cwd": "gen"})).status == "success"
    assert machine.log == b"new\n"


def test_a_task_knows_who_it_is_and_does_not_know_the_secret(machine: Machine) -> None:
    payload = {
        "env": {"A": "configured"},
        "pass_env": {"A": "main", "B": "main"},
        "unset_env": ["TOKEN"],
        "shard": 1,
        "shards": 2,
    }
    machine.run(task("env", payload=payload))
    seen = dict(line.split("=", 1) for line in machine.log.decode().splitlines())
    assert (seen["DTE_TASK"], seen["DTE_RUN_ID"], seen["A"], seen["B"]) == ("t", "run-7", "configured", "main")
    assert (seen["DTE_SHARD"], seen["CI_NODE_TOTAL"]) == ("1", "2")
    assert seen[COOKIE_VARIABLE].startswith(f"{machine.cookie}/")
    assert "TOKEN" not in seen
    assert "s3cret" not in machine.log.decode()


def test_a_secret_that_is_set_here_reaches_the_task(machine: Machine) -> None:
    assert machine.run(task('[ "$TOKEN" = t ]', secret_env=("TOKEN",))).status == "success"


def test_a_secret_that_is_not_set_here_is_a_failure_before_anything_is_touched(machine: Machine) -> None:
    (machine.workspace / "out").write_text("old")
    outcome = machine.run(task("echo ran", "out", secret_env=("TOKEN", "HF_TOKEN")))
    assert outcome.status == "failure"
    assert outcome.problem.startswith("needs HF_TOKEN (secret_env), not set on this machine")
    assert machine.log == b""
    assert (machine.workspace / "out").exists()


def test_a_time_out_is_a_failure_even_if_the_command_makes_the_best_of_it(machine: Machine) -> None:
    outcome = machine.run(task("trap 'exit 0' TERM; while :; do sleep 0.01; done", timeout_ms=200))
    assert (outcome.status, outcome.exit_code) == ("failure", 1)
    assert outcome.problem == "timed out after 0.2 s and was ended"


def test_a_command_that_is_not_there_is_a_failure_with_a_line_in_the_log(machine: Machine) -> None:
    assert machine.run(task(["no-such-command"])).exit_code == 127
    assert machine.log.startswith(b"dte: no-such-command: command not found")


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        ({"cwd": "/etc"}, "not inside the workspace"),
        ({"cwd": "a/../.."}, "not inside the workspace"),
        ({"command": []}, "has no command"),
        ({"command": 7}, "t.payload.command"),
        ({"env": {"A": 1}}, "t.payload.env"),
    ],
)
def test_a_payload_that_cannot_be_meant_is_a_failure_that_says_why(
    payload: dict[str, Any], says: str, machine: Machine
) -> None:
    outcome = machine.run(task(["echo"], payload=payload))
    assert outcome.status == "failure"
    assert says in outcome.problem


def test_an_output_that_cannot_be_kept_is_a_failure_that_names_it(machine: Machine) -> None:
    outcome = machine.run(task("mkdir out; ln -s /etc/passwd out/l", "out/**"))
    assert (outcome.status, outcome.exit_code) == ("failure", 1)
    assert "output out/l is a symbolic link to /etc/passwd" in outcome.problem
    assert [path.name for path in machine.store.rglob("*") if path.is_file()] == ["boot"]


def test_restoring_what_is_there_already_touches_nothing(machine: Machine) -> None:
    one = task("mkdir out; echo x > out/a", "out/**")
    outputs = machine.run(one).outputs
    assert outputs is not None
    before = (machine.workspace / "out/a").stat().st_ino
    machine.restore(one, outputs)
    assert (machine.workspace / "out/a").stat().st_ino == before
    (machine.workspace / "out/a").write_text("changed")
    machine.restore(one, outputs)
    assert (machine.workspace / "out/a").read_text() == "x\n"


def test_restoring_clears_what_the_outputs_meant_before(machine: Machine, other: Machine) -> None:
    one = task("mkdir out; echo x > out/a", "out/**")
    outputs = machine.run(one).outputs
    assert outputs is not None
    (other.workspace / "out").mkdir()
    (other.workspace / "out/old").write_text("old")
    other.copy(machine, outputs)
    other.restore(one, outputs)
    assert os.listdir(other.workspace / "out") == ["a"]  # noqa: PTH208


def test_restoring_what_the_store_does_not_have_is_explained(machine: Machine, other: Machine) -> None:
    one = task("echo x > out", "out")
    outputs = machine.run(one).outputs
    assert outputs is not None
    with pytest.raises(StorageError, match="outputs of t are gone"):
        other.restore(one, outputs)


def test_an_archive_of_other_outputs_is_refused(machine: Machine) -> None:
    outputs = machine.run(task("echo x > out", "out")).outputs
    assert outputs is not None
    with pytest.raises(CorruptError):
        machine.restore(task("true", "other"), outputs)


def test_cancellation_ends_every_process_of_a_task(machine: Machine) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(machine.runner.run, task("setsid sleep 60 & sleep 60"), machine.log.extend)
            with trio.fail_after(10):
                while len(marked(machine.cookie)) < 2:  # noqa: ASYNC110 - other processes set no events
                    await trio.sleep(0.005)
            nursery.cancel_scope.cancel()
        assert marked(machine.cookie) == []

    trio.run(main)


def test_closing_ends_a_daemon_that_a_task_left(machine: Machine) -> None:
    machine.run(task("setsid sleep 60 >/dev/null 2>&1 &"))
    assert wait_for(lambda: len(marked(machine.cookie)) == 1)
    trio.run(machine.runner.aclose)
    assert marked(machine.cookie) == []


def test_several_tasks_run_at_once(machine: Machine) -> None:
    outcomes: list[Outcome] = []

    async def run_one(number: int) -> None:
        # Each waits for the other's mark, which is no output and so is not cleared.
        script = f"touch mark{number}; until [ -e mark{1 - number} ]; do sleep 0.01; done; echo {number} > out{number}"
        one = task(script, f"out{number}", timeout_ms=10_000)
        outcomes.append(await machine.runner.run(one, machine.log.extend))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_one, 0)
            nursery.start_soon(run_one, 1)

    trio.run(main)
    assert [outcome.status for outcome in outcomes] == ["success", "success"]


def marked(cookie: str) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(COOKIE_VARIABLE, "").startswith(cookie) and process.status() != "zombie":
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def wait_for(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()
