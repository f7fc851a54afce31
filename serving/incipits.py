"""Incipits: the first notes of works, in a SQLite file of the local stack.

A process of the local stack derives them (`mess.incipits`), the works that are looked at first. The API reads them and
records which works are looked at. Postgres, Kafka and recommendations hold nothing of them.
"""

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson

# Seconds to wait for a locked file or a slow disk.
_PATIENCE = 2.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS incipits (track_id TEXT PRIMARY KEY, notes BLOB, reason TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS wanted (track_id TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS missing (reason TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS pending ON incipits (track_id) WHERE notes IS NULL AND reason IS NULL;
"""


class Incipit(NamedTuple):
    """A work's incipit.

    Attributes:
        track_id: The work.
        notes: For each part, its notes as a flat list: onset and length in milliseconds, MIDI pitch. None until derived.
        reason: Why there are none, if known.
    """

    track_id: str
    notes: list[list[int]] | None
    reason: str | None


class IncipitFile:
    """The SQLite file, opened for each use, so that any thread may use it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self._path, timeout=_PATIENCE)
        try:
            with connection:
                yield connection
        finally:
            connection.close()

    def create(self, track_ids: Iterable[str]) -> None:
        """Create the file if it is missing, and add these works as pending unless they are known."""
        with self._open() as connection:
            # With it, readers and the writer do not block each other.
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(_SCHEMA)
            connection.executemany(
                "INSERT OR IGNORE INTO incipits (track_id) VALUES (?)",
                ((track_id,) for track_id in track_ids),
            )

    def say_missing(self, reason: str | None) -> None:
        """Record why nothing is derived; None if incipits are derived."""
        with self._open() as connection:
            connection.execute("DELETE FROM missing")
            if reason is not None:
                connection.execute("INSERT INTO missing VALUES (?)", (reason,))

    def missing(self) -> str | None:
        """Why nothing is derived; None if incipits are derived."""
        with self._open() as connection:
            row = connection.execute("SELECT reason FROM missing").fetchone()
        return None if row is None else str(row[0])

    def read(self, track_ids: Sequence[str]) -> list[Incipit]:
        """The incipits of these works, in any order; unknown works are left out."""
        marks = ", ".join("?" * len(track_ids))
        with self._open() as connection:
            rows = connection.execute(
                f"SELECT track_id, notes, reason FROM incipits WHERE track_id IN ({marks})",  # noqa: S608 -- marks alone
                list(track_ids),
            ).fetchall()
        return [
            Incipit(name, None if notes is None else orjson.loads(notes), reason)
            for name, notes, reason in rows
        ]

    def want(self, track_ids: Sequence[str]) -> None:
        """Put these works first in the queue, the last one before the others."""
        now = time.time()
        with self._open() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO wanted VALUES (?, ?)",
                ((track_id, now + at * 1e-6) for at, track_id in enumerate(track_ids)),
            )

    def pending(self) -> int:
        """The number of pending works."""
        with self._open() as connection:
            (count,) = connection.execute(
                "SELECT count(*) FROM incipits WHERE notes IS NULL AND reason IS NULL"
            ).fetchone()
        return int(count)

    def next_work(self) -> str | None:
        """The next pending work: the one asked for last, else any; None if there is none."""
        with self._open() as connection:
            row = connection.execute(
                "SELECT track_id FROM wanted JOIN incipits USING (track_id)"
                " WHERE notes IS NULL AND reason IS NULL ORDER BY at DESC LIMIT 1"
            ).fetchone()
            row = (
                row
                or connection.execute(
                    "SELECT track_id FROM incipits WHERE notes IS NULL AND reason IS NULL LIMIT 1"
                ).fetchone()
            )
        return None if row is None else str(row[0])

    def write(self, track_id: str, notes: list[list[int]] | None, reason: str | None) -> None:
        """Store a derived incipit, or the reason why there is none."""
        packed: Any = None if notes is None else orjson.dumps(notes)
        with self._open() as connection:
            connection.execute("INSERT OR REPLACE INTO incipits VALUES (?, ?, ?)", (track_id, packed, reason))
            connection.execute("DELETE FROM wanted WHERE track_id = ?", (track_id,))
