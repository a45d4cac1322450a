"""What is ours of a machine. The files are those that the kernel shows in a control group of either version."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from mesh.exec.machine import machine_class, memory_bytes, processors

ALL = len(os.sched_getaffinity(0))
TOTAL = psutil.virtual_memory().total
MIB = 1024 * 1024

Machine = Callable[..., Path]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A root directory whose process is in `group`, one line for each hierarchy, and whose mounts have `files`."""

    def make(*group: str, **files: str) -> Path:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text("".join(f"{line}\n" for line in group))
        for name, text in files.items():
            path = tmp_path / "sys/fs/cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")
        return tmp_path

    return make


def test_a_machine_without_groups_is_all_ours(tmp_path: Path) -> None:
    assert (processors(tmp_path), memory_bytes(tmp_path)) == (ALL, TOTAL)


def test_a_container_has_what_its_group_leaves_it(machine: Machine) -> None:
    root = machine("0::/", **{"cpu.max": "50000 100000", "memory.max": str(512 * MIB)})
    assert (processors(root), memory_bytes(root)) == (1, 512 * MIB)


def test_a_share_of_a_processor_counts_as_a_whole_one(machine: Machine) -> None:
    assert processors(machine("0::/", **{"cpu.max": "110000 100000"})) == min(2, ALL)


def test_no_limit_is_none_and_a_limit_beyond_the_machine_gives_nothing(machine: Machine) -> None:
    root = machine("0::/a", **{"cpu.max": "max 100000", "a/cpu.max": "99999999 1000", "a/memory.max": "max"})
    assert (processors(root), memory_bytes(root)) == (ALL, TOTAL)


def test_the_tightest_of_all_groups_around_us_counts(machine: Machine) -> None:
    limits = {"a/memory.max": str(64 * MIB), "a/b/memory.max": str(256 * MIB), "a/b/c/memory.max": "max"}
    assert memory_bytes(machine("0::/a/b/c", **limits)) == 64 * MIB


def test_version_1_says_it_in_other_files_each_under_its_controller(machine: Machine) -> None:
    groups = ("4:memory:/docker/ab", "2:cpu,cpuacct:/docker/ab", "0::/")
    limits = {
        "cpu/docker/ab/cpu.cfs_quota_us": "30000",
        "cpu/docker/ab/cpu.cfs_period_us": "100000",
        "memory/docker/ab/memory.limit_in_bytes": str(128 * MIB),
    }
    root = machine(*groups, **limits)
    assert (processors(root), memory_bytes(root)) == (1, 128 * MIB)


def test_where_the_groups_path_is_that_of_the_host_the_files_are_at_the_top_of_the_mount(machine: Machine) -> None:
    limits = {"cpu/cpu.cfs_quota_us": "30000", "cpu/cpu.cfs_period_us": "100000"}
    assert processors(machine("2:cpu,cpuacct:/docker/ab", **limits)) == 1


def test_version_1_without_a_limit_has_a_negative_quota_and_a_huge_number(machine: Machine) -> None:
    limits = {
        "cpu/cpu.cfs_quota_us": "-1",
        "cpu/cpu.cfs_period_us": "100000",
        "memory/memory.limit_in_bytes": "9223372036854771712",
    }
    root = machine("4:memory:/", "2:cpu:/", **limits)
    assert (processors(root), memory_bytes(root)) == (ALL, TOTAL)


def test_a_class_of_machine_is_its_system_architecture_and_processors() -> None:
    assert re.fullmatch(r"[a-z]+-[a-z0-9_]+-\d+", machine_class())
    assert os.uname().nodename.lower() not in machine_class().split("-")
