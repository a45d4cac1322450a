"""Writes SHA-256 sums in the form that `sha256sum --check` reads."""

import hashlib
import sys
from pathlib import Path

from common import wait, write


def main(target, *files):
    lines = [f"{hashlib.sha256(Path(name).read_bytes()).hexdigest()}  {Path(name).name}\n" for name in files]
    wait(0.4)
    write(target, "".join(lines))


main(*sys.argv[1:])
