"""Packs the release: program, site, sums, and what the examples gave."""

import gzip
import sys
from pathlib import Path

from archive import tar
from common import say, wait, write


def main(target):
    paths = [Path("build/calc.pyz"), Path("build/site.tar"), Path("build/SHA256SUMS")]
    paths += sorted(Path("build").glob("examples-*.json"))
    for path in paths:
        say(f"{path.name}: {path.stat().st_size:,} bytes")
    wait(0.6)
    write(target, gzip.compress(tar({f"calc/{path.name}": path.read_bytes() for path in paths}), 9, mtime=0))


main(*sys.argv[1:])
