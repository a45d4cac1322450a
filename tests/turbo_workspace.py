"""Real turbo workspaces for tests: turbo from npm, installed once for each version, and packages in the shape of a binary tree."""

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

TURBO_VERSION = os.environ.get("DTE_TEST_TURBO_VERSION", "2.11.11")
CACHE = Path(__file__).parents[1] / ".cache"

_TOOL = """
import fs from 'node:fs'; import path from 'node:path';
const [what, ...more] = process.argv.slice(2);
const name = path.basename(process.cwd());
const read = (file) => fs.readFileSync(file, 'utf8');
const write = (file, text) => { fs.mkdirSync(path.dirname(file), { recursive: true }); fs.writeFileSync(file, text); };
const tasks = {
  build() {
    if (fs.existsSync('BROKEN')) { console.error(`${name} is broken`); process.exit(3); }
    const needed = Object.keys(JSON.parse(read('package.json')).dependencies ?? {});
    const parts = needed.map((dep) => `// ${dep}: ${read(`../${dep}/dist/index.js`).length}`);
    write('dist/index.js', [read('src/index.js'), process.env.BUILD_MODE ?? '', ...parts].join('\\n'));
    fs.writeFileSync('dist/run.sh', '#!/bin/sh\\n', { mode: 0o755 });
    fs.rmSync('dist/link.js', { force: true }); fs.symlinkSync('index.js', 'dist/link.js');
    console.log(`built ${name} ${more.join(' ')}`); console.error(`a warning of ${name}`);
  },
  test() {
    read('dist/index.js');
    console.log(`tests of ${name} ${more.join(' ')}`);
    if (fs.existsSync('FAIL')) { console.error(`1 test failed in ${name}`); process.exit(7); }
    write('coverage/report.txt', `ok ${name}`);
  },
  lint() { console.log(`lint ok ${name}`); },
  deploy() { console.log(`deployed ${name}`); if (fs.existsSync('FAIL')) process.exit(9); },
  generate() { write('notes/code.js', `// made for ${name}`); console.log(`generated ${name}`); },
  fail() { process.exit(1); },
  regenerate() { write('src/made.js', `// made anew for ${name}`); },
  reuse() { console.log(read('src/made.js')); },
  use() { write('coverage/used.txt', read('notes/code.js')); console.log(`${name} uses ${read('notes/code.js')}`); },
  serve() { console.log(`${name} is up`); const at = setInterval(() => fs.existsSync('../../notes/over') && clearInterval(at), 20); },
  e2e() { write('../../notes/over', ''); console.log(`e2e ok ${name}`); },
  env() { console.log(JSON.stringify(process.env)); },
  loud() { write('../../report.txt', name); write('notes/x.txt', name); console.log(`noted ${name}`); },
  link() { fs.mkdirSync('node_modules', { recursive: true }); fs.symlinkSync('..', `node_modules/${name}`); },
  linked() { setTimeout(() => console.log(`${read(`../p0/node_modules/p0/src/index.js`)} for ${name}`), 1500); },
  scatter() { setTimeout(() => write('dist/scattered.js', name), 1500); },
  sleep() { console.log('asleep'); setTimeout(() => {}, 600_000); },
};
tasks[what]();
"""

_TURBO_JSON = {
    "$schema": "https://turborepo.com/schema.json",
    "globalEnv": ["FLAVOUR"],
    "tasks": {
        "build": {
            "dependsOn": ["^build"],
            "outputs": ["dist/**"],
            "env": ["BUILD_MODE", "PUBLIC_*", "!PUBLIC_NOISE"],
        },
        "test": {"dependsOn": ["build"], "outputs": ["coverage/**"]},
        "lint": {},
        "env": {"env": ["BUILD_MODE"]},
        "link": {},
        "linked": {"dependsOn": ["link"]},
        "sleep": {},
        "loud": {"dependsOn": ["^build"], "outputs": ["notes/**"]},
        "deploy": {"dependsOn": ["build"], "cache": False},
        "after": {"dependsOn": ["deploy"]},
        "generate": {"cache": False, "outputs": ["notes/**"]},
        "use": {"dependsOn": ["generate"], "outputs": ["coverage/**"]},
        "serve": {"persistent": True, "cache": False},
        "e2e": {"dependsOn": ["build"], "with": ["serve"]},
        "//#root": {},
    },
}


class Workspace:
    """One checkout, with a HOME of its own."""

    def __init__(self, path: Path, version: str = TURBO_VERSION) -> None:
        self.path = path
        self.version = version
        self.home = path.with_name(f"{path.name}-home")
        self.home.mkdir(exist_ok=True)
        self.variables: dict[str, str] = {}
        """Set on this machine alone."""

    def environment(self, **more: str) -> dict[str, str]:
        """As on a CI machine."""
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("TURBO_", "DTE_", "NODE_", "GITHUB_", "npm_config_"))
        }
        quiet = {"TURBO_TELEMETRY_DISABLED": "1", "NO_COLOR": "1", "npm_config_update_notifier": "false"}
        return {**clean, **quiet, "HOME": str(self.home), "CI": "1", **self.variables, **more}

    def turbo(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Plain turbo."""
        return subprocess.run(
            self.command(*arguments),
            cwd=self.path,
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def command(self, *arguments: str) -> list[str]:
        return [str(self.path / "node_modules/.bin/turbo"), *arguments]

    def files(self) -> dict[str, tuple[int, bytes]]:
        """What tasks left, with its mode; of a link where it leads."""
        roots = [root for kind in ("dist", "coverage", "notes") for root in self.path.glob(f"packages/*/{kind}")]
        found = [file for root in roots for file in root.rglob("*") if not file.is_dir()]
        return {str(file.relative_to(self.path)): _content(file) for file in found}

    def summary(self) -> dict[str, str]:
        """How each task of the last run ended, as turbo says itself where it was told to `--summarize`."""
        runs = sorted((self.path / ".turbo/runs").glob("*.json"), key=lambda file: file.stat().st_mtime_ns)
        tasks = json.loads(runs[-1].read_text())["tasks"]
        return {task["taskId"]: _ending(task["execution"]) for task in tasks if task["command"] != "<NONEXISTENT>"}

    def clone(self, path: Path) -> "Workspace":
        """Another checkout of the same files."""
        path.mkdir(parents=True)
        for entry in self.path.iterdir():
            if entry.name not in ("node_modules", ".turbo"):
                (shutil.copytree if entry.is_dir() else shutil.copy2)(entry, path / entry.name)
        _link_modules(path, self.version)
        return Workspace(path, self.version)


def make_workspace(
    path: Path,
    packages: int = 8,
    scripts: tuple[str, ...] = ("build", "test", "lint"),
    only: Mapping[str, tuple[str, ...]] | None = None,
    version: str = TURBO_VERSION,
    **settings: Any,
) -> Workspace:
    """A workspace of `packages` npm packages; package `pN` depends on `p((N-1)//2)`; `only` gives some of them other scripts. `settings` are
    laid over turbo.json. Fails the test where turbo cannot be installed.
    """
    (path / "tools").mkdir(parents=True)
    (path / "tools/task.mjs").write_text(_TOOL)
    root = {
        "name": "ws",
        "private": True,
        "packageManager": "npm@10.0.0",
        "workspaces": ["packages/*"],
        "scripts": {
            "root": "echo the root",
            "ci": "turbo run build && BUILD_MODE=slow turbo run build test -- --loudly",
            "inside": "cd packages/p0 && turbo run lint",
            "stop": "turbo run build test; turbo run lint",
        },
        "devDependencies": {"turbo": version},
    }
    _write_json(path / "package.json", root)
    _write_json(path / "turbo.json", {**_TURBO_JSON, **settings})
    (path / ".gitignore").write_text("node_modules\ndist\ncoverage\nnotes\nreport.txt\n.turbo\n")
    for number in range(packages):
        name = f"p{number}"
        home = path / "packages" / name
        (home / "src").mkdir(parents=True)
        (home / "src/index.js").write_text(f"module.exports = () => '{name}';\n")
        about = {
            "name": name,
            "version": "0.0.0",
            "private": True,
            "scripts": {script: f"node ../../tools/task.mjs {script}" for script in (only or {}).get(name, scripts)},
            "dependencies": {f"p{(number - 1) // 2}": "*"} if number else {},
        }
        _write_json(home / "package.json", about)
    _link_modules(path, version)
    shutil.copy2(_install(version) / "package-lock.json", path)
    commit(path)
    return Workspace(path, version)


def commit(path: Path) -> None:
    """Commit everything. The same files on two machines are the same commit, whatever second it is on either."""
    who = ("-c", "user.email=a@b.c", "-c", "user.name=n")
    when = {"GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z", "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z"}
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], [*who, "commit", "-qm", "all", "--allow-empty"]):
        subprocess.run(["git", *command], cwd=path, env={**os.environ, **when}, check=True, stdin=subprocess.DEVNULL)


def linked_worktree(of: Workspace, path: Path) -> Workspace:
    """One more checkout of the same repository, which git knows as such."""
    subprocess.run(["git", "worktree", "add", "-q", "--detach", str(path)], cwd=of.path, check=True)
    _link_modules(path, of.version)
    return Workspace(path, of.version)


def _content(file: Path) -> tuple[int, bytes]:
    return (0, os.fsencode(file.readlink())) if file.is_symlink() else (file.stat().st_mode & 0o777, file.read_bytes())


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2))


def _ending(execution: Mapping[str, Any] | None) -> str:
    if not execution:
        return "skipped"
    return "success" if execution.get("exitCode") == 0 else "failure"


def _link_modules(path: Path, version: str) -> None:
    """Hard links: the program has 50 MB."""
    subprocess.run(["cp", "-al", str(_install(version) / "node_modules"), str(path / "node_modules")], check=True)
    for package in (path / "packages").iterdir():
        (path / "node_modules" / package.name).symlink_to(f"../packages/{package.name}")


def _install(version: str) -> Path:
    """Several test processes may need it at once: the first one installs, the others wait."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "turbo.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _installed(version)


def _installed(version: str) -> Path:
    folder = CACHE / f"turbo-{version}"
    if (folder / "node_modules/turbo/package.json").exists() and (folder / "package-lock.json").exists():
        return folder
    if shutil.which("npm") is None:
        pytest.fail("these tests need Node and npm on the PATH")
    staging = CACHE / f"turbo-{version}.{os.getpid()}"
    staging.mkdir(parents=True)
    _write_json(staging / "package.json", {"name": "ws", "private": True, "devDependencies": {"turbo": version}})
    installed = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error"],
        cwd=staging,
        capture_output=True,
        text=True,
        check=False,
    )
    if installed.returncode != 0:
        shutil.rmtree(staging)
        pytest.fail(f"turbo {version} cannot be installed: {installed.stderr[-500:]}")
    shutil.rmtree(folder, ignore_errors=True)
    staging.rename(folder)
    return folder
