"""Machines that share nothing but the network, and the real `dte` on them.

A `Site` is one run's worth of machines: a git repository made from a dictionary of files, and for each machine a clone of it, a home and a data directory of
its own. What is started is a process like in CI, with its output in a file and a time limit: whoever overstays it is killed, and the test fails with
what everybody has said.
"""

import json
import os
import random
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil

import mesh
from mesh.ledger.completion import Completion
from mesh.ledger.statements import open_leaf
from mesh.ledger.tiles import split_bundle
from tests.nx_workspace import IN_PLACE

LIMIT_S = 90
"""No process of these tests has a reason to live longer; on a busy machine most of it is waiting for a processor."""
POLL_S = 0.02
MARK = "MESH_UNDER_TEST"
"""Every process of a site carries this variable, and so does all that they start."""

T = TypeVar("T")


def until(what: str, condition: Callable[[], T], limit_s: float = LIMIT_S) -> T:
    """Wait for `condition` to be true, and return what it was."""
    deadline = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {limit_s:g} s for {what}"
        time.sleep(POLL_S)
    return found


def free_port() -> int:
    """A port that nobody listens on, outside the range from which the kernel gives ports to those who dial."""
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def processes_with(name: str, value: str) -> list[psutil.Process]:
    """All living processes in whose environment `name` is `value`."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(name) == value and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@dataclass
class Machine:
    """One machine: where it works, and where it keeps things."""

    name: str
    workspace: Path
    home: Path
    data: Path

    def git(self, *arguments: str) -> None:
        git(self.workspace, *arguments)

    def write(self, path: str, text: str) -> None:
        write_files(self.workspace, {path: text})


@dataclass
class Running:
    """A started `dte`."""

    name: str
    process: subprocess.Popen[bytes]
    out: Path
    err: Path
    files: dict[str, Path] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """All it has said so far."""
        return self.out.read_text(errors="replace") + self.err.read_text(errors="replace")

    def ended(self, limit_s: float = LIMIT_S) -> int:
        """Its exit code. Fails where it has not ended in time."""
        try:
            return self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"{self.name} did not end in {limit_s:g} s") from None

    def says(self, words: str, limit_s: float = LIMIT_S) -> None:
        """Wait until it has said `words`."""
        said = until(
            f"{self.name} to say {words!r}", lambda: words in self.text or self.process.poll() is not None, limit_s
        )
        assert said
        assert words in self.text, f"{self.name} has ended without saying {words!r}"

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """What `--events` has told so far; a last line that is not complete yet is left out."""
        path = self.files["events"]
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        events = [json.loads(line) for line in lines]
        return [event for event in events if kind is None or event["event"] == kind]

    def happens(self, kind: str, count: int = 1) -> None:
        """Wait until `--events` has told `count` events of that kind."""
        until(f"{count} {kind} events", lambda: len(self.events(kind)) >= count or self.process.poll() is not None)
        assert len(self.events(kind)) >= count, f"{self.name} has ended before"

    @property
    def json(self) -> dict[str, Any]:
        """What `--json` has told."""
        return json.loads(self.files["json"].read_text())

    @property
    def tasks(self) -> dict[str, dict[str, Any]]:
        """The tasks of `--json` by id."""
        return {task["id"]: task for task in self.json["tasks"]}

    @property
    def ledger(self) -> Path:
        return self.files["ledger"]


class Relay:
    """A way to `target` that can be cut and mended, and held: then what is sent waits."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = host, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self.is_cut = False
        self.open = threading.Event()
        self.open.set()
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break all connections, and let none through."""
        self.is_cut = True
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self.is_cut = False

    def hold(self) -> None:
        self.open.clear()

    def release(self) -> None:
        self.open.set()

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            try:
                if self.is_cut:
                    raise OSError
                far = socket.create_connection(self._target)
            except OSError:
                near.close()
                continue
            self._ends += (near, far)
            for one, other in (near, far), (far, near):
                threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65_536):
                self.open.wait()
                other.sendall(data)
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Site:
    """The machines of one run. `close` ends whatever is left of it."""

    def __init__(self, root: Path, files: Mapping[str, str]) -> None:
        self.root = root
        self.mark = secrets.token_hex(8)
        self.secret = secrets.token_hex(16)
        self.run_id = f"run-{self.mark}"
        self.port = free_port()
        self.started: list[Running] = []
        self.origin = root / "origin"
        make_repository(self.origin, files)

    @property
    def address(self) -> str:
        """Where main listens."""
        return f"127.0.0.1:{self.port}"

    def machine(self, name: str) -> Machine:
        """A new machine with a clone of the repository."""
        place = self.root / name
        machine = Machine(name, place / "workspace", place / "home", place / "data")
        machine.home.mkdir(parents=True)
        git(self.root, "clone", "--quiet", str(self.origin), str(machine.workspace))
        return machine

    def environ(self, machine: Machine, **more: str) -> dict[str, str]:
        """What a process on `machine` has around it, and nothing of what is around the test."""
        return {
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(Path(mesh.__file__).parent.parent),  # this `dte`, whatever else is installed
            "HOME": str(machine.home),
            "DTE_DATA_DIR": str(machine.data),
            "DTE_SECRET": self.secret,
            "DTE_RUN_ID": self.run_id,
            MARK: self.mark,
            "SITE": str(self.root),
            **IN_PLACE,
            **more,
        }

    def start(
        self,
        machine: Machine,
        *arguments: str,
        name: str = "",
        terminal: int | None = None,
        first: str = "",
        **more: str,
    ) -> Running:
        """Start `dte ARGUMENTS` on `machine`, on a `terminal` where one is given, in a shell that has done `first`; `more` is added to its environment."""
        name = f"{name or machine.name}-{len(self.started)}"
        out, err = self.root / f"{name}.out", self.root / f"{name}.err"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                [
                    *(("bash", "-c", f'{first}; exec "$@"', "bash") if first else ()),
                    sys.executable,
                    "-m",
                    "mesh",
                    *arguments,
                ],
                cwd=machine.workspace,
                env=self.environ(machine, **more),
                stdin=subprocess.DEVNULL,
                stdout=stdout if terminal is None else terminal,
                stderr=stderr if terminal is None else terminal,
                start_new_session=True,
            )
        running = Running(name, process, out, err)
        self.started.append(running)
        return running

    def main(self, *arguments: str, on: Machine | None = None, listen: bool = True, **more: str) -> Running:
        """Start a main job that writes all it can write. On a machine called `main`, where no other is given."""
        machine = on or self.machine("main")
        folder = self.root / f"{machine.name}-told-{len(self.started)}"
        folder.mkdir()
        files = {"json": folder / "result.json", "events": folder / "events.ndjson", "ledger": folder / "ledger"}
        told = [part for name, path in files.items() for part in (f"--{name}", str(path))]
        listening = ["--listen", self.address] if listen else []
        running = self.start(machine, "run", *listening, *told, *arguments, **more)
        running.files = files
        return running

    def agent(self, name: str, *arguments: str, on: Machine | None = None, **more: str) -> Running:
        """Start an agent that dials main, on a machine of its own unless one is given."""
        places = [] if {"--peer", "--rendezvous"} & set(arguments) else ["--peer", self.address]
        common = ["--name", name, "--listen", "127.0.0.1:0", "--slots", "1", "--wait", "60s"]
        return self.start(on or self.machine(name), "join", *common, *places, *arguments, name=name, **more)

    def agents(self, count: int, *arguments: str) -> list[Running]:
        """That many of them: agent-1, agent-2, ..."""
        return [self.agent(f"agent-{number + 1}", *arguments) for number in range(count)]

    def tell(self, name: str) -> None:
        """Let the tasks go on that wait for `name`."""
        (self.root / name).touch()

    def processes(self) -> list[psutil.Process]:
        """All that lives because of this site."""
        return processes_with(MARK, self.mark)

    def is_quiet(self) -> None:
        """Wait until nothing that was started is left."""
        until(f"the end of {[process.cmdline() for process in self.processes()]}", lambda: not self.processes(), 20)

    def close(self) -> None:
        """End what is left, and tell what everybody said (shown by pytest where the test has failed)."""
        for process in self.processes():
            with suppress(psutil.Error):
                process.kill()
        for running in self.started:
            code = running.process.wait(LIMIT_S)
            print(f"----- {running.name}: exit code {code}\n{running.text[-6_000:]}")


MakeSite = Callable[[Mapping[str, str]], Site]
"""What the fixture `site_of` is."""


def dte(
    *arguments: str, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `dte ARGUMENTS` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "mesh", *arguments],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def git(directory: Path, *arguments: str) -> None:
    """Run git as somebody who has no settings."""
    who = ("-c", "user.name=dte", "-c", "user.email=dte@localhost", "-c", "commit.gpgsign=false")
    environ = {"PATH": os.environ.get("PATH", os.defpath), "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run(["git", *who, *arguments], cwd=directory, env=environ, check=True, capture_output=True, timeout=60)


def write_files(root: Path, files: Mapping[str, str]) -> None:
    """Files by their paths below `root`; what begins with `#!` may be run."""
    for path, text in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        if text.startswith("#!"):
            file.chmod(0o755)


def make_repository(root: Path, files: Mapping[str, str]) -> None:
    """A repository with one commit of `files`."""
    root.mkdir(parents=True)
    write_files(root, files)
    git(root, "init", "--quiet", "--initial-branch=main")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--allow-empty", "--message=all")


Tree = dict[str, tuple[str, int, bytes]]


def tree(root: Path) -> Tree:
    """What is below `root`, but for git's own: path → kind, executable bits, content or target."""
    return dict(_tree(root))


def _tree(root: Path) -> Iterator[tuple[str, tuple[str, int, bytes]]]:
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if name == ".git" or name.startswith(".git/"):
            continue
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            yield name, ("link", 0, os.fsencode(path.readlink()))
        elif stat.S_ISDIR(mode):
            yield name, ("folder", 0, b"")
        else:
            yield name, ("file", mode & 0o111, path.read_bytes())


def copied(ledger: Path, to: Path) -> Path:
    """A copy of a ledger, to be spoilt."""
    shutil.copytree(ledger, to)
    return to


def completions(ledger: Path) -> dict[str, list[Completion]]:
    """What a ledger says of each task, in its order."""
    found: dict[str, list[Completion]] = {}
    bundles = (path for path in (ledger / "tile/entries").rglob("*") if path.is_file())
    for path in sorted(bundles):
        for entry in split_bundle(path.read_bytes()):
            leaf = open_leaf(entry).leaf
            if isinstance(leaf, Completion):
                found.setdefault(leaf.task, []).append(leaf)
    return found
