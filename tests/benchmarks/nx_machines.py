"""What the nx benchmarks share: a workspace of many small tasks, nx alone in one clone, the mesh in others.

Every command is a whole process with a HOME of its own, timed from its start to its end.
"""

import json
import os
import platform
import secrets
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.nx_workspace import NX_VERSION, Workspace, make_workspace

PATIENCE_S = 900
IDLE_S = 0.5
TARGETS = ("build", "test", "lint")


def workspace(place: Path, projects: int, script: str) -> Workspace:
    """`projects` projects without dependencies, each with `TARGETS`; every task runs `script`, and a build keeps a file."""
    made = make_workspace(place / "workspace", projects, ())
    for number in range(projects):
        home = made.path / "packages" / f"p{number}"
        (home / "package.json").write_text(json.dumps({"name": home.name, "version": "0.0.0", "private": True}))
        targets = {target: {"command": f"{script} {target} {home.name}"} for target in TARGETS}
        (home / "project.json").write_text(json.dumps({"name": home.name, "targets": targets}))
    settings = json.loads((made.path / "nx.json").read_text())
    settings["targetDefaults"] = {target: {"cache": True, "inputs": ["default"]} for target in TARGETS}
    settings["targetDefaults"]["build"]["outputs"] = ["{projectRoot}/dist"]
    (made.path / "nx.json").write_text(json.dumps(settings))
    commit(made.path)
    return made


def commit(path: Path) -> None:
    identity = ("-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "commit.gpgsign=false")
    for arguments in (("add", "--all"), ("commit", "--quiet", "--message", "Small tasks")):
        subprocess.run(["git", *identity, *arguments], cwd=path, check=True, stdin=subprocess.DEVNULL)


def timed(command: Sequence[str], where: Path, environment: dict[str, str]) -> float:
    """Seconds of one command, which must succeed."""
    began = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=where,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    seconds = time.perf_counter() - began
    assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")[-2000:]
    return seconds


class Mesh:
    """The machines of one run: its secret, its meeting place and its clones."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._secret = secrets.token_hex(32)
        self._meet = ["--rendezvous", str(place / "meet"), "--listen", "127.0.0.1:0"]

    def environment(self, machine: Workspace) -> dict[str, str]:
        mesh = {"DTE_SECRET": self._secret, "DTE_RUN_ID": self.place.name, "DTE_DATA_DIR": str(machine.home / "data")}
        return {**machine.environment(), **mesh}

    @contextmanager
    def agent(self, machine: Workspace, slots: int) -> Iterator[None]:
        """One agent that is there, and has loaded what it can, before the main job starts."""
        said = self.place / f"{machine.path.name}.log"
        with said.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "mesh", "join", *self._meet, "--slots", str(slots), "--name", machine.path.name],
                cwd=machine.path,
                env=self.environment(machine),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            try:
                while "looks for run" not in said.read_text():
                    assert process.poll() is None, said.read_text()
                    time.sleep(0.05)
                wait_until_idle(process.pid)
                yield
            finally:
                process.terminate()
                process.wait(30)

    def run(self, machine: Workspace, *nx: str, options: Sequence[str] = ()) -> tuple[float, dict[str, object]]:
        """`dte run -- nx …`: its seconds, and what `--json` says."""
        report = self.place / "report.json"
        command = [sys.executable, "-m", "mesh", "run", *self._meet, "--json", str(report), *options, "--"]
        seconds = timed([*command, *machine.command(*nx)], machine.path, self.environment(machine))
        return seconds, json.loads(report.read_text())


def wait_until_idle(pid: int) -> None:
    """Until a process and what it has started do nothing for a while: it shares the processors with what is timed here, and would not elsewhere."""
    before_s = -1.0
    while (used_s := _used_s(pid)) > before_s:
        before_s = used_s
        time.sleep(IDLE_S)  # there is no event for it: that nothing happens is only seen over time


def _used_s(pid: int) -> float:
    found = psutil.Process(pid)
    total = 0.0
    for each in (found, *found.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            used = each.cpu_times()
            total += used.user + used.system
    return round(total, 1)


def without_nx_cache(machine: Workspace) -> None:
    """As if nothing had been run there."""
    for folder in (machine.path / ".nx", *machine.path.glob("packages/*/dist")):
        shutil.rmtree(folder, ignore_errors=True)


def median_ms(seconds: Sequence[float]) -> float:
    return round(statistics.median(seconds) * 1000, 1)


def about() -> dict[str, object]:
    """The machine and the tools that the figures are of."""
    return {
        "nx_version": NX_VERSION,
        "machine": {
            "cpus": len(os.sched_getaffinity(0)),
            "load": os.getloadavg()[0],
            "python": platform.python_version(),
        },
    }
