"""The executable half of the style guide: what no linter has a rule for. An exception needs its reason beside it."""

import ast
import re
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from mesh.cli.app import app_for

ROOT = Path(__file__).parents[1]
CORE = ("types.py", "errors.py", "wire", "identity", "graph", "ledger", "protocol")
FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 60

FORBIDDEN_CALLS = {
    "set": "iterate a dict: the order of a set depends on the process",
    "frozenset": "iterate a dict: the order of a set depends on the process",
    "hash": "use a digest: hash() differs between processes",
    "id": "name things: id() differs between runs",
    "print": "return an effect: the core says nothing itself",
    "open": "return an effect: the core has no files",
    "input": "take an event: the core asks nobody",
    "float": "use integers with a unit in their name",
}
ALLOWED_IN_CORE = {
    # file, what, and why it does no harm
    ("graph/graph.py", "set"): "asked for membership and for its size, never iterated where the order could be seen",
}
LONG_FUNCTIONS = {
    "cli/run.py:run": "one typer option after the other, each said once: the signature is the manual",
    "cli/join.py:join": "one typer option after the other, each said once: the signature is the manual",
}
"""Functions that are longer than the limit, with the reason."""
UNEXPLAINED = {
    "adapters/native/values.py": "one reader for each kind of value, all of the one shape that the module's docstring describes",
}
"""Files whose public names need no sentence each, with the reason."""
WITHOUT_VARIABLE = {
    "affected": "says what to run, like the names of tasks",
    "base": "says what to run, like the names of tasks",
    "head": "says what to run, like the names of tasks",
    "help": "is no setting",
}
"""Options of `run` and `join` that cannot be set by an environment variable, with the reason."""


@cache
def tracked() -> tuple[Path, ...]:
    """What belongs to the project: committed, or new and not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return tuple(path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file())


def modules(*rooms: str) -> list[Path]:
    """Python files of the package, without the sample workspace, which is data."""
    package = ROOT / "mesh"
    found = [path for path in tracked() if path.suffix == ".py" and package in path.parents]
    ours = [path for path in found if "demo_workspace" not in path.parts]
    return [path for path in ours if not rooms or path.relative_to(package).parts[0] in rooms]


def within(path: Path) -> str:
    return str(path.relative_to(ROOT / "mesh"))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def each(*paths: Path) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=lambda path: str(path.relative_to(ROOT)))


def oddities(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line, what, and what to do instead, for all that the core must not have."""
    for node in ast.walk(tree(path)):
        match node:
            case ast.AsyncFunctionDef() | ast.Await() | ast.AsyncFor() | ast.AsyncWith():
                yield node.lineno, "async", "return an effect: the core waits for nothing"
            case ast.Set() | ast.SetComp():
                yield node.lineno, "set", FORBIDDEN_CALLS["set"]
            case ast.Call(func=ast.Name(id=name)) if name in FORBIDDEN_CALLS:
                yield node.lineno, name, FORBIDDEN_CALLS[name]
            case ast.Constant(value=float()):
                yield node.lineno, "float constant", FORBIDDEN_CALLS["float"]
            case _:
                pass


@each(*modules(*CORE))
def test_the_core_is_pure(path: Path) -> None:
    found = [
        f"{within(path)}:{line}: {what}: {instead}"
        for line, what, instead in oddities(path)
        if (within(path), what) not in ALLOWED_IN_CORE
    ]
    assert not found, "\n".join(found)


def test_every_exception_is_still_needed() -> None:
    used = {(within(path), what) for path in modules(*CORE) for _, what, _ in oddities(path)}
    assert not set(ALLOWED_IN_CORE) - used
    long = {name for path in modules() for name, lines in functions(path) if lines > FUNCTION_LINES_MAX}
    assert not set(LONG_FUNCTIONS) - long
    assert not set(UNEXPLAINED) - {within(path) for path in modules()}
    exceptions = (ALLOWED_IN_CORE, LONG_FUNCTIONS, UNEXPLAINED, WITHOUT_VARIABLE)
    assert all(reason for table in exceptions for reason in table.values()), "an exception needs its reason"


@each(*modules())
def test_every_module_says_why_it_exists(path: Path) -> None:
    assert not path.read_text(encoding="utf-8").strip() or ast.get_docstring(tree(path))


@each(*modules())
def test_every_public_name_is_explained(path: Path) -> None:
    bare: list[str] = []
    for node in tree(path).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            bare += [node.name] if ast.get_docstring(node) is None else []
    assert bool(bare) == (within(path) in UNEXPLAINED), f"{within(path)}: {', '.join(bare)}"


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield f"{within(path)}:{node.name}", node.end_lineno - node.lineno + 1


@each(*modules())
def test_files_and_functions_can_be_read_in_one_go(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= FILE_LINES_MAX
    long = [f"{name} has {lines} lines" for name, lines in functions(path) if lines > FUNCTION_LINES_MAX]
    assert not [text for text in long if text.split(" ", 1)[0] not in LONG_FUNCTIONS], "\n".join(long)


LEFTOVER = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
OF_ONE_MACHINE = re.compile(r"(?<![\w./])/(?:work|root|home|Users)/\w")


@each(*[path for path in tracked() if path.suffix not in (".png", ".gif") and path.name != "LICENSE"])
def test_no_file_has_leftovers_or_knows_one_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not [line for line in text.splitlines() if LEFTOVER.search(line)]
    assert not [line for line in text.splitlines() if OF_ONE_MACHINE.search(line)]


@each(*[path for path in tracked() if path.name.startswith("test_") and path.suffix == ".py"])
def test_every_test_file_has_tests_and_their_names_are_sentences(path: Path) -> None:
    names = [node.name for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    tests = [name for name in names if name.startswith("test_")]
    assert tests or any(isinstance(node, ast.ClassDef) for node in tree(path).body), "no test in it"
    assert not [name for name in tests if name.count("_") < 2], "a name that is no sentence"


@pytest.mark.parametrize("verb", ["run", "join"])
def test_what_a_ci_file_may_want_to_set_has_a_variable(verb: str) -> None:
    options = commands()[verb].params
    bare = {str(option.name) for option in options if option.param_type_name == "option" and not option.envvar}
    assert not bare - set(WITHOUT_VARIABLE)
    assert all(str(option.envvar).startswith("DTE_") for option in options if option.envvar)


def test_no_test_replaces_a_real_part_by_a_mock() -> None:
    for path in tracked():
        if path.suffix == ".py":
            imported = [node for node in ast.walk(tree(path)) if isinstance(node, ast.Import | ast.ImportFrom)]
            names = {alias.name for node in imported for alias in node.names} | {
                node.module for node in imported if isinstance(node, ast.ImportFrom)
            }
            assert not names & {"mock", "unittest.mock", "pytest_mock"}, str(path)


def commands() -> Mapping[str, Any]:
    """The verbs of `dte`, with their options, as the command line itself sees them."""
    return get_command(app_for()).commands
