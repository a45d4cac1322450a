"""The command line as a whole."""

import typer

from mesh.cli import cert, demo, doctor, history, init, join, logs, plan, run, sim, status, verify

app = typer.Typer(
    name="dte",
    help="Distributed task execution for self-hosted CI: no server, no cloud.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("run")(run.run)
app.command("join")(join.join)
app.command("plan")(plan.plan)
app.command("demo")(demo.demo)
app.command("init")(init.init)
app.command("doctor")(doctor.doctor)
app.command("status")(status.status)
app.command("logs")(logs.logs)
app.command("verify")(verify.verify)
app.command("cert")(cert.cert)
app.add_typer(history.app, name="history")
app.command("sim")(sim.sim)


@app.callback(invoke_without_command=True)
def _version(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        from importlib.metadata import version as version_of

        print(f"dte {version_of('dte-mesh')}")
        raise typer.Exit
    del context
