"""`dte demo`: a real run on a sample workspace, with agents on this machine that each have a checkout of their own."""

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from pathlib import Path


def demo(
    agents: int = typer.Option(3, help="How many agents."),
    keep: bool = typer.Option(False, "--keep", help="Leave the workspace, its ledger and its agents' logs in place."),
) -> int:
    """Run a sample workspace on three agents, each with a checkout of its own, and verify the ledger."""
    import shutil
    import tempfile
    from pathlib import Path

    from mesh.errors import UsageError

    if agents < 0:
        raise UsageError(f"--agents {agents}: 0 or more was expected")
    place = Path(tempfile.mkdtemp(prefix="dte-demo-"))
    try:
        return _show(place, agents)
    finally:
        if keep:
            print(f"the workspace is {place / 'main'}, the ledger {place / 'ledger'}")
        else:
            shutil.rmtree(place, ignore_errors=True)


def _show(place: "Path", agents: int) -> int:
    import os
    import shutil
    from pathlib import Path

    from mesh.cli.running import lead
    from mesh.errors import Exit
    from mesh.exec.machine import processors
    from mesh.ledger.verify import verify
    from mesh.node.settings import Request, Settings
    from mesh.store.ledger_dir import read_directory

    main = place / "main"
    shutil.copytree(Path(__file__).with_name("demo_workspace"), main)
    _commit(main)
    checkouts = tuple(place / f"agent-{number + 1}" for number in range(agents))
    for checkout in checkouts:
        _git(place, "clone", "--quiet", str(main), str(checkout))
    settings = Settings(
        role="main",
        run_id="demo",
        secret=None,
        name="main",
        slots=1 if agents else processors(),
        workspace=main,
        data_dir=place / "data",
        environ=dict(os.environ),
        listen=("127.0.0.1:0",),
        wait_ms=15_000 if agents else 0,
    )
    request = Request(
        tasks=("publish",), agents=agents, agent_slots=1, agent_workspaces=checkouts, ledger=place / "ledger"
    )
    print(
        f"a sample workspace in {main}, and {agents} agents, each with a clone of it and a port of its own", flush=True
    )
    code = lead(settings, request)
    found = verify(read_directory(place / "ledger"))
    if not found.ok:
        print("the ledger is refused:", *found.problems, sep="\n  ")
        return int(Exit.MESH)
    print(
        f"the ledger verifies: {found.entries} entries, every one signed by the agent that ran it, in a possible order"
    )
    return code


def _commit(workspace: "Path") -> None:
    _git(workspace, "init", "--quiet")
    _git(workspace, "add", "--all")
    # Neither a name nor a signature of the user's is wanted for a sample.
    identity = ("-c", "user.name=dte", "-c", "user.email=dte@localhost", "-c", "commit.gpgsign=false")
    _git(workspace, *identity, "commit", "--quiet", "--message", "A sample workspace")


def _git(where: "Path", *arguments: str) -> None:
    import subprocess

    from mesh.errors import UsageError

    try:
        subprocess.run(["git", "-C", str(where), *arguments], check=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise UsageError("git is not on the PATH; the demo's agents get their checkouts through it") from None
    except subprocess.CalledProcessError as error:
        raise UsageError(f"git {arguments[0]} failed with exit code {error.returncode}") from None
