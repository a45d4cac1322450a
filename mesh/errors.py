"""Every error the project raises on purpose, and the exit code each one ends a command with.

Blame is in the type: `LocalError` is the person or the machine on this side, `RemoteError` is a peer. Messages are for a person at two
in the morning: what is wrong, where, and what to do. Our own mistakes are assertions, never one of these.
"""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of `dte`."""

    OK = 0
    TASK_FAILED = 1
    USAGE = 2
    MESH = 3
    HUNG_UP = 129
    INTERRUPTED = 130
    TERMINATED = 143


def readable(text: str) -> str:
    """`text` as it can be told to anybody: a file's name may be no UTF-8, and what is not has no place in JSON."""
    return text.encode(errors="replace").decode()


class MeshError(Exception):
    """Anything that the project raises on purpose."""

    exit_code: Exit = Exit.MESH

    def __init__(self, text: str = "") -> None:
        super().__init__(readable(text))


class LocalError(MeshError):
    """Something on this side is wrong."""


class UsageError(LocalError):
    """The command line, the configuration or the workspace is wrong; nothing was run."""

    exit_code = Exit.USAGE


class StorageError(LocalError):
    """This machine cannot keep what it must: a full disk, a read-only directory."""


class FullError(StorageError):
    """It has no room now. It may have in a moment: what other tasks write beside what they keep is removed again."""


class RemoteError(MeshError):
    """A peer broke the protocol. `word` is from the registry in docs/spec and is what tests and peers compare."""

    def __init__(self, word: str, detail: str = "") -> None:
        super().__init__(f"{word}: {detail}" if detail else word)
        self.word = word


class CorruptError(RemoteError):
    """Content does not hash to its name, or an archive is not what it claims to be."""

    def __init__(self, detail: str) -> None:
        super().__init__("corrupt", detail)
