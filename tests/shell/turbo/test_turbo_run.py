"""A real turbo on a main job and two agents: whoever looks at the main job cannot tell it from turbo alone."""

import re
from pathlib import Path

import pytest

from tests.shell.turbo.harness import MAIN, distributed, over
from tests.turbo_workspace import commit, make_workspace

pytestmark = pytest.mark.turbo


def shown(output: str) -> list[str]:
    """What a person reads, less what differs between two runs of turbo alone, and whether a result came from a cache."""
    return sorted(
        re.sub(r"cache (miss, executing|hit, replaying logs) ", "cache ", line.rstrip())
        for line in output.replace("\r", "").splitlines()
        if not re.match(r"\s*(Time|Cached):|\s+• Remote caching", line)
    )


def test_output_files_and_exit_code_are_those_of_turbo_alone(tmp_path: Path):
    main = make_workspace(tmp_path / "main")
    alone = main.clone(tmp_path / "alone")
    arguments = ["run", "build", "test", "lint", "root"]
    ran = distributed(main, tmp_path, *arguments)
    expected = alone.turbo(*arguments)
    assert (ran.exit_code, expected.returncode) == (0, 0)
    assert shown(ran.stdout) == shown(expected.stdout)
    assert main.files() == alone.files()
    assert set(ran.where.values()) == {"agent0", "agent1"}
    assert set(ran.statuses.values()) == {"success"}
    assert len(ran.statuses) == 25
    assert "25 cached, 25 total" in ran.stdout
    print("trailing", ran.trailing_ms)
