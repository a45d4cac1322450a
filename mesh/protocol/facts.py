"""What a node says of its checkout and its machine, and what of it must be equal on the main job and an agent."""

from collections.abc import Mapping
from typing import Final

COMPARED_FACTS: Final = ("commit", "lock-file", "os", "arch", "node", "package-manager", "nx", "turbo")
"""What must be equal, so that a result of one is a result of the other."""
FACT_CHARS_MAX: Final = 40
"""Of what an agent says, in what is told to a person; a commit's name is as long."""


def difference(main: Mapping[str, str], agent: Mapping[str, str]) -> str:
    """How `agent` differs from what `main` asks for, in words; "" where it does not."""
    found = [
        f"its {name.replace('-', ' ')} is {_said(agent.get(name))}, the main job's is {_said(main[name])}"
        for name in COMPARED_FACTS
        if name in main and agent.get(name, "") != main[name]
    ]
    return "; ".join(found)


def whole(text: str) -> int:
    """A number that a node tells of itself; 0 for what is none."""
    return int(text) if text.isdecimal() and len(text) < 20 else 0


def _said(value: str | None) -> str:
    return value[:FACT_CHARS_MAX] if value else "unknown"
