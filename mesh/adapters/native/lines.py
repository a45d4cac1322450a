"""Where in a TOML file a value stands: `tomllib` says what a file means but not on which line, and a mistake without its line is half found.

The scan is made for text that `tomllib` has already accepted, so it need not be strict; what it does not find falls back to the table around it.
"""

import re
import tomllib
from typing import Final

Path = tuple[str | int, ...]
"""Keys and list indexes from the top of the file: `("tasks", "build", "deps", 0)`."""

_WORD: Final = re.compile(
    r"""
    (?P<skip>[ \t\r]+|\#[^\n]*)
    | (?P<newline>\n)
    | (?P<string>\"{3}(?:\\[\s\S]|[^\\])*?\"{3,5} | '{3}[\s\S]*?'{3,5} | "(?:\\.|[^"\\\n])*" | '[^'\n]*')
    | (?P<mark>[\[\]{},=.])
    | (?P<bare>[^\s\[\]{},=.\#"']+)
    """,
    re.VERBOSE,
)


class Lines:
    """The line of every key and list item of one TOML text."""

    def __init__(self, text: str) -> None:
        self._known: dict[Path, int] = {(): 1}
        self._words: list[tuple[str, str, int]] = []
        line = 1
        for match in _WORD.finditer(text):
            kind, word = match.lastgroup or "", match.group()
            if kind != "skip":
                self._words.append((kind, word, line))
            line += word.count("\n")
        self._words.append(("newline", "\n", line))
        self._at = 0
        self._document()

    def __contains__(self, path: Path) -> bool:
        return path in self._known

    def of(self, path: Path) -> int:
        """The line of `path`, or of the nearest thing around it that was found."""
        while path not in self._known:
            path = path[:-1]
        return self._known[path]

    def _document(self) -> None:
        table: Path = ()
        while self._at < len(self._words):
            kind, word, line = self._words[self._at]
            if kind == "newline":
                self._at += 1
            elif word == "[":
                self._skip("[")
                table = self._key()
                self._note(table, line)
                self._skip("]")
            else:
                self._assignment(table)

    def _assignment(self, table: Path) -> None:
        line = self._words[self._at][2]
        path = table + self._key()
        self._note(path, line)
        self._skip("=")
        self._value(path)

    def _value(self, path: Path) -> None:
        match self._words[self._at][1]:
            case "[":
                self._skip("[", once=True)
                index = 0
                while not self._ends("]"):
                    self._note((*path, index), self._words[self._at][2])
                    self._value((*path, index))
                    index += 1
            case "{":
                self._skip("{", once=True)
                while not self._ends("}"):
                    self._assignment(path)
            case _:
                while self._words[self._at][0] in ("string", "bare") or self._words[self._at][1] == ".":
                    self._at += 1

    def _ends(self, mark: str) -> bool:
        """Pass what may stand between two items, and the closing `mark` if it is next."""
        while self._words[self._at][0] == "newline" or self._words[self._at][1] == ",":
            self._at += 1
        if self._words[self._at][1] == mark:
            self._at += 1
            return True
        return False

    def _key(self) -> Path:
        parts: list[str | int] = []
        while self._words[self._at][0] in ("string", "bare") or self._words[self._at][1] == ".":
            kind, word, _ = self._words[self._at]
            if kind == "string":
                parts.append(tomllib.loads(f"key = {word}")["key"])
            elif kind == "bare":
                parts.append(word)
            self._at += 1
        return tuple(parts)

    def _skip(self, mark: str, *, once: bool = False) -> None:
        while self._words[self._at][1] == mark:
            self._at += 1
            if once:
                return

    def _note(self, path: Path, line: int) -> None:
        """A key is where it is written first; so are the tables that a dotted key makes on its way."""
        for end in range(1, len(path) + 1):
            self._known.setdefault(path[:end], line)
