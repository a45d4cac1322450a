"""The news as programs read it: one JSON object a line, for `--events`. Names and fields are listed in docs/guide/output.md and stay.

An object has `t_ms`, `event` (the class in kebab-case) and the item's own fields under their own names. New fields may come; none
will go or change its meaning within one major version.
"""

import re
from typing import Any

from mesh.protocol.news import GraphAdded, News
from mesh.types import Blob
from mesh.wire import canonical


def event_name(kind: type[News]) -> str:
    """`TaskEnded` → `task-ended`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", kind.__name__).lower()


def event_object(item: News, t_ms: int) -> dict[str, Any]:
    """One item of news as a JSON object."""
    result: dict[str, Any] = {"t_ms": t_ms, "event": event_name(type(item))}
    for name in item.__struct_fields__:
        value = getattr(item, name)
        result[name] = {"digest": value.digest, "size": value.size} if isinstance(value, Blob) else value
    if isinstance(item, GraphAdded):
        result["tasks"] = [{"id": task, "deps": list(deps)} for task, deps in item.tasks]
    return result


def event_line(item: News, t_ms: int) -> bytes:
    """One item of news as a line of NDJSON."""
    return canonical.encode(event_object(item, t_ms)) + b"\n"
