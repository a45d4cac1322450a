"""`dte doctor`: what keeps tasks from being distributed here, and agents from finding each other."""

from typing import TYPE_CHECKING

import typer

from mesh.cli.options import ENV, RENDEZVOUS, RUN_ID, SECRET_FILE

if TYPE_CHECKING:
    from mesh.cli.checks import Check
    from mesh.identity.authority import Authority

Many = list[str]


def doctor(
    tasks: Many = typer.Argument(None, metavar="[TASK]...", help="Targets of nx or tasks of dte.toml. Default: all."),
    peer: Many = typer.Option(
        [], "--peer", envvar="DTE_PEER", metavar="HOST:PORT", help="A node that should be reachable. Repeatable."
    ),
    rendezvous: str = RENDEZVOUS,
    run_id: str = RUN_ID,
    env: str = ENV,
    secret_file: str = SECRET_FILE,
    save: str = typer.Option("", metavar="FILE", help="Write what the tasks' hashes are made of here, for --compare."),
    compare: str = typer.Option(
        "", metavar="FILE", help="Say which tasks have another hash here than where FILE was saved, and why."
    ),
    json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> int:
    """Look at this workspace, this machine and the peers it is told of; nothing is run, nothing is changed.

    Every line begins with ok, warn or bad, and ends with what to do. The exit code is 1 where anything is bad.
    """
    import sys

    from mesh.adapters.launchers import named
    from mesh.cli.checks.peers import peers
    from mesh.cli.common import run_id_of, split_list
    from mesh.errors import UsageError
    from mesh.wire import canonical

    if any(named(tool, tuple(tasks or ())) is not None for tool in ("nx", "turbo")):
        raise UsageError("name targets, not a command: `dte doctor build test`, or `dte doctor` for all")
    if save or compare:
        checks = _hashes(save, compare, tasks or [])
    else:
        checks, authority = _machine(run_id, env, secret_file)
        checks += _workspace(tasks or [])
        checks += peers(authority, run_id_of(run_id, env), split_list(peer), rendezvous)
    ok = all(check.level != "bad" for check in checks)
    if json:
        told = [{"level": check.level, "what": check.what, "advice": check.advice} for check in checks]
        print(canonical.encode({"version": 1, "ok": ok, "checks": told}).decode())
    else:
        encoding = sys.stdout.encoding or "utf-8"
        for check in checks:
            print(check.line.encode(encoding, "replace").decode(encoding))
    return 0 if ok else 1


def _machine(run_id: str, env: str, secret_file: str) -> "tuple[list[Check], Authority | None]":
    from pathlib import Path

    from mesh.cli.checks import machine
    from mesh.cli.ci.workspace import manager_of

    root = Path.cwd()
    run, authority = machine.run(run_id, env, secret_file)
    programs = machine.programs(root, node=manager_of(root) is not None)
    return [*programs, machine.data_directory(), machine.addresses(), run], authority


def _hashes(saved: str, compared: str, tasks: Many) -> "list[Check]":
    import os
    from pathlib import Path

    from mesh.cli.checks import hashes
    from mesh.errors import UsageError

    if (saved and compared) or (compared and tasks):
        raise UsageError("--compare FILE goes alone: it looks at the tasks that FILE was saved for")
    if saved:
        return [hashes.save(Path(saved), Path.cwd(), tasks, os.environ)]
    return [*hashes.compare(Path(compared), Path.cwd(), os.environ)]


def _workspace(tasks: Many) -> "list[Check]":
    import os
    from pathlib import Path

    from mesh.cli.checks import Check
    from mesh.cli.checks.native import tasks_of_dte_toml
    from mesh.cli.checks.nx import tasks_of_nx
    from mesh.cli.checks.turbo import tasks_of_turbo
    from mesh.cli.ci.workspace import tools_of

    root, checks = Path.cwd(), []
    tools = tools_of(root)
    if not tools:
        checks.append(
            Check(
                "bad", f"there is no nx.json, turbo.json or dte.toml in {root}", "run this at the root of a workspace"
            )
        )
    for tool, file in tools.items():
        checks.append(Check("ok", f"found {file}, for {tool}"))
        if tool == "nx":
            checks += tasks_of_nx(root, tasks, os.environ)
        elif tool == "turbo":
            checks += tasks_of_turbo(root, tasks, os.environ)
        else:
            checks += tasks_of_dte_toml(root, tasks, os.environ)
    return checks
