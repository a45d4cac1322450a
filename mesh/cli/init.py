"""`dte init`: a CI file with one main job and its agents, for the task runner that this workspace has."""

from pathlib import Path
from typing import Final

import typer

AGENTS_MAX: Final = 256
"""GitHub takes no more jobs of one matrix."""


def init(
    ci: str = typer.Option("", "--ci", metavar="NAME", help="github, circleci or azure."),
    agents: int = typer.Option(3, help="How many agent jobs."),
    runner: str = typer.Option(
        "", metavar="NAME", help="What the jobs run on: a label, a resource class or a pool of your own machines."
    ),
    package: str = typer.Option(
        "", metavar="SPEC", help="What pip installs as dte. Default: dte-mesh in this very version."
    ),
    force: bool = typer.Option(False, "--force", help="Replace a file that is there."),
    print_: bool = typer.Option(False, "--print", help="Print the file instead of writing it."),
) -> int:
    """Write a CI file with one main job and its agent jobs.

    It is made for what is found here: nx.json, turbo.json or dte.toml, and the lock file of the package manager.
    """
    from importlib.metadata import version

    from mesh.cli.ci.template import PROVIDERS, write_ci
    from mesh.cli.ci.workspace import check_root, tools_of
    from mesh.errors import UsageError

    if ci not in PROVIDERS:
        what = f"there is no {ci!r}" if ci else "say for which CI system"
        raise UsageError(f"--ci: {what}; dte writes files for {', '.join(PROVIDERS)}")
    if not 1 <= agents <= AGENTS_MAX:
        raise UsageError(f"--agents {agents}: 1 to {AGENTS_MAX} were expected")
    root, provider = Path.cwd(), PROVIDERS[ci]
    check_root(root)
    tools = tools_of(root)
    if not tools:
        raise UsageError(
            f"there is no nx.json, turbo.json or dte.toml in {root}: run this at the root of the workspace,"
            " or write a dte.toml that names your tasks (see docs/guide/tasks.md)"
        )
    tool = next(iter(tools))
    text = write_ci(
        root,
        ci,
        tool,
        agents=agents,
        runner=runner or provider.runner,
        package=package or f"dte-mesh=={version('dte-mesh')}",
    )
    if print_:
        print(text, end="")
        return 0
    path = root / provider.path
    if not _write(path, text, force=force, shown=provider.path):
        print(f"{provider.path} is there already, and is what would be written")
        return 0
    print(f"wrote {provider.path}: a main job and {agents} agent jobs for {tool} ({tools[tool]})")
    _tell(ci, [*tools], named=bool(runner))
    return 0


def _write(path: Path, text: str, *, force: bool, shown: str) -> bool:
    """Write it, unless that is there already. Raises `UsageError` where something else is, having shown the difference."""
    from difflib import unified_diff

    from mesh.errors import UsageError

    try:
        before = path.read_text(encoding="utf-8", errors="replace") if path.exists() else None
        if before == text:
            return False
        if before is not None and not force:
            lines = (before.splitlines(), text.splitlines())
            for line in unified_diff(*lines, f"{shown} (as it is)", f"{shown} (as it would be)", lineterm=""):
                print(line)
            raise UsageError(f"{shown} is there and differs as shown; add --force to replace it, or take over by hand")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{shown} cannot be written: {error.strerror}") from None
    return True


def _tell(ci: str, tools: list[str], *, named: bool) -> None:
    """What is left for a person to do."""
    from mesh.cli.ci.template import PROVIDERS

    provider = PROVIDERS[ci]
    print("before it can run:")
    print(f"  the secret DTE_SECRET, from `openssl rand -hex 32` ({provider.secret})")
    print(f"  DTE_RENDEZVOUS, a shared directory, or DTE_PEER, HOST:PORT of the main job ({provider.variable})")
    if not named:
        print(f"  the {provider.runner_is}: {provider.runner!r} is written; dte init --runner NAME writes another")
    if tools[1:]:
        print(
            f"note: it is for {tools[0]}; {' and '.join(tools[1:])} is here too: for that, change the command in the file"
        )
