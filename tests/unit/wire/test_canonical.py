"""One value, one sequence of bytes; and a reader that names the field where something is not what it should be."""

import os

import pytest

from mesh.errors import RemoteError
from mesh.wire import canonical
from mesh.wire.canonical import JSON_DEPTH_MAX, Reader


def refused(call):
    with pytest.raises(RemoteError) as caught:
        call()
    assert caught.value.word == "malformed"
    return str(caught.value)


def test_keys_are_sorted_by_code_point_and_there_is_no_white_space():
    assert canonical.encode({"é": 1, "b": [1, 2], "Z": None, "a": {"y": True, "x": ""}}) == (
        '{"Z":null,"a":{"x":"","y":true},"b":[1,2],"é":1}'.encode()
    )


def test_keys_beyond_the_basic_plane_are_sorted_by_code_point_and_not_by_utf_16():
    assert canonical.encode({"\N{GRINNING FACE}": 1, "\uffee": 2}) == '{"\uffee":2,"\N{GRINNING FACE}":1}'.encode()


def test_what_was_not_canonical_is_read_all_the_same():
    assert canonical.decode(b' { "b" : 1 , "a" : [ ] } ') == {"a": [], "b": 1}


@pytest.mark.parametrize("data", [b"", b"{", b"nul", b"\xff", b'"\xff"', b'"\\ud800"', b"[1] 2", b"NaN", b"[" * 5_000])
def test_what_is_not_json_is_malformed(data):
    refused(lambda: canonical.decode(data))


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_json_may_be_as_deep_as_the_limit_and_no_deeper(opening, closing):
    deepest = opening * (JSON_DEPTH_MAX - 1) + (b"[]" if opening == b"[" else b"{}") + closing * (JSON_DEPTH_MAX - 1)
    canonical.decode(deepest)
    assert "32 levels" in refused(lambda: canonical.decode(opening + deepest + closing))


def test_a_deep_place_is_found_beside_shallow_ones():
    deep = b"[" * JSON_DEPTH_MAX + b"]" * JSON_DEPTH_MAX
    refused(lambda: canonical.decode(b'[1,"[[[[",{"a":[]},' + deep + b",[]]"))


# --- the reader ------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, 1, "x", [], True])
def test_only_an_object_has_fields(value):
    assert "thing: an object" in refused(lambda: Reader(value, "thing"))


READ = Reader(
    {"text": "abc", "number": 7, "flag": False, "texts": ["a"], "items": [1, "x"], "table": {"k": "v"}, "null": None},
    "thing",
)


def test_each_kind_of_field_is_read():
    assert READ.text("text") == "abc"
    assert READ.number("number") == 7
    assert READ.flag("flag") is False
    assert READ.texts("texts") == ("a",)
    assert READ.items("items", max_items=2) == [1, "x"]
    assert READ.table("table") == {"k": "v"}
    assert READ.string_table("table") == {"k": "v"}


@pytest.mark.parametrize(
    "read",
    [
        READ.text,
        READ.number,
        READ.flag,
        READ.texts,
        lambda name: READ.items(name, max_items=9),
        READ.table,
    ],
    ids=["text", "number", "flag", "texts", "items", "table"],
)
def test_a_field_of_another_kind_or_none_at_all_is_named(read, request):
    kind = request.node.callspec.id
    fits = {"text": ["text"], "number": ["number"], "flag": ["flag"], "texts": ["texts"], "table": ["table"]}
    for name in ("text", "number", "flag", "texts", "items", "table", "null", "nothing"):
        if name not in fits.get(kind, ["texts", "items"]):
            assert f"thing.{name}:" in refused(lambda name=name: read(name))


def test_a_default_stands_for_a_missing_field_and_not_for_a_wrong_one():
    assert READ.text("nothing", default="x") == "x"
    assert READ.number("nothing", default=3) == 3
    assert READ.flag("nothing", default=True) is True
    assert READ.texts("nothing", default=("a",)) == ("a",)
    refused(lambda: READ.text("number", default="x"))
    refused(lambda: READ.text("null", default="x"))


@pytest.mark.parametrize("value", [True, 1.0, -1, 2**53 + 1, "1"], ids=str)
def test_a_number_is_an_integer_within_its_limits(value):
    refused(lambda: Reader({"n": value}, "thing").number("n"))


def test_the_limits_of_a_number_are_themselves_allowed():
    for value in (-5, 5):
        assert Reader({"n": value}, "thing").number("n", low=-5, high=5) == value
    refused(lambda: Reader({"n": 6}, "thing").number("n", low=-5, high=5))


def test_texts_and_lists_have_limits():
    assert READ.text("text", max_chars=3) == "abc"
    refused(lambda: READ.text("text", max_chars=2))
    refused(lambda: READ.items("items", max_items=1))
    refused(lambda: Reader({"t": {"k": 1}}, "thing").string_table("t"))


def test_a_field_that_is_null_is_not_there():
    assert [READ.has(name) for name in ("text", "null", "nothing")] == [True, False, False]


def test_what_an_error_says_of_a_file_can_be_written_whatever_the_name_of_the_file_is():
    error = RemoteError("corrupt", os.fsdecode(b"out/caf\xe9"))
    assert canonical.encode(str(error)) == b'"corrupt: out/caf?"'
