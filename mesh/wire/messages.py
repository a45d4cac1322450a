"""Every message of `dte/1`, one frozen class each (docs/spec/messages.md).

A message is a JSON object whose `type` is the class's word. Fields that are not known are ignored, so that a newer peer of the same major version
is understood; a field that is missing or of the wrong type is `malformed`, and the link it came over is closed.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, Literal, cast

from msgspec import Struct, field

from mesh.errors import RemoteError
from mesh.types import SLOTS_MAX, Blob, Digest, Epoch, NodeId, Quantiles, Seq, TaskId
from mesh.wire.canonical import Reader

PROTOCOL_MAJOR: Final = 1
GRAPHS_MAX: Final = 1_000
MEMBERS_MAX: Final = 10_000
RECORDS_MAX: Final = 10_000
HOLDERS_MAX: Final = 64
ADDRESSES_MAX: Final = 64
"""Of one node; what it says beyond that is passed over, and so are those that are longer than any host name."""
ADDRESS_CHARS_MAX: Final = 300
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")

Role = Literal["main", "agent"]
Standing = Literal["alive", "left", "dead"]
RecordStatus = Literal["success", "failure", "skipped", "cancelled"]
RunVerdict = Literal["success", "failure", "error", "cancelled"]


class Hello(Struct, frozen=True):
    """The first message on every link, both ways: who I am and what this machine is."""

    run_id: str
    name: str
    role: Role
    slots: int
    incarnation: int
    addresses: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    """What must be equal on main and agents for their results to be interchangeable: `commit`, `os`, `arch`, …"""
    workspace: str = ""
    """Names the directory this node works in; nodes with equal names share it, and need bring each other no files."""
    major: int = PROTOCOL_MAJOR

    def to_json(self) -> dict[str, Any]:
        return {
            "type": "hello",
            "major": self.major,
            "run_id": self.run_id,
            "name": self.name,
            "role": self.role,
            "slots": self.slots,
            "incarnation": self.incarnation,
            "addresses": list(self.addresses),
            "labels": list(self.labels),
            "facts": dict(self.facts),
            "workspace": self.workspace,
        }

    @classmethod
    def from_json(cls, read: Reader) -> "Hello":
        # The version first: a peer of another major may mean anything by the rest.
        if (major := read.number("major")) != PROTOCOL_MAJOR:
            raise RemoteError(
                "version",
                f"the peer speaks dte/{major}, this node dte/{PROTOCOL_MAJOR}; install one version everywhere",
            )
        return cls(
            run_id=read.text("run_id"),
            name=read.text("name", max_chars=200),
            role=_role(read),
            slots=read.number("slots", high=SLOTS_MAX),
            incarnation=read.number("incarnation"),
            addresses=_addresses(read),
            labels=read.texts("labels"),
            facts=read.string_table("facts"),
            workspace=read.text("workspace"),
            major=major,
        )


class Member(Struct, frozen=True):
    """What is told about one node. The higher incarnation is the newer truth; of equal ones, `dead` and `left` beat `alive`."""

    node: NodeId
    name: str
    role: Role
    incarnation: int
    standing: Standing
    addresses: tuple[str, ...] = ()


class Members(Struct, frozen=True):
    """Rumours of membership."""

    members: tuple[Member, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "type": "members",
            "members": [
                {
                    "node": m.node,
                    "name": m.name,
                    "role": m.role,
                    "incarnation": m.incarnation,
                    "standing": m.standing,
                    "addresses": list(m.addresses),
                }
                for m in self.members
            ],
        }

    @classmethod
    def from_json(cls, read: Reader) -> "Members":
        members = []
        for item in read.items("members", max_items=MEMBERS_MAX):
            one = Reader(item, "member")
            standing = one.text("standing")
            if standing not in ("alive", "left", "dead"):
                raise RemoteError("malformed", f"member.standing: {standing!r}")
            members.append(
                Member(
                    NodeId(one.text("node", max_chars=64)),
                    one.text("name", max_chars=200),
                    _role(one),
                    one.number("incarnation"),
                    cast("Standing", standing),
                    _addresses(one),
                )
            )
        return cls(tuple(members))


class Beat(Struct, frozen=True):
    """I am here. The leader's beat renews its lease for `epoch`; an agent's carries the newest epoch it knows."""

    epoch: Epoch

    def to_json(self) -> dict[str, Any]:
        return {"type": "beat", "epoch": self.epoch}

    @classmethod
    def from_json(cls, read: Reader) -> "Beat":
        return cls(_epoch(read))


class Announce(Struct, frozen=True):
    """The leader's task graphs, by digest; a later one repeats the earlier ones. `closed`: no more will come."""

    epoch: Epoch
    graphs: tuple[Blob, ...]
    closed: bool
    estimates_max: int = 0
    """Of how many tasks of each graph this agent's estimates are enough; 0: they are wanted of all."""

    def to_json(self) -> dict[str, Any]:
        graphs = [{"digest": g.digest, "size": g.size} for g in self.graphs]
        return {
            "type": "announce",
            "epoch": self.epoch,
            "graphs": graphs,
            "closed": self.closed,
            "estimates_max": self.estimates_max,
        }

    @classmethod
    def from_json(cls, read: Reader) -> "Announce":
        graphs = tuple(_blob(item) for item in read.items("graphs", max_items=GRAPHS_MAX))
        return cls(_epoch(read), graphs, read.flag("closed"), read.number("estimates_max", default=0))


class Bid(Struct, frozen=True):
    """An agent's standing offer for every open task, sent once and amended by a later one with a higher `serial`.

    Expected completion of a task = when a slot is free + what has to be fetched + what it takes by `estimates`. `cannot` names tasks it must not
    be given, with the reason for a person; `cached` those whose result it already has: they cost it no time. With `open` false it takes none at all,
    for `reason`.
    """

    serial: int
    open: bool
    slots: int
    graphs: int = 0
    """How many of the announced graphs it has compared with its own checkout: only tasks of these may be awarded to it."""
    reason: str = ""
    cannot: Mapping[TaskId, str] = field(default_factory=dict)
    cached: tuple[TaskId, ...] = ()
    estimates: Mapping[TaskId, Quantiles] = field(default_factory=dict)
    """Of tasks that its own history knows something of; what an amendment leaves out stands."""

    def to_json(self) -> dict[str, Any]:
        return {
            "type": "bid",
            "serial": self.serial,
            "open": self.open,
            "slots": self.slots,
            "graphs": self.graphs,
            "reason": self.reason,
            "cannot": dict(self.cannot),
            "cached": list(self.cached),
            "estimates": {task: [*estimate] for task, estimate in self.estimates.items()},
        }

    @classmethod
    def from_json(cls, read: Reader) -> "Bid":
        return cls(
            serial=read.number("serial"),
            open=read.flag("open"),
            slots=read.number("slots", high=SLOTS_MAX),
            graphs=read.number("graphs", high=GRAPHS_MAX),
            reason=read.text("reason"),
            cannot={TaskId(task): reason for task, reason in read.string_table("cannot").items()},
            cached=tuple(TaskId(task) for task in read.texts("cached")),
            estimates={TaskId(task): Quantiles(*pair) for task, pair in read.pair_table("estimates").items()},
        )


class Award(Struct, frozen=True):
    """The leader gives a task to the agent it is sent to. Fenced by (epoch, seq): of an older epoch it is void."""

    epoch: Epoch
    seq: Seq
    task: TaskId
    attempt: int

    def to_json(self) -> dict[str, Any]:
        return {"type": "award", "epoch": self.epoch, "seq": self.seq, "task": self.task, "attempt": self.attempt}

    @classmethod
    def from_json(cls, read: Reader) -> "Award":
        return cls(_epoch(read), Seq(read.number("seq")), _task(read), read.number("attempt", low=1))


class Withdraw(Struct, frozen=True):
    """The leader takes an award back. One that has started runs on, unless `kill`. Answered by `Declined` where it had not started."""

    epoch: Epoch
    task: TaskId
    attempt: int
    kill: bool

    def to_json(self) -> dict[str, Any]:
        return {"type": "withdraw", "epoch": self.epoch, "task": self.task, "attempt": self.attempt, "kill": self.kill}

    @classmethod
    def from_json(cls, read: Reader) -> "Withdraw":
        return cls(_epoch(read), _task(read), read.number("attempt", low=1), read.flag("kill"))


class Declined(Struct, frozen=True):
    """The agent hands an award back. `never`: it must not be given this task again. `missing`: results whose outputs nobody can give it."""

    task: TaskId
    attempt: int
    reason: str
    never: bool = False
    missing: tuple[TaskId, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "type": "declined",
            "task": self.task,
            "attempt": self.attempt,
            "reason": self.reason,
            "never": self.never,
            "missing": list(self.missing),
        }

    @classmethod
    def from_json(cls, read: Reader) -> "Declined":
        missing = tuple(TaskId(task) for task in read.texts("missing"))
        return cls(_task(read), read.number("attempt", low=1), read.text("reason"), read.flag("never"), missing)


class Started(Struct, frozen=True):
    """The task's process is running, and has been for `ran_ms`."""

    task: TaskId
    attempt: int
    ran_ms: int = 0

    def to_json(self) -> dict[str, Any]:
        return {"type": "started", "task": self.task, "attempt": self.attempt, "ran_ms": self.ran_ms}

    @classmethod
    def from_json(cls, read: Reader) -> "Started":
        return cls(_task(read), read.number("attempt", low=1), read.number("ran_ms", default=0))


class Log(Struct, frozen=True):
    """The next bytes of a running task's output, in base64. `offset` is where they belong, so that a gap is seen; the whole is a blob at the end."""

    task: TaskId
    attempt: int
    offset: int
    data: str

    def to_json(self) -> dict[str, Any]:
        return {"type": "log", "task": self.task, "attempt": self.attempt, "offset": self.offset, "data": self.data}

    @classmethod
    def from_json(cls, read: Reader) -> "Log":
        return cls(
            _task(read), read.number("attempt", low=1), read.number("offset"), read.text("data", max_chars=2_000_000)
        )


class Result(Struct, frozen=True):
    """How an execution ended: the completion statement, signed by the agent that ran it (a DSSE envelope)."""

    envelope: str

    def to_json(self) -> dict[str, Any]:
        return {"type": "result", "envelope": self.envelope}

    @classmethod
    def from_json(cls, read: Reader) -> "Result":
        return cls(read.text("envelope", max_chars=65_535))


class Record(Struct, frozen=True):
    """A task that is done and in the ledger: what agents need to know of it to run what depends on it."""

    task: TaskId
    status: RecordStatus
    key: str = ""
    outputs: Blob | None = None
    holders: tuple[NodeId, ...] = ()


class Records(Struct, frozen=True):
    """Records that the receiver may not have yet. A later one for a task replaces the earlier."""

    epoch: Epoch
    records: tuple[Record, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "type": "records",
            "epoch": self.epoch,
            "records": [
                {
                    "task": r.task,
                    "status": r.status,
                    "key": r.key,
                    "outputs": None if r.outputs is None else {"digest": r.outputs.digest, "size": r.outputs.size},
                    "holders": list(r.holders),
                }
                for r in self.records
            ],
        }

    @classmethod
    def from_json(cls, read: Reader) -> "Records":
        records = []
        for item in read.items("records", max_items=RECORDS_MAX):
            one = Reader(item, "record")
            status = one.text("status")
            if status not in ("success", "failure", "skipped", "cancelled"):
                raise RemoteError("malformed", f"record.status: {status!r}")
            outputs = _blob(one.table("outputs")) if one.has("outputs") else None
            holders = tuple(NodeId(node) for node in one.texts("holders"))[:HOLDERS_MAX]
            records.append(Record(_task(one), cast("RecordStatus", status), one.text("key"), outputs, holders))
        return cls(_epoch(read), tuple(records))


class Refused(Struct, frozen=True):
    """The leader will give this agent no work, for `reason`: it may as well go."""

    reason: str

    def to_json(self) -> dict[str, Any]:
        return {"type": "refused", "reason": self.reason}

    @classmethod
    def from_json(cls, read: Reader) -> "Refused":
        return cls(read.text("reason"))


class Released(Struct, frozen=True):
    """There is no more work for this agent in this run: it may go. `reason` says what is left, for how many others."""

    reason: str

    def to_json(self) -> dict[str, Any]:
        return {"type": "released", "reason": self.reason}

    @classmethod
    def from_json(cls, read: Reader) -> "Released":
        return cls(read.text("reason"))


class Ended(Struct, frozen=True):
    """The run is over. What still runs is to be ended; there is nothing left to do."""

    epoch: Epoch
    verdict: RunVerdict

    def to_json(self) -> dict[str, Any]:
        return {"type": "ended", "epoch": self.epoch, "verdict": self.verdict}

    @classmethod
    def from_json(cls, read: Reader) -> "Ended":
        verdict = read.text("verdict")
        if verdict not in ("success", "failure", "error", "cancelled"):
            raise RemoteError("malformed", f"ended.verdict: {verdict!r}")
        return cls(_epoch(read), cast("RunVerdict", verdict))


class Leave(Struct, frozen=True):
    """I go, on purpose: nobody need wait for me."""

    reason: str

    def to_json(self) -> dict[str, Any]:
        return {"type": "leave", "reason": self.reason}

    @classmethod
    def from_json(cls, read: Reader) -> "Leave":
        return cls(read.text("reason"))


Message = (
    Hello
    | Members
    | Beat
    | Announce
    | Bid
    | Award
    | Withdraw
    | Declined
    | Started
    | Log
    | Result
    | Records
    | Refused
    | Released
    | Ended
    | Leave
)


def _role(read: Reader) -> Role:
    role = read.text("role")
    if role not in ("main", "agent"):
        raise RemoteError("malformed", f"role: {role!r}")
    return cast("Role", role)


def _addresses(read: Reader) -> tuple[str, ...]:
    said = read.texts("addresses")
    fit = (one for one in said if len(one) <= ADDRESS_CHARS_MAX and one.isascii() and one.isprintable())
    return tuple(fit)[:ADDRESSES_MAX]


def _epoch(read: Reader) -> Epoch:
    return Epoch(read.number("epoch"))


def _task(read: Reader) -> TaskId:
    return TaskId(read.text("task", max_chars=1_024))


def _blob(value: Any) -> Blob:
    read = Reader(value, "blob")
    digest = read.text("digest", max_chars=71)
    if _DIGEST.fullmatch(digest) is None:
        raise RemoteError("malformed", f"blob.digest: {digest!r} is not sha256: and 64 lower-case hexadecimal digits")
    return Blob(Digest(digest), read.number("size"))
