"""Turborepo's remote cache, answered from the blob store; on the main job a read may wait until another machine has made what is asked for.

Each turbo process is a *visit* with a path of its own below `/turbo`: who put what, and who asked in vain, is known for each one, and one may
only put what it was started for. On the main job

    GET, held ──▶ released ──▶ 200 an agent made it
                     └───────▶ 404 nobody will: turbo runs that task itself

turbo forgives everything but silence: whatever goes wrong here costs a miss, never the run. What turbo says beside an artifact (how long it
took, its signature) is given back word for word, so an artifact travels as one blob: the length of a head, the head, and turbo's archive.
"""

import re
import secrets
from collections.abc import AsyncIterator, Callable, Container, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio
from msgspec import Struct

from mesh.errors import CorruptError, RemoteError, StorageError
from mesh.net.http import FileBody, Request, Response
from mesh.store.blobs import BlobStore
from mesh.types import Blob
from mesh.wire import canonical
from mesh.wire.canonical import Reader

if TYPE_CHECKING:
    from mesh.cache.upstream import Upstream

HEAD_BYTES_MAX: Final = 64 * 1024
HASHES_BYTES_MAX: Final = 16 * 1024 * 1024
PUSHES_MAX: Final = 100_000
"""Artifacts that wait for their way into the user's own cache."""

_LENGTH_BYTES: Final = 4
_HEADERS: Final = "x-artifact-"
_DURATION: Final = "x-artifact-duration"
_PATH: Final = re.compile(r"/([\w-]+)/v8/artifacts(?:/([\w-]+))?(?:\?.*)?")
_READ_BYTES: Final = 256 * 1024
_WORDS: Final = ("status", "events")
"""What stands in a path where else a hash would."""


class TurboArtifact(Struct, frozen=True):
    """One artifact as it travels: whose it is, what turbo says of it, and where in the blob its archive begins."""

    hash: str
    headers: Mapping[str, str]
    offset: int

    @property
    def duration_ms(self) -> int:
        """How long the task took, as turbo says; 0 where it does not say."""
        said = self.headers.get(_DURATION, "")
        return int(said) if said.isascii() and said.isdigit() else 0


def parse_artifact(path: Path) -> TurboArtifact:
    """Read the head of the artifact in the file at `path`. Raises `CorruptError`."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "big")
        head = file.read(min(length, HEAD_BYTES_MAX + 1))
    if len(head) != length or length > HEAD_BYTES_MAX:
        raise CorruptError(f"{path.name} is no artifact of turbo")
    try:
        read = Reader(canonical.decode(head), "artifact")
        artifact = TurboArtifact(read.text("hash"), read.string_table("headers"), _LENGTH_BYTES + length)
    except RemoteError as error:
        raise CorruptError(f"{path.name} is no artifact of turbo: {error}") from None
    if not all(name.startswith(_HEADERS) and "\n" not in value for name, value in artifact.headers.items()):
        raise CorruptError(f"{path.name} wants to say more than turbo does of an artifact")
    return artifact


class TurboCache:
    """Which artifact answers which hash, for all visits; the artifacts themselves are in the blob store."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._index: dict[str, tuple[Blob, TurboArtifact]] = {}
        self._visits: dict[str, Visit] = {}

    def open(
        self, expected: Iterable[str], remote: Mapping[str, str] | None = None, names: Mapping[str, str] | None = None
    ) -> "Visit":
        """Let a turbo process in. What it puts under an `expected` hash is kept; `remote` is the user's own cache, to be asked behind ours; `names`
        says which hash is meant by one that only this process has for it.
        """
        visit = Visit(self, expected, _upstream(remote) if remote else None, self._visits.pop, names or {})
        self._visits[visit.name] = visit
        return visit

    def offer(self, turbo_hash: str, artifact: Blob) -> None:
        """Let `artifact` answer for `turbo_hash`. Raises `CorruptError` where it is not in the store, or is another task's."""
        path = self._blobs.find(artifact.digest)
        if path is None:
            raise CorruptError(f"{artifact.digest} is not in the blob store")
        parsed = parse_artifact(path)
        if parsed.hash != turbo_hash:
            raise CorruptError(f"{artifact.digest} is the artifact of {parsed.hash}, not of {turbo_hash}")
        self._index[turbo_hash] = (artifact, parsed)

    def stored(self, turbo_hash: str) -> Blob | None:
        """The artifact that answers for `turbo_hash`, offered or put by turbo; None where the store has lost it."""
        found = self._index.get(turbo_hash)
        return found[0] if found and self._blobs.find(found[0].digest) is not None else None

    async def adopt(self, turbo_hash: str, archive: Path, duration_ms: int) -> Blob:
        """Take in the archive that turbo has in its own cache on this machine. Raises `StorageError`."""

        async def pieces() -> AsyncIterator[bytes]:
            with archive.open("rb") as file:
                while piece := file.read(_READ_BYTES):
                    await trio.lowlevel.checkpoint()
                    yield piece

        try:
            return await self.keep(turbo_hash, {_DURATION: str(duration_ms)}, pieces())
        except OSError as error:
            raise StorageError(f"cannot read {archive}: {error.strerror}") from None

    async def keep(self, turbo_hash: str, headers: Mapping[str, str], body: AsyncIterator[bytes]) -> Blob:
        """Store an artifact; the first one of a hash stays. Raises `StorageError`, and whatever reading `body` raises."""
        said = {name: value for name, value in headers.items() if name.startswith(_HEADERS)}
        head = canonical.encode({"hash": turbo_hash, "headers": said})
        with self._blobs.writer() as writer:
            writer.write(len(head).to_bytes(_LENGTH_BYTES, "big") + head)
            async for data in body:
                writer.write(data)
            blob = writer.finish()
        artifact = TurboArtifact(turbo_hash, said, _LENGTH_BYTES + len(head))
        if self.stored(turbo_hash) is None:
            self._index[turbo_hash] = (blob, artifact)
        return self._index[turbo_hash][0]

    def archive(self, turbo_hash: str) -> tuple[FileBody, TurboArtifact] | None:
        """What is served for `turbo_hash`; None where it is not here, or no longer."""
        blob, artifact = self._index.get(turbo_hash, (None, None))
        if blob is None or artifact is None or (path := self._blobs.find(blob.digest)) is None:
            return None
        return FileBody(path, artifact.offset, blob.size - artifact.offset), artifact

    async def answer(self, request: Request, path: str) -> Response:
        """One request of a turbo."""
        match = _PATH.fullmatch(path)
        visit = self._visits.get(match[1]) if match else None
        if match is None or visit is None:
            await _drain(request)
            return Response(404)
        return await visit.answer(request, match[2] or "")

    async def refuse(self, request: Request) -> Response:
        """Turbo warns, and goes on without a remote cache."""
        await _drain(request)
        return Response(403)


def _upstream(remote: Mapping[str, str]) -> "Upstream":
    # Here, since httpx takes a tenth of a second to load, and few have a remote cache.
    from mesh.cache.upstream import of_turbo  # noqa: PLC0415 - httpx, for those who have such a cache

    return of_turbo(remote)


class Visit:
    """One turbo process, as the cache sees it."""

    def __init__(
        self,
        cache: TurboCache,
        expected: Iterable[str],
        upstream: "Upstream | None",
        forget: Callable[[str], object],
        names: Mapping[str, str],
    ) -> None:
        self.name: Final = secrets.token_urlsafe(12)
        self.missed: Final[dict[str, None]] = {}
        """Hashes that were asked for and were not to be had."""
        self.strays: Final[dict[str, None]] = {}
        """Hashes that were put without being expected."""
        self._cache = cache
        self._expected = dict.fromkeys(expected)
        self._upstream = upstream
        self._forget = forget
        self._names = names
        self._holds: dict[str, trio.Event] = {}
        self._held: dict[str, None] = {}
        self._put: dict[str, str] = {}
        self._news = trio.Event()
        self._publish, self._published = trio.open_memory_channel[str](PUSHES_MAX)
        self._pushed = trio.Event()

    # --- for whoever started it ----------------------------------------------------------------------

    def hold(self, turbo_hash: str) -> None:
        """Let whoever reads `turbo_hash` wait for `release`."""
        self._holds.setdefault(turbo_hash, trio.Event())

    def release(self, turbo_hash: str) -> None:
        """Answer for `turbo_hash` from now on with what there is."""
        if (event := self._holds.pop(turbo_hash, None)) is not None:
            event.set()

    def release_longest_held(self, but: Container[str] = ()) -> str:
        """Answer what has been waited for the longest, `but` these; "" where nothing else is waited for."""
        for turbo_hash in self._held:
            if turbo_hash in self._holds and turbo_hash not in but:
                self.release(turbo_hash)
                return turbo_hash
        return ""

    def release_all(self) -> None:
        """Let nobody wait any more, for `news` neither."""
        for turbo_hash in [*self._holds]:
            self.release(turbo_hash)
        self._tell()

    def put(self, turbo_hash: str) -> str | None:
        """Whether turbo has put `turbo_hash`: None where it has not, "" where that is stored, else why it could not be."""
        return self._put.get(turbo_hash)

    @property
    def news(self) -> trio.Event:
        """Set when turbo puts the next thing: to be taken before `put` is asked, so that nothing is missed in between."""
        return self._news

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()

    # --- the user's own cache ------------------------------------------------------------------------

    async def have(self, hashes: Iterable[str]) -> tuple[str, ...]:
        """Which of `hashes` are in the user's own cache."""
        return await self._upstream.have(tuple(hashes)) if self._upstream else ()

    async def fetch(self, turbo_hash: str) -> Blob | None:
        """Bring `turbo_hash` here from the user's own cache; None where it is not there, or cannot be had."""
        if self._upstream is None:
            return None

        async def keep(headers: Mapping[str, str], body: AsyncIterator[bytes]) -> None:
            await self._cache.keep(turbo_hash, headers, body)

        try:
            await self._upstream.get(turbo_hash, keep)
        except StorageError:
            return None  # a miss: turbo runs it
        return self._cache.stored(turbo_hash)

    def publish(self, turbo_hash: str) -> None:
        """Have `push` put `turbo_hash` into the user's own cache too."""
        if self._upstream is not None:
            with suppress(trio.WouldBlock, trio.ClosedResourceError):
                self._publish.send_nowait(turbo_hash)

    async def push(self) -> None:
        """Put into the user's own cache what is published, until `finish`."""
        async for turbo_hash in self._published:
            if self._upstream is not None and (found := self._cache.archive(turbo_hash)):
                body, artifact = found
                await self._upstream.put(turbo_hash, artifact.headers, body.path, body.offset, body.length)
        self._pushed.set()

    def finish(self) -> None:
        """Nothing more will be published."""
        self._publish.close()

    async def wait_pushed(self) -> None:
        """Until `push` is through, after `finish`."""
        await self._pushed.wait()

    async def aclose(self) -> None:
        """The process is gone: whatever still comes in its name is not heard."""
        self._forget(self.name)
        self.finish()
        self.release_all()
        if self._upstream is not None:
            await self._upstream.aclose()

    # --- for turbo -----------------------------------------------------------------------------------

    async def answer(self, request: Request, turbo_hash: str) -> Response:
        """One request; "" is the path of all artifacts."""
        turbo_hash = self._names.get(turbo_hash, turbo_hash)
        match request.method, turbo_hash:
            case "OPTIONS", _:
                return Response(200, {"Access-Control-Allow-Headers": "Authorization, Content-Type, User-Agent"})
            case "GET", "status":
                return _json({"status": "enabled"})
            case "POST", "":
                return await self._query(request)
            case "GET" | "HEAD", _ if turbo_hash and turbo_hash not in _WORDS:
                return await self._get(turbo_hash, wait=request.method == "GET")
            case "PUT", _ if turbo_hash and turbo_hash not in _WORDS:
                return await self._take(turbo_hash, request)
            case "POST", "events":
                await _drain(request)
                return Response(200)
            case _:
                await _drain(request)
                return Response(404)

    async def _query(self, request: Request) -> Response:
        body = bytearray()
        async for data in request.body:
            body += data
            if len(body) > HASHES_BYTES_MAX:
                raise RemoteError("too-large", f"a question for hashes of more than {HASHES_BYTES_MAX} bytes")
        answers: dict[str, object] = {}
        for turbo_hash in Reader(canonical.decode(body), "query").texts("hashes"):
            found = self._cache.archive(self._names.get(turbo_hash, turbo_hash))
            answers[turbo_hash] = (
                {"size": found[0].length, "taskDurationMs": found[1].duration_ms}
                if found
                else {"error": {"message": "not found"}}
            )
        return _json(answers)

    async def _get(self, turbo_hash: str, *, wait: bool) -> Response:
        if wait and (hold := self._holds.get(turbo_hash)) is not None:
            self._held[turbo_hash] = None
            try:
                await hold.wait()
            finally:
                self._held.pop(turbo_hash, None)
        found = self._cache.archive(turbo_hash)
        if found is None and turbo_hash not in self._expected and await self.fetch(turbo_hash) is not None:
            found = self._cache.archive(turbo_hash)
        if found is None:
            self.missed[turbo_hash] = None
            return Response(404)
        body, artifact = found
        return Response(200, {"Content-Type": "application/octet-stream", **artifact.headers}, body)

    async def _take(self, turbo_hash: str, request: Request) -> Response:
        if turbo_hash not in self._expected:
            self.strays[turbo_hash] = None
            if self._upstream is None:
                await _drain(request)
                return _TAKEN
        problem = ""
        try:
            await self._cache.keep(turbo_hash, request.headers, request.body)
            self.publish(turbo_hash)
        except StorageError as error:
            problem = str(error)
            await _drain(request)
        self._put[turbo_hash] = problem
        self._tell()
        return _TAKEN  # also where it could not be kept: turbo has done its part, and would only wait and try again


async def _drain(request: Request) -> None:
    async for _ in request.body:
        pass


def _json(value: object) -> Response:
    return Response(200, {"Content-Type": "application/json"}, canonical.encode(value))


_TAKEN: Final = Response(202, {"Content-Type": "application/json"}, b'{"urls":[]}')
