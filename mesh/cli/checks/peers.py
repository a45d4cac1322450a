"""Can the others be reached, and do they trust us: every address is dialled as a peer would, and the answer told in words."""

import secrets
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import trio

from mesh.cli.checks import Check
from mesh.errors import MeshError
from mesh.identity.authority import Authority
from mesh.identity.certificate import Credentials
from mesh.identity.keys import NodeKey
from mesh.net.ask import ask
from mesh.net.dialer import dial, resolve
from mesh.net.rendezvous import Rendezvous
from mesh.net.tls import ALPN_HTTP, Tls
from mesh.node.peer import run_tag

_ROLES: Final = {"main": "the main job", "agent": "an agent"}


def peers(authority: Authority | None, run_id: str, addresses: Sequence[str], rendezvous: str) -> list[Check]:
    """Whoever is at `addresses`, and whoever has left an address in the directory."""
    if not addresses and not rendezvous:
        return [Check("ok", "no peer was asked for", "to try one: --peer HOST:PORT, or --rendezvous DIR")]
    if authority is None:
        return [Check("bad", "peers cannot be asked without the run's secret", "set DTE_SECRET, or give --secret-file")]
    credentials = authority.issue(NodeKey.from_seed(secrets.token_bytes(32)), "doctor")
    return trio.run(_peers, credentials, run_id, addresses, Path(rendezvous) if rendezvous else None)


async def _peers(
    credentials: Credentials, run_id: str, addresses: Sequence[str], directory: Path | None
) -> list[Check]:
    checks: list[Check] = []
    places = [place for address in addresses for place in await _places(address, checks)]
    if directory is not None:
        places += await _met(directory, run_id, checks)
    found: dict[int, Check] = {}

    async def look(number: int, place: str) -> None:
        found[number] = await _look(place, credentials)

    async with trio.open_nursery() as nursery:
        for number, place in enumerate(dict.fromkeys(places)):
            nursery.start_soon(look, number, place)
    return [*checks, *(found[number] for number in sorted(found))]


async def _places(address: str, checks: list[Check]) -> list[str]:
    """Behind one name there may be many nodes."""
    try:
        return await resolve(address)
    except MeshError as error:
        checks.append(Check("bad", str(error)))
        return []


async def _met(directory: Path, run_id: str, checks: list[Check]) -> list[str]:
    """The addresses in the shared directory, loopback ones only where a node has no others."""
    try:
        adverts = await Rendezvous(directory, run_tag(run_id)).peers()
        await trio.to_thread.run_sync(partial(_try_to_write, directory))
    except MeshError as error:
        checks.append(Check("bad", str(error)))
        return []
    except OSError as error:
        checks.append(
            Check(
                "bad",
                f"{directory} cannot be written to ({error.strerror})",
                "every job of the run needs to write there",
            )
        )
        return []
    if not adverts:
        checks.append(
            Check(
                "warn",
                f"nobody of run {run_id} is in {directory} yet",
                "the main job is there from its start to its end",
            )
        )
    else:
        checks.append(Check("ok", f"{directory} has the addresses of {len(adverts)} node{'s' * (len(adverts) > 1)}"))
    return [address for advert in adverts for address in advert.addresses[:1]]


def _try_to_write(directory: Path) -> None:
    # A run makes the directory where only its parent is there.
    with tempfile.TemporaryFile(dir=directory if directory.is_dir() else directory.parent):
        pass


async def _look(address: str, credentials: Credentials) -> Check:
    try:
        stream = await dial(address, Tls.of(credentials), ALPN_HTTP)
        await stream.aclose()
        status = await ask(address, "/status", credentials)
    except MeshError as error:
        return Check("bad", str(error))
    role = _ROLES.get(status.get("role"), "a node")
    return Check("ok", f"{address} is {role} of run {status.get('run_id')}, called {status.get('name')}, and trusts us")
