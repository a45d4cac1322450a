"""Short ways to say the news that the tests of the report need: the fixture `say`."""

import sys
from types import ModuleType

import pytest

from mesh.protocol.news import AgentJoined, AgentLeft, GraphAdded, News, TaskAwarded, TaskEnded, TaskStarted
from mesh.types import Blob, Digest, Epoch, NodeId, Seq, TaskId

DIGEST = Digest("sha256:" + "0" * 64)


@pytest.fixture
def say() -> ModuleType:
    """The functions of this file."""
    return sys.modules[__name__]


def joined(name: str, slots: int = 1) -> AgentJoined:
    return AgentJoined(NodeId(f"node-of-{name}"), name, slots)


def left(name: str, *, lost: bool = False, reason: str = "") -> AgentLeft:
    return AgentLeft(NodeId(f"node-of-{name}"), name, reason, lost)


def graph(**deps: str) -> GraphAdded:
    """`graph(a="", b="a")`; two underscores stand for a colon."""
    tasks = {name.replace("__", ":"): its.replace("__", ":").split() for name, its in deps.items()}
    return GraphAdded(DIGEST, tuple((TaskId(name), tuple(TaskId(dep) for dep in its)) for name, its in tasks.items()))


def awarded(task: str, agent: str, attempt: int = 1) -> TaskAwarded:
    return TaskAwarded(TaskId(task), NodeId(f"node-of-{agent}"), agent, attempt, Epoch(1), Seq(1))


def started(task: str, agent: str, attempt: int = 1) -> TaskStarted:
    return TaskStarted(TaskId(task), NodeId(f"node-of-{agent}"), agent, attempt)


def ended(task: str, agent: str = "a1", duration_ms: int = 1_000, **more) -> TaskEnded:
    log_bytes = more.pop("log_bytes", None)
    fields = {
        "status": "success",
        "attempts": 1,
        "cache": "none",
        "exit_code": 0,
        "outputs": None,
        "log": None if log_bytes is None else Blob(DIGEST, log_bytes),
        "ledger_index": 1,
        "max_rss_bytes": 0,
        "problem": "",
        **more,
    }
    return TaskEnded(task=TaskId(task), agent=agent, duration_ms=duration_ms, **fields)


def failed(task: str, agent: str = "a1", duration_ms: int = 1_000, **more) -> TaskEnded:
    return ended(task, agent, duration_ms, **{"status": "failure", "exit_code": 1, **more})


def tell(reader, *timed: tuple[int, News]) -> None:
    """Give each item to a summary or a reporter at its time."""
    for t_ms, item in timed:
        (reader.news if hasattr(reader, "news") else reader.apply)(item, t_ms)
