"""NODE_PATH: where node looks for modules at last. Tasks that resolve imports of the workspace need it as nx has it on the main job."""

import os
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

from mesh.adapters.nx.node_options import preload
from mesh.exec.environment import without_ours

TELL: Final = Path(__file__).with_name("node_path.cjs")
TELL_MS: Final = 10_000


async def likely_node_path(base: Mapping[str, str], workspace: Path) -> tuple[str, ...]:
    """NODE_PATH as nx will probably have it on the main job: where pnpm has installed it, it is started by a script that sets one."""
    program = workspace / "node_modules/.bin/nx"
    places = base.get("NODE_PATH", "")
    if program.is_file() and not program.is_symlink():
        options = f"{base.get('NODE_OPTIONS', '')} {preload(TELL)}".strip()
        environment = {**without_ours(base, cookie=True), "NODE_OPTIONS": options}
        with suppress(OSError), trio.move_on_after(TELL_MS / 1_000):
            told = await trio.run_process(
                [program],
                cwd=workspace,
                env=environment,
                capture_stdout=True,
                stderr=subprocess.DEVNULL,
                check=False,
            )
            places = os.fsdecode(told.stdout) if told.returncode == 0 else places
    return tuple(place for place in places.split(os.pathsep) if place)


def here(node_path: Iterable[str], workspace: Path) -> tuple[str, ...]:
    """A plan's NODE_PATH in this workspace."""
    return tuple(str(workspace / place) if place.startswith("./") else place for place in node_path)
