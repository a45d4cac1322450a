"""Packages that a benchmark runs beside dte, each in an environment of its own: what they need is no business of this project's."""

import fcntl
import subprocess
import sys
from pathlib import Path

CACHE = Path(__file__).parents[2] / ".cache"


def home_of(requirement: str) -> Path:
    """Where `requirement` ("name==version") is installed; made once."""
    home = CACHE / f"bench-{requirement.replace('==', '-')}"
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "bench.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "complete").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
            subprocess.run([python_in(home), "-m", "pip", "install", "--quiet", requirement], check=True)
            (home / "complete").touch()
    return home


def python_in(home: Path) -> Path:
    """The interpreter of such an environment."""
    return home / "bin" / "python"
