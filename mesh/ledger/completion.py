"""How a task ended, as SLSA provenance: the entry that an agent signs for what it ran.

The subject is one digest: the archive of the outputs, or the log of a task that left none (a task that never ran has an empty log). What does not fit
SLSA's own fields stands where SLSA leaves room: `externalParameters` for what was asked, `internalParameters` for the award, and the byproduct `result` for
how it went. SLSA's published protobuf schema is strict about other fields.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, cast, get_args

from mesh.errors import RemoteError, readable
from mesh.ledger.intoto import BASE_URI, Sealable, Statement, descriptor, digest_of, read_digest
from mesh.types import Blob, Digest, Epoch, NodeId, Seq, TaskId, UnixMs
from mesh.wire import canonical
from mesh.wire.canonical import Reader

Status = Literal["success", "failure", "skipped", "cancelled"]
CacheUse = Literal["none", "hit"]

PROVENANCE_TYPE: Final = "https://slsa.dev/provenance/v1"
BUILD_TYPE: Final = f"{BASE_URI}task/v1"

TASK_CHARS_MAX: Final = 1_024
KEY_CHARS_MAX: Final = 1_024
PROBLEM_CHARS_MAX: Final = 1_024
LEFT_CHARS_MAX: Final = 1_024
DEPS_BYTES_MAX: Final = 16_384
# With these five at their limits, and each character as a six-byte escape, an envelope is still below 65,535 bytes (a test holds it).

UNIX_MS_MAX: Final = 253_402_300_799_999
_BEGIN: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Completion(Sealable, frozen=True):
    """One task, ended for good. `name` is the agent's, "" where nobody ran it. `problem` is cut to `PROBLEM_CHARS_MAX` when it is written.

    `deps` that are too many to be listed are written as the digest of their canonical JSON list: a completion that was read then has `deps_digest`
    and no `deps`. Whoever holds the graph, whose digest is in the ledger too, can compare.
    """

    run_id: str
    task: TaskId
    key: str
    status: Status
    exit_code: int
    epoch: Epoch
    seq: Seq
    attempt: int
    name: str
    outputs: Blob | None
    log: Blob | None
    started_ms: UnixMs
    ended_ms: UnixMs
    max_rss_bytes: int = 0
    cache: CacheUse = "none"
    deps: tuple[TaskId, ...] = ()
    problem: str = ""
    allowed_to_fail: bool = False
    left: tuple[str, ...] = ()
    """Paths of files that the task made where only other tasks' outputs belong; as many as `LEFT_CHARS_MAX` allows are written."""
    deps_digest: Digest | None = None

    def statement(self, signer: NodeId, /) -> Statement:
        if len(self.task) > TASK_CHARS_MAX or len(self.key) > KEY_CHARS_MAX:
            raise RemoteError(
                "too-large",
                f"task {self.task[:80]}: an id of {len(self.task)} and a key of {len(self.key)} characters; "
                f"the limits are {TASK_CHARS_MAX} and {KEY_CHARS_MAX}",
            )
        subject = self.outputs or self.log or Blob(digest_of(b""), 0)
        return Statement(
            "outputs" if self.outputs is not None else "log",
            subject.digest,
            PROVENANCE_TYPE,
            {"buildDefinition": self._definition(), "runDetails": self._details(signer)},
            {"size_bytes": subject.size},
        )

    def names(self, deps: tuple[TaskId, ...]) -> bool:
        """Whether these are its dependencies, listed or by their digest."""
        if self.deps_digest is None:
            return self.deps == deps
        return self.deps_digest == digest_of(canonical.encode(list(deps)))

    def _definition(self) -> dict[str, Any]:
        return {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "run_id": self.run_id,
                "task": self.task,
                "key": self.key,
                "allowed_to_fail": self.allowed_to_fail,
            },
            "internalParameters": {
                "agent": self.name,
                "epoch": self.epoch,
                "seq": self.seq,
                "attempt": self.attempt,
            },
            "resolvedDependencies": self._dependencies(),
        }

    def _details(self, signer: NodeId) -> dict[str, Any]:
        result = {
            "status": self.status,
            "exit_code": self.exit_code,
            "cache": self.cache,
            "max_rss_bytes": self.max_rss_bytes,
            "problem": _cut(self.problem),
            "left": list(_fitting(self.left)),
        }
        byproducts: list[dict[str, Any]] = [{"name": "result", "annotations": result}]
        if self.log is not None:
            byproducts.append(descriptor("log", self.log.digest, {"size_bytes": self.log.size}))
        return {
            "builder": {"id": builder_id(signer)},
            "metadata": {
                "invocationId": f"{self.run_id}/{self.epoch}/{self.seq}/{self.attempt}",
                "startedOn": _to_text(self.started_ms),
                "finishedOn": _to_text(self.ended_ms),
            },
            "byproducts": byproducts,
        }

    def _dependencies(self) -> list[dict[str, Any]]:
        if self.deps_digest is not None:
            return [descriptor("", self.deps_digest)]
        listed = [{"name": dep} for dep in self.deps]
        if len(canonical.encode(listed)) > DEPS_BYTES_MAX:
            return [descriptor("", digest_of(canonical.encode(list(self.deps))))]
        return listed


def builder_id(node: NodeId) -> str:
    """A node as SLSA names builders."""
    return f"{BASE_URI}node/{node}"


def read_completion(statement: Statement, signer: NodeId) -> Completion:
    """The completion that `Completion.statement` wrote and `signer` signed. Raises `RemoteError("malformed")`."""
    predicate = Reader(statement.predicate, "predicate")
    definition = Reader(predicate.table("buildDefinition"), "buildDefinition")
    asked = Reader(definition.table("externalParameters"), "externalParameters")
    award = Reader(definition.table("internalParameters"), "internalParameters")
    details = Reader(predicate.table("runDetails"), "runDetails")
    metadata = Reader(details.table("metadata"), "metadata")
    if Reader(details.table("builder"), "builder").text("id") != builder_id(signer):
        raise RemoteError("malformed", f"builder.id: {builder_id(signer)}, who signed, was expected")
    byproducts = details.items("byproducts", max_items=2)
    result = Reader(Reader(byproducts[0] if byproducts else None, "byproducts[0]").table("annotations"), "result")
    if statement.name not in ("outputs", "log"):
        raise RemoteError(
            "malformed", f"statement.subject[0].name: outputs or log was expected, not {statement.name[:80]!r}"
        )
    deps, deps_digest = _read_dependencies(definition)
    return Completion(
        run_id=asked.text("run_id"),
        task=TaskId(asked.text("task", max_chars=TASK_CHARS_MAX)),
        key=asked.text("key", max_chars=KEY_CHARS_MAX),
        status=cast("Status", one_of(result, "status", get_args(Status))),
        exit_code=result.number("exit_code", low=-(2**32), high=2**32),
        epoch=Epoch(award.number("epoch")),
        seq=Seq(award.number("seq")),
        attempt=award.number("attempt"),
        name=award.text("agent"),
        outputs=_blob(statement.digest, statement.annotations) if statement.name == "outputs" else None,
        log=_read_log(byproducts[1]) if len(byproducts) == 2 else None,
        started_ms=_to_ms(metadata.text("startedOn"), "startedOn"),
        ended_ms=_to_ms(metadata.text("finishedOn"), "finishedOn"),
        max_rss_bytes=result.number("max_rss_bytes"),
        cache=cast("CacheUse", one_of(result, "cache", get_args(CacheUse))),
        deps=deps,
        problem=result.text("problem"),
        allowed_to_fail=asked.flag("allowed_to_fail"),
        left=result.texts("left", default=()),
        deps_digest=deps_digest,
    )


def one_of(read: Reader, name: str, words: tuple[str, ...]) -> str:
    """A field that holds one of `words`. Raises `RemoteError("malformed")`."""
    word = read.text(name)
    if word not in words:
        raise RemoteError("malformed", f"{name}: one of {', '.join(words)} was expected, not {word[:80]!r}")
    return word


def _read_dependencies(definition: Reader) -> tuple[tuple[TaskId, ...], Digest | None]:
    # No more of them fit: each takes at least twelve bytes.
    items = definition.items("resolvedDependencies", max_items=DEPS_BYTES_MAX // 12)
    names = [Reader(item, "resolvedDependencies").text("name") for item in items]
    if names == [""]:
        return (), read_digest(items[0], "resolvedDependencies[0]")
    return tuple(TaskId(name) for name in names), None


def _read_log(value: Any) -> Blob:
    read = Reader(value, "byproducts[1]")
    return _blob(read_digest(value, "byproducts[1]"), read.table("annotations"))


def _blob(digest: Digest, annotations: dict[str, Any] | None) -> Blob:
    return Blob(digest, Reader(annotations, "annotations").number("size_bytes"))


def _cut(problem: str) -> str:
    # What a tool prints need not be text; a completion must not be lost for it.
    text = readable(problem)
    return text if len(text) <= PROBLEM_CHARS_MAX else f"{text[: PROBLEM_CHARS_MAX - 1]}…"


def _fitting(paths: tuple[str, ...]) -> Iterator[str]:
    """Whole paths, from the first on. What is no text is no path that anybody could look for."""
    chars = 0
    for path in paths:
        chars += len(path)
        if chars > LEFT_CHARS_MAX:
            return
        if path.isprintable():
            yield path


def _to_text(time: UnixMs) -> str:
    # A clock beyond all bounds must not lose a result.
    moment = _BEGIN + timedelta(milliseconds=min(max(time, 0), UNIX_MS_MAX))
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _to_ms(text: str, name: str) -> UnixMs:
    try:
        moment = datetime.fromisoformat(text)
        return UnixMs((moment - _BEGIN) // timedelta(milliseconds=1))
    except (ValueError, TypeError):
        raise RemoteError("malformed", f"{name}: a time in UTC was expected, not {text[:80]!r}") from None
