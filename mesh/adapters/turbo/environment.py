"""The variables of turbo: on the main job the user's own and where the cache is; on an agent those of the main job that turbo hashes, too."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from mesh.exec.environment import without_ours
from mesh.wire.canonical import Reader

SIGNATURE_KEY: Final = "TURBO_REMOTE_CACHE_SIGNATURE_KEY"
TEAM: Final = ("TURBO_TEAM", "TURBO_TEAMID")
"""Part of a signature, and so the same everywhere; where the user has none, turbo needs a name all the same."""

_TURBOS: Final = "TURBO_"
_SHIPPED: Final = ("CI", "TURBO_ROOT_TURBO_JSON", "TURBO_DANGEROUSLY_DISABLE_PACKAGE_MANAGER_CHECK")
"""What changes how a task runs, or which tasks there are, and is not hashed."""
_QUIET: Final = {"TURBO_TELEMETRY_DISABLED": "1", "TURBO_NO_UPDATE_NOTIFIER": "1"}
_ELSEWHERE: Final = ("TURBO_API", "TURBO_LOGIN", "TURBO_TOKEN", "TURBO_PREFLIGHT")
_NOT_ASKED: Final = ("TURBO_RUN_SUMMARY", "TURBO_REMOTE_ONLY")
"""Has a run write an account of itself, which asking for a plan must not; and what turbo does not bear beside TURBO_CACHE."""


def planning_environment(base: Mapping[str, str]) -> dict[str, str]:
    """For asking turbo on the main job what it would do: as the user's own, but without a question to any remote cache."""
    dropped = (*_ELSEWHERE, *TEAM, *_NOT_ASKED)
    kept = {name: value for name, value in without_ours(base, cookie=True).items() if name not in dropped}
    return {**kept, **_QUIET, "TURBO_CACHE": "local:rw"}


def main_environment(base: Mapping[str, str], url: str, token: str) -> dict[str, str]:
    """What the user's command is started with: any turbo under it reads from `url`, and waits for as long as it takes."""
    kept = {name: value for name, value in without_ours(base, cookie=True).items() if name not in _ELSEWHERE}
    return {**kept, **_QUIET, **_cache(base, url, token), "TURBO_TEAM": base.get("TURBO_TEAM") or "dte"}


def hashed_of_ours(base: Mapping[str, str], lists: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """Variables that a run has otherwise than a plan, since dte sets them, and that one of these lists of patterns has turbo hash."""
    planning, running = planning_environment(base), main_environment(base, "its url", "its token")
    ours = [name for name in {**planning, **running} if planning.get(name) != running.get(name)]
    asked = [tuple(patterns) for patterns in lists]
    return tuple(name for name in ours if any(_is_meant(name, patterns) for patterns in asked))


def shipped(environ: Mapping[str, str], patterns: Iterable[str]) -> dict[str, Any]:
    """What agents must have from the main job's `environ`: the values of what turbo hashes, and which names those are (`*` is any)."""
    names = tuple(dict.fromkeys((*patterns, *_SHIPPED)))
    values = {name: value for name, value in environ.items() if _is_meant(name, names)}
    team = {name: environ[name] for name in TEAM if environ.get(name)} or {"TURBO_TEAM": "dte"}
    return {"names": list(names), "values": values, "team": team}


def agent_environment(base: Mapping[str, str], environment: Mapping[str, Any]) -> dict[str, str]:
    """For asking turbo on an agent what it would do; `environment` is what was `shipped`."""
    read = Reader(dict(environment), "environment")
    names = read.texts("names")
    kept = {name: value for name, value in without_ours(base, cookie=True).items() if not name.startswith(_TURBOS)}
    kept = {name: value for name, value in kept.items() if not _is_meant(name, names)}
    if key := base.get(SIGNATURE_KEY):
        kept[SIGNATURE_KEY] = key
    # An agent installs before it joins; pnpm would otherwise try to, before each script.
    still = {"pnpm_config_verify_deps_before_run": "false"}
    return {**still, **kept, **read.string_table("values"), **_QUIET, "TURBO_CACHE": "local:rw"}


def worker_environment(
    base: Mapping[str, str], environment: Mapping[str, Any], private: Path, url: str, token: str
) -> dict[str, str]:
    """For a task on an agent. turbo's own cache is in `private`, so that all it makes is put into ours, and nothing else is read."""
    asking = agent_environment(base, environment)
    del asking["TURBO_CACHE"]
    team = Reader(dict(environment), "environment").string_table("team")
    return {**asking, **_cache(base, url, token), **team, "TURBO_CACHE_DIR": str(private)}


def _cache(base: Mapping[str, str], url: str, token: str) -> dict[str, str]:
    direct = "127.0.0.1,localhost"
    return {
        "TURBO_API": url,
        "TURBO_TOKEN": token,
        "TURBO_REMOTE_CACHE_TIMEOUT": "0",
        **{name: ",".join(filter(None, (base.get(name), direct))) for name in ("NO_PROXY", "no_proxy")},
    }


def _is_meant(name: str, patterns: Iterable[str]) -> bool:
    """As turbo understands its lists: the last word is that of a pattern with `!`."""
    meant = [pattern for pattern in patterns if _matches(name, pattern.removeprefix("!"))]
    return bool(meant) and not any(pattern.startswith("!") for pattern in meant)


def _matches(name: str, pattern: str) -> bool:
    # `\*` is a star, and `\!` at the start no negation.
    words = re.split(r"(?<!\\)\*", pattern)
    return re.fullmatch(".*".join(re.escape(re.sub(r"\\([*!])", r"\1", word)) for word in words), name) is not None
