"""Places that cannot be written to: a message that names them, an exit code, and no hang, on main and on agents."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.endtoend.mesh_under_test import MakeSite
from tests.endtoend.workspaces import toml

Mount = Callable[..., Path]

ONE = toml(t='command = "echo done"')
MAKE = 'command = "mkdir -p out && head -c 5000000 /dev/urandom > out/large"\noutputs = ["out/large"]\ncache = false'
ON_AGENT = 'command = "echo here"\nwhere = "agent"'
"""Whatever waits for this finds the agent there."""


@pytest.fixture
def mount() -> Iterator[Mount]:
    """Mount a file system of its own, small or read-only, at a path."""
    with ExitStack() as mounted:

        def at(path: Path, options: str) -> Path:
            if os.getuid() != 0:
                pytest.skip("only root may mount a small or read-only file system")
            path.mkdir(parents=True, exist_ok=True)
            done = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], capture_output=True, text=True, check=False
            )
            if done.returncode != 0:
                pytest.skip(f"this machine does not let us mount: {done.stderr.strip()}")
            mounted.callback(subprocess.run, ["umount", "--lazy", path], check=True)
            return path

        yield at


@pytest.mark.parametrize(
    ("what", "words", "code"),
    [
        ("--json", "cannot write {place}/told: read-only file system", 3),
        ("--events", "cannot write {place}/told: read-only file system", 3),
        ("--ledger", "the ledger cannot be written (Read-only file system)", 3),
        ("--rendezvous", "the rendezvous directory {place}/told cannot be written to (Read-only file system)", 2),
    ],
)
def test_main_names_the_read_only_place(site_of: MakeSite, mount: Mount, what: str, words: str, code: int) -> None:
    site = site_of(ONE)
    place = mount(site.root / "read-only", "ro")
    main = site.main("t", "--agent-wait", "1s", what, str(place / "told"))
    assert main.ended() == code
    assert words.format(place=place) in main.text
    assert "DTE_DATA_DIR" not in main.text
    if what in ("--ledger", "--rendezvous"):
        assert (main.json["verdict"], main.json["exit_code"]) == ("error", code)


def test_a_read_only_data_directory_is_named_with_its_variable(site_of: MakeSite, mount: Mount) -> None:
    site = site_of(ONE)
    place = mount(site.root / "read-only", "ro")
    main, agent = site.main("t", DTE_DATA_DIR=str(place)), site.agent("agent-1", DTE_DATA_DIR=str(place / "data"))
    assert (main.ended(), agent.ended()) == (3, 3)
    assert f"cannot write {place}: read-only file system; make it writable, or set DTE_DATA_DIR" in main.text
    assert f"cannot write {place / 'data'}: read-only file system; make it writable, or set DTE_DATA_DIR" in agent.text


@pytest.mark.parametrize(
    ("what", "words", "code"),
    [
        ("--json", "cannot write {place}/told: ", 3),
        ("--events", "cannot write {place}/told: ", 3),
        ("--ledger", "{place}/told: a ledger needs a directory", 2),
        ("--rendezvous", "the rendezvous directory {place}/told cannot be written to", 2),
    ],
)
def test_main_names_the_file_that_stands_in_the_way(site_of: MakeSite, what: str, words: str, code: int) -> None:
    site = site_of(ONE)
    place = site.root / "file"
    place.write_text("this is no directory")
    main = site.main("t", "--agent-wait", "1s", what, str(place / "told"))
    assert main.ended() == code
    assert words.format(place=place) in main.text
    assert "DTE_DATA_DIR" not in main.text
    assert "Traceback" not in main.text


def test_a_run_that_leaves_no_word_of_its_logs_says_why_and_ends_its_agents(site_of: MakeSite) -> None:
    site = site_of(toml(t='command = "rm -r $SITE/main/data/runs"'))
    main = site.main("t", "--agents", "1", "--agent-wait", "60s", listen=False)
    assert main.ended() == 0
    assert "`dte logs` will not know of this run: cannot write" in main.text
    assert any("will not know of this run" in notice for notice in main.json["notices"])
    site.is_quiet()


def test_a_file_in_the_place_of_the_data_directory_is_a_usage_error(site_of: MakeSite) -> None:
    site = site_of(ONE)
    place = site.root / "file"
    place.write_text("this is no directory")
    agent = site.agent("agent-1", DTE_DATA_DIR=str(place))
    assert agent.ended() == 2
    assert f"{place} is not a directory; set DTE_DATA_DIR to one" in agent.text


def test_an_agent_names_a_rendezvous_that_is_no_directory(site_of: MakeSite) -> None:
    site = site_of(ONE)
    place = site.root / "file"
    place.write_text("this is no directory")
    agent = site.agent("agent-1", "--rendezvous", str(place))
    assert agent.ended() == 2
    assert f"the rendezvous directory {place} cannot be read" in agent.text


def test_an_agent_whose_data_directory_is_full_hands_the_task_back(site_of: MakeSite, mount: Mount) -> None:
    """Both sides say so, it is made elsewhere, and what fits is still done there."""
    site = site_of(
        toml(
            first=ON_AGENT,
            large=f'{MAKE}\ndeps = ["first"]',
            small=f'{ON_AGENT}\ndeps = ["first"]',
        )
    )
    machine = site.machine("full")
    mount(machine.data, "size=1m")
    main = site.main("large", "small", "--agent-wait", "1s", "--slots", "1")
    agent = site.agent("full", on=machine)
    assert (main.ended(), agent.ended()) == (0, 0)
    where = {name: task["where"] for name, task in main.tasks.items()}
    assert where == {"first": "full", "large": "main", "small": "full"}
    assert "agent full handed large back: " in main.text
    assert "large: handed back: " in agent.text
    for running in (main, agent):
        assert "no space left on device; free space there, or set DTE_DATA_DIR" in running.text
    assert (site.root / "main/workspace/out/large").stat().st_size == 5_000_000


def test_where_a_disk_was_full_for_a_moment_the_task_is_tried_again(site_of: MakeSite, mount: Mount) -> None:
    command = "test ! -e $SITE/tried || rm -f $SITE/full/data/other; touch $SITE/tried; mkdir -p out"
    command += " && head -c 2000000 /dev/urandom > out/large"
    site = site_of(toml(large=f'command = "{command}"\noutputs = ["out/large"]\nwhere = "agent"'))
    machine = site.machine("full")
    (mount(machine.data, "size=4m") / "other").write_bytes(bytes(3_000_000))
    main = site.main("large", "--agent-wait", "60s")
    site.agent("full", on=machine)
    assert main.ended() == 0
    assert "↻ large  runs again: attempt 1 on full: cannot write " in main.text
    assert (site.root / "main/workspace/out/large").stat().st_size == 2_000_000


def test_an_agent_whose_workspace_has_no_room_for_inputs_hands_the_task_back(site_of: MakeSite, mount: Mount) -> None:
    site = site_of(
        toml(
            first=ON_AGENT,
            large=f'{MAKE}\nwhere = "main"\ndeps = ["first"]',
            after='command = "wc -c < out/large"\ndeps = ["large"]',
        )
    )
    main = site.main("after", "--agent-wait", "1s", "--slots", "1")
    mount(site.root / "full" / "workspace", "size=1m")
    agent = site.agent("full")
    assert (main.ended(), agent.ended()) == (0, 0)
    assert main.tasks["after"]["where"] == "main"
    assert "agent full handed after back: " in main.text
    for running in (main, agent):
        assert "no space left on device" in running.text
    assert "5000000" in main.text.splitlines()
