"""A workspace that Nx's own generators wrote: TypeScript libraries, a vite application, eslint and vitest, all by inferred targets.

It is made once for each machine, with pinned versions, and copied for each test. Three projects, each one using the one before it:

    @gen/core    a library    + `stamp`, not cacheable, whose file `@gen/text:notes` reads
    @gen/text    a library    + `notes`
    @gen/shop    vite         + `smoke`, which asks a running `vite preview`
"""

import fcntl
import hashlib
import inspect
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from tests.endtoend.mesh_under_test import git
from tests.nx_workspace import CACHE, IN_PLACE, Workspace

VERSION: Final = "23.2.1"
"""The newest for which npm has nx and every plugin of it used here."""
INSTALL_S: Final = 900

_GENERATE: Final = (
    f"npx --yes create-nx-workspace@{VERSION} gen --preset=ts --pm=npm --nxCloud=skip --skipGit --analytics=false --no-interactive",
    "cd gen",
    "npm install --save-dev --save-exact --no-audit --no-fund "
    + " ".join(f"@nx/{plugin}@{VERSION}" for plugin in ("js", "vite", "vitest", "eslint", "web")),
    "npx nx generate @nx/js:lib packages/core --bundler=tsc --unitTestRunner=vitest --linter=eslint --no-interactive --skipFormat",
    "npx nx generate @nx/js:lib packages/text --bundler=tsc --unitTestRunner=vitest --linter=eslint --no-interactive --skipFormat",
    (
        "npx nx generate @nx/web:app apps/shop --bundler=vite --unitTestRunner=vitest --e2eTestRunner=none --linter=eslint --style=css"
        " --no-interactive --skipFormat"
    ),
)
_LINK: Final = ("cd gen", "npm install --no-audit --no-fund", "npx nx sync")

_FILES: Final = {
    "packages/text/src/lib/text.ts": "import { core } from '@gen/core';\n\nexport function text(): string {\n  return `text on ${core()}`;\n}\n",
    "packages/text/src/lib/text.spec.ts": (
        "import { text } from './text.js';\n\ndescribe('text', () => {\n"
        "  it('should work', () => {\n    expect(text()).toEqual('text on core');\n  });\n});\n"
    ),
    "apps/shop/src/main.ts": "import './app/app.element';\nimport { text } from '@gen/text';\n\ndocument.title = text();\n",
    "apps/shop/src/app/app.element.spec.ts": (
        "import { AppElement } from './app.element';\n\ndescribe('AppElement', () => {\n"
        "  it('should be there', () => {\n    expect(new AppElement()).toBeTruthy();\n  });\n});\n"
    ),
    "tools/stamp.mjs": (
        "import { mkdirSync, writeFileSync } from 'node:fs';\n"
        "mkdirSync('generated', { recursive: true });\nwriteFileSync('generated/stamp.txt', 'stamped\\n');\n"
    ),
    "tools/notes.mjs": (
        "import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';\n"
        "mkdirSync('notes', { recursive: true });\n"
        "writeFileSync('notes/all.txt', `notes: ${readFileSync('../core/generated/stamp.txt', 'utf8')}`);\n"
    ),
    "tools/smoke.mjs": (
        "const ask = async (left) => {\n"
        "  const answer = await fetch(process.argv[2]).catch(() => null);\n"
        "  if (answer) return answer.text();\n"
        "  if (!left) throw new Error('nobody answers');\n"
        "  await new Promise((wake) => setTimeout(wake, 100));\n"
        "  return ask(left - 1);\n"
        "};\n"
        "if (!(await ask(300)).includes('<script')) throw new Error('this is not the shop');\nconsole.log('the shop is open');\n"
    ),
}
_UNDECLARED: Final = re.compile(r"/out-tsc/|\.d\.ts")
"""`@gen/shop:typecheck` writes these, and the plugin that infers it declares nothing of the kind."""
_IGNORED: Final = "\ngenerated\nnotes\n*.tsbuildinfo\ntest-output\n.nx\n"


def make_generated(path: Path, port: int) -> Workspace:
    """A checkout with one commit; its preview listens on `port`."""
    _copy(_generated(), path)
    home = path / "apps/shop"
    manifest = _read(home / "package.json")
    url = f"http://localhost:{port}/"
    manifest["nx"] = {
        "targets": {
            "preview": {"options": {"args": [f"--port={port}", "--strictPort"]}},
            "smoke": _script("smoke", url, cache=True, depends=["preview"]),
        }
    }
    _write(home / "package.json", manifest)
    git(path, "init", "--quiet", "--initial-branch=main")
    git(path, "add", "--all")
    git(path, "commit", "--quiet", "--message=all")
    return Workspace(path)


def copy(workspace: Workspace, path: Path) -> Workspace:
    """Another checkout of the same commit, with what is installed."""
    _copy(workspace.path, path)
    return Workspace(path)


def statuses(workspace: Workspace) -> dict[str, tuple[str, int]]:
    """What nx's own summary of its last run says: each task that ran or was restored → its hash and its exit code."""
    (told,) = [*workspace.home.rglob("run.json"), *workspace.path.glob(".nx/cache/run.json")]
    return {task["taskId"]: (task["hash"], task["status"]) for task in _read(told)["tasks"]}


def artifacts(workspace: Workspace) -> dict[str, bytes]:
    """What tasks declare as their outputs, but for what differs between equal runs: `*.tsbuildinfo` holds times."""
    folders = ("dist", "out-tsc", "generated", "notes", "test-output")
    roots = [workspace.path / project / folder for project in PROJECTS for folder in folders]
    found = {
        str(file.relative_to(workspace.path)): file for root in roots for file in root.rglob("*") if file.is_file()
    }
    return {
        name: file.read_bytes()
        for name, file in found.items()
        if not (name.endswith(".tsbuildinfo") or (name.startswith("apps/shop/") and _UNDECLARED.search(name)))
    }


PROJECTS: Final = ("packages/core", "packages/text", "apps/shop")


def _copy(source: Path, path: Path) -> None:
    """Hard links where nothing writes: what is installed is a third of a gigabyte."""
    path.mkdir(parents=True)
    for entry in source.iterdir():
        if entry.name == "node_modules":
            subprocess.run(["cp", "-al", str(entry), str(path / entry.name)], check=True)
        elif entry.name != ".nx":
            shutil.copytree(entry, path / entry.name) if entry.is_dir() else shutil.copy2(entry, path / entry.name)


def _generated() -> Path:
    """The workspace as the generators left it, and with the three projects tied together. One process makes it, the others wait."""
    recipe = inspect.getsource(_generate) + inspect.getsource(_mend) + json.dumps([_GENERATE, _LINK, _FILES, _IGNORED])
    folder = CACHE / f"nx-generated-{VERSION}-{hashlib.sha256(recipe.encode()).hexdigest()[:8]}"
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "nx-generated.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            staging = folder.with_name(f"{folder.name}.{os.getpid()}")
            staging.mkdir()
            try:
                _generate(staging)
                (staging / "gen").rename(folder)
            finally:
                shutil.rmtree(staging)
    return folder


def _generate(staging: Path) -> None:
    _shell(staging, _GENERATE)
    root = staging / "gen"
    for name, text in _FILES.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    with (root / ".gitignore").open("a") as ignored:
        ignored.write(_IGNORED)
    _add(root / "packages/core", {}, {"stamp": _script("stamp", cache=False, outputs=["{projectRoot}/generated"])})
    notes = _script(
        "notes",
        cache=True,
        depends=["^stamp"],
        inputs=["default", {"dependentTasksOutputFiles": "**/*.txt"}],
        outputs=["{projectRoot}/notes"],
    )
    _add(root / "packages/text", {"@gen/core": "*"}, {"notes": notes})
    _add(root / "apps/shop", {"@gen/text": "*"}, {})
    _mend(root)
    _shell(staging, _LINK)
    shutil.rmtree(root / ".nx", ignore_errors=True)


def _mend(root: Path) -> None:
    """What the generators leave unfinished: the application needs the DOM's types, a library's atomized tests the library they use."""
    for name in ("app", "spec"):
        config = _read(root / f"apps/shop/tsconfig.{name}.json")
        config["compilerOptions"]["lib"] = ["es2022", "dom"]
        _write(root / f"apps/shop/tsconfig.{name}.json", config)
    nx = _read(root / "nx.json")
    nx["targetDefaults"]["test-ci--src/lib/text.spec.ts"] = {"dependsOn": ["^build"]}
    _write(root / "nx.json", nx)


def _script(name: str, *arguments: str, cache: bool, depends: "list[str] | None" = None, **more: Any) -> dict[str, Any]:
    command = " ".join(("node", f"../../tools/{name}.mjs", *arguments))
    options = {"command": command, "cwd": "{projectRoot}"}
    return {"executor": "nx:run-commands", "options": options, "cache": cache, "dependsOn": depends or [], **more}


def _add(home: Path, dependencies: dict[str, str], targets: dict[str, Any]) -> None:
    manifest = _read(home / "package.json")
    manifest["dependencies"] = {**manifest.get("dependencies", {}), **dependencies}
    manifest["nx"] = {"targets": targets}
    _write(home / "package.json", manifest)


def _shell(place: Path, commands: tuple[str, ...]) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("NX_", "DTE_", "NODE_"))}
    done = subprocess.run(
        ["bash", "-ec", "\n".join(commands)],
        cwd=place,
        env={**clean, "CI": "1", "NX_DAEMON": "false", "NX_NO_CLOUD": "true", "NX_TUI": "false", **IN_PLACE},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=INSTALL_S,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(f"the workspace cannot be generated: {done.stdout[-2000:]}")


def _read(path: Path) -> Any:
    return json.loads(path.read_text())


def _write(path: Path, value: Any) -> None:
    path.write_text(f"{json.dumps(value, indent=2)}\n")
