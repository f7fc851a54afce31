"""Neighbour lists in the store: written in flushes of thousands, read by a worker that takes partitions over."""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import numpy as np
import numpy.typing as npt
from asyncpg.pool import PoolConnectionProxy

from store import binary, list_history
from store.columns import METADATA_FIELDS
from store.rows import ListRows, TrackVectors, metadata_row

_COLUMNS = (
    "key",
    "neighbours",
    "scores",
    "version",
    "source_partition",
    "source_offset",
    "event_time",
    "generated_at",
)
_STAGING = """
CREATE TEMP TABLE IF NOT EXISTS incoming_lists (LIKE neighbour_lists) ON COMMIT DELETE ROWS
"""

_UPDATE = """
UPDATE neighbour_lists AS l
SET neighbours = i.neighbours, scores = i.scores, version = i.version, source_partition = i.source_partition,
    source_offset = i.source_offset, event_time = i.event_time, generated_at = i.generated_at
FROM incoming_lists AS i
WHERE l.key = i.key AND l.version < i.version
"""

# Of tracks that have come back meanwhile the list is somebody else's to write.
_DROP = """
DELETE FROM neighbour_lists AS l WHERE l.key = ANY($1::bigint[]) AND l.version < $2
AND NOT EXISTS (SELECT FROM tracks AS t WHERE t.key = l.key)
"""

# A new version; and, by key and partition that it was of, the events that moved tracks to other partitions. Drawn together, as
# each statement is a round trip that readers of a new list wait for.
_DRAW = """
SELECT nextval('list_version'), array_agg(key), array_agg(from_partition), array_agg(to_partition), array_agg(to_offset)
FROM moves WHERE from_partition = ANY($1::int[])
"""

# Lists of tracks that have been withdrawn meanwhile are left out.
_INSERT = """
INSERT INTO neighbour_lists
SELECT i.* FROM incoming_lists AS i JOIN tracks AS t USING (key)
WHERE NOT EXISTS (SELECT FROM neighbour_lists AS l WHERE l.key = i.key)
ON CONFLICT (key) DO NOTHING
"""


# A few lists at once, from arrays: the lists one after another in $2 and $3, each ending at its `upto`. Emptying a temporary
# table at the commit takes longer than all of this.
_WRITE_FEW = """
INSERT INTO neighbour_lists AS l
SELECT i.key, ($2::bigint[])[i.upto - i.length + 1 : i.upto], ($3::real[])[i.upto - i.length + 1 : i.upto], $9::bigint,
       i.source_partition, i.source_offset, i.event_time, $10::timestamptz
FROM unnest($1::bigint[], $4::int[], $5::int[], $6::smallint[], $7::bigint[], $8::timestamptz[])
    AS i (key, upto, length, source_partition, source_offset, event_time)
JOIN tracks AS t USING (key)
ON CONFLICT (key) DO UPDATE
SET neighbours = excluded.neighbours, scores = excluded.scores, version = excluded.version,
    source_partition = excluded.source_partition, source_offset = excluded.source_offset,
    event_time = excluded.event_time, generated_at = excluded.generated_at
WHERE l.version < excluded.version
"""
# Up to so many; cutting the arrays takes as long as their length times the number of lists.
FEW_LISTS = 128

# Rows that one statement reads or writes of millions: it must end within `MESS_COMMAND_TIMEOUT`.
PAGE_ROWS = 8_192
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


async def flush_lists(
    connection: PoolConnectionProxy,
    rows: ListRows,
    deleted: npt.NDArray[np.int64],
    applied: Mapping[int, int] | None = None,
    *,
    keep: bool = False,
) -> tuple[int, int]:
    """Write changed lists and drop those of deleted tracks.

    Lists that were made before their track moved to another partition, whose owner writes them now, are left out.

    Args:
        connection: Inside a transaction.
        rows: The lists.
        deleted: int64 (m,), keys of the tracks.
        applied: By partition, the offset below which every event is in these lists; only wanted with `rows.owners`.
        keep: Whether the lists that are replaced or dropped are kept in `list_history`.

    Returns:
        The new version, and when it was made, in microseconds since 1970.
    """
    drawn = await connection.fetchrow(_DRAW, np.unique(rows.owners).tolist())
    assert drawn is not None
    version, *moves = drawn
    generated_at = time.time_ns() // 1_000
    if moves[0] is not None:
        rows = _without_moved(rows, zip(*moves, strict=True), applied or {})
    for start in range(0, len(deleted), PAGE_ROWS):
        page = deleted[start : start + PAGE_ROWS].tolist()
        if keep:
            drop = list_history.KEEP_DROPPED.format(drop=_DROP)
            await connection.execute(drop, page, version, _moment(generated_at))
        else:
            await connection.execute(_DROP, page, version)
    if len(rows.keys) <= FEW_LISTS:
        await _write_few(connection, rows, version, generated_at, keep=keep)
        return version, generated_at
    await connection.execute(_STAGING)
    for start in range(0, len(rows.keys), PAGE_ROWS):
        if start:
            await connection.execute("TRUNCATE incoming_lists")
        await _write(connection, rows.part(slice(start, start + PAGE_ROWS)), version, generated_at, keep=keep)
    return version, generated_at


async def draw_version(connection: PoolConnectionProxy) -> int:
    """A version greater than every one drawn before."""
    version: int = await connection.fetchval("SELECT nextval('list_version')")
    return version


# A track that is of another partition by now is its owner's, whose flush draws a greater version.
_RENEW = """
UPDATE neighbour_lists AS l SET version = $4
FROM unnest($1::bigint[], $2::int[], $3::bigint[]) AS w (key, owner, version), tracks AS t
WHERE l.key = w.key AND l.version IN (w.version, $4) AND t.key = w.key AND t.source_partition = w.owner
RETURNING l.key
"""


async def renew_versions(
    connection: PoolConnectionProxy,
    keys: Sequence[int],
    owners: Sequence[int],
    versions: Sequence[int],
    version: int,
) -> set[int]:
    """Give lists another version, with the same content; returns the keys of those that have it now.

    Lists that have been written since, by whichever owner, are left out.

    Args:
        connection: Inside a transaction.
        keys: The tracks.
        owners: The partition of each.
        versions: The version that is known of each.
        version: The new one, drawn before: a flush that draws a later one must find it written. Then this may be repeated.
    """
    rows = await connection.fetch(_RENEW, list(keys), list(owners), list(versions), version)
    return {row[0] for row in rows}


def _without_moved(
    rows: ListRows, moves: Iterable[tuple[int, int, int, int]], applied: Mapping[int, int]
) -> ListRows:
    away = {(key, owner) for key, owner, partition, at in moves if at >= applied.get(partition, 0)}
    if not away:
        return rows
    places = zip(rows.keys.tolist(), rows.owners.tolist(), strict=True)
    return rows.where(np.array([place not in away for place in places], dtype=np.bool_))


async def _write_few(
    connection: PoolConnectionProxy, rows: ListRows, version: int, generated_at: int, *, keep: bool
) -> None:
    if not len(rows.keys):
        return
    there = np.arange(rows.neighbours.shape[1]) < rows.lengths[:, None]
    await connection.execute(
        list_history.KEEP_FEW + _WRITE_FEW if keep else _WRITE_FEW,
        rows.keys.tolist(),
        rows.neighbours[there].tolist(),
        rows.scores[there].tolist(),
        np.cumsum(rows.lengths).tolist(),
        rows.lengths.tolist(),
        rows.partitions.tolist(),
        rows.offsets.tolist(),
        list(map(_moment, rows.event_times.tolist())),
        version,
        _moment(generated_at),
    )


def _moment(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


async def _write(
    connection: PoolConnectionProxy, rows: ListRows, version: int, generated_at: int, *, keep: bool
) -> None:
    # Ten thousand lists take tens of milliseconds: in a thread, and in one call, since on a busy loop each call waits.
    encoded = await asyncio.to_thread(
        lambda: list(binary.encode_lists(rows, version=version, generated_at=generated_at))
    )

    async def stream() -> Any:
        for part in encoded:
            yield part

    await connection.copy_to_table("incoming_lists", source=stream(), columns=_COLUMNS, format="binary")
    if keep:
        await connection.execute(list_history.KEEP_INCOMING)
    await connection.execute(_UPDATE)
    await connection.execute(_INSERT)


_PAGE_END = (
    "SELECT max(key) FROM (SELECT key FROM neighbour_lists WHERE key >= $1 ORDER BY key LIMIT $2) AS page"
)
# From both indexes alone. As an anti-join it would read all tracks for each page.
_ORPHANS = """
SELECT key FROM neighbour_lists WHERE key BETWEEN $1 AND $2
EXCEPT SELECT key FROM tracks WHERE key BETWEEN $1 AND $2
"""
# A list that another transaction is writing is skipped.
_DROP_ORPHANS = """
DELETE FROM neighbour_lists WHERE key IN (
    SELECT l.key FROM neighbour_lists AS l WHERE l.key = ANY($1::bigint[])
    AND NOT EXISTS (SELECT FROM tracks AS t WHERE t.key = l.key) FOR UPDATE SKIP LOCKED
)
"""
# Keys that one statement compares; few are orphans, and only these are written.
_COMPARED_ROWS = 16 * PAGE_ROWS


async def drop_orphaned_lists(connection: PoolConnectionProxy, *, keep: bool = False) -> int:
    """Delete lists without a track, `keep` for keeping them in `list_history`; return how many there were."""
    dropped, first = 0, -(2**63)
    drop, ended = _DROP_ORPHANS, []
    if keep:
        drop = list_history.KEEP_ORPHANS.format(drop=_DROP_ORPHANS)
        ended = [await connection.fetchval(list_history.END_OF_ORPHANS)]
    while (last := await connection.fetchval(_PAGE_END, first, _COMPARED_ROWS)) is not None:
        orphans = [row[0] for row in await connection.fetch(_ORPHANS, first, last)]
        for start in range(0, len(orphans), PAGE_ROWS):
            status: str = await connection.execute(drop, orphans[start : start + PAGE_ROWS], *ended)
            dropped += int(status.rpartition(" ")[2])
        if last == 2**63 - 1:
            break
        first = last + 1
    return dropped


# Rows read at a time. Decoding them with metadata takes ten times as long, on the event loop.
_TRACKS_READ = 2_048
_DESCRIBED_READ = 256


async def read_track_vectors(
    connection: PoolConnectionProxy, dimension: int, *, metadata: bool = False
) -> TrackVectors:
    """Every track's vector. Must run inside a transaction, the one that also reads the lists and offsets.

    Args:
        connection: Inside a transaction.
        dimension: d of the vectors.
        metadata: Whether to read metadata, too.
    """
    count: int = await connection.fetchval("SELECT count(*) FROM tracks")
    found = TrackVectors(
        keys=np.empty(count, dtype=np.int64),
        track_ids=[],
        vectors=np.empty((count, dimension), dtype=np.float32),
        partitions=np.empty(count, dtype=np.int32),
        offsets=np.empty(count, dtype=np.int64),
        event_times=np.empty(count, dtype=np.int64),
    )
    at = 0
    query = (
        "SELECT key, track_id, embedding, source_partition, source_offset, "
        "(extract(epoch FROM event_time) * 1000000)::bigint"
    )
    wanted = METADATA_FIELDS if metadata else ()
    cursor = await connection.cursor(f"{', '.join([query, *wanted])} FROM tracks")
    while rows := await cursor.fetch(_DESCRIBED_READ if metadata else _TRACKS_READ):
        part = slice(at, at + len(rows))
        keys, track_ids, embeddings, partitions, offsets, times, *described = zip(*rows, strict=True)
        found.keys[part], found.partitions[part], found.offsets[part] = keys, partitions, offsets
        found.event_times[part] = times
        found.track_ids.extend(track_ids)
        found.vectors[part] = np.frombuffer(b"".join(embeddings), dtype="<f4").reshape(-1, dimension)
        found.metadata.extend(map(metadata_row, zip(*described, strict=True)))
        at += len(rows)
    return found


_READ = """
SELECT key, array_send(neighbours) AS neighbours, array_send(scores) AS scores, source_partition, source_offset,
       (extract(epoch FROM event_time) * 1000000)::bigint AS event_time, version,
       (extract(epoch FROM generated_at) * 1000000)::bigint AS generated_at
FROM neighbour_lists
"""
_READ_OWNED = """
SELECT l.key, array_send(l.neighbours) AS neighbours, array_send(l.scores) AS scores, l.source_partition,
       l.source_offset, (extract(epoch FROM l.event_time) * 1000000)::bigint AS event_time, l.version,
       (extract(epoch FROM l.generated_at) * 1000000)::bigint AS generated_at, t.source_partition AS owner
FROM unnest($1::int[], $2::bigint[]) AS f (partition, version)
JOIN tracks AS t ON t.source_partition = f.partition
JOIN neighbour_lists AS l ON l.key = t.key AND l.version > f.version
"""


async def read_lists_owned(connection: PoolConnectionProxy, newer_than: Mapping[int, int]) -> ListRows:
    """The stored lists of the tracks of these partitions that are newer than a version.

    Must run inside a transaction.
    """
    return await _read_pages(connection, _READ_OWNED, list(newer_than), list(newer_than.values()))


_READ_UNPUBLISHED = """
SELECT l.key, array_send(l.neighbours) AS neighbours, array_send(l.scores) AS scores, l.source_partition,
       l.source_offset, (extract(epoch FROM l.event_time) * 1000000)::bigint AS event_time, l.version,
       (extract(epoch FROM l.generated_at) * 1000000)::bigint AS generated_at, t.source_partition AS owner
FROM neighbour_lists AS l JOIN tracks AS t USING (key) JOIN ingest_partitions AS p ON p.partition = t.source_partition
WHERE l.key BETWEEN $1 AND $2 AND t.source_partition = ANY($3::int[]) AND l.version > p.published_version
ORDER BY l.key
"""


async def read_unpublished_page(
    connection: PoolConnectionProxy, owners: Sequence[int], first: int
) -> tuple[ListRows, int | None]:
    """Lists of these partitions that are newer than what is published of them, from a key on.

    Returns:
        The lists, of at most `PAGE_ROWS` that were looked at; the key to go on from, None: that was all.
    """
    last = await connection.fetchval(_PAGE_END, first, PAGE_ROWS)
    if last is None:
        return NO_LISTS, None
    rows = await connection.fetch(_READ_UNPUBLISHED, first, last, list(owners))
    found = await asyncio.to_thread(_decoded, rows) if rows else NO_LISTS
    return found, last + 1 if last < 2**63 - 1 else None


async def read_lists(connection: PoolConnectionProxy, newer_than: int | None = None) -> ListRows:
    """Every stored list, or those of a version newer than `newer_than`. Must run inside a transaction."""
    condition, arguments = ("", ()) if newer_than is None else (" WHERE version > $1", (newer_than,))
    return await _read_pages(connection, _READ + condition, *arguments)


async def _read_pages(connection: PoolConnectionProxy, query: str, *arguments: object) -> ListRows:
    cursor, pages = await connection.cursor(query, *arguments), []
    while rows := await cursor.fetch(PAGE_ROWS):
        pages.append(await asyncio.to_thread(_decoded, rows))
    return ListRows.joined(pages) if pages else NO_LISTS


async def read_lists_of(connection: PoolConnectionProxy, keys: npt.NDArray[np.int64]) -> ListRows:
    """The stored lists of these tracks, in any order; missing ones are left out."""
    return _decoded(await connection.fetch(_READ + " WHERE key = ANY($1::bigint[])", keys.tolist()))


async def count_lists(connection: PoolConnectionProxy) -> tuple[int, int]:
    """How many lists are stored, and how many of them belong to no track."""
    row = await connection.fetchrow(
        "SELECT count(*), count(*) FILTER (WHERE t.key IS NULL) FROM neighbour_lists LEFT JOIN tracks AS t USING (key)"
    )
    assert row is not None
    return int(row[0]), int(row[1])


# No lists at all.
NO_LISTS = ListRows(
    keys=np.empty(0, dtype=np.int64),
    neighbours=np.empty((0, 0), dtype=np.int64),
    scores=np.empty((0, 0), dtype=np.float32),
    lengths=np.empty(0, dtype=np.int64),
    partitions=np.empty(0, dtype=np.int32),
    offsets=np.empty(0, dtype=np.int64),
    event_times=np.empty(0, dtype=np.int64),
)


def _decoded(rows: list[asyncpg.Record]) -> ListRows:
    neighbours, lengths = binary.decode_array([row["neighbours"] for row in rows], binary.OID_INT8)
    scores, _ = binary.decode_array([row["scores"] for row in rows], binary.OID_FLOAT4)

    def column(name: str, dtype: type[np.generic]) -> Any:
        return np.fromiter((row[name] for row in rows), dtype=dtype, count=len(rows))

    return ListRows(
        keys=column("key", np.int64),
        neighbours=neighbours,
        scores=scores,
        lengths=lengths,
        partitions=column("source_partition", np.int32),
        offsets=column("source_offset", np.int64),
        event_times=column("event_time", np.int64),
        versions=column("version", np.int64),
        generated_at=column("generated_at", np.int64),
        owners=column("owner", np.int32) if rows and "owner" in rows[0] else np.empty(0, dtype=np.int32),
    )
