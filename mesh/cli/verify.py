"""`dte verify`: is a ledger what it claims to be?"""

import typer


def verify(
    ledger: str = typer.Argument(metavar="DIR", help="What `dte run --ledger DIR` has written."),
    root_key: str = typer.Option(
        "", "--root-key", metavar="HEX", help="The public key that must stand behind it (`dte cert` prints it)."
    ),
    json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> int:
    """Check a ledger offline: every byte, every signature, the order, and who was allowed to sign."""
    from pathlib import Path

    from mesh.errors import Exit
    from mesh.ledger.verify import verify as check
    from mesh.store.ledger_dir import read_directory
    from mesh.wire import canonical

    found = check(read_directory(Path(ledger)), root_key or None)
    if json:
        text = canonical.encode({"ok": found.ok, "entries": found.entries, "problems": list(found.problems)})
        print(text.decode())
    elif found.ok:
        trust = (
            "signed under the given root key"
            if root_key
            else f"by root key {found.root_public}, which was not compared with any"
        )
        print(f"ok: {found.entries} entries of run {found.run_id}, verdict {found.verdict}, {trust}")
    else:
        for problem in found.problems:
            print(problem)
        print(f"refused: {len(found.problems)} problem{'s' if len(found.problems) != 1 else ''}")
    return int(Exit.OK if found.ok else Exit.TASK_FAILED)
