"""Which commands are turbo's, and what they say to it."""

import os
import platform
from pathlib import Path

import pytest

from mesh.adapters.turbo.command import TurboCommand, find, program

RUN = ("run", "build", "test")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "turbo.json").touch()
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        "turbo run build test",
        "npx turbo run build test",
        "npx --yes turbo@2.11.11 run build test",
        "npm exec turbo run build test",
        "npm exec turbo -- run build test",
        "npm exec -- turbo run build test",
        "npm x turbo run build test",
        "pnpm turbo run build test",
        "pnpm exec turbo run build test",
        "pnpm dlx turbo run build test",
        "yarn turbo run build test",
        "yarn run turbo run build test",
        "bunx turbo run build test",
        "./node_modules/.bin/turbo run build test",
        "env TURBO_SCM_BASE=HEAD~1 npx turbo run build test",
    ],
)
def test_every_way_to_start_turbo_is_seen_through(workspace: Path, command: str):
    assert find(tuple(command.split()), workspace) == TurboCommand(RUN)


@pytest.mark.parametrize(
    "command",
    [
        "npm run turbo build",
        "npm run build",
        "pnpm run turbo build",
        "pnpm -C packages/a turbo build",
        "make turbo",
        "echo turbo run build",
        "sh -c turbo",
        "turbo",
        "turbo --version",
        "turbo prune a",
        "turbo --no-color watch build",
        "npx turborepo run build",
        "timeout 5 turbo run build",
    ],
)
def test_what_is_not_surely_a_run_of_turbos_is_left_alone(workspace: Path, command: str):
    assert find(tuple(command.split()), workspace) is None


def test_without_a_turbo_json_it_is_not_a_workspace_of_turbos(tmp_path: Path):
    assert find(("turbo", "build"), tmp_path) is None
    (tmp_path / "turbo.jsonc").touch()
    assert find(("turbo", "build"), tmp_path) == TurboCommand(("build",))


def test_what_stands_behind_the_dashes_is_the_tasks_own(workspace: Path):
    said = find(("npx", "turbo", "test", "--filter=a", "--", "--ci", "--", "x"), workspace)
    assert said == TurboCommand(("test", "--filter=a"), ("--ci", "--", "x"))


def test_flags_are_read_in_both_forms():
    command = TurboCommand(
        ("run", "--force", "--no-cache=false", "--env-mode=loose", "--global-deps", "a", "--global-deps=b")
    )
    assert command.says("--force") == ""
    assert command.says("--no-cache") is None
    assert command.says("--env-mode") == "loose"
    assert command.says("--only") is None
    assert command.with_value("--global-deps") == ("--global-deps", "a", "--global-deps=b")


def installed(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    path.touch(mode=0o755)
    return path


NATIVE = f"{platform.system().lower()}-{'arm64' if platform.machine() in ('aarch64', 'arm64') else '64'}"


@pytest.mark.parametrize(
    "place",
    [
        f"node_modules/@turbo/{NATIVE}/bin/turbo",
        f"node_modules/turbo-{NATIVE}/bin/turbo",
        f"node_modules/turbo/node_modules/@turbo/{NATIVE}/bin/turbo",
    ],
)
def test_the_native_program_is_found_where_npm_puts_it(tmp_path: Path, place: str):
    (tmp_path / "node_modules/turbo").mkdir(parents=True)
    assert program(tmp_path, {}) is None
    native = installed(tmp_path / place)
    assert program(tmp_path, {}) == native


@pytest.mark.parametrize("name", [f"@turbo/{NATIVE}", f"turbo-{NATIVE}"])
def test_the_native_program_is_found_in_the_store_of_pnpm(tmp_path: Path, name: str):
    store = tmp_path / "node_modules/.pnpm/turbo@2.0.0/node_modules"
    native = installed(store / name / "bin/turbo")
    (store / "turbo").mkdir()
    os.symlink(".pnpm/turbo@2.0.0/node_modules/turbo", tmp_path / "node_modules/turbo")  # noqa: PTH211 - as pnpm does
    assert program(tmp_path, {}) == native


def test_where_there_is_none_the_script_does_and_a_chosen_one_comes_first(tmp_path: Path):
    script = installed(tmp_path / "node_modules/.bin/turbo")
    assert program(tmp_path, {}) == script
    assert program(tmp_path, {"TURBO_BINARY_PATH": "/own/turbo"}) == Path("/own/turbo")


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("run build p1#test --filter web", {"build", "test"}),
        ("lint -F docs --concurrency 4 --continue", {"lint"}),
        ("--cwd=x run run", {"run"}),
    ],
)
def test_what_follows_is_passed_to_the_tasks_that_are_named_and_a_value_of_an_option_is_no_task(
    words: str, names: set[str]
):
    assert TurboCommand(tuple(words.split()), ("--x",)).names() == names


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("run build --profile a.trace test", "run build test"),
        ("run build --profile=a.trace test", "run build test"),
        ("run build --profile --continue test", "run build --continue test"),
        ("run build --json test", "run build test"),
        ("run build --summarize true", "run build"),
        ("run build --filter web", "run build --filter web"),
    ],
)
def test_an_option_goes_with_its_value(said: str, left: str):
    command = TurboCommand(tuple(said.split()))
    assert command.without("--profile", "--json", "--summarize") == left.split()
    assert command.names() == {word for word in ("build", "test") if word in left}


@pytest.mark.parametrize(
    ("said", "printing_all"),
    [
        ("run build", "run build --output-logs=full"),
        ("run build --output-logs=new-only -- --loudly", "run build --output-logs=full -- --loudly"),
        ("run --output-logs new-only build", "run build --output-logs=full"),
    ],
)
def test_turbo_can_be_told_to_print_all_whatever_it_was_told(workspace: Path, said: str, printing_all: str):
    command = find(("turbo", *said.split()), workspace)
    assert command is not None
    assert command.arguments() == tuple(said.split())
    assert command.printing_all().arguments() == tuple(printing_all.split())
