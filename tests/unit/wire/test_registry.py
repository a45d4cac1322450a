"""The registry of error words is closed: the code, the list and the specification name the same ones."""

import ast
import re
from pathlib import Path

from mesh.wire.registry import WORDS

ROOT = Path(__file__).parents[3]


def words_in_the_code():
    """The word of every `RemoteError` that is made, and of the ones made by a name of their own."""
    found = {}
    for path in sorted((ROOT / "mesh").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "RemoteError":
                assert node.args, f"{path}: an error without a word"
                assert isinstance(node.args[0], ast.Constant), f"{path}:{node.lineno}: a word that cannot be read here"
                found[node.args[0].value] = path
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "super().__init__" and path.name == "errors.py":
                if isinstance(node.args[0], ast.Constant):
                    found[node.args[0].value] = path
    return found


def words_in_the_specification():
    page = (ROOT / "docs/spec/registry.md").read_text(encoding="utf-8")
    return re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE)


def test_every_word_that_is_used_is_registered_and_every_registered_word_is_used():
    assert sorted(words_in_the_code()) == sorted(WORDS)


def test_the_specification_explains_every_word_once_and_in_order():
    assert words_in_the_specification() == list(WORDS)


def test_other_chapters_name_only_words_of_the_registry():
    for path in sorted((ROOT / "docs/spec").glob("*.md")):
        for line in path.read_text(encoding="utf-8").splitlines():
            for word in re.findall(r"\(`([a-z-]+)`\)", line):
                assert word in WORDS, f"{path.name}: {line}"
