"""A turbo under the user's command asks dte first; what dte has set for that is not what the user's turbo sees."""

import json
import os
import socket
import stat
import subprocess
from pathlib import Path

from mesh.adapters.turbo.launch import as_by_the_user, asking_environment


def test_what_dte_has_set_is_what_it_was_and_what_a_script_has_changed_stays():
    users = {"KEPT": "1", "REPLACED": "theirs", "GONE": "1"}
    ours = {"KEPT": "1", "REPLACED": "ours", "ADDED": "ours", "CHANGED": "ours"}
    seen = {"KEPT": "2", "REPLACED": "ours", "ADDED": "ours", "CHANGED": "by a script", "npm_x": "1"}
    assert as_by_the_user(seen, ours, users) == {
        "KEPT": "2",
        "REPLACED": "theirs",
        "CHANGED": "by a script",
        "npm_x": "1",
    }


def test_without_dte_to_ask_the_workspaces_own_turbo_runs_with_its_arguments_and_its_code(tmp_path: Path):
    folder, inside = tmp_path / "with spaces", tmp_path / "ws/packages/a"
    folder.mkdir()
    inside.mkdir(parents=True)
    turbo = tmp_path / "ws/node_modules/.bin/turbo"
    turbo.parent.mkdir(parents=True)
    turbo.write_text('#!/bin/sh\necho "$@" "${TURBO_BINARY_PATH-none}"\nexit 7\n')
    turbo.chmod(0o755)
    program = asking_environment(str(folder / "socket"))["TURBO_BINARY_PATH"]
    assert stat.S_IMODE(Path(program).stat().st_mode) == 0o700
    ran = subprocess.run(
        [program, "run", "a b"],
        cwd=inside,
        env={"PATH": os.environ["PATH"], "TURBO_BINARY_PATH": program},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (7, "run a b none\n")


def test_a_turbo_that_ends_when_dte_has_gone_ends_as_it_does_and_says_nothing(tmp_path: Path):
    turbo = tmp_path / "its-turbo"
    turbo.write_text(f'#!/bin/sh\nuntil [ -e "{tmp_path}/gone" ]; do sleep 0.02; done\nexit 7\n')
    turbo.chmod(0o755)
    door = tmp_path / "socket"
    asking = asking_environment(str(door))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(door))
        listener.listen()
        asks = subprocess.Popen(
            [asking["TURBO_BINARY_PATH"], "run", "build"],
            env={"PATH": os.environ["PATH"], **asking},
            stderr=subprocess.PIPE,
            text=True,
        )
        link, _ = listener.accept()
        with link, link.makefile("rb") as lines:
            assert json.loads(lines.readline())["argv"] == ["run", "build"]
            link.sendall(json.dumps({"program": str(turbo), "arguments": [], "environment": {}}).encode() + b"\n")
    (tmp_path / "gone").touch()
    _, said = asks.communicate(timeout=60)
    assert (asks.returncode, said) == (7, "")
