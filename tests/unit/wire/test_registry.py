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
            match node:
                case ast.Call(func=ast.Name(id="RemoteError"), args=[ast.Constant(value=str(word)), *_]):
                    found[word] = path
                case ast.Call(func=ast.Name(id="RemoteError")):
                    raise AssertionError(f"{path}:{node.lineno}: an error whose word cannot be read here")
                case ast.ClassDef(bases=[ast.Name(id="RemoteError")]):
                    found.update(words_of_a_kind(node, path))
                case _:
                    pass
    return found


def words_of_a_kind(kind, path):
    """A class of errors with a word of its own gives it to its base."""
    calls = [
        node for node in ast.walk(kind) if isinstance(node, ast.Call) and ast.unparse(node.func) == "super().__init__"
    ]
    return {call.args[0].value: path for call in calls if isinstance(call.args[0], ast.Constant)}


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
