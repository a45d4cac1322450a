"""The environment of nx on the main job, of nx on an agent, and so of every task that either starts.

Needed before the mesh is loaded, so that nothing here may import what takes long.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from mesh.adapters.nx.node_options import SHIM, preload, with_pnp
from mesh.exec.environment import without_ours
from mesh.wire import canonical

WORKER: Final = Path(__file__).with_name("worker.cjs")
SINGLE: Final = Path(__file__).with_name("single.cjs")

_QUIET: Final = {
    "NX_DAEMON": "false",  # a daemon outlives its run, and would be started with our preload
    "NX_NO_CLOUD": "true",
    "NX_SKIP_ATOMIZER_VALIDATION": "true",  # nx refuses atomized tasks where nothing distributes them
    "NX_TUI": "false",
}
_AGAINST_THE_CACHE: Final = (
    "NX_CACHE_FAILURES",
    "NX_DISABLE_NX_CACHE",
    "NX_DISABLE_REMOTE_CACHE",
    "NX_SKIP_NX_CACHE",
    "NX_SKIP_REMOTE_CACHE",
)

_OF_ONE_MACHINE: Final = (
    "NX_AGENT",
    "NX_BRANCH",
    "NX_CACHE_DIRECTORY",
    "NX_CI_EXECUTION",
    "NX_CLI_SET",
    "NX_CLOUD",
    "NX_DAEMON",
    "NX_INVOKED_BY_RUNNER",
    "NX_NO_CLOUD",
    "NX_PROJECT_GRAPH_CACHE_DIRECTORY",
    "NX_RUN_GROUP",
    "NX_SELF_HOSTED_REMOTE_CACHE",
    "NX_SOCKET_DIR",
    "NX_TASK",
    "NX_TUI",
    "NX_WORKSPACE_DATA_DIRECTORY",
    "NX_WORKSPACE_ROOT",
    *_AGAINST_THE_CACHE,
)
"""How these begin: who a machine or a CI run is, where it keeps things, and what dte itself decides."""


def forwarded(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Names of the main job's variables by which its nx works as it does, so that nx on agents works alike."""
    # What runs the tests is told by CI whether anybody watches, so that nx's plugins for them make it an input.
    names = [name for name in environ if name.startswith("NX_") or name == "CI"]
    return tuple(name for name in names if not name.startswith(_OF_ONE_MACHINE))


def main_environment(base: Mapping[str, str], socket_path: str, cache_url: str, token: str) -> dict[str, str]:
    """What the user's command is started with: any nx under it finds dte at `socket_path`, and takes artifacts from `cache_url`.

    What dte sets over the user's own values is told along, so that nx can go back to them where it runs the tasks itself.
    """
    changed = {
        **_QUIET,
        **_cache(base, cache_url, token),
        "NODE_OPTIONS": f"{base.get('NODE_OPTIONS', '')} {preload(SHIM)}".strip(),
        "NX_TASKS_RUNNER_DYNAMIC_OUTPUT": "false",
    }
    saved = {name: base.get(name) for name in changed}
    return {
        **without_ours(base, cookie=True),
        **changed,
        "DTE_NX_SOCKET": socket_path,
        "DTE_NX_OPTION": preload(SHIM),
        "DTE_NX_SAVED": canonical.encode(saved).decode(),
    }


def worker_environment(
    base: Mapping[str, str], workspace: Path, node_path: Iterable[str], private: Path, cache_url: str, token: str
) -> dict[str, str]:
    """What nx on an agent is started with. Its own cache is in `private`, so that whatever it runs is put into ours, and nothing else is read.

    With another NODE_PATH than on the main job it would resolve the imports of the workspace otherwise, and so would its tasks.
    """
    dropped = (*_AGAINST_THE_CACHE, "NODE_PATH")
    kept = {name: value for name, value in without_ours(base, cookie=True).items() if name not in dropped}
    places = os.pathsep.join(node_path)
    options = with_pnp(kept.pop("NODE_OPTIONS", ""), workspace)
    return {
        "NX_ISOLATE_PLUGINS": "false",  # halves the time to start; the user may say otherwise
        # An agent installs before it joins; pnpm would otherwise replace node_modules under the running nx, before any script.
        "pnpm_config_verify_deps_before_run": "false",
        **kept,
        **_QUIET,
        **_cache(base, cache_url, token),
        **({"NODE_PATH": places} if places else {}),
        **({"NODE_OPTIONS": options} if options else {}),
        "NX_CACHE_DIRECTORY": str(private / "cache"),
        "NX_WORKSPACE_DATA_DIRECTORY": str(private / "data"),
    }


def _cache(base: Mapping[str, str], url: str, token: str) -> dict[str, str]:
    direct = "127.0.0.1,localhost"
    return {
        "NX_SELF_HOSTED_REMOTE_CACHE_SERVER": url,
        "NX_SELF_HOSTED_REMOTE_CACHE_ACCESS_TOKEN": token,
        # nx asks a proxy even for the loopback, and ends the run when that cannot help.
        **{name: ",".join(filter(None, (base.get(name), direct))) for name in ("NO_PROXY", "no_proxy")},
    }
