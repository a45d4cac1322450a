"""How much of this machine is ours: what the kernel has, less what a container's limits leave of it.

The kernel tells everybody of all its processors and all its memory. What a control group may use stands in the group's own files, and in those of all
groups around it: `cpu.max` and `memory.max` of version 2, `cpu.cfs_quota_us` and `memory.limit_in_bytes` of version 1 (cgroups(7), and the kernel's
admin-guide/cgroup-v1 and -v2). Inside a container the group's path is often that on the host, and the files stand at the top of the mount.
"""

import math
import os
import platform
import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

ROOT: Final = Path("/")
OWN_FILES: Final = 64
"""What a node itself has open at one time: its port, links, blobs on their way."""
TASK_FILES: Final = 4
"""What each running task takes of it: its output, its exit, both together, and what it leaves on its way into the store."""
_MOUNT: Final = "sys/fs/cgroup"


def processors(root: Path = ROOT) -> int:
    """How many processors this process may keep busy: those it may run on, and no more than the limits allow time of, rounded up."""
    version_1 = zip(_limits(root, "cpu", "cpu.cfs_quota_us"), _limits(root, "cpu", "cpu.cfs_period_us"), strict=False)
    quotas = [*_limits(root, "cpu", "cpu.max"), *(f"{quota} {period}" for quota, period in version_1)]
    shares = [math.ceil(share) for share in map(_share, quotas) if share is not None]
    return max(1, min([len(os.sched_getaffinity(0)), *shares]))


def slots_max() -> int:
    """How many tasks at a time this process may open enough files for."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if limit == resource.RLIM_INFINITY else max(1, (limit - OWN_FILES) // TASK_FILES)


def machine_class() -> str:
    """Operating system, architecture, and how many processors we may keep busy: `linux-x86_64-8`. What a task takes is kept by it."""
    return f"{platform.system()}-{platform.machine()}-{processors()}".lower()


def memory_bytes(root: Path = ROOT) -> int:
    """How much memory this process and what it starts may use."""
    files = (*_limits(root, "memory", "memory.max"), *_limits(root, "memory", "memory.limit_in_bytes"))
    # "max" of version 2 is none, and neither is the huge number of version 1.
    return min(
        [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *(int(text) for text in files if text.isdigit())]
    )


def _share(text: str) -> float | None:
    """`QUOTA PERIOD` in microseconds as a number of processors; None where it is no limit: `max`, or a negative quota."""
    quota, _, period = text.partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _limits(root: Path, controller: str, name: str) -> Iterator[str]:
    """What the file `name` says in our group, and in each one around it that can be seen."""
    for mount, path in _groups(root, controller):
        for place in (path, *path.parents):
            with suppress(OSError):
                yield (mount / place / name).read_text(encoding="ascii").strip()


def _groups(root: Path, controller: str) -> Iterator[tuple[Path, Path]]:
    """Where the groups of that controller are mounted, and which of them is ours."""
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                yield root / _MOUNT, Path(path.lstrip("/"))
            elif controller in controllers.split(","):
                # `cpu` is a link where it is mounted together with others.
                yield root / _MOUNT / controller, Path(path.lstrip("/"))
