"""What is left is asked for now and then, and counts down meanwhile."""

import pytest

from mesh.report.foresight import NowAndThen
from mesh.report.summary import Summary


@pytest.mark.parametrize(
    ("tasks", "answers", "told"),
    [
        (3, [5_000, 3_000], [(0, 5_000), (900, 4_100), (1_000, 3_000), (1_999, 2_001)]),
        (20_000, [50_000, 30_000], [(0, 50_000), (1_900, 48_100), (2_000, 30_000)]),
        (3, [400], [(0, 400), (900, 0)]),
        (3, [None, 400], [(0, None), (900, None), (1_000, 400)]),
    ],
    ids=["once a second", "less often with many tasks left", "never below nothing", "nobody knows yet"],
)
def test_an_answer_is_good_for_a_while(say, tasks, answers, told):
    summary = Summary()
    say.tell(summary, (0, say.graph(**{f"p{number}": "" for number in range(tasks)})))
    coming, now_ms = iter(answers), 0
    foresees = NowAndThen(lambda: next(coming), lambda: now_ms, summary)
    found = []
    for now_ms, _ in told:  # the clock reads it
        found.append((now_ms, foresees()))
    assert found == told
    assert next(coming, "all asked") == "all asked"
