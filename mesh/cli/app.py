"""The command line as a whole."""

from collections.abc import Callable, Mapping
from typing import Final

import typer

from mesh.cli import cert, demo, doctor, history, init, join, logs, plan, run, sim, status, verify

VERBS: Final[Mapping[str, Callable[..., object] | typer.Typer]] = {
    "run": run.run,
    "join": join.join,
    "plan": plan.plan,
    "demo": demo.demo,
    "init": init.init,
    "doctor": doctor.doctor,
    "status": status.status,
    "logs": logs.logs,
    "verify": verify.verify,
    "cert": cert.cert,
    "history": history.app,
    "sim": sim.sim,
}


def app_for(word: str = "") -> typer.Typer:
    """What understands a command line that begins with `word`: typer reads the options of each verb that it is given, so it is given no other than that one."""
    app = typer.Typer(
        name="dte",
        help="Distributed task execution for self-hosted CI: no server, no cloud.",
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        callback=_version,
        invoke_without_command=True,
    )
    for verb in [word] if word in VERBS else VERBS:
        known = VERBS[verb]
        if isinstance(known, typer.Typer):
            app.add_typer(known, name=verb)
        else:
            app.command(verb)(known)
    return app


def _version(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        from importlib.metadata import version as version_of

        print(f"dte {version_of('dte-mesh')}")
        raise typer.Exit
    del context
