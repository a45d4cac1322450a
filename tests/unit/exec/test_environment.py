"""What a task sees, and what it must not see."""

from mesh.exec.environment import Identity, Surroundings, without_value
from mesh.types import TaskId

WHOLE = Identity(TaskId("p1:build"), "run-7", "/cookie")
OWN = {"PATH": "/bin", "HOME": "/root"}


def test_a_task_knows_its_name_and_its_run() -> None:
    assert Surroundings.of(OWN).environment(WHOLE) == {
        **OWN,
        "DTE_TASK": "p1:build",
        "DTE_RUN_ID": "run-7",
        "DTE_TASK_COOKIE": "/cookie",
    }


def test_the_secret_and_every_variable_of_the_mesh_stay_out() -> None:
    seen = Surroundings.of({**OWN, "DTE_SECRET": "s3cret", "DTE_PEER": "a:1", "DTE_SHARD": "9"}).environment(WHOLE)
    assert {name for name in seen if name.startswith("DTE_")} == {"DTE_TASK", "DTE_RUN_ID", "DTE_TASK_COOKIE"}


def test_a_value_is_taken_out_under_any_name() -> None:
    assert without_value({**OWN, "MESH_KEY": "s3cret", "URL": "http://s3cret/x"}, "s3cret") == OWN


def test_the_configuration_wins_over_main_and_main_over_the_machine() -> None:
    own = {**OWN, "A": "machine", "B": "machine", "C": "machine"}
    seen = Surroundings.of(own).environment(WHOLE, pass_env={"A": "main", "B": "main"}, env={"A": "configuration"})
    assert (seen["A"], seen["B"], seen["C"]) == ("configuration", "main", "machine")


def test_what_main_does_not_have_an_agent_does_not_have_either() -> None:
    assert "A" not in Surroundings.of({**OWN, "A": "machine"}).environment(WHOLE, unset=["A"])


def test_a_task_cannot_be_told_that_it_is_another() -> None:
    assert Surroundings.of(OWN).environment(WHOLE, env={"DTE_TASK": "other"})["DTE_TASK"] == "p1:build"


def test_a_shard_knows_its_number_by_both_names() -> None:
    seen = Surroundings.of(OWN).environment(Identity(TaskId("t/2"), "run-7", "/c", shard=2, shards=3))
    assert (seen["DTE_SHARD"], seen["DTE_SHARDS"]) == ("2", "3")
    assert (seen["CI_NODE_INDEX"], seen["CI_NODE_TOTAL"]) == ("2", "3")


def test_a_whole_task_keeps_the_numbers_of_its_own_job() -> None:
    assert Surroundings.of({**OWN, "CI_NODE_INDEX": "1"}).environment(WHOLE)["CI_NODE_INDEX"] == "1"
