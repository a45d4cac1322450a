"""What a run does about tasks that fail, as who waits for it sees it: native tasks on real agents."""

from tests.endtoend.mesh_under_test import MakeSite, completions, dte
from tests.endtoend.workspaces import toml, wait_for


def test_after_enough_failures_nothing_new_is_started_and_what_runs_finishes(site_of: MakeSite) -> None:
    site = site_of(
        toml(
            bad=f'command = "{wait_for("slow-runs")}; touch $SITE/bad-ran; exit 3"',
            slow=f'command = "touch $SITE/slow-runs; {wait_for("bad-failed")}; touch $SITE/slow-ended"',
            behind='command = "touch $SITE/behind-ran"\ndeps = ["slow"]',
        )
    )
    main = site.main("bad", "behind", "--fail-after", "1", "--agent-wait", "60s")
    site.agents(2)
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
