"""Collects the pages and the pictures, with an index that links them all."""

import sys
from pathlib import Path

from archive import tar
from common import say, wait, write


def main(target):
    files = {f"site/{path.name}": path.read_bytes() for path in Path("packages").glob("*/dist/*.html")}
    files.update({f"site/{path.name}": path.read_bytes() for path in Path("build").glob("assets-*/*.gz")})
    links = "".join(f'<li><a href="{name[5:]}">{name[5:]}</a></li>' for name in sorted(files))
    files["site/index.html"] = f"<!doctype html>\n<title>calc</title>\n<ul>{links}</ul>\n".encode()
    say(f"{len(files)} files")
    wait(0.6)
    write(target, tar(files))


main(*sys.argv[1:])
