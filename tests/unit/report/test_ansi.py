"""Rules of what may pass from a task's log to a terminal."""

import time

import pytest

from mesh.report.ansi import RESET, Cleaner


def clean(data: bytes, *, colour: bool = True, step: int | None = None) -> str:
    cleaner = Cleaner(colour=colour)
    step = step or len(data) or 1
    shown = "".join(cleaner.feed(data[at : at + step]) for at in range(0, len(data), step))
    return shown + cleaner.finish()


def test_colours_pass_and_end_with_the_log():
    assert clean(b"\x1b[1;31mred\x1b[0m plain\n") == "\x1b[1;31mred\x1b[0m plain\n"
    assert clean(b"\x1b[38:5:9mred\n") == f"\x1b[38:5:9mred\n{RESET}"


def test_without_colour_only_the_words_are_left():
    assert clean(b"\x1b[1;31mred\x1b[0m plain\n", colour=False) == "red plain\n"


@pytest.mark.parametrize(
    "command",
    [
        b"\x1b[2J",
        b"\x1b[10A",
        b"\x1b[?1049h",
        b"\x1b[1;1H",
        b"\x1b]0;a title\x07",
        b"\x1b]8;;http://x\x1b\\",
        b"\x1b]52;c;Y29weQ==\x07",
        b"\x1bPq#0\x1b\\",
        b"\x1bc",
        b"\x1b(0",
        b"\x07",
        b"\x08",
        b"\x0c",
        b"\x00",
        b"\x7f",
        b"\xc2\x9b",
    ],
)
def test_what_moves_a_cursor_or_commands_a_terminal_does_not_pass(command):
    for step in (None, 1):
        assert clean(b"before" + command + b"after\n", step=step) == "beforeafter\n"


def test_a_line_that_is_drawn_over_becomes_lines():
    for step in (None, 1):
        assert clean(b"10%\r20%\r\ndone\r\n", step=step) == "10%\n20%\ndone\n"


def test_a_sequence_that_never_ends_swallows_no_words():
    text = "x" * 10_000
    assert clean(b"\x1b]0;" + text.encode()) == "0;" + text
    assert clean(b"end\x1b") == "end"
    assert clean(b"end\x1b[31") == "end31"


def test_pieces_may_end_within_a_character():
    assert clean("naïve ✓ 日本\n".encode(), step=1) == "naïve ✓ 日本\n"


def test_bytes_that_are_no_text_are_shown_as_such():
    assert clean(b"a\xff\xfeb\n") == "a��b\n"


def test_bytes_that_are_no_text_cost_no_more_than_text():
    began = time.process_time()
    assert clean(b"before" + bytes(20_000_000) + b"after\n", step=256 * 1024) == "beforeafter\n"
    assert time.process_time() - began < 1.5
