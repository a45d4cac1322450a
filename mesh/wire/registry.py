"""The words of `RemoteError`: what a peer, a file or an archive did wrong. Closed: docs/spec/registry.md says what each means."""

from typing import Final

WORDS: Final = (
    "bad-certificate",
    "bad-signature",
    "corrupt",
    "cycle",
    "duplicate-task",
    "frame-too-large",
    "malformed",
    "missing",
    "second-main",
    "stalled",
    "too-large",
    "truncated",
    "unexpected",
    "unknown-dependency",
    "version",
)
