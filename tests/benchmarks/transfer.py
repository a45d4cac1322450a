"""How fast one blob moves: ours, verified, into a file, against curl from us, and against curl from nginx where that is installed.

    python tests/benchmarks/transfer.py [--mib 256] [--rounds 7]

prints JSON: MB/s of each pair (median), and each one's ratio to nginx → curl. Server and client are two processes; rounds alternate between the pairs.
"""

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from mesh.identity import Authority, Credentials, NodeKey
from mesh.net.blobs import BlobClient, blob_handler
from mesh.net.link import Link
from mesh.net.listener import Listener
from mesh.net.tls import Tls

NGINX_CONF = """
daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off; sendfile on; client_body_temp_path {dir}; proxy_temp_path {dir}; fastcgi_temp_path {dir};
  uwsgi_temp_path {dir}; scgi_temp_path {dir};
  server {{
    listen 127.0.0.1:{port} ssl; root {dir}/www; ssl_protocols TLSv1.3;
    ssl_certificate {dir}/chain.pem; ssl_certificate_key {dir}/key.pem;
    ssl_client_certificate {dir}/anchor.pem; ssl_verify_client optional_no_ca;
  }}
}}
"""


def credentials(name: str) -> Credentials:
    key = NodeKey.from_seed(hashlib.sha256(name.encode()).digest())
    return Authority.derive(b"benchmark-secret", "benchmark").issue(key, name)


async def serve(path: Path) -> None:
    async def no_link(link: Link) -> None:
        link.close("blobs only")

    listener = await Listener.bind(["127.0.0.1:0"], Tls.of(credentials("server")))
    print(listener.addresses[0], flush=True)
    await listener.serve(no_link, blob_handler(lambda _: path), lambda error: print(error, file=sys.stderr))


@contextmanager
def running(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def ours(address: str, digest: str, size: int, target: Path) -> None:
    async def fetch() -> None:
        client = BlobClient(Tls.of(credentials("client")))
        hashed = hashlib.sha256()
        with target.open("wb", buffering=0) as file:

            def sink(view: memoryview) -> None:
                hashed.update(view)
                file.write(view)

            await client.fetch(address, digest, size, sink)
        client.close()
        if f"sha256:{hashed.hexdigest()}" != digest:
            raise SystemExit("the blob arrived with another hash")

    trio.run(fetch)


def curl(port: str, path: str, directory: Path, target: Path) -> None:
    words = f"curl -sf --cert {directory}/client.pem --key {directory}/client-key.pem --cacert {directory}/anchor.pem"
    command = [*words.split(), "--connect-to", f"::127.0.0.1:{port}", "-o", str(target), f"https://dte.invalid{path}"]
    subprocess.run(command, check=True)


def wait_for_port(port: str) -> None:
    for _ in range(200):
        if (
            subprocess.run(["curl", "-sk", f"https://127.0.0.1:{port}/"], check=False, capture_output=True).returncode
            != 7
        ):
            return
        time.sleep(0.02)
    raise SystemExit("nginx did not start")


def prepare(directory: Path, size: int) -> tuple[Path, str]:
    """The blob and what curl and nginx need; the blob's path and digest."""
    server, client = credentials("server"), credentials("client")
    for name, content in {
        "chain.pem": server.chain_pem,
        "key.pem": server.key_pem,
        "anchor.pem": server.anchor_pem,
        "client.pem": client.chain_pem,
        "client-key.pem": client.key_pem,
    }.items():
        (directory / name).write_bytes(content)
    (directory / "www").mkdir()
    blob = directory / "www" / "blob"
    blob.write_bytes(os.urandom(size))
    return blob, f"sha256:{hashlib.sha256(blob.read_bytes()).hexdigest()}"


def measure(pairs: dict[str, Callable[[Path], None]], size: int, rounds: int, directory: Path) -> dict[str, float]:
    """Median MB/s of each pair."""
    seconds: dict[str, list[float]] = {name: [] for name in pairs}
    for _ in range(rounds):
        for name, transfer in pairs.items():
            target = directory / "target"
            start = time.perf_counter()
            transfer(target)
            seconds[name].append(time.perf_counter() - start)
            target.unlink()
    return {name: round(size / statistics.median(times) / 1e6, 1) for name, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        trio.run(serve, options.serve)
        return
    size = options.mib * 1024 * 1024
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        blob, digest = prepare(directory, size)
        with running([sys.executable, __file__, "--serve", str(blob)]) as server:
            address = server.stdout.readline().strip()
            port = address.rpartition(":")[2]
            path = f"/blob/{digest.replace(':', '/')}"
            pairs: dict[str, Callable[[Path], None]] = {
                "ours verified": lambda target: ours(address, digest, size, target),
                "ours to curl": lambda target: curl(port, path, directory, target),
            }
            if shutil.which("nginx") is None:
                speeds = measure(pairs, size, options.rounds, directory)
            else:
                nginx_port = str(int(port) - 1)
                (directory / "nginx.conf").write_text(NGINX_CONF.format(dir=directory, port=nginx_port))
                with running(["nginx", "-c", str(directory / "nginx.conf"), "-p", name]):
                    wait_for_port(nginx_port)
                    pairs["nginx to curl"] = lambda target: curl(nginx_port, "/blob", directory, target)
                    speeds = measure(pairs, size, options.rounds, directory)
    best = speeds.get("nginx to curl")
    ratios = {name: round(speed / best, 2) for name, speed in speeds.items()} if best else None
    print(json.dumps({"bytes": size, "rounds": options.rounds, "mb_per_s": speeds, "ratio_to_nginx": ratios}, indent=2))


if __name__ == "__main__":
    main()
