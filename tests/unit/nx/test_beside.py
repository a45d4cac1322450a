"""What is told of continuous tasks in the log and the problem of the one that they ran beside, and found there again."""

from mesh.adapters.nx.beside import Beside, ended, for_log, problem_of
from mesh.graph import Task
from mesh.types import TaskId

TASK = Task(
    id=TaskId("2/p0:e2e"),
    tool="nx",
    payload={"tasks": [{"task": {"id": name}} for name in ("p0:e2e", "p0:db", "p0:serve", "p0:ui")]},
)


def test_those_that_ended_by_themselves_are_found_again_and_the_log_is_as_it_was():
    beside = (Beside("p0:db", "stopped"), Beside("p0:serve", "no port", 1), Beside("p0:ui", "over", 0))
    log = b"passed\n" + for_log(TASK, beside, failed=False)
    assert ended(TASK, problem_of(beside), log) == (beside[1:], b"passed\n")


def test_where_the_task_failed_the_others_stay_in_its_log():
    beside = (Beside("p0:serve", "no port", -9), Beside("p0:db", "stopped"))
    log = b"failed\n" + for_log(TASK, beside, failed=True)
    found, rest = ended(TASK, f"timed out; {problem_of(beside)}", log)
    assert found == (beside[0],)
    assert rest.startswith(b"failed\n")
    assert rest.endswith(b"stopped")


def test_a_task_without_any_keeps_its_log():
    assert ended(TASK, "", b"all") == ((), b"all")
    assert problem_of((Beside("p0:db", "stopped"),)) == ""
