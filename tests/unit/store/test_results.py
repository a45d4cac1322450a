"""Results of earlier runs: found as they were recorded, or not at all."""

from pathlib import Path

import pytest

from mesh.store.results import Results


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path / "results")


def entry_of(results: Results) -> Path:
    (path,) = (path for path in results._root.rglob("*") if path.is_file())
    return path


def test_what_was_recorded_is_found(results: Results) -> None:
    results.record("protected", "key", b"envelope")
    assert results.find("protected", "key") == b"envelope"


def test_the_newest_record_counts(results: Results) -> None:
    results.record("protected", "key", b"old")
    results.record("protected", "key", b"new")
    assert results.find("protected", "key") == b"new"


def test_domains_and_keys_are_kept_apart(results: Results) -> None:
    results.record("pr", "a/b", b"envelope")
    assert results.find("protected", "a/b") is None
    assert results.find("pr/a", "b") is None
    assert results.find("pr", "other") is None


def test_names_cannot_leave_the_directory(results: Results, tmp_path: Path) -> None:
    results.record("../../x", "../../../y\0", b"envelope")
    assert results.find("../../x", "../../../y\0") == b"envelope"
    assert list(tmp_path.iterdir()) == [tmp_path / "results"]


def test_an_entry_is_absent_whatever_byte_is_damaged(results: Results) -> None:
    results.record("pr", "key", b"envelope")
    path = entry_of(results)
    good = path.read_bytes()
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        assert results.find("pr", "key") is None
        path.write_bytes(good[:at])
        assert results.find("pr", "key") is None
    path.write_bytes(good)
    assert results.find("pr", "key") == b"envelope"


def test_an_entry_under_anothers_name_is_absent(results: Results) -> None:
    results.record("pr", "poisoned", b"envelope")
    path = results._path("protected", "key")
    path.parent.mkdir(parents=True, exist_ok=True)
    entry_of(results).rename(path)
    assert results.find("protected", "key") is None
