"""Reads what has been committed since a worker last looked, so that it can follow partitions that others consume.

Followers read the store rather than the log: they see exactly what its owner has accepted.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import asyncpg
import numpy as np
import numpy.typing as npt
from asyncpg.pool import PoolConnectionProxy

from store.columns import METADATA_FIELDS
from store.rows import TrackVectors, metadata_row

# Tracks whose keys and ids are read at a time.
PAGE_TRACKS = 32_768
# Vectors read at a time, of each partition.
TAIL_TRACKS = 512


@dataclass(frozen=True, slots=True)
class ConsumedPosition:
    """How far a partition has been consumed.

    Attributes:
        consumed: The next offset to read.
        generation: How often its log has been replaced.
    """

    consumed: int
    generation: int


@dataclass(frozen=True, slots=True)
class Departures:
    """Deletions.

    Attributes:
        keys: int64 (m,), of tracks that are not there; a key may come more than once.
        partitions: int32 (m,).
        offsets: int64 (m,).
        appended: int64 (m,), milliseconds since 1970.
    """

    keys: npt.NDArray[np.int64]
    partitions: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    appended: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CommittedTail:
    """A stretch of several partitions, each up to its own offset.

    Attributes:
        tracks: Those whose last event is in the stretch.
        departures: Deletions in the stretch.
        upto: By partition, the offset that the stretch ends before.
        whole: Whether it ends where the store does.
        appended: int64, when the broker appended the event of each of the tracks, milliseconds since 1970.
        moved: By key, of the tracks with an event in the stretch that came after one of another partition: the partition that
            they are of now, None where they are not there.
        consumed: How far every partition was consumed then.
    """

    tracks: TrackVectors
    departures: Departures
    upto: dict[int, int]
    whole: bool
    appended: npt.NDArray[np.int64]
    moved: dict[int, int | None]
    consumed: dict[int, int]


_TRACKS = f"""
SELECT t.*
FROM unnest($1::int[], $2::bigint[], $3::bigint[]) AS f (partition, first, upto), LATERAL (
    SELECT key, track_id, embedding, source_partition, source_offset, appended_at,
           (extract(epoch FROM event_time) * 1000000)::bigint AS event_time, {", ".join(METADATA_FIELDS)}
    FROM tracks WHERE source_partition = f.partition AND source_offset >= f.first AND source_offset < f.upto
    ORDER BY source_offset LIMIT $4
) AS t
"""  # noqa: S608 -- columns of the schema

_DEPARTURES = """
SELECT d.key, d.source_partition, d.source_offset, d.appended_at
FROM departures AS d JOIN unnest($1::int[], $2::bigint[], $3::bigint[]) AS f (partition, first, upto)
ON d.source_partition = f.partition AND d.source_offset >= f.first AND d.source_offset < f.upto
WHERE NOT EXISTS (SELECT FROM tracks AS t WHERE t.key = d.key)
"""

_MOVES = """
SELECT m.key, t.source_partition
FROM moves AS m JOIN unnest($1::int[], $2::bigint[], $3::bigint[]) AS f (partition, first, upto)
ON m.to_partition = f.partition AND m.to_offset >= f.first AND m.to_offset < f.upto
LEFT JOIN tracks AS t ON t.key = m.key
"""

# Every worker that owns lists has seen what all owners' lists have absorbed.
_SEEN_BY_ALL = """
SELECT s.place - 1 AS source_partition, min(s.absorbed) AS absorbed
FROM owner_progress AS o, unnest(o.absorbed) WITH ORDINALITY AS s (absorbed, place) GROUP BY s.place
HAVING count(*) = (SELECT count(*) FROM ingest_partitions)
"""
_PRUNE_DEPARTURES = f"""
DELETE FROM departures AS d USING ({_SEEN_BY_ALL}) AS a
WHERE d.source_partition = a.source_partition AND d.source_offset < a.absorbed
    AND d.departed_at < now() - make_interval(secs => $1)
"""  # noqa: S608
_PRUNE_MOVES = f"""
DELETE FROM moves AS m USING ({_SEEN_BY_ALL}) AS a
WHERE m.to_partition = a.source_partition AND m.to_offset < a.absorbed
"""  # noqa: S608


async def consumed_positions(connection: PoolConnectionProxy | asyncpg.Pool) -> dict[int, ConsumedPosition]:
    """How far each partition has been consumed; one statement."""
    rows = await connection.fetch("SELECT partition, consumed_offset, generation FROM ingest_partitions")
    return {row["partition"]: ConsumedPosition(row["consumed_offset"], row["generation"]) for row in rows}


async def read_tail(
    connection: PoolConnectionProxy, dimension: int, after: Mapping[int, int], *, limit: int = TAIL_TRACKS
) -> CommittedTail:
    """The changes of each partition in `after` from its offset on. Call it inside a transaction of one snapshot.

    Args:
        connection: Inside a repeatable-read transaction.
        dimension: d of the vectors.
        after: By partition, the first offset that is wanted.
        limit: Tracks of each partition at most.
    """
    consumed = {p: at.consumed for p, at in (await consumed_positions(connection)).items()}
    upto = {p: consumed[p] for p, first in after.items() if p in consumed and consumed[p] > first}
    stretch = list(upto), [after[p] for p in upto], list(upto.values())
    rows = await connection.fetch(_TRACKS, *stretch, limit)
    tracks = _vectors(rows, dimension)
    counts = dict(zip(*np.unique(tracks.partitions, return_counts=True), strict=True))
    full = [p for p in upto if counts.get(p, 0) == limit]
    for partition in full:
        upto[partition] = int(tracks.offsets[tracks.partitions == partition].max()) + 1
    stretch = *stretch[:2], list(upto.values())
    gone = await connection.fetch(_DEPARTURES, *stretch)
    moved = await connection.fetch(_MOVES, *stretch)
    return CommittedTail(
        tracks,
        Departures(
            keys=np.array([row["key"] for row in gone], dtype=np.int64),
            partitions=np.array([row["source_partition"] for row in gone], dtype=np.int32),
            offsets=np.array([row["source_offset"] for row in gone], dtype=np.int64),
            appended=np.array([row["appended_at"] for row in gone], dtype=np.int64),
        ),
        upto,
        whole=not full,
        appended=np.array([row["appended_at"] for row in rows], dtype=np.int64),
        moved={row["key"]: row["source_partition"] for row in moved},
        consumed=consumed,
    )


async def read_keys(connection: PoolConnectionProxy) -> npt.NDArray[np.int64]:
    """The keys of all tracks, int64 (n,), in any order. Must run inside a transaction."""
    keys = [np.array([row[0] for row in rows], dtype=np.int64) async for rows in _pages(connection, "key")]
    return np.concatenate([np.empty(0, dtype=np.int64), *keys])


async def read_names(connection: PoolConnectionProxy) -> tuple[npt.NDArray[np.int64], list[str]]:
    """The key, int64 (n,), and the id of every track. Must run inside a transaction."""
    keys, names = [np.empty(0, dtype=np.int64)], list[str]()
    async for rows in _pages(connection, "key, track_id"):
        keys.append(np.array([row[0] for row in rows], dtype=np.int64))
        names.extend(row[1] for row in rows)
    return np.concatenate(keys), names


async def _pages(connection: PoolConnectionProxy, columns: str) -> AsyncIterator[list[asyncpg.Record]]:
    """These columns of all tracks, in pages of some thousands."""
    cursor = await connection.cursor(f"SELECT {columns} FROM tracks")  # noqa: S608 -- column names of this module
    while rows := await cursor.fetch(PAGE_TRACKS):
        yield rows


async def catalogue_identity(connection: PoolConnectionProxy) -> str:
    """Identifies the catalogue and the logs that its offsets refer to; another database has another identity."""
    made = await connection.fetchval("SELECT created_at FROM catalogue")
    found = await consumed_positions(connection)
    return f"{made} {[found[p].generation for p in sorted(found)]}"


async def prune_departures(connection: PoolConnectionProxy, remembered: float) -> None:
    """Forget moves that every worker has seen, and deletions that are older, too, than `remembered` seconds."""
    await connection.execute(_PRUNE_DEPARTURES, remembered)
    await connection.execute(_PRUNE_MOVES)


def _vectors(rows: list[asyncpg.Record], dimension: int) -> TrackVectors:
    packed = b"".join(row["embedding"] for row in rows)
    return TrackVectors(
        keys=np.array([row["key"] for row in rows], dtype=np.int64),
        track_ids=[row["track_id"] for row in rows],
        vectors=np.frombuffer(packed, dtype="<f4").reshape(len(rows), dimension),
        partitions=np.array([row["source_partition"] for row in rows], dtype=np.int32),
        offsets=np.array([row["source_offset"] for row in rows], dtype=np.int64),
        event_times=np.array([row["event_time"] for row in rows], dtype=np.int64),
        metadata=[metadata_row(row[name] for name in METADATA_FIELDS) for row in rows],
    )
