"""How any turbo under a command is made to ask first: its own script takes the program that TURBO_BINARY_PATH names.

Needed before the mesh is loaded, so that nothing here may import what takes long.
"""

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mesh.adapters.nx.node_options import NODE_FIRST
from mesh.adapters.turbo.shim import PROGRAM, SOCKET

_SHIM: Final = Path(__file__).with_name("shim.py")


def asking_environment(door: str) -> dict[str, str]:
    """What is added to the command's environment. `door` is the socket's path; the program is made beside it."""
    program = Path(door).with_name("turbo")
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -I -S {shlex.quote(str(_SHIM))} "$@"\n')
    program.chmod(0o700)
    return {PROGRAM: str(program), SOCKET: door}


def as_by_the_user(environment: Mapping[str, str], ours: Mapping[str, str], users: Mapping[str, str]) -> dict[str, str]:
    """`environment`, in which whatever dte has set (`ours`) is again what it was (`users`); what a script has changed since stays."""
    changed = {name for name, value in ours.items() if users.get(name) != value and environment.get(name) == value}
    kept = {name: value for name, value in environment.items() if name not in changed}
    found = {**kept, **{name: users[name] for name in changed if name in users}}
    if NODE_FIRST in ours and "PATH" in found:
        # A script's package manager has put places of its own before ours.
        places = [place for place in found["PATH"].split(os.pathsep) if place != ours[NODE_FIRST]]
        found["PATH"] = os.pathsep.join(places)
    return found
