"""Writes of tracks: one micro-batch in one transaction."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from store import materialised, search_text
from store.columns import METADATA_FIELDS
from store.errors import TrackRejectedError
from store.pool import REJECTED


@dataclass(frozen=True, slots=True)
class TrackRow:
    """A track to insert or update.

    Attributes:
        track_id: Its id.
        key: The 64-bit hash of the id.
        metadata: Values of `store.columns.METADATA_FIELDS`, in that order.
        embedding: Little-endian float32, unit length.
        partition: Where in the ingest topic it came from.
        offset: Likewise.
        event_time: Aware.
    """

    track_id: str
    key: int
    metadata: tuple[Any, ...]
    embedding: bytes
    partition: int
    offset: int
    event_time: datetime


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A track to delete, and the event that says so."""

    track_id: str
    key: int
    partition: int
    offset: int


_COLUMNS = (
    "track_id",
    "key",
    *METADATA_FIELDS,
    "embedding",
    "source_partition",
    "source_offset",
    "event_time",
)
_NAMES = ", ".join(_COLUMNS)
# asyncpg writes no tsvector: the words come as text.
_STAGED = (*_COLUMNS, "words")
# Rows of up to 8 kB stay whole: embeddings would be taken out of line, after an attempt to compress them, for the length
# of a statement.
_STAGING = f"""
CREATE TEMP TABLE IF NOT EXISTS incoming_tracks WITH (toast_tuple_target = 8160) ON COMMIT DELETE ROWS
AS SELECT {_NAMES}, ''::text AS words FROM tracks WITH NO DATA
"""  # noqa: S608 -- the names are this module's own

# Inserts or updates; an older event than the row's own changes nothing.
_UPSERT = f"""
INSERT INTO tracks AS t ({_NAMES}, search)
SELECT {_NAMES}, words::tsvector FROM incoming_tracks
ON CONFLICT (track_id) DO UPDATE
SET {", ".join(f"{name} = excluded.{name}" for name in (*_COLUMNS[2:], "search"))}, updated_at = now()
WHERE t.source_partition <> excluded.source_partition OR t.source_offset < excluded.source_offset
"""  # noqa: S608

# In one order, so that two workers do not wait for each other's new words crosswise.
_LEARN_WORDS = """
INSERT INTO search_words (word, deletions)
SELECT new.word, ARRAY(
    SELECT DISTINCT left(new.word, at - 1) || substr(new.word, at + 1) FROM generate_series(1, length(new.word)) AS at
)
FROM unnest($1::text[]) AS new (word)
WHERE NOT EXISTS (SELECT FROM search_words AS known WHERE known.word = new.word)
ORDER BY new.word
ON CONFLICT DO NOTHING
"""

# Two track ids with one key.
_UNIQUE_KEY = "uq_tracks_key"

_DELETE = """
DELETE FROM tracks AS t
USING unnest($1::text[], $2::int[], $3::bigint[]) AS d (track_id, partition, at)
WHERE t.track_id = d.track_id AND (t.source_partition <> d.partition OR t.source_offset < d.at)
RETURNING t.track_id, t.key
"""

_OWE_TOMBSTONES = """
INSERT INTO withdrawals (track_id, source_partition, source_offset)
SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[])
"""

# For workers that follow the partition: see store/tail.py.
_DEPART = """
INSERT INTO departures (key, source_partition, source_offset)
SELECT * FROM unnest($1::bigint[], $2::int[], $3::bigint[]) ON CONFLICT DO NOTHING
"""


async def upsert_tracks(connection: PoolConnectionProxy, rows: Sequence[TrackRow]) -> None:
    """Insert or update tracks; a row that is already newer stays.

    Raises:
        TrackRejectedError: Postgres can never take one of them.
    """
    if not rows:
        return
    await connection.execute(_STAGING)
    records, words = await asyncio.to_thread(_records, rows)
    try:
        await connection.copy_records_to_table("incoming_tracks", records=records, columns=_STAGED)
        await connection.execute(_UPSERT)
        await connection.execute(_LEARN_WORDS, words)
        await materialised.mark_bodies_outdated(connection, [r.key for r in rows])
    except asyncpg.UniqueViolationError as error:
        same_key = error.constraint_name == _UNIQUE_KEY
        message = "another track has the same 64-bit key" if same_key else str(error)
        raise TrackRejectedError(message) from error
    except REJECTED as error:
        raise TrackRejectedError(str(error)) from error


def _records(rows: Sequence[TrackRow]) -> tuple[list[tuple[Any, ...]], list[str]]:
    """What is copied for each row, and all words of theirs that a search may be corrected to."""
    records, words = [], set[str]()
    for r in rows:
        found = search_text.weighted_words(r.track_id, dict(zip(METADATA_FIELDS, r.metadata, strict=True)))
        words.update(filter(search_text.correctable, found))
        place = (r.partition, r.offset, r.event_time)
        records.append(
            (r.track_id, r.key, *r.metadata, r.embedding, *place, search_text.search_document(found))
        )
    return records, sorted(words)


async def withdraw_tracks(connection: PoolConnectionProxy, withdrawals: Sequence[Withdrawal]) -> list[str]:
    """Delete tracks and note that the change feed owes each a tombstone; return the ids that were there.

    One that is not there is owed a tombstone too: where the log is read again into an empty database, the feed may
    have a list of it from before.
    """
    if not withdrawals:
        return []
    await materialised.lock_withdrawals(connection)
    gone = await connection.fetch(
        _DELETE,
        [w.track_id for w in withdrawals],
        [w.partition for w in withdrawals],
        [w.offset for w in withdrawals],
    )
    coordinates = [w.partition for w in withdrawals], [w.offset for w in withdrawals]
    await connection.execute(_OWE_TOMBSTONES, [w.track_id for w in withdrawals], *coordinates)
    await connection.execute(_DEPART, [w.key for w in withdrawals], *coordinates)
    if gone:
        await materialised.drop_bodies_naming(connection, [row["key"] for row in gone])
    return [row["track_id"] for row in gone]


async def owed_tombstones(
    connection: PoolConnectionProxy, partitions: Sequence[int]
) -> list[tuple[int, str]]:
    """Withdrawals of these partitions whose tombstone is still owed: (id, track id), oldest first.

    A track that has come back since is owed none, and is left out together with its note.
    """
    await connection.execute(
        "DELETE FROM withdrawals AS w USING tracks AS t WHERE t.track_id = w.track_id "
        "AND w.source_partition = ANY($1::int[])",
        list(partitions),
    )
    rows = await connection.fetch(
        "SELECT id, track_id FROM withdrawals WHERE source_partition = ANY($1::int[]) ORDER BY id",
        list(partitions),
    )
    return [(row["id"], row["track_id"]) for row in rows]


async def settle_tombstones(connection: PoolConnectionProxy, ids: Sequence[int]) -> None:
    """Forget withdrawals whose tombstone has been delivered."""
    await connection.execute("DELETE FROM withdrawals WHERE id = ANY($1::bigint[])", list(ids))


async def fix_dimension(connection: PoolConnectionProxy, dimension: int) -> int:
    """Make `dimension` the catalogue's unless it has one; return the one it has."""
    await connection.execute(
        "INSERT INTO catalogue (dimension) VALUES ($1) ON CONFLICT (only_row) DO NOTHING", dimension
    )
    found: int = await connection.fetchval("SELECT dimension FROM catalogue")
    return found


async def read_dimension(connection: PoolConnectionProxy) -> int | None:
    """The catalogue's dimension, or None before the first track."""
    dimension: int | None = await connection.fetchval("SELECT dimension FROM catalogue")
    return dimension
