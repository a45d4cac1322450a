"""`dte logs`: what a task has written, while it runs and afterwards."""

import base64
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import typer

from mesh.cli.options import ENV, SECRET_FILE

if TYPE_CHECKING:
    from mesh.node.shelf import LogShelf
    from mesh.store.runs import KnownRun

FOLLOW_MS: Final = 300
"""How often a log that is followed is looked at."""

Ask = Callable[[str], Awaitable[Any]]
"""The JSON at a path below the run's logs."""


def logs(
    task: str = typer.Argument("", metavar="[TASK]", help="The task; without one all tasks are listed."),
    follow: bool = typer.Option(False, "--follow", "-f", help="Go on until the task has ended."),
    attempt: int = typer.Option(
        0, metavar="N", help="Only the Nth try. Default: all but those that another one has overtaken."
    ),
    peer: str = typer.Option(
        "",
        envvar="DTE_PEER",
        metavar="HOST:PORT",
        help="The run's main job. Default: the latest run in this directory.",
    ),
    run_id: str = typer.Option("", envvar="DTE_RUN_ID", help="The run's name. Default: the latest, else as for `run`."),
    env: str = ENV,
    secret_file: str = SECRET_FILE,
) -> int:
    """Print what a task has written: of a run on this machine, running or over, or of one whose main job is at --peer."""
    import trio

    from mesh.cli.common import run_id_of, secret_of
    from mesh.errors import UsageError

    if attempt < 0 or (attempt and not task):
        raise UsageError("--attempt N is the Nth try of a TASK, from 1")
    if peer:
        secret = secret_of(secret_file)
        if secret is None:
            raise UsageError("a main job elsewhere is asked with its run's secret (DTE_SECRET or --secret-file)")
        ask = _ask_peer(peer, secret, run_id_of(run_id, env))
    else:
        ask = _ask_known(run_id_of(run_id, env) if run_id or env else "", task)
    return trio.run(_show, ask, task, attempt, follow)


# --- where to ask ----------------------------------------------------------------------------------


def _ask_peer(peer: str, secret: bytes, run_id: str) -> Ask:
    import secrets

    from mesh.identity.authority import Authority
    from mesh.identity.keys import NodeKey
    from mesh.net.ask import ask
    from mesh.node.shelf import LOGS

    credentials = Authority.derive(secret, run_id).issue(NodeKey.from_seed(secrets.token_bytes(32)), "logs")
    return lambda path: ask(peer, f"/{LOGS}{path}", credentials)


def _ask_known(run_id: str, task: str) -> Ask:
    """The newest run of this directory, or of that name, that has the task."""
    from pathlib import Path

    from mesh.errors import UsageError, readable
    from mesh.store.home import home
    from mesh.store.runs import Runs

    data_dir = home()
    here = readable(str(Path.cwd()))
    runs = [run for run in Runs(data_dir).known() if run.run_id == run_id or (not run_id and run.workspace == here)]
    fitting = [run for run in runs if run.running or (run.attempts if not task else task in run.attempts)]
    if not runs:
        raise UsageError(
            "no run in this directory is known on this machine; go to where it was started,"
            " or give --peer HOST:PORT of its main job"
        )
    if not fitting:
        known = ", ".join(list(runs[0].attempts)[:5]) or "none"
        raise UsageError(f"no run here has had a task {task!r}; tasks of the latest are: {known}")
    return _ask_running(fitting[0]) if fitting[0].running else _ask_shelf(_shelf_of(fitting[0]))


def _ask_running(run: "KnownRun") -> Ask:
    from mesh.net.ask import ask_here
    from mesh.net.errors import UnreachableError
    from mesh.store.home import home
    from mesh.store.runs import Runs

    async def ask(path: str) -> Any:
        try:
            return await ask_here(f"{run.url}{path}", run.token)
        except UnreachableError:
            # It has ended meanwhile, and left word of its logs.
            over = next((one for one in Runs(home()).known() if one.pid == run.pid and one.attempts), None)
            if over is None:
                raise
            return await _ask_shelf(_shelf_of(over))(path)

    return ask


def _shelf_of(run: "KnownRun") -> "LogShelf":
    from mesh.node.shelf import LogShelf
    from mesh.store.blobs import BlobStore
    from mesh.store.home import home

    return LogShelf(BlobStore(home() / "blobs"), attempts=run.attempts)


def _ask_shelf(shelf: "LogShelf") -> Ask:
    from mesh.node.shelf import parse_path

    async def ask(path: str) -> Any:
        task, index, offset = parse_path(path)
        return shelf.page(task, index, offset) if task else shelf.listing()

    return ask


# --- what is shown ---------------------------------------------------------------------------------


async def _show(ask: Ask, task: str, attempt: int, follow: bool) -> int:
    import trio

    from mesh.errors import UsageError

    if not task:
        for line in _listed(await ask("/")):
            print(line)
        return 0
    out = sys.stdout.buffer
    index, offset = max(0, attempt - 1), 0
    headed = -1
    while True:
        page = await ask(f"/{quote(task, safe='')}?index={index}&from={offset}")
        if page is None:
            raise UsageError(f"the run has no task {task!r}; `dte logs` without a name lists its tasks")
        # Another attempt counts, and of this one nothing is kept.
        passed = page["status"] == "superseded" and not attempt
        if page["where"] and index != headed and not passed:
            headed = index
            if page["attempts"] > 1 and not attempt:
                out.write(f"── attempt {index + 1} on {page['where']}: {_how(page)} ──\n".encode())
        data = b"" if passed else base64.b64decode(page["data"])
        out.write(data)
        out.flush()
        offset += len(data)
        if page["over"] or (page["done"] and attempt):
            return _end(page, index)
        at_its_end = page["done"] or passed or not (data or follow)
        if at_its_end and index + 1 < page["attempts"] and not attempt:
            index, offset = index + 1, 0
        elif not data and not follow:
            return _end(page, index)
        elif not data:
            await trio.sleep(FOLLOW_MS / 1000)


def _listed(listing: Any) -> Iterator[str]:
    tasks = listing["tasks"]
    width = max((len(one["id"]) for one in tasks), default=0)
    for one in tasks:
        tries = f"  {one['attempts']} attempts" if one["attempts"] > 1 else ""
        yield f"{one['id']:{width}}  {one['status']}{tries}"


def _how(page: Any) -> str:
    code = page["exit_code"]
    return page["status"] if not code else f"{page['status']} (exit code {code})"


def _end(page: Any, index: int) -> int:
    if index >= page["attempts"]:
        print(f"dte: {page['task']} has not started: {page['status']}", file=sys.stderr)
    return 0
