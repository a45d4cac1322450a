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


_OF_WHO_STARTED_IT: Final = (
    "BERRY_",
    "COREPACK_",
    "NVM_",
    "PNPM_",
    "VOLTA_",
    "YARN_",
    "npm_",
    "pnpm_",
)
"""How these begin: what package managers tell of themselves, and of places on this machine."""
_OF_THE_SHELL: Final = frozenset(
    (
        *(
            "_",
            "COLOR",
            "EDITOR",
            "HOME",
            "INIT_CWD",
            "NODE",
            "OLDPWD",
            "PATH",
            "PROJECT_CWD",
            "PWD",
            "SHLVL",
            "TMPDIR",
        ),
        *("NODE_OPTIONS", "NODE_PATH"),  # a plan tells of these in its own way
    )
)


def as_nx_has_it(said: Mapping[str, str], users: Mapping[str, str]) -> dict[str, str]:
    """The environment that an nx under the user's command says it was started with, for the nx that runs its tasks in the same workspace. NODE_OPTIONS is
    told in another way, and a value that is not UTF-8 cannot be told.
    """
    kept = {name: value for name, value in without_ours(said, cookie=True).items() if name != "NODE_OPTIONS"}
    others = {
        name: users[name] for name in users if name == "NODE_OPTIONS" or (name in kept and not _is_utf8(users[name]))
    }
    return {**kept, **others}


def set_by_script(environ: Mapping[str, str], users: Mapping[str, str]) -> tuple[str, ...]:
    """Names of what the user's command itself has set for its nx: it is part of the command, wherever a task runs. Nothing that the main job was started
    with is among them.
    """
    names = [name for name, value in environ.items() if users.get(name) != value and name not in _OF_THE_SHELL]
    return tuple(name for name in names if not name.startswith((*_OF_ONE_MACHINE, *_OF_WHO_STARTED_IT)))


def _is_utf8(value: str) -> bool:
    return value.isascii() or value == value.encode(errors="replace").decode()


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
