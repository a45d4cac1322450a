"""`dte cert`: certificates for the outside view, such as `curl` on a node's port."""

import typer

from mesh.cli.options import ENV, RUN_ID, SECRET_FILE


def cert(
    directory: str = typer.Argument(metavar="DIR", help="Where ca.pem, cert.pem and key.pem are written."),
    run_id: str = RUN_ID,
    env: str = ENV,
    secret_file: str = SECRET_FILE,
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
