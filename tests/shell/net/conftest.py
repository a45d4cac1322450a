"""Nodes of one run, and strangers, for tests over real sockets."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from mesh.identity import Authority, Credentials, NodeKey
from mesh.net.tls import Tls
from mesh.types import NodeId


@dataclass(frozen=True)
class Node:
    credentials: Credentials
    node_id: NodeId
    tls: Tls


def make_node(name: str, *, run_id: str = "run-1", secret: bytes = b"0123456789abcdef") -> Node:
    key = NodeKey.from_seed(hashlib.sha256(name.encode()).digest())
    credentials = Authority.derive(secret, run_id, "run").issue(key, name)
    return Node(credentials, key.node_id, Tls.of(credentials))


@pytest.fixture(scope="session")
def make():
    return make_node


@pytest.fixture(scope="session")
def main_node() -> Node:
    return make_node("main")


@pytest.fixture(scope="session")
def agent() -> Node:
    return make_node("agent")


@pytest.fixture(scope="session")
def stranger() -> Node:
    """It knows another secret."""
    return make_node("stranger", secret=b"fedcba9876543210")


@pytest.fixture
def pem(tmp_path):
    """Writes a node's credentials where curl and openssl can read them: certificate, key and anchor."""

    def write(node: Node) -> tuple[Path, Path, Path]:
        paths = tuple(tmp_path / f"{node.node_id[:8]}.{kind}.pem" for kind in ("chain", "key", "anchor"))
        contents = (node.credentials.chain_pem, node.credentials.key_pem, node.credentials.anchor_pem)
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)
        return paths

    return write


async def _socket_pair() -> tuple[trio.socket.SocketType, trio.socket.SocketType]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        dialled = await trio.open_tcp_stream(*listener.socket.getsockname()[:2])
        accepted = await listener.accept()
    return dialled.socket, accepted.socket


@pytest.fixture(scope="session")
def socket_pair():
    """A real TCP connection: the dialler's end and the listener's."""
    return _socket_pair
