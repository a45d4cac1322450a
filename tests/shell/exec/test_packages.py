"""What a checkout's packages of Node say of themselves."""

import json
import os
from pathlib import Path

import pytest

from mesh.exec.packages import package_facts


def program(path: Path, says: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {says}\n")
    path.chmod(0o755)


def manifest(folder: Path, **content: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text(json.dumps(content))


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    root = tmp_path / "workspace"
    manifest(root, name="ws")
    program(tmp_path / "bin/node", "v20.1.2")
    program(tmp_path / "bin/npm", "10.0.0")
    return root


def told(workspace: Path) -> dict[str, str]:
    """With no other programs than those in `bin` beside it."""
    return package_facts(workspace, {"PATH": os.fspath(workspace.with_name("bin")), "DTE_SECRET": "s"})


def test_a_workspace_without_packages_says_nothing(tmp_path: Path) -> None:
    assert package_facts(tmp_path, dict(os.environ)) == {}


def test_node_the_lock_file_and_what_is_installed_are_named(workspace: Path) -> None:
    (workspace / "package-lock.json").write_text("{}")
    manifest(workspace / "node_modules/nx", name="nx", version="24.0.6")
    manifest(workspace / "node_modules/turbo", name="turbo", version="2.11.0")
    assert told(workspace) == {
        "lock-file": "package-lock.json 44136fa355b3",
        "node": "20.1.2",
        "package-manager": "npm 10.0.0",
        "nx": "24.0.6",
        "turbo": "2.11.0",
    }


def test_another_content_is_another_lock_file(workspace: Path) -> None:
    lock = workspace / "pnpm-lock.yaml"
    lock.write_text("a")
    before = told(workspace)["lock-file"]
    lock.write_text("b")
    assert told(workspace)["lock-file"] != before


def test_what_is_not_there_is_not_said(workspace: Path) -> None:
    for name in ("node", "npm"):
        (workspace.with_name("bin") / name).unlink()
    assert told(workspace) == {}


def test_the_lock_file_tells_the_package_manager(workspace: Path) -> None:
    (workspace / "yarn.lock").touch()
    program(workspace.with_name("bin") / "yarn", "1.22.22")
    assert told(workspace)["package-manager"] == "yarn 1.22.22"


def test_a_manager_that_is_a_package_is_not_started(workspace: Path) -> None:
    home = workspace.with_name("lib") / "npm"
    manifest(home, name="npm", version="11.1.0")
    program(home / "bin/npm-cli.js", "started; exit 1")
    npm = workspace.with_name("bin") / "npm"
    npm.unlink()
    npm.symlink_to(home / "bin/npm-cli.js")
    assert told(workspace)["package-manager"] == "npm 11.1.0"


def test_pnpm_is_the_one_that_the_workspace_asks_for_whichever_is_started(workspace: Path) -> None:
    manifest(workspace, name="ws", packageManager="pnpm@9.15.0+sha512.abc")
    program(workspace.with_name("bin") / "pnpm", "10.2.0")
    assert told(workspace)["package-manager"] == "pnpm 9.15.0"


def test_npm_is_the_one_that_is_installed_whatever_the_workspace_asks_for(workspace: Path) -> None:
    manifest(workspace, name="ws", packageManager="npm@9.0.0")
    assert told(workspace)["package-manager"] == "npm 10.0.0"
