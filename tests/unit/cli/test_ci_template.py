"""Filling in a template."""

from pathlib import Path

import pytest

from mesh.cli.ci.template import PROVIDERS, render, write_ci
from mesh.errors import UsageError


def written(root: Path, ci: str = "github", *, runner: str = "self-hosted", package: str = "dte-mesh") -> str:
    return write_ci(root, ci, "nx", agents=2, runner=runner, package=package)


def test_a_block_takes_the_place_and_the_indentation_of_its_line() -> None:
    assert render("a:\n  @@ more\n  b: @b@\n", {"b": "1"}, {"more": ("x:", "  y: 2")}) == "a:\n  x:\n    y: 2\n  b: 1\n"


def test_what_is_around_an_empty_block_is_left_out() -> None:
    template = "@@ if more\na\n@@ more\n@@ end\nb\n"
    assert render(template, {}, {"more": ()}) == "b\n"
    assert render(template, {}, {"more": ("x",)}) == "a\nx\nb\n"


def test_a_word_that_nobody_fills_in_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError):
        render("a: @b@\n", {}, {})


@pytest.mark.parametrize("ci", PROVIDERS)
def test_nothing_of_a_template_is_left(ci: str, tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text("{}")
    assert "@@" not in written(tmp_path, ci)


@pytest.mark.parametrize(
    ("runner", "line"),
    [
        ("self-hosted", "runs-on: self-hosted"),
        ("self-hosted, linux", "runs-on: [self-hosted, linux]"),
        ("8-cores", "runs-on: '8-cores'"),
        ("a: b", "runs-on: 'a: b'"),
        ("it's", "runs-on: 'it''s'"),
    ],
)
def test_a_runner_is_one_name_or_labels_with_commas(runner: str, line: str, tmp_path: Path) -> None:
    assert f"    {line}\n" in written(tmp_path, runner=runner)


@pytest.mark.parametrize("runner", ["", ",", "a\nb"])
def test_a_runner_without_a_name_is_refused(runner: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        written(tmp_path, runner=runner)


def test_what_pip_is_to_install_is_one_word_of_the_shell(tmp_path: Path) -> None:
    assert "install --quiet 'dte-mesh @ git+https://example.org/x'\n" in written(
        tmp_path, package="dte-mesh @ git+https://example.org/x"
    )


def test_only_a_workspace_with_packages_gets_node(tmp_path: Path) -> None:
    assert "setup-node" not in written(tmp_path)
    (tmp_path / "package.json").write_text("{}")
    assert "node-version: lts/*" in written(tmp_path)
    (tmp_path / ".nvmrc").write_text("22")
    assert "node-version-file: .nvmrc" in written(tmp_path)
    assert "versionFilePath: .nvmrc" in written(tmp_path, "azure")


def test_an_agent_gives_up_before_its_job_is_ended() -> None:
    for ci in PROVIDERS:
        text = (Path(__file__).parents[3] / f"mesh/cli/ci/{ci}.yml").read_text()
        assert "join --wait 10m" in text
        assert text.count("60m") + text.count("-minutes: 60") + text.count("InMinutes: '60'") == 2
