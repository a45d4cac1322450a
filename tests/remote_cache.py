"""A remote cache as a user may have one already: a small HTTP server of another make than dte's, which keeps what it is given."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

TOKEN = "the-users-own"


@dataclass
class RemoteCache:
    """Answers any path: GET and HEAD with what was PUT there, or 404."""

    url: str = ""
    read_only: bool = False
    """403 to every PUT, as to a token that may only read."""
    status: int = 0
    """Answered to everything, where it is not 0."""
    kept: dict[str, tuple[dict[str, str], bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """`METHOD path` of each request that carried the token, without the query."""
    tokens: set[str] = field(default_factory=set)


@contextmanager
def remote_cache() -> Iterator[RemoteCache]:
    """One that is being served on the loopback."""
    cache = RemoteCache()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.take()
            headers, body = cache.kept.get(path, ({}, b""))
            self.answer(200 if path in cache.kept else 404, headers, body)

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            path = self.take()
            if cache.read_only:
                return self.answer(403, {}, b"")
            said = {name: value for name, value in self.headers.items() if name.lower().startswith("x-artifact-")}
            first = path not in cache.kept
            cache.kept.setdefault(path, (said, body))
            return self.answer(202 if "/v8/" in path else 200 if first else 409, {}, b"{}")

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(200, {}, b"{}")

        def take(self) -> str:
            path = urlsplit(self.path).path
            cache.tokens.add(self.headers.get("Authorization", "").removeprefix("Bearer "))
            cache.asked.append(f"{self.command} {path}")
            return path

        def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(cache.status or status)
            body = b"" if cache.status else body
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *said: object) -> None:
            """Nothing: what was asked is in `asked`."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        cache.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield cache
        finally:
            server.shutdown()
            thread.join()
