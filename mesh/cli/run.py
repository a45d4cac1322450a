"""`dte run`: distribute native tasks, or any command of the user's."""

import typer

from mesh.cli.options import ENV, RENDEZVOUS, RUN_ID, SECRET_FILE

Many = list[str]


def run(
    context: typer.Context,
    tasks: Many = typer.Argument(
        None, metavar="[TASK]...", help="Tasks of dte.toml; with `-- COMMAND…` the user's own command instead."
    ),
    affected: bool = typer.Option(False, "--affected", help="Only tasks that a change since --base reaches."),
    base: str = typer.Option("", metavar="REF", help="With --affected: what to compare with."),
    head: str = typer.Option(
        "", metavar="REF", help="With --affected: what to look at. Default: the files as they are."
    ),
    agents: int = typer.Option(0, envvar="DTE_AGENTS", help="Start this many agents on this machine."),
    slots: int = typer.Option(
        0,
        envvar="DTE_SLOTS",
        help="Tasks at a time, of each of these agents, or of the main job alone. Default: by processors.",
    ),
    main_slots: int = typer.Option(
        0, envvar="DTE_MAIN_SLOTS", help="Tasks the main job runs beside its agents. Default: only what no agent can."
    ),
    run_id: str = RUN_ID,
    env: str = ENV,
    peer: Many = typer.Option(
        [],
        "--peer",
        envvar="DTE_PEER",
        metavar="HOST:PORT",
        help="A peer to dial. Agents dial the main job by themselves. Repeatable.",
    ),
    rendezvous: str = RENDEZVOUS,
    listen: Many = typer.Option(
        [], envvar="DTE_LISTEN", metavar="ADDR:PORT", help="Where to listen. Default: every address, any free port."
    ),
    secret_file: str = SECRET_FILE,
    may_differ: Many = typer.Option(
        [],
        envvar="DTE_MAY_DIFFER",
        metavar="FACT",
        help="A fact of this machine, such as `node`, that agents need not have in common with it. Repeatable.",
    ),
    agent_wait: str = typer.Option(
        "15s", envvar="DTE_AGENT_WAIT", metavar="DURATION", help="How long to wait for agents before working alone."
    ),
    keep_agents: bool = typer.Option(
        False,
        envvar="DTE_KEEP_AGENTS",
        help="Let agents stay until the end. Default: those for which too little is left are told to leave.",
    ),
    json: str = typer.Option("", envvar="DTE_JSON", metavar="FILE", help="Write what came of the run, at its end."),
    events: str = typer.Option(
        "", envvar="DTE_EVENTS", metavar="FILE|-", help="Write what happens, as it happens, one JSON object a line."
    ),
    ledger: str = typer.Option(
        "", envvar="DTE_LEDGER", metavar="DIR", help="Keep the run's signed ledger, for `dte verify`."
    ),
    fail_after: int = typer.Option(
        0, envvar="DTE_FAIL_AFTER", metavar="N", help="After N failed tasks start nothing new. Default: try everything."
    ),
    kill: bool = typer.Option(False, envvar="DTE_KILL", help="With --fail-after: end what runs then, too."),
    retries: int = typer.Option(
        0, envvar="DTE_RETRIES", help="Try a failed task this often again, elsewhere if possible."
    ),
    task_timeout: str = typer.Option(
        "", envvar="DTE_TASK_TIMEOUT", metavar="DURATION", help="End a task that takes longer."
    ),
    pass_env: Many = typer.Option(
        [],
        "--pass-env",
        envvar="DTE_PASS_ENV",
        metavar="NAME",
        help="A variable of this machine that tasks on agents get; `*` is any part. Repeatable.",
    ),
    stall_after: str = typer.Option(
        "5m",
        envvar="DTE_STALL_AFTER",
        metavar="DURATION",
        help="Tell of a task that has said nothing for so long; 0: never.",
    ),
    trace: str = typer.Option(
        "", envvar="DTE_TRACE_FILE", metavar="FILE", help="Write every step of this node, for finding out why."
    ),
) -> int:
    """Run tasks on all agents of the run, as if this machine had run them.

    Two forms: `dte run TASK…` for tasks of dte.toml, and `dte run -- COMMAND…` for any command that runs nx or turbo.
    """
    from dataclasses import replace
    from pathlib import Path

    from mesh.cli.common import AGENTS_MAX, check_count, duration_ms, selection, settings_of, slots_of, split_list
    from mesh.cli.running import lead
    from mesh.errors import UsageError
    from mesh.exec.passing import check_names
    from mesh.node.settings import Request
    from mesh.types import RETRIES_MAX, SLOTS_MAX

    range_ = selection(context.obj, tasks, affected=affected, base=base, head=head)
    check_count(agents, "--agents", AGENTS_MAX)
    check_count(retries, "--retries", RETRIES_MAX)
    check_count(main_slots, "--main-slots", SLOTS_MAX)
    if fail_after < 0:
        raise UsageError("--fail-after cannot be negative")
    if kill and not fail_after:
        raise UsageError("--kill goes with --fail-after N: it says what becomes of running tasks when N have failed")
    open_to_others = bool(peer or rendezvous or listen)
    settings = settings_of(
        "main",
        run_id=run_id,
        env_name=env,
        secret_file=secret_file,
        name="main",
        slots=main_slots or (0 if agents else slots),
        listen=listen or ([] if open_to_others else ["127.0.0.1:0"]),
        peers=peer,
        rendezvous=rendezvous,
        labels=[],
        wait_ms=duration_ms(agent_wait, "--agent-wait") if agents or open_to_others else 0,
        main_slots=main_slots,
        may_differ=may_differ,
        trace=trace,
    )
    if open_to_others and settings.secret is None:
        raise UsageError(
            "agents elsewhere can only join with a secret; set DTE_SECRET (or --secret-file) here and on every agent"
        )
    settings = replace(
        settings,
        fail_after=fail_after,
        kill=kill,
        stall_after_ms=duration_ms(stall_after, "--stall-after"),
        keep_agents=keep_agents,
    )
    request = Request(
        tasks=tuple(tasks or ()),
        affected=range_,
        command=tuple(context.obj or ()),
        agents=agents,
        agent_slots=slots or max(1, slots_of(0) // max(1, agents)),
        ledger=Path(ledger).absolute() if ledger else None,
        retries=retries,
        task_timeout_ms=duration_ms(task_timeout, "--task-timeout") if task_timeout else None,
        pass_env=check_names(split_list(pass_env)),
    )
    return lead(settings, request, json=json, events=events)
