"""Can this machine take part: its programs, its data directory, its addresses, and the run that it would be part of."""

import platform
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Final

from mesh.adapters.native.hashing import GitError, git
from mesh.cli.checks import Check
from mesh.cli.common import run_id_of, secret_of
from mesh.errors import MeshError
from mesh.identity.authority import Authority
from mesh.net.hosts import is_loopback, machine_hosts
from mesh.store.home import home

PROGRAM_S: Final = 20
SPACE_BYTES_MIN: Final = 100 * 1024**2
SPACE_BYTES_LOW: Final = 2 * 1024**3
NODE_MIN: Final = 18
_VERSION: Final = re.compile(r"\d+(?:\.\d+)+")
_GIB: Final = 1024**3


def programs(workspace: Path, *, node: bool) -> Iterator[Check]:
    """dte, Python, git, and Node where the workspace needs it."""
    yield Check(
        "ok", f"dte {version('dte-mesh')} on Python {platform.python_version()}, {platform.platform(terse=True)}"
    )
    if (found := _version_of("git")) is None:
        yield Check("bad", "git is not installed", "install it: dte asks it which files are inputs")
    else:
        yield Check("ok", f"git {found}")
        yield _repository(workspace)
    if node:
        yield _node()


def data_directory() -> Check:
    """Where a node keeps blobs and results."""
    try:
        directory = home()
        free = shutil.disk_usage(directory).free
    except MeshError as error:
        return Check("bad", str(error))
    what = f"{directory} is writable and has {free / _GIB:.1f} GiB of free space"
    if free < SPACE_BYTES_MIN:
        return Check("bad", what, "free some, or set DTE_DATA_DIR to a directory that has more: outputs are kept there")
    if free < SPACE_BYTES_LOW:
        return Check("warn", what, "the outputs of a large run may not fit; DTE_DATA_DIR may be another directory")
    return Check("ok", what)


def addresses() -> Check:
    """Where others would find a main job that runs here."""
    hosts = [host for host in machine_hosts(socket.AF_INET) if not is_loopback(host)]
    if hosts:
        return Check("ok", f"a main job here would be found at {', '.join(hosts)}")
    return Check(
        "warn",
        "this machine has no address but its own loopback",
        "only agents on this machine can find a main job here",
    )


def run(run_id: str, env_name: str, secret_file: str) -> tuple[Check, Authority | None]:
    """The run's name and secret, and the authority that they make. The secret itself is never told."""
    try:
        name = run_id_of(run_id, env_name)
        secret = secret_of(secret_file)
        if secret is None:
            return (
                Check(
                    "warn",
                    f"there is no secret for run {name}, so only agents that `dte run --agents N` starts could join",
                    "set DTE_SECRET (or --secret-file) in every job to one value from `openssl rand -hex 32`",
                ),
                None,
            )
        return Check("ok", f"run {name}; its secret is there, and long enough"), Authority.derive(secret, name)
    except MeshError as error:
        return Check("bad", str(error)), None


def _repository(workspace: Path) -> Check:
    try:
        commit = git(workspace, "rev-parse", "--short", "HEAD").decode().strip()
        shallow = git(workspace, "rev-parse", "--is-shallow-repository").decode().strip() == "true"
    except GitError as error:
        if "not a git repository" in str(error):
            return Check(
                "warn",
                f"{workspace} is in no git repository",
                "every file counts as an input, made or not; `git init` helps",
            )
        return Check("warn", "the repository has no commit yet", "agents check out a commit, so make one")
    if shallow:
        return Check(
            "warn",
            f"commit {commit}, in a clone without its history",
            "what a change affects cannot be told; have CI fetch all of it on the main job",
        )
    return Check("ok", f"commit {commit}")


def _node() -> Check:
    found = _version_of("node")
    if found is None:
        return Check("bad", "node is not installed, or not in PATH", "install the version that the other jobs have")
    if int(found.split(".")[0]) < NODE_MIN:
        return Check("bad", f"node {found} is too old", f"install {NODE_MIN} or later, the same for all jobs")
    return Check("ok", f"node {found}")


def _version_of(program: str) -> str | None:
    try:
        said = subprocess.run(
            (program, "--version"), capture_output=True, text=True, errors="replace", timeout=PROGRAM_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.search(said.stdout)
    return match[0] if match and said.returncode == 0 else None
