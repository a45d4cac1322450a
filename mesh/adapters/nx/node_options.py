"""NODE_OPTIONS: what every node process begins with. nx is found by what dte adds to it; its tasks need the rest as nx has it on the main job.

Needed before the mesh is loaded, so that nothing here may import what takes long.
"""

import os
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

SHIM: Final = Path(__file__).with_name("main.cjs")
ROOT: Final = "{workspaceRoot}"
"""Stands for the workspace in the main job's options: on an agent it is elsewhere."""
NODE_FIRST: Final = "DTE_NX_BIN"
"""Names the folder that stands before all others on PATH."""
PNP: Final = ".pnp.cjs"
_PNP_LOADER: Final = ".pnp.loader.mjs"


def preload(script: Path) -> str:
    """The option by which node loads `script` before anything else."""
    return f"--require {_quoted(str(script))}"


def node_first(door: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """What a script is started with that may set NODE_OPTIONS anew: each node that it finds on PATH has ours again, as long as it is told of dte.

    The program is made in a folder beside the socket `door`.
    """
    node = shutil.which("node", path=environ.get("PATH"))
    if node is None:
        return {}
    folder = door.with_name("bin")
    folder.mkdir()
    program = folder / "node"
    program.write_text(_NODE.format(ours=shlex.quote(preload(SHIM)), node=shlex.quote(node)))
    program.chmod(0o700)
    return {"PATH": f"{folder}:{environ.get('PATH', os.defpath)}", NODE_FIRST: str(folder)}


_NODE: Final = """#!/bin/sh
ours={ours}
case "$NODE_OPTIONS" in
  *"$ours"*) ;;
  *) [ -z "$DTE_NX_SOCKET" ] || export NODE_OPTIONS="${{NODE_OPTIONS:+$NODE_OPTIONS }}$ours" ;;
esac
exec {node} "$@"
"""


def with_pnp(options: str, workspace: Path) -> str:
    """`options` as Yarn makes them where it has installed the packages of `workspace` without a node_modules (Plug'n'Play)."""
    if PNP in options or not (workspace / PNP).is_file():
        return options
    loader = workspace / _PNP_LOADER
    loading = f"--experimental-loader {loader.as_uri()}" if loader.is_file() else ""
    return " ".join(filter(None, (preload(workspace / PNP), loading, options)))


def here(options: str, workspace: Path) -> str:
    """The main job's `options` in this workspace."""
    return options.replace(ROOT, str(workspace))


def _quoted(path: str) -> str:
    """NODE_OPTIONS is split at spaces, but for those in double quotes."""
    escaped = path.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"' if " " in escaped else escaped
