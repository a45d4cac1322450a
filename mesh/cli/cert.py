"""`dte cert`: certificates for the outside view, such as `curl` on a node's port."""

import typer


def cert(
    directory: str = typer.Argument(metavar="DIR", help="Where ca.pem, cert.pem and key.pem are written."),
    run_id: str = typer.Option(
        "", envvar="DTE_RUN_ID", help="The run they are valid for. Default: from the CI system, else `local`."
    ),
    env: str = typer.Option("", envvar="DTE_ENV", metavar="NAME", help="Which of several main jobs of one run."),
    secret_file: str = typer.Option(
        "",
        envvar="DTE_SECRET_FILE",
        metavar="FILE",
        help="Read the secret from FILE, or `-` for standard input, instead of DTE_SECRET.",
    ),
) -> int:
    """Write a certificate of this run for other HTTP clients, and print its root key for `dte verify --root-key`."""
    import secrets
    from pathlib import Path

    from mesh.cli.common import run_id_of, secret_of
    from mesh.errors import UsageError
    from mesh.identity.authority import Authority
    from mesh.identity.keys import NodeKey
    from mesh.store.files import storing, write_atomically

    secret = secret_of(secret_file)
    if secret is None:
        raise UsageError("there is no secret; set DTE_SECRET (or --secret-file) to that of the run")
    authority = Authority.derive(secret, run_id_of(run_id, env))
    credentials = authority.issue(NodeKey.from_seed(secrets.token_bytes(32)), "curl")
    place = Path(directory)
    with storing(place):
        place.mkdir(parents=True, exist_ok=True)
    write_atomically(place / "ca.pem", credentials.anchor_pem)
    write_atomically(place / "cert.pem", credentials.chain_pem)
    write_atomically(place / "key.pem", credentials.key_pem, mode=0o600)
    print(authority.root_public)
    return 0
