"""Puts all packages and both tables into one file that Python can run."""

import io
import sys
import zipfile
from pathlib import Path

from common import DATE, say, wait, write

MAIN = """\
import json
import sys
from pathlib import PurePath
from pkgutil import get_data

from evaluator.evaluator import evaluate
from lexer.lexer import tokens
from printer.printer import show
from syntax.syntax import Parser

parser = Parser(json.loads(get_data("tables", "table.json")))
names = {name: float(value[:20]) for name, value in json.loads(get_data("tables", "constants.json")).items()}
for line in sys.stdin:
    tree = parser.parse(tokens(line))
    print(f"{show(tree)} = {evaluate(tree, names):.10g}")
"""


def main(target):
    archive = io.BytesIO()
    archive.write(b"#!/usr/bin/env python3\n")
    with zipfile.ZipFile(archive, "a") as bundle:
        add = lambda name, data: bundle.writestr(zipfile.ZipInfo(name, DATE), data)
        add("__main__.py", MAIN)
        add("tables/__init__.py", "")
        for table in ("table", "constants"):
            add(f"tables/{table}.json", Path(f"gen/{table}.json").read_bytes())
        for built in sorted(Path("packages").glob("*/dist/*.zip")):
            with zipfile.ZipFile(built) as source:
                for name in source.namelist():
                    add(name, source.read(name))
            say(f"added {built.as_posix()}")
            wait(0.15)
    write(target, archive.getvalue())


main(*sys.argv[1:])
