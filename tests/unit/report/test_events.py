"""Rules of the event stream."""

from pathlib import Path
from typing import get_args

import orjson
from msgspec.structs import fields

from mesh.protocol.news import News
from mesh.report import event_line, event_name

GUIDE = Path(__file__).parents[3] / "docs" / "guide" / "output.md"


def test_an_event_is_one_line_of_canonical_json(say):
    line = event_line(say.failed("p1:build", "a1", 1_200, log_bytes=7), 4_000)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    event = orjson.loads(line)
    assert event == {
        "t_ms": 4_000,
        "event": "task-ended",
        "task": "p1:build",
        "status": "failure",
        "agent": "a1",
        "attempts": 1,
        "cache": "none",
        "exit_code": 1,
        "duration_ms": 1_200,
        "outputs": None,
        "log": {"digest": say.DIGEST, "size": 7},
        "ledger_index": 1,
        "max_rss_bytes": 0,
        "problem": "",
        "allowed_to_fail": False,
        "trust": "run",
        "flaky": False,
        "left": [],
        "attempt": 1,
    }
    assert orjson.dumps(event, option=orjson.OPT_SORT_KEYS) + b"\n" == line


def test_a_graph_is_told_task_by_task(say):
    event = orjson.loads(event_line(say.graph(a__build="", b__build="a__build"), 0))
    assert event["tasks"] == [{"id": "a:build", "deps": []}, {"id": "b:build", "deps": ["a:build"]}]


def test_no_field_of_the_news_hides_the_time_or_the_name_of_an_event():
    for kind in get_args(News):
        assert {"t_ms", "event"}.isdisjoint(field.name for field in fields(kind))


def test_the_guide_names_every_event_and_every_field():
    rows = dict(line.strip("|").split("|", 1) for line in GUIDE.read_text().splitlines() if line.startswith("| `"))
    rows = {name.strip().strip("`"): rest for name, rest in rows.items()}
    for kind in get_args(News):
        row = rows[event_name(kind)]
        for field in fields(kind):
            assert f"`{field.name}`" in row, f"{event_name(kind)}: {field.name} is not in the guide"
