"""Filling in a template, for the CI providers there are.

In a template `@name@` within a line is a word, `@@ name` on a line of its own is a block that takes the place and the indentation of that line,
and what stands between `@@ if name` and `@@ end` is only there where that block is not empty.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Final

from msgspec import Struct

from mesh.cli.ci.workspace import ToolName, branch_of, command_of, install_of, manager_of, node_file_of
from mesh.errors import UsageError

_WORD: Final = re.compile(r"@([a-z]+)@")
_PLAIN: Final = re.compile(r"[A-Za-z0-9._/-]+")

_MAIN: Final = (
    "# Without a secret, as in a pull request from a fork, the main job does everything itself.",
    'if [ -z "$DTE_SECRET" ]; then',
    "  unset DTE_PEER DTE_RENDEZVOUS DTE_LISTEN",
    'elif [ -n "$DTE_PEER" ]; then',
    '  export DTE_LISTEN="0.0.0.0:${DTE_PEER##*:}"',
    "  unset DTE_PEER",
    "fi",
    "# A pull request runs what it affects, a branch everything.",
)
_AGENT: Final = (
    "# Without a secret, as in a pull request from a fork, the main job does everything itself.",
    'if [ -z "$DTE_SECRET" ]; then',
    '  echo "dte: DTE_SECRET is not set, so there is nothing to join"',
    "  exit 0",
    "fi",
)


class Provider(Struct, frozen=True):
    """A CI system. `secret` and `variable` say where a person sets them, `runner` is what its jobs run on where nobody says."""

    path: str
    runner: str
    secret: str
    variable: str
    runner_is: str


PROVIDERS: Final[Mapping[str, Provider]] = {
    "github": Provider(
        path=".github/workflows/dte.yml",
        runner="self-hosted",
        secret="Settings, Secrets and variables, Actions, New repository secret",  # noqa: S106  where it is, not what
        variable="Settings, Secrets and variables, Actions, Variables",
        runner_is="label of your runners",
    ),
    "circleci": Provider(
        path=".circleci/config.yml",
        runner="namespace/resource-class",
        secret="Project Settings, Environment Variables",  # noqa: S106  where it is, not what
        variable="Project Settings, Environment Variables",
        runner_is="resource class of your runners",
    ),
    "azure": Provider(
        path="azure-pipelines.yml",
        runner="Default",
        secret="the pipeline's Edit, Variables, with `Keep this value secret`",  # noqa: S106  where it is, not what
        variable="the pipeline's Edit, Variables",
        runner_is="agent pool",
    ),
}


def write_ci(root: Path, ci: str, tool: ToolName, *, agents: int, runner: str, package: str) -> str:
    """The CI file of provider `ci` for the workspace at `root`. Raises `UsageError`."""
    text = (files("mesh.cli.ci") / f"{ci}.yml").read_text(encoding="utf-8")
    needs = "Linux, Python 3.11 or later, git" + (", Node" if manager_of(root) and ci != "github" else "")
    words = {
        "agents": str(agents),
        "branch": _scalar(branch_of(root)),
        "needs": f" ({needs})",
        "numbers": ", ".join(map(str, range(1, agents + 1))),
        "package": shlex.quote(package),
        "run": "run" if tool == "dte.toml" else "run --",
        "runner": _runner(runner),
        "tool": tool,
    }
    blocks: dict[str, Sequence[str]] = {
        "agent": _AGENT,
        "command": command_of(root, tool),
        "install": install_of(root),
        "main": _MAIN,
        "node": _node(root, ci),
    }
    return render(text, words, blocks)


def render(template: str, words: Mapping[str, str], blocks: Mapping[str, Sequence[str]]) -> str:
    """The template filled in; every name in it is one of `words` or `blocks`."""
    lines: list[str] = []
    skipping = False
    for line in template.splitlines():
        indent, _, order = line.partition("@@ ")
        if not order or indent.strip():
            if not skipping:
                lines.append(_WORD.sub(lambda match: words[match[1]], line))
        elif order.startswith("if "):
            skipping = not blocks[order.removeprefix("if ")]
        elif order == "end":
            skipping = False
        elif not skipping:
            lines += [indent + inner for inner in blocks[order]]
    return "\n".join(lines) + "\n"


def _node(root: Path, ci: str) -> tuple[str, ...]:
    """What the provider's own step for installing Node is told; nothing where there is none, or where it would not understand."""
    if manager_of(root) is None:
        return ()
    file = node_file_of(root)
    match ci:
        case "github":
            return (f"node-version-file: {file}",) if file else ("node-version: lts/*",)
        case "azure" if file.startswith((".nvmrc", ".node-version")):
            return ("versionSource: fromFile", f"versionFilePath: {file}")
        case _:
            return ()


def _runner(text: str) -> str:
    """One name, or several labels with commas."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UsageError("--runner: a name was expected")
    return _scalar(names[0]) if len(names) == 1 else f"[{', '.join(map(_scalar, names))}]"


def _scalar(text: str) -> str:
    if not text.isprintable():
        raise UsageError(f"{text!r} has characters that a CI file cannot name")
    return text if _PLAIN.fullmatch(text) and not text[0].isdigit() else "'" + text.replace("'", "''") + "'"
