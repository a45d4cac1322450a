"""What every tool of this workspace needs: to say what it does, to write a file whole, and to wait."""

import os
import re
import sys
import time
from pathlib import Path

DATE = (2020, 1, 1, 0, 0, 0)  # in archives, so that equal contents are equal bytes


def say(text):
    """One line for the log, at once."""
    print(text, flush=True)


def write(path, data):
    """Write `data` (bytes or text) to `path`, with its directory."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    say(f"wrote {path.as_posix()}, {path.stat().st_size:,} bytes")


def wait(seconds):
    """Stands for what a real task waits for: a registry, a disk, a test database. DTE_DEMO_WAIT=0 leaves it out."""
    time.sleep(seconds * float(os.environ.get("DTE_DEMO_WAIT", "1")))


def package():
    """The fields of ./package.toml, which are all of the form name = "value"."""
    return dict(re.findall(r'^(\w+) = "(.*)"$', Path("package.toml").read_text(), re.MULTILINE))


def fail(text):
    """End the task with what is wrong."""
    say(f"error: {text}")
    sys.exit(1)
