"""What nx does not cache travels in dte's own archive: the outputs of a task with `cache: false`, and the files that it changed, tracked ones and outputs
of what it depends on.

A code generator, or a formatter, changes sources that later tasks read; what stamps a version or strips comments, what others have built. Under nx alone
those read what it wrote, so here they do as well.
"""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import trio

from mesh.errors import CorruptError, StorageError, UsageError
from mesh.exec import archive
from mesh.exec.edits import edits
from mesh.exec.globs import Globs, literal
from mesh.exec.tree import walk
from mesh.graph import Task
from mesh.store.blobs import BlobStore
from mesh.types import Blob

Edits = dict[str, tuple[int, int]]
"""Tracked files that are not as they are committed, and outputs: their times of change, in nanoseconds, and sizes."""


class Carried:
    """One workspace and its store."""

    def __init__(self, workspace: Path, blobs: BlobStore) -> None:
        self._workspace = workspace
        self._blobs = blobs

    async def edits(self, needed: Iterable[Task] = ()) -> Edits:
        """The tracked files that have been changed so far, but for those that are gone, and none where this is no git checkout; and all outputs of `needed`."""
        outputs = [task.outputs for task in needed if task.outputs]
        return await trio.to_thread.run_sync(lambda: {**self._edits(), **self._outputs(outputs)})

    async def pack(self, task: Task, edited: tuple[str, ...] = ()) -> Blob | None:
        """The outputs of `task` as they are in this workspace, and the files `edited`; None where there is nothing of the kind."""
        patterns = (*task.outputs, *map(literal, edited))
        return await trio.to_thread.run_sync(self._pack, patterns) if patterns else None

    async def restore(self, task: Task, packed: Blob, *, beside: bool = False) -> None:
        """Put in place what `pack` has packed, instead of what is there or `beside` it. Raises `CorruptError`."""
        await trio.to_thread.run_sync(self._restore, task, packed, beside)

    def _edits(self) -> Edits:
        return {name: state for name, state in edits(self._workspace).items() if state is not None}

    def _outputs(self, outputs: Iterable[tuple[str, ...]]) -> Edits:
        found: Edits = {}
        for patterns in outputs:
            with suppress(UsageError, StorageError):  # nx understands them, or can read them, and dte cannot
                files = [one for one in walk(self._workspace, Globs(patterns)) if one.is_file]
                found |= {one.path: (one.stat.st_mtime_ns, one.stat.st_size) for one in files}
        return found

    def _pack(self, patterns: tuple[str, ...]) -> Blob:
        with self._blobs.writer() as writer:
            archive.pack(self._workspace, patterns, writer)
            return writer.finish()

    def _restore(self, task: Task, packed: Blob, beside: bool) -> None:
        path = self._blobs.find(packed.digest)
        if path is None:
            raise CorruptError(f"{task.id}: {packed.digest} is not in the blob store")
        declared = Globs(task.outputs)
        edited = [literal(name) for name in archive.names(path) if not declared.match(name)]
        archive.restore(path, self._workspace, (*task.outputs, *edited), beside=beside)


def changed(before: Edits, after: Edits) -> tuple[str, ...]:
    """The files that have been changed in between."""
    return tuple(path for path, state in after.items() if before.get(path) != state)
