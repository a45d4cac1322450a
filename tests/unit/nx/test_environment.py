"""What nx, and so every task, gets to see."""

import json
import os
from pathlib import Path

import trio

from mesh.adapters.nx import environment as module
from mesh.adapters.nx.environment import as_nx_has_it, main_environment, set_by_script, worker_environment
from mesh.adapters.nx.node_path import here, likely_node_path

BASE = {
    "PATH": "/bin",
    "DTE_SECRET": "hush",
    "DTE_RUN_ID": "7",
    "NODE_OPTIONS": "--max-old-space-size=4096",
    "NO_PROXY": "corp",
    "NX_CACHE_FAILURES": "true",
}


def for_main(**more: str) -> dict[str, str]:
    return main_environment({**BASE, **more}, "/run/socket", "http://127.0.0.1:1/nx", "token")


def for_worker(**more: str) -> dict[str, str]:
    return worker_environment({**BASE, **more}, Path("/ws"), (), Path("/private"), "http://127.0.0.1:1/nx", "token")


def test_no_secret_is_passed_on():
    for environment in (for_main(), for_worker()):
        assert "hush" not in "".join(environment.values())
        assert "DTE_RUN_ID" not in environment


def test_the_users_node_options_stay():
    assert for_main()["NODE_OPTIONS"] == f"--max-old-space-size=4096 --require {module.SHIM}"
    assert for_worker()["NODE_OPTIONS"] == "--max-old-space-size=4096"


def test_a_path_with_spaces_survives_node_options(monkeypatch):
    monkeypatch.setattr(module, "SHIM", Path('/my "own"/a b/main.cjs'))
    assert for_main()["NODE_OPTIONS"].endswith('--require "/my \\"own\\"/a b/main.cjs"')


def test_the_loopback_is_asked_directly_whatever_proxy_there_is():
    assert for_main()["NO_PROXY"] == "corp,127.0.0.1,localhost"
    assert for_main()["no_proxy"] == "127.0.0.1,localhost"


def test_main_can_go_back_to_the_users_own_values():
    saved = json.loads(for_main(NX_SELF_HOSTED_REMOTE_CACHE_SERVER="https://ours.example")["DTE_NX_SAVED"])
    assert saved["NX_SELF_HOSTED_REMOTE_CACHE_SERVER"] == "https://ours.example"
    assert saved["NODE_OPTIONS"] == "--max-old-space-size=4096"
    assert saved["NX_SELF_HOSTED_REMOTE_CACHE_ACCESS_TOKEN"] is None


def test_no_script_on_an_agent_installs_anything_unless_the_user_says_so():
    name = "pnpm_config_verify_deps_before_run"
    assert for_worker()[name] == "false"
    assert for_worker(**{name: "install"})[name] == "install"
    assert name not in for_main()


def test_a_worker_has_a_cache_of_its_own_that_nothing_switches_off():
    environment = for_worker(NX_SKIP_NX_CACHE="true", NX_CACHE_DIRECTORY="/shared")
    assert environment["NX_CACHE_DIRECTORY"] == "/private/cache"
    assert not {"NX_SKIP_NX_CACHE", "NX_CACHE_FAILURES"} & environment.keys()


def test_the_user_may_keep_nx_plugins_apart():
    assert for_worker()["NX_ISOLATE_PLUGINS"] == "false"
    assert for_worker(NX_ISOLATE_PLUGINS="true")["NX_ISOLATE_PLUGINS"] == "true"


def test_what_has_to_be_ended_stays_marked():
    assert for_main(DTE_TASK_COOKIE="/a")["DTE_TASK_COOKIE"] == "/a"
    assert for_worker(DTE_TASK_COOKIE="/a")["DTE_TASK_COOKIE"] == "/a"


SHIM = """#!/bin/sh
export NODE_PATH="$PWD/node_modules/.pnpm/node_modules${NODE_PATH:+:$NODE_PATH}"
exec node -e 'throw new Error("this would be nx")'
"""


def likely(workspace: Path, **environ: str) -> tuple[str, ...]:
    return trio.run(likely_node_path, {"PATH": os.environ["PATH"], **environ}, workspace)


def test_where_pnpm_has_installed_nx_it_is_loaded_with_the_modules_that_pnpm_lets_it_see(tmp_path):
    assert likely(tmp_path) == ()
    assert likely(tmp_path, NODE_PATH="/own::/lib") == ("/own", "/lib")
    program = tmp_path / "node_modules/.bin/nx"
    program.parent.mkdir(parents=True)
    program.write_text(SHIM)
    program.chmod(0o755)
    hoisted = str(tmp_path / "node_modules/.pnpm/node_modules")
    assert likely(tmp_path) == (hoisted,)
    assert likely(tmp_path, NODE_PATH="/own", NODE_OPTIONS="--max-old-space-size=512") == (hoisted, "/own")
    program.write_text("no program")
    assert likely(tmp_path, NODE_PATH="/own") == ("/own",)


def test_the_main_jobs_node_path_is_that_of_an_agent_in_the_agents_own_workspace():
    places = here(("./node_modules/.pnpm/node_modules", "/usr/lib/node"), Path("/agent"))
    assert places == ("/agent/node_modules/.pnpm/node_modules", "/usr/lib/node")
    environment = worker_environment({"NODE_PATH": "/old"}, Path("/ws"), places, Path("/private"), "u", "t")
    assert environment["NODE_PATH"] == "/agent/node_modules/.pnpm/node_modules:/usr/lib/node"
    assert "NODE_PATH" not in worker_environment({"NODE_PATH": "/old"}, Path("/ws"), (), Path("/private"), "u", "t")


def test_what_a_script_has_set_for_its_nx_is_told_from_what_was_there_and_from_what_package_managers_say():
    users = {"PATH": "/bin", "TOKEN": "of the job", "SAME": "1", "ODD": "\udcff"}
    said = {
        "PATH": "/ws/node_modules/.bin:/bin", "INIT_CWD": "/ws", "npm_lifecycle_event": "ci", "NX_CACHE_DIRECTORY": "/c",
        "TOKEN": "for nx", "SAME": "1", "ODD": "\ufffd", "NODE_ENV": "production", "NX_VERBOSE_LOGGING": "true",
        "NODE_OPTIONS": "--require ours", "DTE_NX_SOCKET": "/run/socket",
    }  # fmt: skip
    of_nx = as_nx_has_it(said, users)
    assert set_by_script(of_nx, users) == ("TOKEN", "NODE_ENV", "NX_VERBOSE_LOGGING")
    assert of_nx == {
        **{name: value for name, value in said.items() if name not in ("NODE_OPTIONS", "DTE_NX_SOCKET")},
        "ODD": "\udcff",
    }
