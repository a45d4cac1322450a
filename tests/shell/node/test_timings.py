"""What a node bids with is what this machine's timings say, with how far they may be off."""

import trio

from mesh.exec.machine import machine_class
from mesh.graph import Graph, Task
from mesh.node.timings import FILE, Timings
from mesh.store.history import History, Sample, unix_now, workspace_id
from mesh.types import TaskId

STEADY, VARYING = TaskId("lib:build"), TaskId("app:e2e")


def test_a_task_that_varies_is_bid_with_a_p90_far_above_its_p50(tmp_path):
    took = {STEADY: [10_000] * 10, VARYING: [10_000, 10_000, 10_000, 60_000] * 3}
    with History(tmp_path / FILE) as history:
        history.record(
            Sample(workspace_id(tmp_path), task, machine_class(), duration_ms, unix_now(), "success")
            for task, durations_ms in took.items()
            for duration_ms in durations_ms
        )
    notices = []
    graph = Graph.of(Task(id=task, tool="native") for task in took)
    bid = trio.run(Timings(tmp_path, tmp_path, notices.append).estimates, graph)
    assert bid[STEADY].p90_ms < 1.5 * bid[STEADY].p50_ms
    assert bid[VARYING].p90_ms > 2 * bid[VARYING].p50_ms
    assert notices == []
