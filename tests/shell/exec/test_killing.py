"""SIGKILL to all that carries a cookie, where nothing may be loaded any more."""

import os
import subprocess
import sys

from mesh.exec.cookie import COOKIE_VARIABLE, new_cookie
from mesh.exec.killing import kill_everything


def test_all_that_carries_the_cookie_is_gone_what_left_its_session_too_and_nobody_else():
    cookie = new_cookie({})
    marked = {**os.environ, COOKIE_VARIABLE: cookie}
    inner = {**os.environ, COOKIE_VARIABLE: new_cookie({COOKIE_VARIABLE: cookie})}
    other = {**os.environ, COOKIE_VARIABLE: f"{cookie}0"}
    mine = [
        subprocess.Popen(["sleep", "60"], env=marked),
        subprocess.Popen(["setsid", "sleep", "60"], env=inner),
    ]
    spared = subprocess.Popen(["sleep", "60"], env=other)
    try:
        kill_everything(cookie)
        assert [process.wait(10) for process in mine] == [-9, -9]
        assert spared.poll() is None
    finally:
        spared.kill()
        spared.wait()


def test_it_needs_nothing_that_is_not_pythons_own():
    program = "import sys, mesh.exec.killing; print([name for name in ('psutil', 'trio') if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    assert said.stdout.strip() == "[]"
