"""How each CI's log viewer is told that some lines belong together: marks that fold a task's log under its one line.

Where no viewer is known there are no marks, and a task's log simply follows its line. Marks do not nest in any of these viewers.
"""

import time
from collections.abc import Mapping

from msgspec import Struct


class Groups(Struct, frozen=True):
    """The marks of one viewer; `style` is its name, "" for none."""

    style: str

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Groups":
        """The viewer that will show what we print, judged by the variables it sets."""
        for variable, style in (
            ("GITHUB_ACTIONS", "github"),
            ("GITLAB_CI", "gitlab"),
            ("TF_BUILD", "azure"),
            ("BUILDKITE", "buildkite"),
        ):
            if environ.get(variable, "").lower() not in ("", "false", "0"):
                return cls(style)
        return cls("")

    def begin(self, title: str, number: int, duration_ms: int) -> str:
        """The line `title`, as the head of a group; `number` is unique in this log."""
        match self.style:
            case "github":
                return f"::group::{title}"
            case "azure":
                return f"##[group]{title}"
            case "buildkite":
                return f"--- {title}"
            case "gitlab":
                # GitLab shows how long a section took; it is over already when we print it.
                began = int(time.time()) - duration_ms // 1_000
                return f"\x1b[0Ksection_start:{began}:dte_{number}[collapsed=true]\r\x1b[0K{title}"
            case _:
                return title

    def end(self, number: int) -> str:
        """The line that ends the group, or "" where none is needed."""
        match self.style:
            case "github":
                return "::endgroup::"
            case "azure":
                return "##[endgroup]"
            case "gitlab":
                return f"\x1b[0Ksection_end:{int(time.time())}:dte_{number}\r\x1b[0K"
            case _:
                return ""

    def open(self, title: str) -> str:
        """The line `title`, as the head of lines that must not be folded away."""
        return f"+++ {title}" if self.style == "buildkite" else title
