"""`dte status`: how a running node is."""

import typer

from mesh.cli.options import ENV, RUN_ID, SECRET_FILE


def status(
    peer: str = typer.Option(
        "", envvar="DTE_PEER", metavar="HOST:PORT", help="The node to ask; the main job knows most."
    ),
    run_id: str = RUN_ID,
    env: str = ENV,
    secret_file: str = SECRET_FILE,
) -> int:
    """Ask a running node how it is, and print its answer as one JSON object."""
    import secrets

    import trio

    from mesh.cli.common import run_id_of, secret_of
    from mesh.errors import UsageError
    from mesh.identity.authority import Authority
    from mesh.identity.keys import NodeKey
    from mesh.net.ask import ask
    from mesh.wire import canonical

    secret = secret_of(secret_file)
    if secret is None or not peer:
        raise UsageError(
            "a node is asked with its run's secret (DTE_SECRET or --secret-file), at its address (--peer HOST:PORT)"
        )
    credentials = Authority.derive(secret, run_id_of(run_id, env)).issue(
        NodeKey.from_seed(secrets.token_bytes(32)), "status"
    )
    print(canonical.encode(trio.run(ask, peer, "/status", credentials)).decode())
    return 0
