"""Package managers for tests, from npm, each installed once; and workspaces that pnpm itself has installed."""

import fcntl
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.endtoend.mesh_under_test import git, write_files
from tests.nx_workspace import CACHE

VERSIONS: Final = {"pnpm": "12.21.0", "yarn": "1.22.22", "@yarnpkg/cli-dist": "4.18.1"}
INSTALL_S: Final = 300


def bin_of(manager: str) -> Path:
    """The directory with the program, for PATH."""
    name = manager.rpartition("/")[2]
    folder = CACHE / f"{name}-{VERSIONS[manager]}"
    CACHE.mkdir(exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "node_modules/.bin").exists():
            folder.mkdir(exist_ok=True)
            _checked(
                ["npm", "install", "--no-audit", "--no-fund", f"{manager}@{VERSIONS[manager]}"], folder, os.environ
            )
    return folder / "node_modules/.bin"


def pnpm_workspace(root: Path, tool: str, version: str, files: Mapping[str, Any]) -> None:
    """A repository of three packages, each one built from the one before it, with `tool` as its only dependency. `files` that are no text are JSON."""
    package = {
        f"packages/p{number}/package.json": {
            "name": f"p{number}",
            "version": "0.0.0",
            "scripts": {script: f"node ../../tools/task.js {script}" for script in ("build", "test", "lint")},
            "dependencies": {f"p{number - 1}": "workspace:*"} if number else {},
        }
        for number in range(3)
    }
    manifest = {
        "name": "ws",
        "private": True,
        "scripts": files.get("scripts", {}),
        "devDependencies": {tool: version},
        "packageManager": f"pnpm@{VERSIONS['pnpm']}",
    }
    content: dict[str, Any] = {
        **package,
        "package.json": manifest,
        "pnpm-workspace.yaml": "packages:\n  - packages/*\nallowBuilds:\n  nx: false\npmOnFail: ignore\n",
        "tools/task.js": _TASK,
        ".gitignore": "node_modules\ndist\n.nx\n.turbo\n",
        **{name: text for name, text in files.items() if name != "scripts"},
    }
    root.mkdir(parents=True)
    write_files(
        root, {name: text if isinstance(text, str) else json.dumps(text, indent=2) for name, text in content.items()}
    )
    pnpm_install(root, "--no-frozen-lockfile")
    git(root, "init", "--quiet", "--initial-branch=main")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=all")


def pnpm_install(root: Path, *options: str) -> None:
    """As a CI job does it; packages come from a store that all tests share."""
    environ = {**os.environ, "PATH": f"{bin_of('pnpm')}:{os.environ['PATH']}", "CI": "1"}
    _checked(["pnpm", "install", "--store-dir", str(CACHE / "pnpm-store"), *options], root, environ)


def yarn_install(root: Path) -> None:
    """The packages of the workspace `root` by today's Yarn, as it does it by itself: into archives, which each node process is told to read."""
    yarn = bin_of("@yarnpkg/cli-dist") / "yarn"
    settings = f"nodeLinker: pnp\nenableTelemetry: false\nenableGlobalCache: false\nyarnPath: {yarn.resolve()}\n"
    write_files(root, {".yarnrc.yml": settings})
    environ = {**os.environ, "HOME": str(CACHE / "yarn-home"), "YARN_ENABLE_IMMUTABLE_INSTALLS": "false"}
    _checked([str(yarn), "install"], root, environ)


_TASK: Final = """
const fs = require('fs'), path = require('path');
const name = path.basename(process.cwd());
const needed = Object.keys(JSON.parse(fs.readFileSync('package.json')).dependencies ?? {});
const tasks = {
  build() {
    fs.mkdirSync('dist', { recursive: true });
    fs.writeFileSync('dist/index.js', [name, ...needed.map((each) => fs.readFileSync(`node_modules/${each}/dist/index.js`))].join(' of '));
  },
  test() { fs.readFileSync('dist/index.js'); },
  lint() { if (fs.existsSync('index.js')) require(path.resolve('index.js')); },
};
tasks[process.argv[2]]();
console.log(process.argv[2], name);
"""


def _checked(command: "list[str]", place: Path, environ: Mapping[str, str]) -> None:
    done = subprocess.run(
        command,
        cwd=place,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=INSTALL_S,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-2000:]}"
