"""Samples as one file: the same bytes for the same samples, and a clear word for whatever is no such file."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.errors import UsageError
from mesh.store.history.portable import FILE_BYTES_MAX, decode, encode
from mesh.store.history.samples import DURATION_MS_MAX, SAMPLES_PER_SERIES_MAX, Sample
from mesh.types import TaskId, UnixMs
from mesh.wire import canonical

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
samples = st.builds(
    Sample,
    names,
    names.map(TaskId),
    names,
    st.integers(0, DURATION_MS_MAX),
    st.integers(0, 2**53).map(UnixMs),
    st.sampled_from(("success", "failure")),
)


def file(**changes: object) -> bytes:
    content = {"format": "dte-timing-history", "version": 1, "workspaces": {}}
    return canonical.encode(content | changes)


def with_samples(*items: object, status: str = "success") -> bytes:
    return file(workspaces={"w": {"a:build": {"m": {status: list(items)}}}})


@settings(deadline=None)
@given(st.lists(samples, max_size=SAMPLES_PER_SERIES_MAX), st.randoms(use_true_random=False))
def test_what_is_written_is_read_and_order_does_not_matter(written: list[Sample], chance) -> None:
    data = encode(written)
    assert sorted(decode(data, "f"), key=repr) == sorted(written, key=repr)
    chance.shuffle(written)
    assert encode(written) == data


def test_the_form_is_the_documented_one() -> None:
    two = [
        Sample("github.com/acme/shop", TaskId("p1:build"), "linux-x86_64-8", 700, UnixMs(20)),
        Sample("github.com/acme/shop", TaskId("p1:build"), "linux-x86_64-8", 500, UnixMs(10)),
        Sample("github.com/acme/shop", TaskId("p1:build"), "linux-x86_64-8", 90, UnixMs(15), "failure"),
    ]
    assert encode(two) == (
        b'{"format":"dte-timing-history","version":1,"workspaces":{"github.com/acme/shop":{"p1:build":'
        b'{"linux-x86_64-8":{"failure":[[15,90]],"success":[[10,500],[20,700]]}}}}}'
    )


def test_unknown_fields_are_ignored() -> None:
    assert decode(file(comment="hello"), "f") == []
    assert decode(with_samples([1, 2], status="cancelled"), "f") == []


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not JSON"),
        (b"\x00\xff\xfe", "not JSON"),
        (b"[" * 100 + b"]" * 100, "levels"),
        (b"[]", "an object was expected"),
        (b"{}", "its format is '' and not 'dte-timing-history'"),
        (file(format="spdx"), "its format is 'spdx'"),
        (file(version=2), "of format 2, and this dte reads 1; export it again"),
        (file(version=True), "history.version: an integer"),
        (file(workspaces=[]), "history.workspaces: an object"),
        (file(workspaces={"w": 1}), "w: an object was expected"),
        (file(workspaces={"w": {"t": "x"}}), "w: t: an object was expected"),
        (file(workspaces={"w": {"t": {"m": []}}}), "w: t: m: an object was expected"),
        (with_samples(1), "two numbers were expected"),
        (with_samples([1]), "two numbers were expected"),
        (with_samples([1, 2, 3]), "two numbers were expected"),
        (with_samples([1, -1]), "two numbers were expected"),
        (with_samples([1, 1.5]), "two numbers were expected"),
        (with_samples([True, 1]), "two numbers were expected"),
        (with_samples([1, True]), "two numbers were expected"),
        (with_samples([1, DURATION_MS_MAX + 1]), "two numbers were expected"),
        (with_samples(*[[1, 1]] * (SAMPLES_PER_SERIES_MAX + 1)), f"at most {SAMPLES_PER_SERIES_MAX} items"),
        (bytes(FILE_BYTES_MAX + 1), f"more than {FILE_BYTES_MAX} bytes"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_what_is_no_such_file_is_refused_by_name_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(UsageError) as refused:
        decode(data, "cache/timings.json")
    assert str(refused.value).startswith("cache/timings.json ")
    assert reason in str(refused.value)


def test_too_many_tasks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.store.history.portable.SERIES_MAX", 2)
    assert decode(file(workspaces={"w": {str(n): {"m": {}} for n in range(2)}}), "f") == []
    with pytest.raises(UsageError, match="too-large: more than 2 tasks"):
        decode(file(workspaces={"w": {str(n): {"m": {}} for n in range(3)}}), "f")


json = st.recursive(
    st.none() | st.integers(-(2**63), 2**63 - 1) | names, lambda inner: st.lists(inner) | st.dictionaries(names, inner)
)


@settings(deadline=None)
@given(st.binary(max_size=200) | json.map(lambda value: file(workspaces=value)))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with suppress(UsageError):
        assert all(sample.duration_ms >= 0 for sample in decode(data, "f"))
