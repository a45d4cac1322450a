"""What marks every process of a task, and all that these start.

A cookie is inherited by a process's children. It extends that of whoever made it (`/outer/inner`), so that ending a task ends the tasks of a node
that ran inside it.
"""

import os
import secrets
from collections.abc import Mapping
from typing import Final

COOKIE_VARIABLE: Final = "DTE_TASK_COOKIE"


def new_cookie(environ: Mapping[str, str] = os.environ) -> str:
    """A cookie for what is started from a process with this environment."""
    return f"{environ.get(COOKIE_VARIABLE, '')}/{secrets.token_hex(8)}"
