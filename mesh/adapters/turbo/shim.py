"""Stands in turbo's place under `dte run`, wherever turbo's own script looks for its program: asks dte how to start turbo, and starts it.

A program of its own, with nothing but the standard library, which is started once for each turbo. dte hears how it ended over the same socket.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType

SOCKET = "DTE_TURBO_SOCKET"
PROGRAM = "TURBO_BINARY_PATH"


def main() -> int:
    """Turbo's exit code."""
    address = os.environ.get(SOCKET)
    if address is None:  # what an nx started, or a task of turbo's: nobody's business
        return _run([_without_us(), *sys.argv[1:]], {**os.environ}, None)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.connect(address)
        told = {name: value for name, value in os.environ.items() if _is_text(name + value)}
        _send(link, {"argv": sys.argv[1:], "cwd": str(Path.cwd()), "environment": told})
        with link.makefile("rb") as lines:
            answer = json.loads(lines.readline() or b"{}")
        if not answer:
            sys.stderr.write("dte: the main job has gone; turbo is not started\n")
            return 1
        untold = {name: value for name, value in os.environ.items() if name not in told}
        argv = [answer["program"] or _without_us(), *(answer["arguments"] or sys.argv[1:])]
        return _run(argv, {**untold, **answer["environment"]}, link)


def _run(argv: list[str], environment: dict[str, str], link: socket.socket | None) -> int:
    environment.pop(PROGRAM, None)
    child = subprocess.Popen(argv, env=environment)

    def pass_on(number: int, _: FrameType | None) -> None:
        child.send_signal(number)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGHUP, pass_on)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal tells turbo itself
    code = child.wait()
    code = code if code >= 0 else 128 - code
    if link is not None:
        with suppress(OSError):  # dte is gone by now where all was told to stop
            _send(link, {"exit_code": code})
    return code


def _without_us() -> str:
    """The turbo of this workspace, else the one on the PATH: its script, which finds its program by itself."""
    here = Path.cwd()
    found = (place / "node_modules/.bin/turbo" for place in (here, *here.parents))
    return next((str(script) for script in found if script.exists()), "turbo")


def _is_text(value: str) -> bool:
    return value == value.encode(errors="ignore").decode()


def _send(link: socket.socket, message: dict[str, object]) -> None:
    link.sendall(json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
