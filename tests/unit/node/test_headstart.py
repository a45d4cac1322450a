"""A wrapped command runs while the mesh is still being loaded: what has to be there before it is little."""

import subprocess
import sys

TAKES_LONG = ("cryptography", "h11", "httpx", "mesh.wire.messages", "msgspec", "psutil", "trio")


def test_nothing_that_takes_long_is_loaded_before_the_command_is_started():
    before = "import sys, mesh.cli.app, mesh.cli.run, mesh.cli.common, mesh.cli.running, mesh.node.headstart, mesh.node.settings"
    program = f"{before}; print([name for name in {TAKES_LONG!r} if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    assert said.stdout.strip() == "[]"
