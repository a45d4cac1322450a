"""Real nx workspaces for tests: nx from npm, installed once for each version, and projects in the shape of a binary tree."""

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

NX_VERSION = os.environ.get("DTE_TEST_NX_VERSION", "24.0.6")
IN_PLACE = {"NX_SKIP_NATIVE_FILE_CACHE": "true"}
"""Otherwise nx copies its native library once for each path it is run from, 20 to 45 MB that nobody removes: gigabytes for the clones of all tests."""
CACHE = Path(__file__).parents[1] / ".cache"

_TOOL = """
// nx takes a task for over when its process has ended, and on a busy machine loses what was written just before (3 of 130 runs of nx alone):
// none of these ends at once.
const end = (code) => setTimeout(() => process.exit(code), 250);
const fs = require('fs'), path = require('path');
const [what, name] = process.argv.slice(2);
const home = path.join(__dirname, '..', 'packages', name);
const read = (file) => fs.readFileSync(path.join(home, file), 'utf8');
const write = (file, text) => { fs.mkdirSync(path.dirname(file), { recursive: true }); fs.writeFileSync(file, text); };
const has = (file) => fs.existsSync(path.join(home, file));
const tasks = {
  build() {
    if (has('BROKEN')) { console.error(`${name} is broken`); return end(3); }
    const needed = Object.keys(JSON.parse(read('package.json')).dependencies ?? {});
    const parts = needed.map((dep) => `// ${dep}: ${read(`../${dep}/dist/index.js`).length}`);
    write(path.join(home, 'dist/index.js'), [read('src/index.js'), ...parts].join('\\n'));
    console.log(`\\x1b[32mbuilt\\x1b[0m ${name} ${process.argv.slice(4).join(' ')}`);
  },
  test() {
    read('dist/index.js');
    console.log(`tests of ${name}`);
    if (has('FAIL')) { console.error(`1 test failed in ${name}`); return end(7); }
    write(path.join(__dirname, '..', 'coverage', name, 'report.txt'), `ok ${name}`);
  },
  beside() { write(path.join(home, 'dist/beside.js'), `// beside ${name}`); },
  lint() { console.log(`lint ok ${name}`); },
  sleep() { setTimeout(() => {}, 600_000); console.log('asleep'); },
  env() { console.log(JSON.stringify(process.env)); },
  generate() { write(path.join(home, 'generated/code.js'), `// made for ${name}`); console.log('generated'); },
  use() { console.log(`uses ${read('generated/code.js')}`); write(path.join(home, 'used.txt'), read('generated/code.js')); },
  slow() { setTimeout(() => console.log('slow ok') || end(0), 3000); },
  serve() {
    if (process.env.TRIES) setTimeout(() => process.exit(0), 50 * process.env.TRIES);
    require('http').createServer((_, answer) => answer.end('hi')).listen(Number(process.argv[4]));
    console.log('up');
  },
  e2e() {
    const ask = (left) => require('http').get({ port: Number(process.argv[4]), host: '127.0.0.1' }, () => console.log('e2e ok') || end(0))
      .on('error', () => left ? setTimeout(ask, 50, left - 1) : end(5));
    ask(Number(process.env.TRIES ?? 200));
  },
};
tasks[what]();
setTimeout(() => {}, 250);
"""

_NX_JSON = {
    "analytics": False,
    "namedInputs": {
        "default": ["{projectRoot}/**/*"],
        "production": ["default", "!{projectRoot}/**/*.test.js"],
    },
    "targetDefaults": {
        "build": {
            "cache": True,
            "dependsOn": ["^build"],
            "inputs": ["production", "^production"],
            "outputs": ["{projectRoot}/dist"],
        },
        "test": {
            "cache": True,
            "dependsOn": ["build"],
            "inputs": ["default", "^production", {"dependentTasksOutputFiles": "**/*.js", "transitive": True}],
            "outputs": ["{workspaceRoot}/coverage/{projectName}"],
        },
        "lint": {"cache": True, "inputs": ["default"]},
        "sleep": {"cache": True},
        "slow": {"cache": True},
        "env": {"cache": True},
        "use": {
            "cache": True,
            "dependsOn": ["generate"],
            "inputs": [{"dependentTasksOutputFiles": "**/*.js"}],
            "outputs": ["{projectRoot}/used.txt"],
        },
        "generate": {"cache": False, "outputs": ["{projectRoot}/generated"]},
        "serve": {"continuous": True},
        "e2e": {"cache": True, "dependsOn": ["build", "serve"]},
        "wide": {"cache": True, "dependsOn": ["build"], "outputs": ["{projectRoot}"]},
        "beside": {"cache": True, "outputs": ["{projectRoot}/dist"]},
        "deploy": {"cache": False, "dependsOn": ["build"]},
        "late": {"cache": True, "dependsOn": ["slow"]},
        "alone": {"cache": True, "parallelism": False},
    },
}


class Workspace:
    """One checkout, with a HOME of its own: nx keeps its cache there."""

    def __init__(self, path: Path, version: str = NX_VERSION) -> None:
        self.path = path
        self.version = version
        self.home = path.with_name(f"{path.name}-home")
        self.home.mkdir(exist_ok=True)

    def environment(self, **more: str) -> dict[str, str]:
        """As on a CI machine."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("NX_", "DTE_", "NODE_"))}
        return {
            **clean,
            "HOME": str(self.home),
            "CI": "1",
            "NX_DAEMON": "false",
            "NX_NO_CLOUD": "true",
            **IN_PLACE,
            **more,
        }

    def nx(self, *arguments: str, environment: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
        """Plain nx, or with `environment` whatever it makes of it."""
        return subprocess.run(
            self.command(*arguments),
            cwd=self.path,
            env=dict(environment or self.environment()),
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def run(self, *command: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        """Any command, as a person gives it here."""
        path = f"{self.path / 'node_modules/.bin'}:{os.environ.get('PATH', os.defpath)}"
        return subprocess.run(
            command,
            cwd=self.path,
            env={**self.environment(), "PATH": path, **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def command(self, *arguments: str) -> list[str]:
        return [str(self.path / "node_modules/.bin/nx"), *arguments]

    def files(self) -> dict[str, bytes]:
        """What tasks left: all that is not committed and not nx's own."""
        roots = [*self.path.glob("packages/*/dist"), *self.path.glob("packages/*/generated"), self.path / "coverage"]
        found = [file for root in roots for file in root.rglob("*") if file.is_file()]
        found += self.path.glob("packages/*/used.txt")
        return {str(file.relative_to(self.path)): file.read_bytes() for file in found}

    def clone(self, path: Path) -> "Workspace":
        """Another checkout of the same commit."""
        path.mkdir(parents=True)
        for entry in self.path.iterdir():
            if entry.name not in ("node_modules", ".nx", "coverage"):
                (shutil.copytree if entry.is_dir() else shutil.copy2)(entry, path / entry.name)
        _link_modules(path, self.version)
        return Workspace(path, self.version)

    def reset(self, branch: str) -> None:
        """As after a fresh checkout of `branch` and an install, with nothing left of earlier runs."""
        for command in (["checkout", "-qf", branch], ["clean", "-ffdxq", "-e", "node_modules"]):
            subprocess.run(["git", *command], cwd=self.path, check=True, stdin=subprocess.DEVNULL)
        shutil.rmtree(self.home)
        self.home.mkdir()


def make_workspace(
    path: Path,
    projects: int = 12,
    targets: tuple[str, ...] = ("build", "test", "lint"),
    port: int = 0,
    version: str = NX_VERSION,
) -> Workspace:
    """A workspace of `projects` npm packages; package `pN` depends on `p((N-1)//2)`. Fails the test where nx cannot be installed."""
    (path / "tools").mkdir(parents=True)
    (path / "tools/task.js").write_text(_TOOL)
    _write_json(
        path / "package.json",
        {"name": "ws", "private": True, "workspaces": ["packages/*"], "devDependencies": {"nx": version}},
    )
    _write_json(path / "nx.json", _NX_JSON)
    (path / ".gitignore").write_text("node_modules\ndist\ncoverage\ngenerated\nused.txt\n.nx\n")
    for number in range(projects):
        name = f"p{number}"
        home = path / "packages" / name
        (home / "src").mkdir(parents=True)
        (home / "src/index.js").write_text(f"module.exports = () => '{name}';\n")
        depends = {f"p{(number - 1) // 2}": "*"} if number else {}
        _write_json(home / "package.json", {"name": name, "version": "0.0.0", "private": True, "dependencies": depends})
        commands = {target: {"command": f"node tools/task.js {_doing(target)} {name} {port}"} for target in targets}
        _write_json(home / "project.json", {"name": name, "targets": commands})
    _link_modules(path, version)
    for command in (
        ["init", "-q", "-b", "main"],
        ["add", "-A"],
        ["-c", "user.email=a@b.c", "-c", "user.name=n", "commit", "-qm", "all"],
    ):
        subprocess.run(["git", *command], cwd=path, check=True, stdin=subprocess.DEVNULL)
    return Workspace(path, version)


def _doing(target: str) -> str:
    return {"wide": "build", "deploy": "lint", "alone": "lint", "late": "lint"}.get(target, target)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2))


def latest_version() -> str:
    """What npm installs as `nx` today."""
    told = subprocess.run(["npm", "view", "nx", "version"], capture_output=True, text=True, timeout=60, check=False)
    if told.returncode != 0:
        pytest.fail(f"npm cannot tell the latest version of nx: {told.stderr[-500:]}")
    return told.stdout.strip()


def _link_modules(path: Path, version: str) -> None:
    """Hard links: a copy of nx is 74 MB."""
    subprocess.run(["cp", "-al", str(_install(version) / "node_modules"), str(path / "node_modules")], check=True)


def _install(version: str) -> Path:
    """Several test processes may need it at once: the first one installs, the others wait."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "nx.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _installed(version)


def _installed(version: str) -> Path:
    folder = CACHE / f"nx-{version}"
    if (folder / "node_modules/nx/package.json").exists():
        return folder
    if shutil.which("npm") is None:
        pytest.fail("these tests need Node and npm on the PATH")
    staging = CACHE / f"nx-{version}.{os.getpid()}"
    staging.mkdir(parents=True)
    _write_json(staging / "package.json", {"name": "ws", "private": True, "devDependencies": {"nx": version}})
    installed = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error"],
        cwd=staging,
        capture_output=True,
        text=True,
        check=False,
    )
    if installed.returncode != 0:
        shutil.rmtree(staging)
        pytest.fail(f"nx {version} cannot be installed: {installed.stderr[-500:]}")
    shutil.rmtree(folder, ignore_errors=True)
    staging.rename(folder)
    return folder
