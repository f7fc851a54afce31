"""Writes of tracks: one micro-batch in one transaction.

Whatever the order of writing, the latest event of a track counts: see docs/decisions/event-order.md.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
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
        partition: Partition of its event in the ingest topic.
        offset: Offset of its event there.
        event_time: Aware.
        appended: When the broker appended the event, milliseconds since 1970; 0 if unknown.
    """

    track_id: str
    key: int
    metadata: tuple[Any, ...]
    embedding: bytes
    partition: int
    offset: int
    event_time: datetime
    appended: int = 0


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A track to delete, with the place of its event as in `TrackRow`."""

    track_id: str
    key: int
    partition: int
    offset: int
    appended: int = 0


@dataclass(slots=True)
class StoredEvents:
    """The effect of a batch's events.

    Attributes:
        keys: Keys of the tracks whose event counts; the other tracks have a later one.
        deleted: Ids of the tracks that the batch deleted.
        moved: Keys of the tracks whose previous event, upsert or delete, was in another partition.
        refreshed: Keys of the tracks that were given other metadata than their event has.
    """

    keys: set[int] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    moved: set[int] = field(default_factory=set)
    refreshed: set[int] = field(default_factory=set)


_COLUMNS = (
    "track_id",
    "key",
    *METADATA_FIELDS,
    "embedding",
    "source_partition",
    "source_offset",
    "event_time",
    "appended_at",
)
# Up to so many are prepared on the event loop, in a fraction of a millisecond: a thread begins later than that.
_FEW_TRACKS = 4
_NAMES = ", ".join(_COLUMNS)
_PARAMETERS = {name: f"${number}" for number, name in enumerate(_COLUMNS, 1)}


def _later(one: str, other: str) -> str:
    """SQL that is true if the event of row `one` is later than that of row `other`: `EventPlace.is_after`."""
    return (
        f"CASE WHEN {one}.source_partition = {other}.source_partition "
        f"THEN {one}.source_offset > {other}.source_offset ELSE ({one}.appended_at, {one}.source_partition) > "
        f"({other}.appended_at, {other}.source_partition) END"
    )


# One lookup per track: a join might be planned as a scan of the whole table.
_DEPARTED_LATER = (
    f"coalesce((SELECT bool_or({_later('d', 'i')}) FROM departures AS d WHERE d.key = i.key), false)"  # noqa: S608
)
# An event that is older than the row's, or than the track's deletion, changes nothing. asyncpg cannot write a tsvector, so the
# words are sent as text. Of batches a temporary table takes as long, and single tracks would wait until it is emptied.
_UPSERT = f"""
INSERT INTO tracks AS t ({_NAMES}, search)
SELECT {", ".join(_PARAMETERS.values())}, ${len(_COLUMNS) + 1}::text::tsvector
FROM (
    SELECT {_PARAMETERS["key"]}::bigint AS key, {_PARAMETERS["source_partition"]}::int AS source_partition,
           {_PARAMETERS["source_offset"]}::bigint AS source_offset, {_PARAMETERS["appended_at"]}::bigint AS appended_at
) AS i
WHERE NOT {_DEPARTED_LATER}
ON CONFLICT (track_id) DO UPDATE
SET {", ".join(f"{name} = excluded.{name}" for name in (*_COLUMNS[2:], "search"))}, updated_at = now(),
    previous_partition = CASE WHEN t.source_partition <> excluded.source_partition THEN t.source_partition END
WHERE {_later("excluded", "t")}
"""  # noqa: S608

# Reads back which events count, so that a repeated transaction returns the same.
_COUNTING = """
SELECT t.key, t.previous_partition, ARRAY(SELECT DISTINCT d.source_partition FROM departures AS d WHERE d.key = t.key),
       t.source_partition, t.source_offset
FROM tracks AS t WHERE t.key = ANY($1::bigint[])
"""
_MOVE = """
INSERT INTO moves (key, from_partition, to_partition, to_offset)
SELECT * FROM unnest($1::bigint[], $2::int[], $3::int[], $4::bigint[]) ON CONFLICT DO NOTHING
"""
_MOVED = "SELECT key FROM moves WHERE to_partition = ANY($1::int[]) AND to_offset = ANY($2::bigint[])"

# Ordered, so that two workers cannot deadlock on new words.
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

# Violated by two track ids with the same key.
_UNIQUE_KEY = "uq_tracks_key"

_DELETE = f"""
DELETE FROM tracks AS t
USING unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[]) AS d (track_id, source_partition, source_offset, appended_at)
WHERE t.track_id = d.track_id AND {_later("d", "t")}
RETURNING t.track_id, t.key, t.source_partition, d.source_partition, d.source_offset
"""  # noqa: S608

_OWE_TOMBSTONES = """
INSERT INTO withdrawals (track_id, source_partition, source_offset)
SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[])
"""

_OWE_UNLESS_OWED = """
INSERT INTO withdrawals (track_id, source_partition, source_offset)
SELECT a.track_id, a.partition, 0 FROM unnest($1::text[], $2::int[]) AS a (track_id, partition)
WHERE NOT EXISTS (SELECT FROM withdrawals AS w WHERE w.track_id = a.track_id)
ORDER BY a.track_id
"""

# Read by workers that follow the partition (see store/tail.py), and compared with later-arriving older events.
_DEPART = f"""
INSERT INTO departures (key, source_partition, source_offset, appended_at)
SELECT i.key, i.source_partition, i.source_offset, i.appended_at
FROM unnest($1::text[], $2::bigint[], $3::int[], $4::bigint[], $5::bigint[])
    AS i (track_id, key, source_partition, source_offset, appended_at)
WHERE NOT {_DEPARTED_LATER}
    AND NOT coalesce((SELECT {_later("t", "i")} FROM tracks AS t WHERE t.track_id = i.track_id), false)
ON CONFLICT DO NOTHING
"""  # noqa: S608
_DEPARTED = """
SELECT d.key, i.partition, i.at FROM unnest($1::int[], $2::bigint[]) AS i (partition, at),
LATERAL (SELECT key FROM departures WHERE source_partition = i.partition AND source_offset = i.at OFFSET 0) AS d
"""


async def store_events(
    connection: PoolConnectionProxy, rows: Sequence[TrackRow], withdrawals: Sequence[Withdrawal]
) -> StoredEvents:
    """Write a batch with at most one event per track; an event that is not its track's latest changes nothing.

    Raises:
        TrackRejectedError: Postgres can never store one of them.
    """
    # An upsert and a delete of one track from two partitions must see each other.
    if withdrawals:
        await materialised.lock_withdrawals(connection)
    elif rows:
        await materialised.lock_withdrawals(connection, shared=True)
    stored = StoredEvents()
    stored.keys |= await upsert_tracks(connection, rows)
    gone = await withdraw_tracks(connection, withdrawals)
    stored.keys |= gone.keys
    stored.deleted |= gone.deleted
    places = [(r.partition, r.offset) for r in rows] + [(w.partition, w.offset) for w in withdrawals]
    if places:
        moved = await connection.fetch(_MOVED, *map(list, zip(*places, strict=True)))
        stored.moved = {row["key"] for row in moved} & stored.keys
    return stored


async def upsert_tracks(connection: PoolConnectionProxy, rows: Sequence[TrackRow]) -> set[int]:
    """Insert or update the tracks that have no later event; returns their keys.

    Raises:
        TrackRejectedError: Postgres can never store one of them.
    """
    if not rows:
        return set()
    if len(rows) <= _FEW_TRACKS:
        records, words = _records(rows)
    else:
        records, words = await asyncio.to_thread(_records, rows)
    try:
        await connection.executemany(_UPSERT, records)
        await connection.execute(_LEARN_WORDS, words)
        counting = await _counting(connection, rows)
        await materialised.mark_bodies_outdated(connection, list(counting))
    except asyncpg.UniqueViolationError as error:
        same_key = error.constraint_name == _UNIQUE_KEY
        message = "another track has the same 64-bit key" if same_key else str(error)
        raise TrackRejectedError(message) from error
    except REJECTED as error:
        raise TrackRejectedError(str(error)) from error
    return counting


async def _counting(connection: PoolConnectionProxy, rows: Sequence[TrackRow]) -> set[int]:
    """The keys of the rows that are stored; records tracks that moved here from another partition."""
    places = {row.key: (row.partition, row.offset) for row in rows}
    found = await connection.fetch(_COUNTING, list(places))
    counting = {key: {before, *departed} for key, before, departed, *at in found if tuple(at) == places[key]}
    moves = [
        (key, before, *places[key])
        for key, partitions in counting.items()
        for before in partitions - {None, places[key][0]}
    ]
    await _note_moves(connection, moves)
    return set(counting)


async def _note_moves(connection: PoolConnectionProxy, moves: Sequence[tuple[int, int, int, int]]) -> None:
    """Record moves: key, former partition, and the place of the event that moved the track."""
    if moves:
        await connection.execute(_MOVE, *map(list, zip(*moves, strict=True)))


def _records(rows: Sequence[TrackRow]) -> tuple[list[tuple[Any, ...]], list[str]]:
    """The parameters of each row, and all words in them that a search may be corrected to."""
    records, words = [], set[str]()
    for r in rows:
        found = search_text.weighted_words(r.track_id, dict(zip(METADATA_FIELDS, r.metadata, strict=True)))
        words.update(filter(search_text.is_correctable, found))
        place = (r.partition, r.offset, r.event_time, r.appended)
        records.append(
            (r.track_id, r.key, *r.metadata, r.embedding, *place, search_text.search_document(found))
        )
    return records, sorted(words)


async def withdraw_tracks(connection: PoolConnectionProxy, withdrawals: Sequence[Withdrawal]) -> StoredEvents:
    """Delete the tracks that have no later event, and put a tombstone for each into the outbox of the change feed.

    Absent tracks get a tombstone, too: after the log is read again into an empty database, the feed may still have
    an old list of such a track.
    """
    if not withdrawals:
        return StoredEvents()
    await materialised.lock_withdrawals(connection)
    ids, keys, *place = map(
        list, zip(*((w.track_id, w.key, w.partition, w.offset, w.appended) for w in withdrawals), strict=True)
    )
    await connection.execute(_DEPART, ids, keys, *place)
    departed = set(map(tuple, await connection.fetch(_DEPARTED, *place[:2])))
    counting = [w for w in withdrawals if (w.key, w.partition, w.offset) in departed]
    if not counting:
        return StoredEvents()
    ids, partitions, offsets, appended = map(
        list, zip(*((w.track_id, w.partition, w.offset, w.appended) for w in counting), strict=True)
    )
    gone = await connection.fetch(_DELETE, ids, partitions, offsets, appended)
    await _note_moves(connection, [(row[1], *row[2:]) for row in gone if row[2] != row[3]])
    await connection.execute(_OWE_TOMBSTONES, ids, partitions, offsets)
    if gone:
        await materialised.drop_bodies_naming(connection, [row["key"] for row in gone])
    return StoredEvents({w.key for w in counting}, {row["track_id"] for row in gone})


async def owed_tombstones(
    connection: PoolConnectionProxy, partitions: Sequence[int]
) -> list[tuple[int, str, int]]:
    """The tombstones to publish for these partitions: (id, track id, partition), oldest first.

    Drops the tombstone of a track that exists again.
    """
    await connection.execute(
        "DELETE FROM withdrawals AS w USING tracks AS t WHERE t.track_id = w.track_id "
        "AND w.source_partition = ANY($1::int[])",
        list(partitions),
    )
    rows = await connection.fetch(
        "SELECT id, track_id, source_partition FROM withdrawals WHERE source_partition = ANY($1::int[]) ORDER BY id",
        list(partitions),
    )
    return [tuple(row) for row in rows]


async def owe_tombstones(connection: PoolConnectionProxy, absent: Sequence[tuple[str, int]]) -> None:
    """Put tombstones for tracks, each with a partition, into the outbox, unless they are there already."""
    if absent:
        await connection.execute(_OWE_UNLESS_OWED, *map(list, zip(*absent, strict=True)))


async def settle_tombstones(connection: PoolConnectionProxy, ids: Sequence[int]) -> None:
    """Remove withdrawals whose tombstone has been delivered."""
    await connection.execute("DELETE FROM withdrawals WHERE id = ANY($1::bigint[])", list(ids))
