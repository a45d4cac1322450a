"""Samples in one SQLite file, `history.sqlite3` in the data directory, which all processes of a user may have open at once.

    usable ──────────────────────────────▶ read and written
    damaged, or another program's ───────▶ renamed to `history.sqlite3.broken-<n>`; a new one is begun
    of a newer dte ──────────────────────▶ left alone ──┐
    cannot be opened, and not written ───▶ left alone ──┴▶ what is recorded stays in memory, for this process
    opened, but not written ─────────────▶ read, and what is recorded is lost

Each of the last four leaves one sentence in `notice`, and none raises. Damage may show only when a page is read, so every access may come to it.
"""

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote

from mesh.store.files import DATA_DIR_VARIABLE
from mesh.store.history import estimates
from mesh.store.history.estimates import Estimate
from mesh.store.history.samples import (
    AGE_MS_MAX,
    SAMPLES_PER_SERIES_MAX,
    SERIES_MAX,
    Sample,
    is_duration,
    unix_now,
)
from mesh.types import TaskId, UnixMs

FILE_NAME: Final = "history.sqlite3"
SCHEMA_VERSION: Final = 1
APPLICATION_ID: Final = 0x64746568
"""`dteh`, where SQLite's header has room for whose file it is."""
BUSY_WAIT_S: Final = 5.0
BROKEN_MAX: Final = 9
"""So many damaged files are kept; then the last one makes room."""

_SIDE_FILES: Final = ("-wal", "-shm", "-journal")
_TROUBLE: Final = (sqlite3.Error, MemoryError, OverflowError, UnicodeError)
"""All that SQLite raises. The last three come of damage: a length that a page claims, an error that quotes what is no text."""
_DAMAGE: Final = frozenset({sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_SCHEMA: Final = f"""
    CREATE TABLE series (
        id INTEGER PRIMARY KEY, workspace TEXT NOT NULL, task TEXT NOT NULL, machine TEXT NOT NULL,
        last_ms INTEGER NOT NULL, UNIQUE (workspace, task, machine)
    );
    CREATE INDEX series_by_age ON series (last_ms);
    CREATE TABLE samples (
        series INTEGER NOT NULL REFERENCES series ON DELETE CASCADE,
        success INTEGER NOT NULL, ended_ms INTEGER NOT NULL, duration_ms INTEGER NOT NULL,
        PRIMARY KEY (series, success, ended_ms, duration_ms)
    ) WITHOUT ROWID;
    PRAGMA application_id = {APPLICATION_ID};
    PRAGMA user_version = {SCHEMA_VERSION};
"""
_ADD_SERIES: Final = """
    INSERT INTO series (workspace, task, machine, last_ms) VALUES (?, ?, ?, ?)
    ON CONFLICT (workspace, task, machine) DO UPDATE SET last_ms = max(last_ms, excluded.last_ms)
"""
_ADD_SAMPLE: Final = """
    INSERT OR IGNORE INTO samples SELECT id, ?, ?, ? FROM series WHERE workspace = ? AND task = ? AND machine = ?
"""
# The primary key is the order of worth: successes before failures, then the newest. What stays depends on what came, not on when or how often.
_KEEP_THE_BEST: Final = f"""
    WITH one AS (SELECT id FROM series WHERE workspace = ?1 AND task = ?2 AND machine = ?3)
    DELETE FROM samples WHERE series = (SELECT id FROM one) AND (success, ended_ms, duration_ms) < (
        SELECT success, ended_ms, duration_ms FROM samples WHERE series = (SELECT id FROM one)
        ORDER BY success DESC, ended_ms DESC, duration_ms DESC LIMIT 1 OFFSET {SAMPLES_PER_SERIES_MAX - 1}
    )
"""  # noqa: S608  a number of our own
_DROP_THE_OLD: Final = "DELETE FROM series WHERE last_ms < ?"
_DROP_THE_REST: Final = """
    DELETE FROM series WHERE id IN (SELECT id FROM series ORDER BY last_ms DESC, id DESC LIMIT -1 OFFSET ?)
"""
_SERIES_OF: Final = "SELECT id, task, machine FROM series WHERE workspace = ?"
_DURATIONS_OF: Final = """
    SELECT series, success, duration_ms FROM samples WHERE series IN (SELECT id FROM series WHERE workspace = ?)
    ORDER BY series, success, ended_ms, duration_ms
"""
_READ: Final = """
    SELECT workspace, task, machine, success, ended_ms, duration_ms FROM series JOIN samples ON series = id
    WHERE ?1 IS NULL OR workspace = ?1 ORDER BY workspace, task, machine, success, ended_ms, duration_ms
"""

T = TypeVar("T")


class _ForeignError(Exception):
    """Whole, but of another program."""


class _NewerError(Exception):
    """Of a dte that knows more than this one. The argument is its version."""


class History:
    """The timings that this user's processes have seen. Any thread may use it, one at a time."""

    def __init__(self, path: Path, *, clock: Callable[[], UnixMs] = unix_now, series_max: int = SERIES_MAX) -> None:
        self.notice = ""
        """What a person should know; "" where all is well."""
        self.keeps = True
        """Whether what is recorded outlives this process."""
        self._path = path
        self._clock = clock
        self._series_max = series_max
        self._seen: tuple[int, int] | None = None
        self._connection = self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the file to others."""
        with suppress(*_TROUBLE):
            self._connection.close()

    def record(self, samples: Iterable[Sample]) -> None:
        """Keep what is worth keeping, all of it or, with a notice, nothing. To record something again changes nothing."""
        now = self._clock()
        kept = [sample for sample in samples if sample.worth_keeping(now)]
        if kept:
            self._try(lambda connection: self._write(connection, kept, now), None)

    def samples(self, workspace: str | None = None) -> list[Sample]:
        """All that is kept, of one workspace or of every one; the oldest of each status of each series first."""
        nothing: list[tuple[Any, ...]] = []
        rows = self._try(lambda connection: connection.execute(_READ, (workspace,)).fetchall(), nothing)
        return [
            Sample(workspace, TaskId(task), machine, duration, UnixMs(ended), "success" if success else "failure")
            for workspace, task, machine, success, ended, duration in rows
            if _sound(workspace, task, machine, success, ended, duration)
        ]

    def estimates(self, workspace: str, tasks: Iterable[TaskId], machine: str) -> dict[TaskId, Estimate]:
        """What each of `tasks` will probably take on such a machine; empty where nothing is known of the whole workspace."""
        found = self._try(lambda connection: _durations(connection, workspace), dict[tuple[TaskId, str], list[int]]())
        return estimates.estimates(found, tasks, machine)

    def _write(self, connection: sqlite3.Connection, samples: list[Sample], now: UnixMs) -> None:
        series = list(dict.fromkeys((one.workspace, one.task, one.machine) for one in samples))
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.executemany(_ADD_SERIES, ((s.workspace, s.task, s.machine, s.ended_ms) for s in samples))
            connection.executemany(
                _ADD_SAMPLE,
                ((s.status == "success", s.ended_ms, s.duration_ms, s.workspace, s.task, s.machine) for s in samples),
            )
            connection.executemany(_KEEP_THE_BEST, series)
            connection.execute(_DROP_THE_OLD, (now - AGE_MS_MAX,))
            connection.execute(_DROP_THE_REST, (self._series_max,))
            connection.execute("COMMIT")
        except BaseException:
            with suppress(*_TROUBLE):
                connection.execute("ROLLBACK")
            raise

    def _try(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """`work`, once more with a new file where this one turns out to be damaged."""
        try:
            return work(self._connection)
        except _TROUBLE as error:
            if not _is_damage(error) or not self.keeps:
                self._lost(f"could not be used ({error})")
                return otherwise
        self.close()
        self._connection = self._anew("is damaged")
        try:
            return work(self._connection)
        except _TROUBLE as error:
            self._lost(f"could not be used ({error})")
            return otherwise

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except _NewerError as error:
            return self._in_memory(f"was written by a newer dte (format {error}; this one knows {SCHEMA_VERSION})")
        except _ForeignError:
            return self._anew("is another program's")
        except _TROUBLE as error:
            if _is_damage(error):
                return self._anew("is damaged")
            return self._read_only(error)

    def _connect(self) -> sqlite3.Connection:
        connection = _to(str(self._path))
        try:
            self._seen = _identity(self._path)
            _prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _read_only(self, problem: BaseException) -> sqlite3.Connection:
        """Where SQLite may not write beside the file, it can still read it, as one that nobody else changes."""
        try:
            connection = _to(f"file:{quote(str(self._path))}?immutable=1")
            try:
                _check(connection)
            except BaseException:
                connection.close()
                raise
        except (*_TROUBLE, _ForeignError, _NewerError):
            return self._in_memory(f"cannot be used ({problem})")
        self._lost(f"can only be read ({problem})")
        return connection

    def _anew(self, why: str) -> sqlite3.Connection:
        """Put the file aside, unless another process just has, and begin a new one."""
        try:
            aside = _set_aside(self._path, self._seen)
            connection = self._connect()
        except (*_TROUBLE, OSError, _ForeignError, _NewerError) as error:
            return self._in_memory(f"{why}, and cannot be replaced ({error})")
        if aside is not None:
            self._say(f"{why}; it is now {aside.name}, and a new one was begun")
        return connection

    def _in_memory(self, why: str) -> sqlite3.Connection:
        self._lost(why)
        connection = _to(":memory:")
        _prepare(connection)
        return connection

    def _lost(self, why: str) -> None:
        self.keeps = False
        self._say(f"{why}; what this run learns is not kept ({DATA_DIR_VARIABLE} says where)")

    def _say(self, what: str) -> None:
        # The first trouble is the cause of the others.
        self.notice = self.notice or f"the timing history {self._path} {what}"


def _to(place: str) -> sqlite3.Connection:
    return sqlite3.connect(
        place, timeout=BUSY_WAIT_S, isolation_level=None, check_same_thread=False, uri=place.startswith("file:")
    )


def _prepare(connection: sqlite3.Connection) -> None:
    """Make the tables where there is nothing yet. Raises `_ForeignError` and `_NewerError`."""
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = NORMAL")  # a power cut may cost the last run's samples, not the file
    if _check(connection):
        return
    with suppress(sqlite3.OperationalError):  # another process is about it: the mode stays in the file
        connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not _check(connection):
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        with suppress(*_TROUBLE):
            connection.execute("ROLLBACK")
        raise


def _check(connection: sqlite3.Connection) -> bool:
    """Whether the tables are there; False for an empty file. Raises `_ForeignError` and `_NewerError`."""
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if (owner, version, tables) == (0, 0, 0):
        return False
    if owner != APPLICATION_ID or version < SCHEMA_VERSION:
        raise _ForeignError
    if version > SCHEMA_VERSION:
        raise _NewerError(version)
    return True


def _durations(connection: sqlite3.Connection, workspace: str) -> dict[tuple[TaskId, str], list[int]]:
    """Of each task on each class of machine, oldest first: of its successes, or where there are none of its failures."""
    names = {number: (task, machine) for number, task, machine in connection.execute(_SERIES_OF, (workspace,))}
    found: dict[tuple[TaskId, str], list[int]] = {}
    # Successes come last, and take the failures' place.
    for (number, _), rows in groupby(connection.execute(_DURATIONS_OF, (workspace,)), key=itemgetter(0, 1)):
        task, machine = names.get(number, (None, None))
        durations = [duration for *_, duration in rows if is_duration(duration)]
        if type(task) is str and type(machine) is str and durations:
            found[TaskId(task), machine] = durations
    return found


def _is_damage(error: BaseException) -> bool:
    """Whether the file is to blame, and not the machine: a lock, a full disk, a directory that may not be written."""
    if not isinstance(error, sqlite3.Error):
        return True
    # Without a code it is Python that could not read a text. The low byte is the kind; the rest says which.
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF in _DAMAGE


def _sound(workspace: object, task: object, machine: object, success: object, ended: object, duration: object) -> bool:
    # SQLite's columns take any type, and a flipped bit may make one of another.
    texts = all(type(text) is str for text in (workspace, task, machine))
    return texts and type(success) is int and type(ended) is int and is_duration(duration)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_dev, about.st_ino


def _set_aside(path: Path, seen: tuple[int, int] | None) -> Path | None:
    """Rename the file and what SQLite keeps beside it; None where it is not the one that was `seen` any more."""
    if _identity(path) != seen:
        return None
    numbered = [path.with_name(f"{path.name}.broken-{number}") for number in range(1, BROKEN_MAX + 1)]
    aside = next((name for name in numbered if not name.exists()), numbered[-1])
    # The log first: left behind, it would be read into the new file.
    for suffix in _SIDE_FILES:
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    path.rename(aside)
    return aside
