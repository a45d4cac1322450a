"""Which of the user's commands is one of turbo's, and which program does its work.

Only what names turbo itself is taken: `npx turbo run build`, `pnpm turbo build`, `./node_modules/.bin/turbo run test -- --ci`.
"""

import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from mesh.adapters.launchers import named

OUTPUT_LOGS: Final = "--output-logs"
CONFIGURATIONS: Final = ("turbo.json", "turbo.jsonc")

_WITH_VALUE: Final = frozenset(
    {
        "-F",
        "--api",
        "--cache",
        "--cache-dir",
        "--cache-workers",
        "--concurrency",
        "--cwd",
        "--filter",
        "--global-deps",
        "--heap",
        "--log-order",
        "--log-prefix",
        "--login",
        "--output-logs",
        "--remote-cache-timeout",
        "--root-turbo-json",
        "--scope",
        "--team",
        "--token",
        "--trace",
        "--ui",
        "--verbosity",
    }
)
"""Options whose value may be the next word."""
_WITH_OR_WITHOUT: Final = frozenset(
    {"--anon-profile", "--dry-run", "--env-mode", "--graph", "--log-file", "--profile", "--remote-only", "--summarize"}
)
"""Options that may do without one; else it may be the next word as well."""
_OTHER_VERBS: Final = frozenset(
    (
        *(
            "bin",
            "boundaries",
            "completion",
            "config",
            "daemon",
            "devtools",
            "docs",
            "gen",
            "generate",
            "get-mfe-port",
            "info",
            "link",
        ),
        *("login", "logout", "ls", "prune", "query", "scan", "telemetry", "unlink", "watch"),
    )
)
_MACHINES: Final = {"x86_64": "64", "amd64": "64", "aarch64": "arm64", "arm64": "arm64"}


class TurboCommand(Struct, frozen=True):
    """What is said to turbo: `options`, names of tasks among them, and `passed`, what stands behind `--` and is the tasks' own."""

    options: tuple[str, ...]
    passed: tuple[str, ...] = ()

    def says(self, flag: str) -> str | None:
        """The value of `--flag`: "" where it stands alone, None where it is not said or said to be false."""
        for option in self.options:
            name, _, value = option.partition("=")
            if name == flag:
                return None if value == "false" else value
        return None

    def with_value(self, flag: str) -> tuple[str, ...]:
        """All that is said of a flag that has a value, as arguments."""
        said: list[str] = []
        for at, option in enumerate(self.options):
            if option.startswith(f"{flag}="):
                said.append(option)
            elif option == flag:
                said += self.options[at : at + 2]
        return tuple(said)

    def value(self, flag: str) -> str:
        """The last value that is said of such a flag; "" where there is none."""
        return next(iter(self.with_value(flag)[-1:]), "").removeprefix(f"{flag}=")

    def without(self, *flags: str) -> list[str]:
        """The options but for these flags, and what is said of them."""
        left: list[str] = []
        may_be_value = False
        for option in self.options:
            if may_be_value and not option.startswith("-"):
                may_be_value = False
                continue
            may_be_value = option in flags and (option in _WITH_VALUE or option in _WITH_OR_WITHOUT)
            if option.partition("=")[0] not in flags:
                left.append(option)
        return left

    def printing_all(self) -> "TurboCommand":
        """The same, told to print every log."""
        return TurboCommand((*self.without(OUTPUT_LOGS), f"{OUTPUT_LOGS}=full"), self.passed)

    def arguments(self) -> tuple[str, ...]:
        """As turbo is started with."""
        return (*self.options, *(("--", *self.passed) if self.passed else ()))

    def names(self) -> frozenset[str]:
        """The tasks it asks for, without their packages: those, in any package, get what is `passed`."""
        words = [*self.options]
        values = {at + 1 for at, word in enumerate(words) if word in _WITH_VALUE or word in _WITH_OR_WITHOUT}
        named = [word for at, word in enumerate(words) if at not in values and not word.startswith("-")]
        return frozenset(word.rpartition("#")[2] for word in (named[1:] if named[:1] == ["run"] else named))


def find(argv: tuple[str, ...], workspace: Path) -> TurboCommand | None:
    """What `argv` says to turbo; None where it is not a run of turbo's that dte can recognise, in a workspace of turbo's."""
    if not any((workspace / name).is_file() for name in CONFIGURATIONS):
        return None
    at = named("turbo", argv)
    if at is None:
        return None
    said = argv[at + 1 :]
    if argv[0] == "npm" and "--" not in argv[:at] and said[:1] == ("--",):
        said = said[1:]  # npm's own, between what is npm's and what is turbo's
    end = said.index("--") if "--" in said else len(said)
    options, passed = said[:end], said[end + 1 :]
    verb = next((word for word in options if not word.startswith("-")), None)
    if verb is None or verb in _OTHER_VERBS:
        return None
    return TurboCommand(options, passed)


def direct(argv: tuple[str, ...], workspace: Path) -> TurboCommand | None:
    """As `find`, where turbo gets the variables that are there now: npx, pnpm and yarn set some of their own, and turbo may hash them."""
    return find(argv, workspace) if named("turbo", argv) == 0 else None


def program(workspace: Path, environ: Mapping[str, str]) -> Path | None:
    """The turbo that is installed in `workspace`: its native program, ten times faster to start than the script around it."""
    if chosen := environ.get("TURBO_BINARY_PATH"):
        return Path(chosen)
    script = workspace / "node_modules/.bin/turbo"
    found = (path for path in _native(workspace) if os.access(path, os.X_OK))
    return next(found, script if script.is_file() else None)


def _native(workspace: Path) -> Iterator[Path]:
    modules = workspace / "node_modules"
    package = (modules / "turbo").resolve()  # into the store of pnpm, where what it depends on stands beside it
    name = f"{platform.system().lower()}-{_MACHINES.get(platform.machine().lower(), platform.machine())}"
    for folder in (package.parent, package / "node_modules", modules):
        for of_platform in (f"@turbo/{name}", f"turbo-{name}"):
            yield folder / of_platform / "bin/turbo"
