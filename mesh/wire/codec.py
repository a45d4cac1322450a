"""Bytes to messages and back. Behind `decode` nobody tests a type again."""

from collections.abc import Callable
from typing import Final

from mesh.wire import canonical, messages
from mesh.wire.canonical import Reader
from mesh.wire.messages import Message

_READERS: Final[dict[str, Callable[[Reader], Message]]] = {
    "hello": messages.Hello.from_json,
    "members": messages.Members.from_json,
    "beat": messages.Beat.from_json,
    "announce": messages.Announce.from_json,
    "bid": messages.Bid.from_json,
    "award": messages.Award.from_json,
    "withdraw": messages.Withdraw.from_json,
    "declined": messages.Declined.from_json,
    "started": messages.Started.from_json,
    "log": messages.Log.from_json,
    "result": messages.Result.from_json,
    "records": messages.Records.from_json,
    "refused": messages.Refused.from_json,
    "released": messages.Released.from_json,
    "ended": messages.Ended.from_json,
    "leave": messages.Leave.from_json,
}


def encode(message: Message) -> bytes:
    """The canonical bytes of one message: the body of one frame."""
    return canonical.encode(message.to_json())


def decode(data: bytes | bytearray | memoryview) -> Message | None:
    """The message in one frame; None for a type this version does not know. Raises `RemoteError`."""
    read = Reader(canonical.decode(data), "message")
    reader = _READERS.get(read.text("type", max_chars=64))
    return None if reader is None else reader(read)
