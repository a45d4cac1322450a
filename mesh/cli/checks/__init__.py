"""What `dte doctor` looks at: each module answers one question of a person with `Check`s."""

from typing import Literal

from msgspec import Struct

Level = Literal["ok", "warn", "bad"]


class Check(Struct, frozen=True):
    """One thing that was looked at: how it is, and what to do about it where something is to be done."""

    level: Level
    what: str
    advice: str = ""

    @property
    def line(self) -> str:
        """It, for a person."""
        return f"{self.level}: {self.what}" + (f" — {self.advice}" if self.advice else "")


def some(names: list[str]) -> str:
    """The first of `names`, and how many there are beside it."""
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
