"""Checks the sources of one package: they parse, their public names say what they are for, no import is unused, no line is long."""

import ast
import sys
from pathlib import Path

from common import say, wait

LINE_CHARS_MAX = 110


def problems(path):
    text = path.read_text()
    tree = ast.parse(text, str(path))
    for number, line in enumerate(text.splitlines(), start=1):
        if len(line) > LINE_CHARS_MAX:
            yield number, f"line has {len(line)} characters, the limit is {LINE_CHARS_MAX}"
    if ast.get_docstring(tree) is None:
        yield 1, "module has no docstring"
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for name in node.names:
                if (name.asname or name.name).split(".")[0] not in used:
                    yield node.lineno, f"{name.name} is imported and never used"
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)) and "tests" not in path.parts:
            if not node.name.startswith("_") and ast.get_docstring(node) is None:
                yield node.lineno, f"{node.name} has no docstring"


def main(folders):
    files = sorted(path for folder in folders for path in Path(folder).rglob("*.py"))
    bad = 0
    for path in files:
        found = list(problems(path))
        bad += len(found)
        for line, text in found:
            say(f"{path.as_posix()}:{line}: {text}")
        wait(0.25)
    say(f"{len(files)} files, {bad} problems")
    return 1 if bad else 0


sys.exit(main(sys.argv[1:]))
