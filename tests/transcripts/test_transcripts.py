"""Every command that README.md and the guide show is one that has been typed, with this answer."""

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import nx_workspace, turbo_workspace
from tests.endtoend.mesh_under_test import Machine, Site, dte, make_repository
from tests.transcripts.transcript import commands_of, matches, play, read_transcript

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs/guide").glob("*.md"))]
TRANSCRIPTS = sorted(path.stem for path in HERE.glob("*.txt"))

TOOLS = ("nx", "turbo")

IN_CI = re.compile(r"python3 -m venv .*(dte demo|just test)$")
"""These make an environment from nothing; .ci/run takes them out of README.md and runs them."""

MAKEFILE = """
.PHONY: dist test
dist:
	mkdir -p dist && cat src/input > dist/result
test:
	test -s dist/result && echo tested
"""


def readme_tasks() -> str:
    """The dte.toml that README.md shows."""
    found = re.search(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def sample_graph() -> str:
    """The graph file that docs/guide/schedules.md shows."""
    found = re.search(r"```json\n(.*?)```", (ROOT / "docs/guide/schedules.md").read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def workspace() -> dict[str, str]:
    files = {
        "dte.toml": readme_tasks(),
        "graph.json": sample_graph(),
        ".gitignore": "dist/\nDIR\nFILE\nEVENTS\ntimings.json\nschedule.json\n",
    }
    for name in ("a", "b"):
        files |= {f"packages/{name}/{path}": text for path, text in (("package.toml", ""), ("Makefile", MAKEFILE))}
        files[f"packages/{name}/src/input"] = f"{name}\n"
    return files


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """The workspace that README.md speaks of, on as many machines as a transcript names."""
    made = Site(tmp_path / "site", workspace())
    try:
        yield made
    finally:
        made.close()


class ToolSite(Site):
    """The same with a workspace of a task runner from npm."""

    def __init__(self, root: Path, name: str) -> None:
        super().__init__(root, {})
        place = root / name
        self.tool = (
            nx_workspace.make_workspace(place, projects=3) if name == "nx" else turbo_workspace.make_workspace(place)
        )

    def machine(self, name: str) -> Machine:
        place = self.root / name
        machine = Machine(name, place / "workspace", place / "home", place / "data")
        self.tool.clone(machine.workspace)
        machine.home.mkdir(parents=True)
        return machine

    def environ(self, machine: Machine, **more: str) -> dict[str, str]:
        """With what keeps the tool from looking for its own cloud."""
        own = {name: value for name, value in self.tool.environment().items() if name not in os.environ}
        return {**own, **super().environ(machine, **more)}


def replacements(site: Site) -> dict[str, str]:
    """What stands in the documents for what the reader has."""
    return {
        "0.0.0.0:7946": site.address,
        "MAIN:7946": site.address,
        "main.internal:7946": site.address,
        "/mnt/shared/dte": str(site.root / "shared"),
        "...": site.secret,
    }


@pytest.mark.parametrize("name", [name for name in TRANSCRIPTS if name not in TOOLS])
def test_the_transcript_is_what_happens(site: Site, name: str) -> None:
    play(read_transcript(HERE / f"{name}.txt"), site, replacements(site))
    site.is_quiet()


@pytest.mark.slow
@pytest.mark.nx  # node and npm is what it needs, whichever the tool
@pytest.mark.parametrize("name", TOOLS)
def test_the_transcript_of_a_tool_from_npm_is_what_happens(tmp_path: Path, name: str) -> None:
    site = ToolSite(tmp_path / "site", name)
    try:
        play(read_transcript(HERE / f"{name}.txt"), site, replacements(site))
        site.is_quiet()
    finally:
        site.close()


def test_no_command_is_shown_that_is_in_no_transcript() -> None:
    typed = {step.command for name in TRANSCRIPTS for step in read_transcript(HERE / f"{name}.txt")}
    for document in DOCUMENTS:
        shown = [re.sub(r"^(main job|agent jobs)\s+", "", line) for line in commands_of(document.read_text())]
        missing = [line for line in shown if line.replace(":PORT", ":7946") not in typed and not IN_CI.match(line)]
        assert missing == [], f"{document.name} shows commands that no transcript runs"


def test_ci_runs_the_two_commands_that_begin_from_nothing() -> None:
    script = (ROOT / ".ci/run").read_text()
    found = [line for line in commands_of((ROOT / "README.md").read_text()) if IN_CI.match(line)]
    assert [line.rpartition("/")[2] for line in found] == ["dte demo", "just test"]
    for pattern in re.findall(r"s/\^    \\\((.*?)\\\)\$/", script):
        assert [line for line in found if re.fullmatch(pattern, line)] != []
    assert script.count("sed -n 's/^    ") == 2


def test_the_sample_files_of_the_guide_can_be_planned(tmp_path: Path) -> None:
    text = re.search(r"```toml\n(.*?)```", (ROOT / "docs/guide/tasks.md").read_text(), re.DOTALL)
    assert text is not None
    files = {"dte.toml": text[1], "packages/a/pyproject.toml": "", "services/api/tests/test_a.py": ""}
    make_repository(tmp_path / "workspace", files)
    listed = dte("run", cwd=tmp_path / "workspace", env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)})
    assert listed.returncode == 2
    names = [line.split()[0] for line in listed.stderr.splitlines()[1:]]
    assert names == list(tomllib.loads(text[1])["tasks"])


@pytest.mark.parametrize(
    ("expected", "lines", "same"),
    [
        (["a", "...", "c"], ["a", "b", "b", "c"], True),
        (["a", "...", "c"], ["a", "c"], True),
        (["a", "c"], ["a", "b", "c"], False),
        (["a [..] c"], ["a b c"], True),
        (["a.c"], ["abc"], False),
        (["..."], [], True),
    ],
)
def test_a_transcript_asks_for_what_it_says(expected: list[str], lines: list[str], same: bool) -> None:
    assert matches(expected, lines) is same
