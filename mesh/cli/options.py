"""Options that several verbs have, so that they say and read the same everywhere."""

from typing import Any, Final

import typer

RUN_ID: Final[Any] = typer.Option(
    "",
    "--run-id",
    envvar="DTE_RUN_ID",
    help="The run's name, equal in all its jobs. Default: from the CI system, else `local`.",
)
ENV: Final[Any] = typer.Option(
    "", "--env", envvar="DTE_ENV", metavar="NAME", help="Which of several main jobs of one run."
)
SECRET_FILE: Final[Any] = typer.Option(
    "",
    "--secret-file",
    envvar="DTE_SECRET_FILE",
    metavar="FILE",
    help="Read the secret from FILE, or `-` for standard input, instead of DTE_SECRET.",
)
RENDEZVOUS: Final[Any] = typer.Option(
    "", "--rendezvous", envvar="DTE_RENDEZVOUS", metavar="DIR", help="A directory that all jobs of the run share."
)
