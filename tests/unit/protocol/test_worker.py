"""The worker's rules, told to a real agent by a scripted main job: when it starts what, what it answers, and what it never loses."""

from dataclasses import replace

import pytest

from mesh.graph.task import Resources
from mesh.protocol import effects as fx
from mesh.protocol import events as ev
from mesh.protocol.worker import TELL_START_MS
from mesh.types import Epoch, TaskId
from mesh.wire import messages as msg
from tests.unit.protocol.scripted import AgentNode, blob_of, graph_of, key_of, task


def declined(agent):
    return [(one.task, one.attempt) for one in agent.sent("main", msg.Declined)]


def started(agent):
    return [(one.task, one.attempt) for one in agent.sent("main", msg.Started)]


# --- the ordinary way ------------------------------------------------------------------------------


def test_an_award_is_executed_told_and_answered_with_a_signed_result():
    agent = AgentNode("build")
    agent.award("build")
    assert agent.executed == [("build", 1)]
    agent.running("build")
    agent.wait(TELL_START_MS)
    assert started(agent) == [("build", 1)]
    agent.finished("build")
    (result,) = agent.results()
    assert (result.task, result.status, result.attempt, result.seq, result.epoch) == ("build", "success", 1, 1, 1)
    assert (result.name, result.key, result.outputs) == ("agent", "key of build", blob_of("outputs of build"))


def test_of_what_is_over_in_a_moment_only_the_result_is_told():
    agent = AgentNode("build", "lint")
    agent.award("build")
    agent.award("lint")
    agent.running("build")
    agent.wait(TELL_START_MS - 1)
    agent.running("lint")
    agent.finished("build")
    agent.wait(1)
    assert started(agent) == []
    agent.wait(TELL_START_MS)
    assert agent.sent("main", msg.Started) == [msg.Started(TaskId("lint"), 1, TELL_START_MS)]
    assert len(agent.results()) == 1


def test_a_start_behind_outputs_that_had_to_come_is_told_at_once():
    """The main job takes the time from the award to the start for that of their coming."""
    agent = AgentNode("build", task("test", "build"))
    agent.record("build")
    agent.award("test")
    agent.step(ev.Prepared(TaskId("test"), 1))
    agent.running("test")
    assert started(agent) == [("test", 1)]


def test_a_task_that_needs_outputs_is_prepared_before_it_starts():
    agent = AgentNode("build", task("test", "build"))
    agent.record("build")
    agent.award("test")
    assert agent.executed == []
    (prepare,) = agent.wanted(fx.Prepare)
    assert [(need.task, need.outputs) for need in prepare.needs] == [("build", blob_of("outputs of build"))]
    agent.step(ev.Prepared(TaskId("test"), 1))
    assert agent.executed == [("test", 1)]


def test_everything_before_it_is_needed_in_the_order_of_the_graph():
    agent = AgentNode("a", task("b", "a"), task("c", "a"), task("d", "c", "b"))
    for name in "cab":
        agent.record(name)
    agent.award("d")
    assert [need.task for need in agent.wanted(fx.Prepare)[0].needs] == ["a", "b", "c"]


def test_what_has_left_no_outputs_is_not_needed():
    agent = AgentNode(task("build", outputs=()), task("test", "build"))
    agent.record("build", outputs=False)
    agent.award("test")
    assert agent.wanted(fx.Prepare) == []
    assert agent.executed == [("test", 1)]


def test_what_succeeded_where_it_could_not_be_stored_keeps_all_behind_it_there():
    agent = AgentNode("build", task("lint", "build", outputs=()), task("test", "lint"))
    agent.record("build", outputs=False)
    agent.record("lint", outputs=False)
    agent.award("test")
    assert agent.executed == []
    (answer,) = agent.sent("main", msg.Declined)
    assert answer.never
    assert "what build made is on the main job alone" in answer.reason


def test_behind_what_turbo_could_not_store_nothing_is_run_elsewhere_though_it_has_no_outputs():
    lint = replace(task("lint", outputs=()), tool="turbo")
    agent = AgentNode(lint, task("test", "lint"))
    agent.record("lint", outputs=False)
    agent.award("test")
    assert agent.executed == []
    assert [answer.never for answer in agent.sent("main", msg.Declined)] == [True]


def needed(agent):
    """Of what each task was prepared with, the names."""
    return [[need.task for need in one.needs] for one in agent.wanted(fx.Prepare)]


def run_here(agent, name, attempt=1):
    agent.award(name, attempt)
    agent.step(ev.Prepared(TaskId(name), attempt))
    agent.running(name, attempt)
    agent.finished(name, attempt)


def test_what_was_brought_into_the_workspace_is_not_needed_again():
    agent = AgentNode("a", task("b", "a"), task("c", "b"), task("d", "c"))
    agent.record("a")
    for name in ("b", "c", "d"):
        run_here(agent, name)
        agent.record(name)
    assert needed(agent) == [["a"], ["b"], ["c"]]


def test_what_was_brought_is_needed_again_when_it_was_made_anew():
    agent = AgentNode("a", task("b", "a"), task("c", "b"), task("d", "b"))
    agent.record("a")
    run_here(agent, "b")
    agent.record("b")
    run_here(agent, "c")
    other = msg.Record(TaskId("a"), "success", "key of a", blob_of("other outputs of a"), (key_of("other").node_id,))
    agent.say("main", msg.Records(Epoch(1), (other,)))
    run_here(agent, "d")
    assert needed(agent) == [["a"], ["b"], ["a", "b"]]


def test_what_was_brought_is_needed_again_when_it_was_run_again_here():
    agent = AgentNode("a", task("b", "a"), task("c", "b"), slots=1)
    agent.record("a")
    run_here(agent, "b")
    agent.record("b")
    agent.award("a", 2)
    agent.running("a", 2)
    agent.withdraw("a", 2, kill=True)
    agent.step(ev.TaskKilled(TaskId("a"), 2))
    run_here(agent, "c")
    assert needed(agent) == [["a"], ["a", "b"]]


def test_what_is_made_anew_while_a_task_that_was_given_the_old_one_starts_is_needed_again():
    agent = AgentNode("a", task("b", "a"), task("c", "a"), slots=2)
    agent.record("a")
    agent.award("b")
    agent.step(ev.Prepared(TaskId("b"), 1))
    other = msg.Record(TaskId("a"), "success", "key of a", blob_of("other outputs of a"), (key_of("other").node_id,))
    agent.say("main", msg.Records(Epoch(1), (other,)))
    agent.running("b")
    agent.award("c")
    assert needed(agent) == [["a"], ["a"]]


def test_what_has_not_started_is_prepared_with_what_was_made_anew_when_it_is_awarded_again():
    agent = AgentNode("a", task("b", "a"))
    agent.record("a")
    agent.award("b")
    other = msg.Record(TaskId("a"), "success", "key of a", blob_of("other outputs of a"), (key_of("other").node_id,))
    agent.say("main", msg.Records(Epoch(1), (other,)))
    agent.award("b", 2)
    agent.step(ev.Prepared(TaskId("b"), 1))
    assert agent.executed == []
    agent.step(ev.Prepared(TaskId("b"), 2))
    (execute,) = agent.wanted(fx.Execute)
    assert [need.outputs for need in execute.needs] == [blob_of("other outputs of a")]


def test_in_the_main_jobs_own_workspace_nothing_is_needed():
    agent = AgentNode("build", task("test", "build"), workspace="shared", main_workspace="shared")
    agent.record("build")
    agent.award("test")
    assert agent.wanted(fx.Prepare) == []
    assert agent.executed == [("test", 1)]


def test_two_nodes_that_do_not_say_where_they_work_share_nothing():
    agent = AgentNode("build", task("test", "build"), workspace="", main_workspace="")
    agent.record("build")
    agent.award("test")
    assert len(agent.wanted(fx.Prepare)) == 1


def test_a_later_record_of_a_task_replaces_the_earlier():
    agent = AgentNode("build", task("test", "build"))
    agent.record("build", holders=("gone",))
    agent.record("build", holders=("gone", "other"))
    agent.award("test")
    holders = agent.wanted(fx.Prepare)[0].needs[0].holders
    assert holders == (key_of("gone").node_id, key_of("other").node_id)


def test_of_a_task_that_two_graphs_have_the_first_counts_whichever_was_compared_first():
    agent = AgentNode("unused", meet=False)
    agent.answer = lambda effect: None
    agent.meet()
    first, second = graph_of(task("a"), "b"), graph_of(task("b"), task("a", "b"))
    blobs = tuple(blob_of(graph.encode().decode()) for graph in (first, second))
    agent.say("main", msg.Announce(Epoch(1), blobs, closed=True))
    for blob, graph in ((blobs[1], second), (blobs[0], first)):
        agent.step(ev.GraphFetched(blob, graph.encode()))
        agent.step(ev.Checked(blob.digest))
    assert [bid.graphs for bid in agent.sent("main", msg.Bid)][-2:] == [0, 2]
    agent.award("a")
    agent.finished("a")
    assert agent.results()[0].deps == ()


# --- slots -----------------------------------------------------------------------------------------


def test_no_more_tasks_run_than_there_are_slots_and_the_next_starts_when_one_ends():
    agent = AgentNode("a", "b", "c", slots=2)
    for name in "abc":
        agent.award(name)
    assert agent.executed == [("a", 1), ("b", 1)]
    agent.running("b")
    agent.finished("b")
    assert agent.executed[2:] == [("c", 1)]


def test_a_wide_task_takes_its_slots_and_nothing_overtakes_it():
    agent = AgentNode("a", task("wide", resources=Resources(cpu=2)), "c", slots=2)
    for name in ("a", "wide", "c"):
        agent.award(name)
    assert agent.executed == [("a", 1)]
    agent.finished("a")
    assert agent.executed == [("a", 1), ("wide", 1)]
    agent.finished("wide")
    assert agent.executed == [("a", 1), ("wide", 1), ("c", 1)]


def test_a_task_that_is_wider_than_the_agent_takes_all_of_it():
    agent = AgentNode(task("wide", resources=Resources(cpu=9)), "b", slots=2)
    agent.award("wide")
    agent.award("b")
    assert agent.executed == [("wide", 1)]


def test_a_task_that_tolerates_no_neighbour_has_none():
    agent = AgentNode("a", task("alone", whole_agent=True), "b", slots=4)
    for name in ("a", "alone", "b"):
        agent.award(name)
    assert agent.executed == [("a", 1)]
    agent.finished("a")
    assert agent.executed == [("a", 1), ("alone", 1)]
    agent.finished("alone")
    assert agent.executed == [("a", 1), ("alone", 1), ("b", 1)]


# --- awards ----------------------------------------------------------------------------------------


def test_an_award_of_an_older_epoch_is_void_and_a_newer_epoch_voids_the_old_one():
    agent = AgentNode("a", "b", "c")
    agent.award("a", epoch=2)
    agent.award("b", epoch=1)
    assert agent.executed == [("a", 1)]
    agent.withdraw("a", kill=True, epoch=1)
    assert agent.killed == []


def test_an_award_from_anybody_but_the_main_job_is_void():
    agent = AgentNode("build")
    agent.link("other")
    agent.say("other", msg.Award(9, 9, TaskId("build"), 1))
    agent.say("other", msg.Withdraw(9, TaskId("build"), 1, kill=True))
    assert agent.executed == []


def test_a_task_of_a_graph_it_does_not_have_is_handed_back():
    agent = AgentNode("build")
    agent.award("unknown")
    assert declined(agent) == [("unknown", 1)]


def test_an_award_that_is_told_again_starts_nothing_twice():
    agent = AgentNode("build")
    agent.award("build")
    agent.award("build")
    agent.running("build")
    agent.wait(TELL_START_MS)
    agent.award("build")
    assert agent.executed == [("build", 1)]
    assert started(agent) == [("build", 1), ("build", 1)]


def test_what_it_has_run_already_is_answered_with_the_result():
    agent = AgentNode("build")
    agent.award("build")
    agent.finished("build")
    agent.award("build", attempt=2)
    assert agent.executed == [("build", 1)]
    assert len(agent.results()) == 2


def test_a_newer_award_for_what_runs_already_is_met_by_what_runs():
    agent = AgentNode("build")
    agent.award("build", attempt=1)
    agent.running("build", attempt=1)
    agent.wait(TELL_START_MS)
    agent.award("build", attempt=3)
    assert agent.executed == [("build", 1)]
    assert started(agent) == [("build", 1), ("build", 3)]
    agent.finished("build", attempt=1)
    assert [(result.attempt, result.seq) for result in agent.results()] == [(3, 2)]
    assert agent.node.worker.jobs == {}


def test_what_is_handed_back_is_handed_back_under_the_award_that_is_valid_now():
    agent = AgentNode("build")
    agent.award("build", attempt=1)
    agent.award("build", attempt=2)
    agent.step(ev.Handed(TaskId("build"), 1, "no compiler", never=True))
    (answer,) = agent.sent("main", msg.Declined)
    assert (answer.attempt, answer.never, answer.reason) == (2, True, "no compiler")


def test_the_agent_hands_back_what_the_shell_cannot_bring():
    agent = AgentNode("build", task("test", "build"))
    agent.record("build")
    agent.award("test")
    agent.step(ev.Handed(TaskId("test"), 1, "nobody has it", missing=(TaskId("build"),)))
    (answer,) = agent.sent("main", msg.Declined)
    assert answer.missing == ("build",)
    assert agent.node.worker.jobs == {}


# --- taken back ------------------------------------------------------------------------------------


def test_what_has_not_started_is_given_back():
    agent = AgentNode("a", "b", slots=1)
    agent.award("a")
    agent.award("b")
    agent.withdraw("b")
    assert declined(agent) == [("b", 1)]
    agent.finished("a")
    assert agent.executed == [("a", 1)]


@pytest.mark.parametrize("runs", [False, True])
def test_what_has_started_runs_on_unless_it_is_to_be_killed(runs):
    agent = AgentNode("a")
    agent.award("a")
    if runs:
        agent.running("a")
    agent.withdraw("a")
    assert (declined(agent), agent.killed) == ([], [])
    agent.withdraw("a", kill=True)
    agent.withdraw("a", kill=True)
    assert agent.killed == [("a", 1)]
    agent.step(ev.TaskKilled(TaskId("a"), 1))
    assert agent.node.worker.jobs == {}
    assert agent.results() == []


def test_a_stale_withdrawal_is_ignored():
    agent = AgentNode("a")
    agent.award("a", attempt=2)
    agent.withdraw("a", attempt=1, kill=True)
    agent.withdraw("nothing", attempt=1, kill=True)
    assert agent.killed == []


def test_a_slot_is_free_when_the_killed_process_is_gone_and_not_before():
    agent = AgentNode("a", "b", slots=1)
    agent.award("a")
    agent.award("b")
    agent.withdraw("a", kill=True)
    assert agent.executed == [("a", 1)]
    agent.step(ev.TaskKilled(TaskId("a"), 1))
    assert agent.executed == [("a", 1), ("b", 1)]


def test_a_task_that_is_awarded_anew_while_it_is_being_killed_runs_again_afterwards():
    agent = AgentNode("a")
    agent.award("a", attempt=1)
    agent.running("a", attempt=1)
    agent.withdraw("a", attempt=1, kill=True)
    agent.award("a", attempt=3)
    assert agent.executed == [("a", 1)]
    agent.step(ev.TaskKilled(TaskId("a"), 1))
    assert agent.executed == [("a", 1), ("a", 3)]
    agent.finished("a", attempt=3)
    assert [result.attempt for result in agent.results()] == [3]


def test_the_new_award_of_what_is_being_killed_can_be_taken_back_too():
    agent = AgentNode("a")
    agent.award("a", attempt=1)
    agent.running("a", attempt=1)
    agent.withdraw("a", attempt=1, kill=True)
    agent.award("a", attempt=3)
    agent.withdraw("a", attempt=3)
    assert declined(agent) == [("a", 3)]
    agent.step(ev.TaskKilled(TaskId("a"), 1))
    assert agent.executed == [("a", 1)]


def test_what_ends_by_itself_before_it_is_killed_is_a_result():
    agent = AgentNode("a")
    agent.award("a")
    agent.withdraw("a", kill=True)
    agent.finished("a")
    assert [result.status for result in agent.results()] == ["success"]


def test_events_about_what_it_does_not_have_are_ignored():
    agent = AgentNode("a")
    before = len(agent.effects)
    unknown = TaskId("b")
    agent.step(ev.Prepared(unknown, 1))
    agent.step(ev.TaskRunning(unknown, 1))
    agent.finished("b")
    agent.step(ev.Handed(unknown, 1, "what?"))
    agent.step(ev.TaskKilled(unknown, 1))
    assert len(agent.effects) == before


# --- results are never lost ------------------------------------------------------------------------


def test_a_result_is_told_again_over_every_new_link_until_it_is_recorded():
    agent = AgentNode("build")
    agent.award("build")
    agent.finished("build")
    for count in (2, 3):
        agent.unlink("main")
        agent.meet()
        assert len(agent.results()) == count
    agent.record("build")
    agent.unlink("main")
    agent.meet()
    assert len(agent.results()) == 3


def test_what_runs_is_told_again_over_a_new_link():
    agent = AgentNode("a", "b")
    agent.award("a")
    agent.award("b")
    agent.running("a")
    agent.wait(TELL_START_MS)
    agent.unlink("main")
    agent.meet()
    assert started(agent) == [("a", 1), ("a", 1)]


def test_a_result_that_is_ready_while_there_is_no_main_job_waits_for_it():
    agent = AgentNode("build")
    agent.award("build")
    agent.running("build")
    agent.unlink("main")
    agent.wait(10_000)
    agent.finished("build")
    before = len(agent.results())
    agent.meet()
    assert len(agent.results()) == before + 1


# --- what is learnt --------------------------------------------------------------------------------


def test_only_a_success_that_may_be_reused_is_kept():
    agent = AgentNode("ok", "bad", task("uncached", cache=False), slots=4)
    for name in ("ok", "bad", "uncached"):
        agent.award(name)
    agent.finished("ok")
    agent.finished("bad", status="failure")
    agent.finished("uncached")
    assert [keep.key for keep in agent.wanted(fx.Keep)] == ["key of ok"]


def test_behind_an_allowed_failure_nothing_is_taken_and_nothing_kept_until_it_succeeds():
    agent = AgentNode(
        task("flaky", outputs=(), allow_failure=True), task("next", "flaky", outputs=()), task("last", "next"), "other"
    )
    agent.record("flaky", "failure", outputs=False)
    agent.record("next", outputs=False)
    for name in ("last", "other"):
        agent.award(name)
        agent.finished(name)
    assert {one.task: one.anew for one in agent.wanted(fx.Execute)} == {"last": True, "other": False}
    assert [keep.key for keep in agent.wanted(fx.Keep)] == ["key of other"]
    agent.record("last")
    agent.record("flaky", outputs=False)
    agent.award("last", 2)
    agent.finished("last", 2)
    assert not agent.wanted(fx.Execute)[-1].anew
    assert agent.wanted(fx.Keep)[-1].key == "key of last"


def test_a_result_of_an_earlier_run_is_not_kept_again():
    agent = AgentNode("p:build")
    agent.award("p:build")
    agent.finished("p:build", cache="hit")
    assert agent.wanted(fx.Keep) == []


def test_a_key_that_is_only_known_after_the_run_is_the_results_key():
    agent = AgentNode("build")
    agent.award("build")
    agent.finished("build", key="known now")
    assert agent.results()[0].key == "known now"
    assert [keep.key for keep in agent.wanted(fx.Keep)] == ["known now"]
