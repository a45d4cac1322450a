"""Documents speak of what is there: their links lead somewhere, and the commands, options, variables, files and words they name exist."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from mesh.cli.app import app_for

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("conformance/*.md")])

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^ {4}.*\n)+", re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")
COMMAND = re.compile(r"(?:^|(?<=[\s/]))dte ([a-z]+)(?=\s|$)([^#|]*)")
SOURCE = re.compile(r"(?:mesh|tests|docs|conformance|\.ci)/[\w./-]+\.\w+")
VARIABLE = re.compile(r"\bDTE_[A-Z_]+[A-Z]\b")
RECIPE = re.compile(r"(?:^|(?<=[\s/]))just ([a-z][a-z-]*)")
ROOM = re.compile(r"^ {4}([a-z]+(?: \| [a-z]+)*) {2,}", re.MULTILINE)


MANUALS = [path for path in DOCUMENTS if "spec" not in path.parts]
"""What speaks of dte as a program; the specification speaks of bytes, and names certificates and other programs."""


def each(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("document", paths, ids=lambda path: str(path.relative_to(ROOT)))


def code(text: str) -> Iterator[str]:
    """Every line of `text` that is code."""
    for _, block in FENCED.findall(text):
        yield from block.splitlines()
    prose = FENCED.sub("", text)
    for block in INDENTED.findall(prose):
        yield from (line.strip() for line in block.splitlines())
    yield from INLINE.findall(INDENTED.sub("", prose))


def headings(text: str) -> list[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", FENCED.sub("", text), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


@cache
def source() -> str:
    ours = [path for path in ROOT.glob("mesh/**/*") if path.suffix in (".py", ".cjs")]
    return "\n".join(path.read_text(encoding="utf-8") for path in ours)


@cache
def verbs() -> Mapping[str, Any]:
    return get_command(app_for()).commands


def options(verb: str) -> list[str]:
    """All options of a verb, and of the verbs below it."""
    below = getattr(verbs()[verb], "commands", {}).values()
    return [name for one in (verbs()[verb], *below) for option in one.params for name in option.opts] + ["--help"]


@each(DOCUMENTS)
def test_every_link_leads_somewhere(document: Path) -> None:
    for target in LINK.findall(document.read_text(encoding="utf-8")):
        if target.startswith(("https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        path = document.parent / name if name else document
        assert path.exists(), f"{target} is not there"
        assert not anchor or anchor in headings(path.read_text(encoding="utf-8")), f"{target}: there is no such heading"


def test_every_document_can_be_reached_from_the_map() -> None:
    seen: dict[Path, None] = {}
    waiting = [ROOT / "docs/index.md", ROOT / "README.md"]
    while waiting:
        path = waiting.pop().resolve()
        if path not in seen and path.suffix == ".md":
            seen[path] = None
            links = LINK.findall(path.read_text(encoding="utf-8"))
            waiting += [path.parent / link.partition("#")[0] for link in links if not link.startswith(("http", "#"))]
    assert not [str(path.relative_to(ROOT)) for path in DOCUMENTS if path.resolve() not in seen]


@each(MANUALS)
def test_every_command_and_option_exists(document: Path) -> None:
    for line in code(document.read_text(encoding="utf-8")):
        for verb, rest in COMMAND.findall(line.partition(" #")[0]):
            assert verb in verbs(), f"{line!r}: there is no `dte {verb}`"
            ours = rest.partition(" -- ")[0].partition("`")[0]
            for option in re.findall(r"(?<=\s)--[a-z-]+", ours):
                assert option in options(verb), f"{line!r}: `dte {verb}` has no {option}"


@each(MANUALS)
def test_every_option_that_is_named_alone_is_one_of_some_command(document: Path) -> None:
    known = {option for verb in verbs() for option in options(verb)} | {"--version"}
    for text in INLINE.findall(document.read_text(encoding="utf-8")):
        name = re.match(r"--[a-z-]+", text)
        assert name is None or name[0] in known, f"`{text}`: no command of dte has it"


@each(DOCUMENTS)
def test_every_file_and_recipe_that_is_named_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for name in SOURCE.findall(text):
        places = (ROOT / name, document.parent / name)
        assert any(place.exists() for place in places), f"{name} is not there"
    recipes = re.findall(r"^([a-z][a-z-]*)\b.*:(?!=)", (ROOT / "justfile").read_text(encoding="utf-8"), re.MULTILINE)
    for line in code(text):
        for name in RECIPE.findall(line.partition(" #")[0]):
            assert name in recipes, f"{line!r}: the justfile has no {name}"


@each(DOCUMENTS)
def test_every_variable_that_is_named_is_read_somewhere(document: Path) -> None:
    for name in VARIABLE.findall(document.read_text(encoding="utf-8")):
        assert name in source(), f"nobody reads {name}"


@each(DOCUMENTS)
def test_every_toml_example_is_toml(document: Path) -> None:
    for language, block in FENCED.findall(document.read_text(encoding="utf-8")):
        if language == "toml":
            tomllib.loads(block)


def test_the_task_file_of_the_readme_runs(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (example,) = [block for language, block in FENCED.findall(text) if language == "toml"]
    home = tmp_path / "packages/a"
    (home / "src").mkdir(parents=True)
    (home / "package.toml").write_text("")
    (home / "Makefile").write_text("dist:\n\tmkdir dist && echo made > dist/it\ntest:\n\tcat dist/it\n.PHONY: test\n")
    (tmp_path / "dte.toml").write_text(example)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    environ = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path), "DTE_DATA_DIR": str(tmp_path / "data")}
    done = subprocess.run(
        [sys.executable, "-m", "mesh", "run", "build", "test"],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (home / "dist/it").read_text() == "made\n"


def test_the_readme_has_its_two_commands_where_ci_looks_for_them() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if re.fullmatch(r"    python3 .*just test", line)]) == 1
    assert len([line for line in lines if re.fullmatch(r"    python3 .*dte demo", line)]) == 1


def test_the_design_names_every_room() -> None:
    named = {
        room
        for line in ROOM.findall((ROOT / "docs/design.md").read_text(encoding="utf-8"))
        for room in line.split(" | ")
    }
    rooms = {path.parent.name for path in ROOT.glob("mesh/*/__init__.py")} | {"types", "errors"}
    assert named == rooms


def test_every_word_of_the_glossary_is_used_and_in_its_place() -> None:
    rows = re.findall(r"^\| ([a-z][a-z -]*) \|", (ROOT / "docs/glossary.md").read_text(encoding="utf-8"), re.MULTILINE)
    words = [row for row in rows if row != "word"]
    assert words == sorted(dict.fromkeys(words))
    assert not [word for word in words if word not in source().lower()]


def test_every_decision_is_listed_under_its_own_title() -> None:
    listed = dict(
        re.findall(r"\((\d{4}-[\w-]+\.md)\) \| (.*) \|", (ROOT / "docs/adr/README.md").read_text(encoding="utf-8"))
    )
    titles = {
        path.name: path.read_text(encoding="utf-8").splitlines()[0].partition(". ")[2]
        for path in ROOT.glob("docs/adr/0*.md")
    }
    assert listed == titles
