"""What node processes begin with: ours is added, and stays where a script sets others; nothing but ours is ever taken away."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from mesh.adapters.nx.node_options import NODE_FIRST, SHIM, here, node_first, preload, with_pnp
from mesh.adapters.turbo.launch import as_by_the_user

OURS = preload(SHIM)


@pytest.fixture
def door(tmp_path: Path) -> Path:
    return tmp_path / "socket"


def node_sees(environ: dict[str, str]) -> str:
    """NODE_OPTIONS of the node that is first on PATH."""
    program = shutil.which("node", path=environ["PATH"])
    assert program is not None
    print_it = "process.stdout.write(process.env.NODE_OPTIONS ?? 'none')"
    ran = subprocess.run([program, "-e", print_it], env=environ, capture_output=True, text=True, check=True)
    return ran.stdout


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ({}, OURS),
        ({"NODE_OPTIONS": "--no-warnings"}, f"--no-warnings {OURS}"),
        ({"NODE_OPTIONS": f"{OURS} --no-warnings"}, f"{OURS} --no-warnings"),
    ],
)
def test_a_node_that_a_script_has_given_other_options_has_ours_again(door: Path, options: dict[str, str], seen: str):
    # No socket is there, so that the preload finds no nx to talk of.
    environ = {**options, **node_first(door, os.environ), "DTE_NX_SOCKET": str(door)}
    assert node_sees(environ) == seen


def test_a_node_that_is_not_told_of_dte_is_left_as_it_is(door: Path):
    assert node_sees({**node_first(door, os.environ)}) == "none"


def test_without_a_node_nothing_is_put_first(door: Path):
    assert node_first(door, {"PATH": "/nowhere"}) == {}


def test_without_a_path_programs_are_looked_for_where_the_system_does(door: Path) -> None:
    found = node_first(door, {})
    assert found["PATH"] == f"{found[NODE_FIRST]}:{os.defpath}"


def test_a_turbo_sees_the_path_that_its_script_has_made_without_our_folder(door: Path):
    users = {"PATH": os.environ["PATH"]}
    ours = {**users, **node_first(door, users)}
    script = {**ours, "PATH": f"/ws/node_modules/.bin:{ours['PATH']}"}
    assert as_by_the_user(script, ours, users) == {"PATH": f"/ws/node_modules/.bin:{users['PATH']}"}
    assert NODE_FIRST in ours


def test_packages_that_yarn_has_put_into_archives_are_read_as_yarn_has_node_read_them(tmp_path: Path):
    assert with_pnp("--no-warnings", tmp_path) == "--no-warnings"
    (tmp_path / ".pnp.cjs").touch()
    once = with_pnp("--no-warnings", tmp_path)
    assert once == f"--require {tmp_path}/.pnp.cjs --no-warnings"
    assert with_pnp(once, tmp_path) == once
    (tmp_path / ".pnp.loader.mjs").touch()
    assert (
        with_pnp("", tmp_path)
        == f"--require {tmp_path}/.pnp.cjs --experimental-loader file://{tmp_path}/.pnp.loader.mjs"
    )


def test_options_of_the_main_jobs_workspace_are_of_this_one_here():
    assert here("--require {workspaceRoot}/x.cjs --no-warnings", Path("/ws")) == "--require /ws/x.cjs --no-warnings"
