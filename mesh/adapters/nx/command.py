"""What the user's command says to nx, where it names nx itself."""

from typing import Final

from mesh.adapters.launchers import named

_SEVERAL_RUNS: Final = frozenset(("release", "watch"))
"""Verbs of nx under which it may run tasks more than once."""


def runs_once(argv: tuple[str, ...]) -> bool:
    """Whether `argv` is one nx command, with one graph of tasks: a script may run nx several times."""
    at = named("nx", argv)
    if at is None:
        return False
    verb = next((word for word in argv[at + 1 :] if not word.startswith("-")), "")
    return verb not in _SEVERAL_RUNS
