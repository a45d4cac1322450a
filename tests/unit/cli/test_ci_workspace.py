"""What a workspace says about itself, from its files alone."""

import subprocess
from pathlib import Path

import pytest

from mesh.cli.ci.workspace import branch_of, command_of, install_of, manager_of, node_file_of, tools_of
from mesh.errors import UsageError


def write(root: Path, **files: str) -> Path:
    """Files by name, with `__` for a dot."""
    for name, text in files.items():
        (root / name.replace("__", ".")).write_text(text)
    return root


def test_the_likeliest_tool_comes_first_and_each_is_named_by_its_file(tmp_path: Path) -> None:
    assert tools_of(tmp_path) == {}
    write(tmp_path, dte__toml="", turbo__jsonc="{}")
    assert list(tools_of(tmp_path).items()) == [("turbo", "turbo.jsonc"), ("dte.toml", "dte.toml")]
    write(tmp_path, nx__json="{}", turbo__json="{}")
    assert list(tools_of(tmp_path).items()) == [("nx", "nx.json"), ("turbo", "turbo.json"), ("dte.toml", "dte.toml")]


@pytest.mark.parametrize(
    ("files", "install", "execute"),
    [
        ({"package-lock__json": ""}, "npm ci", "npx"),
        ({"npm-shrinkwrap__json": ""}, "npm ci", "npx"),
        ({"pnpm-lock__yaml": ""}, "pnpm install --frozen-lockfile", "pnpm exec"),
        ({"pnpm-lock__yaml": "", "package-lock__json": ""}, "pnpm install --frozen-lockfile", "pnpm exec"),
        ({"yarn__lock": "# yarn lockfile v1\n"}, "yarn install --frozen-lockfile", "yarn"),
        ({"yarn__lock": "__metadata:\n  version: 8\n"}, "yarn install --immutable", "yarn"),
        ({"yarn__lock": "", "__yarnrc__yml": ""}, "yarn install --immutable", "yarn"),
        ({"bun__lock": ""}, "bun install --frozen-lockfile", "bunx"),
        ({"bun__lockb": ""}, "bun install --frozen-lockfile", "bunx"),
        ({}, "npm install", "npx"),
    ],
)
def test_the_lock_file_says_how_to_install(files: dict[str, str], install: str, execute: str, tmp_path: Path) -> None:
    write(tmp_path, package__json="{}", **files)
    assert install_of(tmp_path)[-1] == install
    manager = manager_of(tmp_path)
    assert manager is not None
    assert manager.execute == execute


def test_what_python_needs_is_installed_beside_what_node_needs(tmp_path: Path) -> None:
    assert install_of(tmp_path) == ()
    write(tmp_path, requirements__txt="")
    assert install_of(tmp_path) == ("python3 -m pip install --requirement requirements.txt",)
    write(tmp_path, uv__lock="", package__json="{}", **{"package-lock__json": "{}"})
    assert install_of(tmp_path) == ("npm ci", "uv sync --locked")


def test_a_lock_file_without_packages_is_nobodys(tmp_path: Path) -> None:
    assert manager_of(write(tmp_path, yarn__lock="")) is None


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({}, ""),
        ({"package__json": "{}"}, ""),
        ({"package__json": '{"engines": {"npm": "11"}}'}, ""),
        ({"package__json": '{"engines": {"node": ">=20"}}'}, "package.json"),
        ({"package__json": '{"volta": {"node": "22.1.0"}}'}, "package.json"),
        ({"__tool-versions": "python 3.12\n"}, ""),
        ({"__tool-versions": "nodejs 22.1.0\n"}, ".tool-versions"),
        ({"__nvmrc": "22", "package__json": '{"engines": {"node": ">=20"}}'}, ".nvmrc"),
    ],
)
def test_the_version_of_node_is_where_the_workspace_pins_it(files: dict[str, str], found: str, tmp_path: Path) -> None:
    assert node_file_of(write(tmp_path, **files)) == found


def test_the_tasks_of_turbo_are_those_that_end_and_may_be_repeated(tmp_path: Path) -> None:
    write(
        tmp_path,
        turbo__json="""{
          // with comments, a "string" in one, and a comma too many
          "$schema": "https://turbo.build/schema.json", /* https://… */
          "tasks": {"bundle": {}, "dev": {"persistent": true}, "deploy": {"cache": false}, "web#bundle": {},},
        }""",
    )
    assert "  set -- npx turbo run bundle --affected" in command_of(tmp_path, "turbo")
    write(tmp_path, turbo__json='{"pipeline": {"build": {}, "test": {}, "docs": {}}}')
    assert "  set -- npx turbo run test build" in command_of(tmp_path, "turbo")


def test_the_tasks_of_dte_toml_are_those_that_are_not_bound_to_the_main_job(tmp_path: Path) -> None:
    task = '[tasks.{}]\ncommand = "true"\n{}\n'
    text = task.format("pack", "") + task.format("deploy", 'where = "main"')
    write(tmp_path, dte__toml=text)
    assert "  set -- pack" in command_of(tmp_path, "dte.toml")
    write(tmp_path, dte__toml=text + task.format("build", ""))
    assert "  set -- build" in command_of(tmp_path, "dte.toml")
    write(tmp_path, dte__toml=task.format("deploy", 'where = "main"'))
    assert "  set -- deploy" in command_of(tmp_path, "dte.toml")


@pytest.mark.parametrize("text", ["[]", "{", '{"a": "unclosed}'])
def test_a_file_that_is_no_json_object_is_refused_by_its_name(text: str, tmp_path: Path) -> None:
    write(tmp_path, turbo__json=text)
    with pytest.raises(UsageError, match=r"turbo\.json"):
        command_of(tmp_path, "turbo")


@pytest.mark.parametrize("tool", ["nx", "turbo", "dte.toml"])
@pytest.mark.parametrize("base", ["", "origin/main"])
def test_the_shell_gives_dte_the_words_of_one_command(tool: str, base: str, tmp_path: Path) -> None:
    write(tmp_path, turbo__json='{"tasks": {"build": {}}}', dte__toml='[tasks.build]\ncommand = "true"\n')
    script = "\n".join([f"base={base}", *command_of(tmp_path, tool), 'printf "%s|" "$@"'])
    words = subprocess.run(["bash", "-e", "-c", script], capture_output=True, text=True, check=True, timeout=60).stdout
    expected = {
        ("nx", ""): "npx|nx|run-many|-t|lint|typecheck|test|build|",
        ("nx", "origin/main"): "npx|nx|affected|-t|lint|typecheck|test|build|--base=origin/main|",
        ("turbo", ""): "npx|turbo|run|build|",
        ("turbo", "origin/main"): "npx|turbo|run|build|--affected|",
        ("dte.toml", ""): "build|",
        ("dte.toml", "origin/main"): "--affected|--base|origin/main|build|",
    }
    assert words == expected[tool, base]


def test_the_branch_is_the_one_that_the_clone_came_from_or_the_usual_one(tmp_path: Path) -> None:
    def git(root: Path, *arguments: str) -> None:
        who = ("-c", "user.name=n", "-c", "user.email=e@localhost")
        subprocess.run(["git", *who, *arguments], cwd=root, check=True, capture_output=True, timeout=60)

    assert branch_of(tmp_path) == "main"
    origin = tmp_path / "origin"
    origin.mkdir()
    git(origin, "init", "-q", "-b", "master")
    git(origin, "commit", "-q", "--allow-empty", "-m", "first")
    assert branch_of(origin) == "master"
    git(origin, "branch", "main")
    assert branch_of(origin) == "main"
    git(origin, "checkout", "-q", "-b", "trunk")
    git(tmp_path, "clone", "-q", str(origin), "clone")
    assert branch_of(tmp_path / "clone") == "trunk"
