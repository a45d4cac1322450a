"""Rules of wording."""

import pytest

from mesh.report import words


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (-5, "0 ms"),
        (0, "0 ms"),
        (99, "99 ms"),
        (100, "0.1 s"),
        (1_249, "1.2 s"),
        (59_949, "59.9 s"),
        (59_950, "1m00s"),
        (190_000, "3m10s"),
        (3_599_499, "59m59s"),
        (3_599_500, "1h00m"),
        (7_500_000, "2h05m"),
    ],
)
def test_a_duration_is_said_as_a_person_says_it(ms, text):
    assert words.duration(ms) == text


def test_an_estimate_knows_no_tenths_and_is_never_nothing_while_there_is_some():
    assert [words.rough(ms) for ms in (0, 1, 1_000, 59_001, 190_000)] == ["0 s", "1 s", "1 s", "1m00s", "3m10s"]


def test_one_is_singular_and_thousands_are_divided():
    assert [words.count(number, "task") for number in (0, 1, 12_000)] == ["0 tasks", "1 task", "12,000 tasks"]


def test_a_ratio_has_one_decimal():
    assert [words.ratio(26, 10), words.ratio(1, 3), words.ratio(0, 0)] == ["2.6", "0.3", "1.0"]


def test_a_name_from_elsewhere_cannot_command_a_terminal():
    assert words.one_line("a\x1b[2J\nb\x9b1A\r") == "a [2J b 1A"


def test_what_is_too_long_is_clipped_to_the_width():
    assert [words.clip("abcdef", width) for width in (6, 4, 1, 0)] == ["abcdef", "abc…", "…", "…"]
