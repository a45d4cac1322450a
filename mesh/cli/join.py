"""`dte join`: be an agent until the run ends."""

import typer

from mesh.cli.options import ENV, RENDEZVOUS, RUN_ID, SECRET_FILE

Many = list[str]


def join(
    peer: Many = typer.Option(
        [],
        "--peer",
        envvar="DTE_PEER",
        metavar="HOST:PORT",
        help="Where the main job or another peer listens. Repeatable.",
    ),
    rendezvous: str = RENDEZVOUS,
    run_id: str = RUN_ID,
    env: str = ENV,
    secret_file: str = SECRET_FILE,
    name: str = typer.Option(
        "", envvar="DTE_NAME", help="What people call this agent. Default: host name and process id."
    ),
    slots: int = typer.Option(0, envvar="DTE_SLOTS", help="Tasks at a time. Default: one for each processor."),
    listen: Many = typer.Option(
        [], envvar="DTE_LISTEN", metavar="ADDR:PORT", help="Where to listen. Default: every address, any free port."
    ),
    label: Many = typer.Option(
        [], envvar="DTE_LABEL", metavar="LABEL", help="What this machine is good for (`runs_on` of a task). Repeatable."
    ),
    gpu: int = typer.Option(
        -1,
        envvar="DTE_GPU",
        show_default=False,
        help="GPUs of this machine, for tasks that ask for some. Default: as many as it has of NVIDIA's.",
    ),
    targets: Many = typer.Option(
        [],
        "--targets",
        envvar="DTE_TARGETS",
        metavar="GLOB",
        help="Take only tasks whose target, or whole id, is like this; `*` is any part. Repeatable.",
    ),
    wait: str = typer.Option("10m", envvar="DTE_WAIT", metavar="DURATION", help="How long to wait for a main job."),
    exit_with_run: bool = typer.Option(
        False, envvar="DTE_EXIT_WITH_RUN", help="End with the run's own result instead of 0."
    ),
    trace: str = typer.Option(
        "", envvar="DTE_TRACE_FILE", metavar="FILE", help="Write every step of this node, for finding out why."
    ),
) -> int:
    """Be an agent: run tasks for the main job of the run until it ends.

    The secret comes from DTE_SECRET or --secret-file, never from the command line.
    """
    import trio

    from mesh.cli.common import duration_ms, settings_of
    from mesh.errors import UsageError
    from mesh.node import agent

    settings = settings_of(
        "agent",
        run_id=run_id,
        env_name=env,
        secret_file=secret_file,
        name=name,
        slots=slots,
        listen=listen,
        peers=peer,
        rendezvous=rendezvous,
        labels=label,
        targets=targets,
        gpu=None if gpu < 0 else gpu,
        wait_ms=duration_ms(wait, "--wait"),
        trace=trace,
    )
    if settings.secret is None:
        raise UsageError("there is no secret; set DTE_SECRET (or --secret-file) to the one the main job has")
    if not settings.peers and settings.rendezvous is None:
        raise UsageError(
            "an agent must know where to look; give --peer HOST:PORT (DTE_PEER) or --rendezvous DIR (DTE_RENDEZVOUS)"
        )
    outcome = trio.run(agent.join, settings)
    return agent.exit_code_of(outcome, exit_with_run=exit_with_run)
