"""The messages one by one: each limit of docs/spec/messages.md at its border, and the page's own examples."""

import re
from pathlib import Path

import pytest

from mesh.errors import RemoteError
from mesh.types import Blob, Digest, Epoch, NodeId, TaskId
from mesh.wire import canonical, codec, messages
from mesh.wire.messages import Announce, Beat, Hello, Record, Records

ROOT = Path(__file__).parents[3]
DIGEST = "sha256:" + "0a" * 32
HELLO = Hello("run/1", "agent-1", "agent", 2, 1).to_json()


def refused(value, word="malformed"):
    with pytest.raises(RemoteError) as caught:
        codec.decode(canonical.encode(value))
    assert caught.value.word == word
    return str(caught.value)


def sections():
    """(word, example) of every message that the specification describes."""
    page = (ROOT / "docs/spec/messages.md").read_text(encoding="utf-8")
    return re.findall(r"^## \d+\. ([a-z]+)\n\n    (\{.*\})\n\n", page, re.MULTILINE)


def test_the_specification_has_one_clause_for_every_message_and_no_other():
    assert sorted(word for word, _ in sections()) == sorted(codec._READERS)


@pytest.mark.parametrize(("word", "example"), sections(), ids=[word for word, _ in sections()])
def test_the_examples_of_the_specification_are_frames_of_that_message(word, example):
    message = codec.decode(example.encode())
    assert message is not None
    assert message.to_json()["type"] == word
    assert codec.encode(message).decode() == example


def test_a_message_of_an_unknown_type_is_passed_over():
    assert codec.decode(b'{"type":"gossip","x":1}') is None


@pytest.mark.parametrize("value", [[], 1, None, "hello", {}, {"type": 1}, {"type": "x" * 65}, {"type": None}])
def test_what_has_no_type_is_malformed(value):
    refused(value)


def test_another_major_version_is_refused_with_both_before_anything_else_is_read():
    said = refused({"type": "hello", "major": 2, "everything": "else"}, "version")
    assert "dte/2" in said
    assert "dte/1" in said


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("slots", 4_096, 4_097),
        ("slots", 0, -1),
        ("name", "n" * 200, "n" * 201),
        ("run_id", "r" * 65_536, "r" * 65_537),
        ("role", "main", "leader"),
        ("incarnation", 2**53, 2**53 + 1),
        ("facts", {}, {"commit": 1}),
        ("labels", [], "gpu"),
        ("addresses", ["anything"], [1]),
        ("major", 1, True),
    ],
)
def test_a_field_of_a_hello_is_what_it_must_be(field, good, bad):
    codec.decode(canonical.encode({**HELLO, field: good}))
    assert field in refused({**HELLO, field: bad})


@pytest.mark.parametrize(
    "digest",
    [
        "",
        "md5:0a",
        "sha256:",
        "sha256:" + "0A" * 32,
        "sha256:" + "0a" * 31,
        "sha256:" + "0a" * 33,
        "sha256:../../../etc",
    ],
)
def test_a_blob_is_named_by_a_whole_digest_and_by_nothing_else(digest):
    refused({"type": "announce", "epoch": 1, "closed": True, "graphs": [{"digest": digest, "size": 1}]})


def test_a_digest_with_a_line_end_behind_it_is_none():
    refused({"type": "announce", "epoch": 1, "closed": True, "graphs": [{"digest": DIGEST + "\n", "size": 1}]})


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("GRAPHS_MAX", Announce(Epoch(1), (Blob(Digest(DIGEST), 1),) * 3, closed=False)),
        ("RECORDS_MAX", Records(Epoch(1), (Record(TaskId("a"), "success"),) * 3)),
        ("MEMBERS_MAX", messages.Members((messages.Member(NodeId("n"), "n", "agent", 1, "alive"),) * 3)),
    ],
)
def test_a_list_may_be_as_long_as_its_limit_and_no_longer(monkeypatch, limit, message):
    frame = codec.encode(message)
    monkeypatch.setattr(messages, limit, 3)
    assert codec.decode(frame) == message
    monkeypatch.setattr(messages, limit, 2)
    with pytest.raises(RemoteError):
        codec.decode(frame)


def test_only_the_first_holders_of_a_record_count():
    nodes = tuple(NodeId(str(number)) for number in range(messages.HOLDERS_MAX + 1))
    frame = codec.encode(Records(Epoch(1), (Record(TaskId("a"), "success", holders=nodes),)))
    assert codec.decode(frame).records[0].holders == nodes[:-1]


def test_a_record_without_outputs_may_leave_them_out():
    value = Records(Epoch(1), (Record(TaskId("a"), "failure"),)).to_json()
    del value["records"][0]["outputs"]
    assert codec.decode(canonical.encode(value)).records[0].outputs is None


@pytest.mark.parametrize("kind", ["award", "withdraw", "declined", "started", "log"])
def test_attempts_are_counted_from_one(kind):
    example = dict(sections())[kind]
    refused({**canonical.decode(example.encode()), "attempt": 0})


def test_bytes_may_come_as_any_buffer():
    frame = codec.encode(Beat(Epoch(1)))
    for buffer in (bytearray(frame), memoryview(frame)):
        assert codec.decode(buffer) == Beat(Epoch(1))
