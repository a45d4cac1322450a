"""A wrapped command runs while the mesh is still being loaded: what has to be there before it is little."""

import signal
import subprocess
import sys

import pytest

TAKES_LONG = ("cryptography", "h11", "httpx", "mesh.wire.messages", "msgspec", "psutil", "trio")


def test_nothing_that_takes_long_is_loaded_before_the_command_is_started():
    before = "import sys, mesh.cli.app, mesh.cli.run, mesh.cli.common, mesh.cli.running, mesh.node.headstart, mesh.node.settings"
    program = f"{before}; print([name for name in {TAKES_LONG!r} if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    assert said.stdout.strip() == "[]"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_before_the_mesh_is_there_ends_the_command(number: signal.Signals):
    program = """
import os, signal
from pathlib import Path
from mesh.node.headstart import head_start
with head_start(("sleep", "60"), Path("/"), os.environ):
    print("started", flush=True)
    signal.pause()
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.send_signal(number)
    # Its output ends when the command's own does.
    process.communicate(timeout=30)
    assert process.returncode == 128 + number
