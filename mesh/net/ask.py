"""Asking a running node a question over HTTPS, as any other program would, but with a certificate of the run."""

import ssl
from typing import Any, Final

import httpx

from mesh.errors import RemoteError
from mesh.identity.certificate import Credentials
from mesh.net.errors import UnreachableError, UntrustedError
from mesh.net.tls import Tls
from mesh.wire import canonical

ASK_S: Final = 10.0


async def ask(address: str, path: str, credentials: Credentials) -> Any:
    """The JSON at `path` of the node at `address` ("HOST:PORT"). Raises `UnreachableError`, `UntrustedError` or `RemoteError`."""
    async with httpx.AsyncClient(verify=Tls.of(credentials).http, trust_env=False, timeout=ASK_S) as client:
        try:
            answer = await client.get(f"https://{address}{path}")
        except httpx.ConnectError as error:
            if isinstance(_cause(error), ssl.SSLError):
                raise UntrustedError(address, str(error)) from None
            raise UnreachableError(address, f"could not be connected: {error}") from None
        except httpx.HTTPError as error:
            raise UnreachableError(address, f"did not answer: {str(error) or type(error).__name__}") from None
    if answer.status_code != httpx.codes.OK:
        raise RemoteError("unexpected", f"{address} answered {answer.status_code} to {path}")
    return canonical.decode(answer.content)


async def ask_here(url: str, token: str) -> Any:
    """The JSON at `url` of a run on this machine, which has told `token`. Raises `UnreachableError` or `RemoteError`."""
    async with httpx.AsyncClient(trust_env=False, timeout=ASK_S) as client:
        try:
            answer = await client.get(url, headers={"Authorization": f"Bearer {token}"})
        except httpx.HTTPError as error:
            raise UnreachableError(url, f"did not answer: {str(error) or type(error).__name__}") from None
    if answer.status_code != httpx.codes.OK:
        raise RemoteError("unexpected", f"{url} answered {answer.status_code}")
    return canonical.decode(answer.content)


def _cause(error: BaseException) -> BaseException:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error
