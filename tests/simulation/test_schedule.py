"""`dte sim --graph`: the schedule of a graph file, made by the real market in simulated time."""

import json
from itertools import pairwise

import pytest

from mesh.cli import main
from mesh.errors import UsageError
from mesh.sim import Scenario, SimAgent, SimTask, read_scenario, simulate

DIAMOND = {
    "version": 1,
    "tasks": [
        {"id": "p1:build", "deps": [], "duration_ms": 1000},
        {"id": "p1:test", "deps": ["p1:build"], "duration_ms": 2000},
        {"id": "p1:lint", "deps": ["p1:build"], "duration_ms": 500.4},
        {"id": "p1:deploy", "deps": ["p1:test", "p1:lint"], "duration_ms": 100},
    ],
    "agents": [{"name": "a1", "slots": 1}, {"name": "a2", "slots": 1, "speed": 1}],
}


def scenario(**changes):
    return read_scenario(json.dumps({**DIAMOND, **changes}).encode(), "graph.json")


def test_a_schedule_keeps_to_dependencies_slots_and_true_durations():
    schedule = simulate(scenario())
    assert schedule.makespan_ms == schedule.scenario.lower_bound_ms == 3100
    assert schedule.scenario.critical_path == ("p1:build", "p1:test", "p1:deploy")
    ended = {one.task: one.ended_ms for one in schedule.executions}
    began = {one.task: one.started_ms for one in schedule.executions}
    assert len(schedule.executions) == 4
    for task in schedule.scenario.tasks:
        assert ended[task.id] - began[task.id] == task.duration_ms
        assert all(ended[dep] <= began[task.id] for dep in task.deps)
    for agent in ("a1", "a2"):
        mine = sorted((one.started_ms, one.ended_ms) for one in schedule.executions if one.agent == agent)
        assert all(first[1] <= second[0] for first, second in pairwise(mine))


def test_a_faster_agent_takes_less_time():
    one = (SimTask("a:build", (), 1000),)
    assert simulate(Scenario(one, (SimAgent("fast", speed=2.0),))).makespan_ms == 500
    assert simulate(Scenario(one, (SimAgent("slow", speed=0.5),))).makespan_ms == 2000


def test_the_first_execution_of_a_straggler_takes_its_actual_time():
    schedule = simulate(Scenario((SimTask("a:build", (), 1000, actual_ms=8000),), (SimAgent("a1"),)))
    assert (schedule.makespan_ms, schedule.scenario.lower_bound_ms) == (8000, 1000)


def test_outputs_that_another_agent_needs_take_their_time_to_get_there():
    build = SimTask("a:build", (), 1000, output_bytes=50_000_000)
    tests = tuple(SimTask(f"a:test/{n}", ("a:build",), 2000) for n in range(2))
    schedule = simulate(Scenario((build, *tests), (SimAgent("a1"), SimAgent("a2"))))
    assert schedule.makespan_ms == 1000 + 500 + 2000


def test_an_agent_that_comes_late_gets_work_at_once():
    tasks = tuple(SimTask(f"t{n}", (), 1000) for n in range(10))
    schedule = simulate(Scenario(tasks, (SimAgent("a1"), SimAgent("late", joins_ms=3500))))
    late = [one.started_ms for one in schedule.executions if one.agent == "late"]
    assert late[0] == 3500


def unequal(*tasks, fast_joins_ms=0):
    """An agent four times as fast as the other; both know what each task takes."""
    agents = (SimAgent("slow"), SimAgent("fast", speed=4.0, joins_ms=fast_joins_ms))
    known = {task.id: {"slow": task.duration_ms, "fast": task.duration_ms // 4} for task in tasks}
    return simulate(Scenario(tasks, agents, known))


BUILD, LONG = SimTask("a:build", (), 2000), SimTask("b:build", ("a:build",), 40_000)


def test_an_idle_fast_agent_is_kept_for_an_urgent_task_that_will_be_ready_soon():
    schedule = unequal(BUILD, LONG, SimTask("x:test", (), 8000), fast_joins_ms=500)
    began = {one.task: (one.agent, one.started_ms) for one in schedule.executions}
    assert began == {"a:build": ("slow", 0), "b:build": ("fast", 2000), "x:test": ("slow", 2000)}
    assert schedule.makespan_ms == 2000 + 40_000 // 4


def test_what_is_done_before_the_urgent_task_is_ready_runs_on_the_agent_that_is_kept_for_it():
    schedule = unequal(BUILD, LONG, SimTask("x:test", (), 8000), SimTask("y:test", (), 4000), fast_joins_ms=500)
    began = {one.task: (one.agent, one.started_ms) for one in schedule.executions}
    assert began["y:test"] == ("fast", 500)
    assert began["b:build"] == ("fast", 2000)


def test_nothing_waits_for_an_agent_that_will_be_taken_by_an_urgent_task():
    schedule = unequal(SimTask("a:build", (), 4000), LONG, SimTask("x:test", (), 16_000))
    assert [one.started_ms for one in schedule.executions if one.task == "x:test"] == [0]
    assert schedule.makespan_ms == 16_000


def test_an_agent_is_not_kept_for_a_task_for_whose_end_nobody_waits():
    short = SimTask("b:build", ("a:build",), 9000)
    many = tuple(SimTask(f"t{number}:test", (), 8000) for number in range(20))
    schedule = unequal(BUILD, short, *many, fast_joins_ms=500)
    assert min(one.started_ms for one in schedule.executions if one.agent == "fast") == 500


def test_equal_scenarios_give_equal_schedules():
    assert simulate(scenario()).executions == simulate(scenario()).executions
    assert simulate(scenario(tasks=[])).makespan_ms == 0


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"version": 2}, "graph.json: version 2; this dte reads graph files of version 1"),
        ({"version": None}, "version None"),
        ({"tasks": {}}, "graph.json.tasks: a list was expected"),
        ({"tasks": [7]}, r"graph.json: tasks\[0\]: an object was expected"),
        ({"tasks": [{"deps": [], "duration_ms": 1}]}, r"tasks\[0\].id: a name of 1 to 200 characters was expected"),
        ({"tasks": [{"id": "a", "duration_ms": -1}]}, r"tasks\[0\].duration_ms: a number from 0 to .*, not -1"),
        ({"tasks": [{"id": "a", "duration_ms": "1s"}]}, r"tasks\[0\].duration_ms: .* not 1s"),
        ({"tasks": [{"id": "a", "duration_ms": 1, "deps": [1]}]}, r"tasks\[0\].deps: a list of task ids"),
        ({"tasks": [{"id": "a", "duration_ms": 1, "deps": ["b"]}]}, "a depends on b, which is not in the graph"),
        ({"tasks": [{"id": "a", "duration_ms": 1}] * 2}, "duplicate-task: a"),
        (
            {"tasks": [{"id": "a", "duration_ms": 1, "deps": ["b"]}, {"id": "b", "duration_ms": 1, "deps": ["a"]}]},
            "cycle: a → b → a",
        ),
        ({"agents": []}, "0 agents; 1 to 10000 were expected"),
        ({"agents": [{"name": "a1", "slots": 1}] * 2}, "two agents are named 'a1'"),
        ({"agents": [{"name": "a1", "slots": 0}]}, r"agents\[0\].slots: a number from 1 to 4096 was expected, not 0"),
        ({"agents": [{"name": "a1", "slots": 1, "speed": 0}]}, r"agents\[0\].speed: a number from 0.001 to 1000"),
        ({"agents": [{"name": "main", "slots": 1}]}, r"agents\[0\].name: another name than that of the main job"),
        ({"estimates": {"p9:build": {}}}, "estimates.p9:build: no task has this id"),
        ({"estimates": {"p1:build": {"a9": 1}}}, "estimates.p1:build.a9: no agent has this name"),
        ({"estimates": {"p1:build": {"a1": -5}}}, "estimates.p1:build.a1: a number from 0 to"),
        ({"estimates": {"p1:build": {"a1": [5, 4]}}}, r"estimates.p1:build.a1: a number, or two of .*, not \[5, 4\]"),
        ({"estimates": {"p1:build": {"a1": [5, -1]}}}, r"estimates.p1:build.a1.p90: a number from 0 to"),
        ({"estimates": {"p1:build": {"a1": [1, 2, 3]}}}, r"estimates.p1:build.a1: a number, or two"),
    ],
)
def test_a_mistake_in_a_graph_file_is_named_with_its_place(changes, error):
    with pytest.raises(UsageError, match=error):
        scenario(**changes)


def test_the_command_writes_what_a_run_writes(tmp_path, monkeypatch, capsys):
    graph, out = tmp_path / "graph.json", tmp_path / "out.json"
    graph.write_text(json.dumps(DIAMOND))
    monkeypatch.setattr("sys.argv", ["dte", "sim", "--graph", str(graph), "--json", str(out)])
    assert main() == 0
    assert capsys.readouterr().out.startswith(
        "4 tasks on 2 agents with 2 slots: 3.1 s, 1.000 of the lower bound 3.1 s\n"
    )
    told = json.loads(out.read_text())
    assert (told["version"], told["verdict"], told["exit_code"]) == (1, "success", 0)
    assert (told["makespan_ms"], told["lower_bound_ms"]) == (3100, 3100)
    assert told["critical_path"] == ["p1:build", "p1:test", "p1:deploy"]
    assert [agent["name"] for agent in told["agents"]] == ["a1", "a2"]
    test = next(task for task in told["tasks"] if task["id"] == "p1:test")
    assert (test["started_ms"], test["ended_ms"], test["status"]) == (1000, 3000, "success")


def test_the_command_refuses_a_file_that_is_not_there(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["dte", "sim", "--graph", str(tmp_path / "none.json")])
    assert main() == 2
    assert "No such file" in capsys.readouterr().err
