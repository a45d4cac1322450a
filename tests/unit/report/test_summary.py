"""Rules of the summary."""

from pathlib import Path

import orjson
import pytest

from mesh.protocol.news import CheckpointMade, Notice, RunEnded, TaskDelivered, TaskReady, TaskRequeued
from mesh.report import Summary
from mesh.types import Blob, TaskId, UnixMs

DESIGN_KEYS = {
    "": "version run_id verdict exit_code started_ms makespan_ms lower_bound_ms critical_path agents tasks ledger notices",
    "agents": "name node_id slots joined_ms left_ms busy_ms tasks",
    "tasks": (
        "id status where attempts flaky failed_attempts cache trust exit_code ready_ms awarded_ms started_ms ended_ms outputs_digest log_digest"
        " ledger_index max_rss_bytes"
    ),
    "ledger": "size root cosignatures final",
}


def a_run(say) -> Summary:
    """Two agents; a before b and c, both of which run at once; d is there already."""
    summary = Summary("run-1", UnixMs(1_700_000_000_000))
    say.tell(
        summary,
        (10, say.joined("a1")),
        (20, say.joined("a2")),
        (100, say.graph(a="", b="a", c="a", d="")),
        (100, TaskReady(TaskId("a"))),
        (101, say.awarded("a", "a1")),
        (102, say.ended("d", "a2", 5_000, cache="hit")),
        (105, say.started("a", "a1")),
        (1_105, say.ended("a", "a1", 998)),
        (1_110, say.started("b", "a1")),
        (1_110, say.started("c", "a2")),
        (2_110, say.ended("c", "a2", 1_000)),
        (3_110, say.failed("b", "a1", 2_000)),
        (3_120, CheckpointMade(5, "cm9vdA==", 2)),
        (3_125, Notice("be careful")),
        (3_130, TaskDelivered(TaskId("b"))),
        (3_140, say.left("a2")),
        (3_150, RunEnded("failure")),
    )
    return summary


def test_the_json_has_the_documented_shape(say):
    result = a_run(say).to_json(1, ledger_final=True)
    assert " ".join(result) == DESIGN_KEYS[""]
    for part in ("agents", "tasks"):
        assert all(" ".join(item) == DESIGN_KEYS[part] for item in result[part])
    assert " ".join(result["ledger"]) == DESIGN_KEYS["ledger"]
    assert orjson.loads(orjson.dumps(result)) == result
    assert (result["version"], result["run_id"], result["started_ms"]) == (1, "run-1", 1_700_000_000_000)
    assert (result["verdict"], result["exit_code"]) == ("failure", 1)
    assert result["ledger"] == {"size": 5, "root": "cm9vdA==", "cosignatures": 2, "final": True}
    assert result["notices"] == ["be careful"]


def test_the_guide_shows_every_key_of_the_json():
    guide = (Path(__file__).parents[3] / "docs" / "guide" / "output.md").read_text()
    for keys in DESIGN_KEYS.values():
        assert all(f'"{key}"' in guide for key in keys.split())


def test_each_task_has_the_times_of_what_happened_to_it(say):
    tasks = {task["id"]: task for task in a_run(say).to_json(1)["tasks"]}
    assert [tasks["a"][key] for key in ("ready_ms", "awarded_ms", "started_ms", "ended_ms")] == [100, 101, 105, 1_105]
    assert (tasks["d"]["started_ms"], tasks["d"]["cache"], tasks["d"]["where"]) == (None, "hit", "a2")
    assert (tasks["b"]["status"], tasks["b"]["exit_code"]) == ("failure", 1)


def test_a_task_that_failed_before_it_went_well_is_told_as_flaky_with_every_failed_attempt(say):
    summary = Summary()
    first = TaskRequeued(TaskId("a"), "a1", 1, "failed with exit code 3", 3, Blob(say.DIGEST, 7))
    lost = TaskRequeued(TaskId("a"), "a2", 2, "agent a2 is gone")
    good = say.ended("a", "a3", attempts=3, flaky=True)
    say.tell(summary, (0, say.graph(a="", b="")), (1, first), (2, lost), (3, good), (4, say.ended("b")))
    told, other = summary.to_json(0)["tasks"]
    assert (told["flaky"], other["flaky"]) == (True, False)
    assert told["failed_attempts"] == [{"attempt": 1, "where": "a1", "exit_code": 3, "log_digest": say.DIGEST}]
    assert summary.flaky() == ["a"]


def test_agents_are_told_with_what_they_did(say):
    a1, a2 = a_run(say).to_json(1)["agents"]
    assert (a1["joined_ms"], a1["left_ms"], a1["busy_ms"], a1["tasks"]) == (10, None, 2_998, 2)
    assert (a2["joined_ms"], a2["left_ms"], a2["busy_ms"], a2["tasks"]) == (20, 3_140, 1_000, 2)


def test_makespan_is_from_the_first_graph_to_the_end(say):
    assert a_run(say).makespan_ms() == 3_050


def test_the_lower_bound_is_the_longest_chain_where_that_is_longer_than_the_work(say):
    summary = a_run(say)
    assert summary.critical_path() == (2_998, ["a", "b"])
    assert summary.lower_bound_ms() == 2_998


def test_the_lower_bound_is_the_work_over_the_slots_where_that_is_longer(say):
    summary = Summary()
    say.tell(summary, (0, say.joined("a1", 2)), (0, say.graph(a="", b="", c="")))
    say.tell(summary, *[(2_000, say.ended(task, "a1", 1_000)) for task in "abc"])
    assert summary.lower_bound_ms() == 1_500


def test_slots_that_left_before_there_was_work_do_not_count(say):
    summary = Summary()
    say.tell(summary, (0, say.joined("a1", 1)), (0, say.joined("a2", 9)), (5, say.left("a2")), (10, say.graph(a="")))
    say.tell(summary, (10, say.graph(b="")), (500, say.ended("a")), (500, say.ended("b")))
    assert summary.lower_bound_ms() == 2_000


def test_an_agent_that_comes_back_is_one_agent_with_its_slots_counted_once(say):
    summary = Summary()
    say.tell(
        summary, (0, say.graph(a="", b="")), (0, say.joined("a1", 2)), (5, say.left("a1")), (9, say.joined("a1", 2))
    )
    say.tell(summary, (20, say.ended("a", duration_ms=10)), (20, say.ended("b", duration_ms=10)))
    assert [agent["left_ms"] for agent in summary.to_json(0)["agents"]] == [None]
    assert summary.lower_bound_ms() == 10


def test_a_lost_agents_tasks_run_no_more_and_it_was_busy_until_then(say):
    summary = Summary()
    say.tell(summary, (0, say.joined("a1")), (0, say.graph(a="")), (10, say.started("a", "a1")))
    assert summary.progress().running == 1
    say.tell(summary, (700, say.left("a1", lost=True)), (701, TaskRequeued(TaskId("a"), "a1", 1, "a1 was lost")))
    assert (summary.progress().running, summary.progress().agents) == (0, 0)
    assert summary.to_json(1)["agents"][0]["busy_ms"] == 690


def test_of_two_copies_the_winner_gives_the_times(say):
    summary = Summary()
    say.tell(summary, (0, say.joined("a1")), (0, say.joined("a2")), (0, say.graph(a="")))
    say.tell(summary, (1, say.awarded("a", "a1")), (2, say.started("a", "a1")))
    say.tell(summary, (50, say.awarded("a", "a2")), (51, say.started("a", "a2")), (60, say.ended("a", "a1", 58)))
    task = summary.to_json(0)["tasks"][0]
    assert (task["awarded_ms"], task["started_ms"], task["where"]) == (1, 2, "a1")
    assert [agent["busy_ms"] for agent in summary.to_json(0)["agents"]] == [58, 9]
    assert not any(lane.running for lane in summary.lanes())


def test_a_start_that_is_told_together_with_the_end_was_as_long_before_as_the_task_took(say):
    summary = Summary()
    say.tell(summary, (0, say.joined("a1")), (0, say.graph(a="", b="")))
    say.tell(summary, (1, say.awarded("a", "a1")), (9, say.started("a", "a1")), (9, say.ended("a", "a1", 5)))
    say.tell(summary, (9, say.awarded("b", "a1")), (12, say.started("b", "a1")), (12, say.ended("b", "a1", 5)))
    times = [(task["awarded_ms"], task["started_ms"], task["ended_ms"]) for task in summary.to_json(0)["tasks"]]
    assert times == [(1, 4, 9), (9, 9, 12)]
    assert summary.to_json(0)["agents"][0]["busy_ms"] == 10


def test_a_task_whose_outputs_were_lost_is_not_done_any_more(say):
    summary = Summary()
    say.tell(summary, (0, say.joined("a1")), (0, say.graph(a="")), (9, say.failed("a")))
    assert (summary.progress().done, summary.progress().failed) == (1, 1)
    say.tell(summary, (10, TaskRequeued(TaskId("a"), "a1", 1, "its outputs were lost")))
    assert (summary.progress().done, summary.progress().failed) == (0, 0)
    say.tell(summary, (20, say.ended("a")))
    assert (summary.progress().done, summary.progress().failed) == (1, 0)


def test_a_failure_that_is_allowed_is_no_failure_of_the_run(say):
    summary = Summary()
    say.tell(summary, (0, say.graph(a="")), (9, say.failed("a", allowed_to_fail=True)))
    assert summary.progress().failed == 0
    assert summary.failures() == []


@pytest.mark.parametrize(
    ("told", "exit_code", "verdict"),
    [
        ("success", 0, "success"),
        ("success", 7, "failure"),
        ("failure", 1, "failure"),
        ("cancelled", 130, "cancelled"),
        (None, 0, "success"),
        (None, 1, "failure"),
        (None, 2, "error"),
        (None, 3, "error"),
        (None, 143, "cancelled"),
    ],
)
def test_the_verdict_is_never_better_than_the_exit_code(told, exit_code, verdict):
    summary = Summary()
    if told:
        summary.apply(RunEnded(told), 5)
    assert summary.to_json(exit_code)["verdict"] == verdict


def test_a_run_that_was_stopped_tells_what_it_has(say):
    summary = Summary()
    say.tell(
        summary, (0, say.joined("a1")), (0, say.graph(a="", b="a")), (10, say.started("a", "a1")), (30, Notice("x"))
    )
    result = summary.to_json(143)
    assert [task["status"] for task in result["tasks"]] == ["cancelled", "cancelled"]
    assert [task["exit_code"] for task in result["tasks"]] == [None, None]
    assert (result["makespan_ms"], result["agents"][0]["busy_ms"]) == (30, 20)


def test_all_notices_are_in_the_json_also_those_that_are_alike():
    summary = Summary()
    for number in range(5):
        summary.apply(Notice.of(TaskId(f"t{number}"), "a1", "it left more"), number)
    assert summary.to_json(0)["notices"] == [f"t{number} on a1: it left more" for number in range(5)]


def test_news_of_tasks_that_no_graph_named_is_taken(say):
    summary = Summary()
    say.tell(summary, (0, say.started("x", "nobody")), (5, say.ended("x", "main", 5)))
    assert summary.to_json(0)["tasks"][0]["where"] == "main"
