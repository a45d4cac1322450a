"""Commands that name a tool and do nothing but run it: `npx nx build`, `pnpm exec turbo build`, `CI=1 ./node_modules/.bin/nx affected -t test`."""

import re
from pathlib import Path
from typing import Final

_LAUNCHERS: Final = ("npx", "pnpx", "bunx", "npm", "pnpm", "yarn", "bun", "exec", "x", "dlx", "env", "--")
_VARIABLE: Final = re.compile(r"[A-Za-z_]\w*=")


def named(tool: str, argv: tuple[str, ...]) -> int | None:
    """Where `argv` names `tool`, with a version or without; None where something else stands before it that could do more."""
    name = re.compile(rf"{tool}(@[\w.^~-]+)?")
    at = next((at for at, word in enumerate(argv) if name.fullmatch(Path(word).name)), None)
    return at if at is not None and _only_launches(argv[:at]) else None


def _only_launches(words: tuple[str, ...]) -> bool:
    """Whether `words` do no more than start what follows them."""
    if words[:2] == ("yarn", "run"):
        words = words[2:]
    return all(Path(word).name in _LAUNCHERS or word.startswith("-") or _VARIABLE.match(word) for word in words)
