"""What a person at a terminal sees while a run is under way."""

import itertools
import os
import re
from contextlib import suppress

from tests.endtoend.mesh_under_test import Machine, MakeSite, Site
from tests.endtoend.workspaces import toml

PAUSES = toml(**{f"t{number}": f'command = "sleep {number % 2 + 1}"\ncache = false' for number in range(4)})


ALL = [f"t{number}" for number in range(4)]


def seen(site: Site, machine: Machine, *arguments: str) -> str:
    """All that `dte run` draws on a terminal of its own, until it has ended well."""
    ours, theirs = os.openpty()
    run = site.start(machine, "run", *arguments, terminal=theirs, TERM="xterm-256color", COLUMNS="120")
    os.close(theirs)
    drawn = b""
    with suppress(OSError):  # Linux's way to say that nobody has the terminal open any more
        while piece := os.read(ours, 65_536):
            drawn += piece
    os.close(ours)
    assert run.ended() == 0, drawn.decode(errors="replace")
    return drawn.decode()


def left_s(drawn: str) -> list[int]:
    """The seconds that each picture says are left."""
    return [int(seconds) for seconds in re.findall(r"~(\d+) s left", drawn)]


def test_once_a_run_is_known_the_display_says_from_the_start_how_long_it_will_take(site_of: MakeSite) -> None:
    site = site_of(PAUSES)
    machine = site.machine("main")
    first, second = (left_s(seen(site, machine, *ALL, "--slots", "1", "--agent-wait", "0")) for _ in range(2))
    assert 5 <= second[0] <= 8
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(second))
    assert second[-1] <= 2
    assert len(first) < len(second), "of what nobody has timed nothing is said before the first task is done"
