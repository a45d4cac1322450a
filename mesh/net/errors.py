"""Why bytes could not move: each error names the other side's address, and says to a person what to look at."""

import trio

from mesh.errors import MeshError
from mesh.types import Digest


class NetError(MeshError):
    """Something between this node and `remote` ("host:port") did not work."""

    def __init__(self, remote: str, problem: str) -> None:
        super().__init__(f"{remote} {problem}")
        self.remote = remote


class UnreachableError(NetError):
    """Nobody answers there, or no longer: trying again later may help."""


class UntrustedError(NetError):
    """It answers, and has not proven that it knows this run's secret. `detail` is what TLS said."""

    def __init__(self, remote: str, detail: str) -> None:
        super().__init__(
            remote,
            "does not share this run's secret and run id: check that DTE_SECRET, the run id and the trust domain are the same on both sides "
            f"({detail})",
        )


class NotDteError(NetError):
    """It answers, and is something else: a port scanner, a browser, another service, another major version."""


class NotHereError(NetError):
    """The peer does not have the blob."""

    def __init__(self, remote: str, digest: Digest) -> None:
        super().__init__(remote, f"does not have {digest}")


class BrokenStreamError(NetError, trio.BrokenResourceError):
    """The connection is of no more use: what came before is good, what was being sent may or may not have arrived."""
