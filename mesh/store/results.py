"""Results of earlier runs, by trust domain and task key: which signed completion says what a task with this key came to.

An entry begins with a hash over its domain, its key and its content. So it need not be fsynced: what a power cut leaves of it, or what was
moved under another name, is as good as absent, and the task runs again.
"""

import hashlib
from pathlib import Path
from typing import Final

from mesh.store.files import storing, write_atomically
from mesh.wire import canonical

_SEAL_BYTES: Final = 32


class Results:
    """Completion envelopes on this machine. What one says is its signer's word: the reader judges it."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def find(self, domain: str, key: str) -> bytes | None:
        """What was recorded for `key` in `domain`; None where nothing was, or where it is damaged."""
        try:
            entry = self._path(domain, key).read_bytes()
        except OSError:
            return None
        envelope = entry[_SEAL_BYTES:]
        return envelope if entry[:_SEAL_BYTES] == _seal(domain, key, envelope) else None

    def record(self, domain: str, key: str, envelope: bytes) -> None:
        """Keep `envelope`, in the place of an earlier one."""
        path = self._path(domain, key)
        with storing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, _seal(domain, key, envelope) + envelope, durable=False)

    def _path(self, domain: str, key: str) -> Path:
        # Hashed, since neither name is ours: a branch may be called `../..`.
        name = hashlib.sha256(canonical.encode([domain, key])).hexdigest()
        return self._root / name[:2] / name


def _seal(domain: str, key: str, envelope: bytes) -> bytes:
    return hashlib.sha256(canonical.encode([domain, key]) + b"\n" + envelope).digest()
