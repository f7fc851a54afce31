"""Reads neighbour lists to serve, many at a time, and the tracks in them.

Every function takes one round trip, computes no similarity, and raises `StoreUnavailableError` if Postgres cannot be
reached.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import asyncpg

from store.columns import METADATA_FIELDS
from store.pool import translated_errors
from store.reads import Metadata

# A track id, and the number of its neighbours to read.
Wanted = tuple[str, int]

# The request as rows. Postgres must not estimate their number from the array: planning for each length costs more than the
# query, and a plan for a long array might read the whole table. With a limit that it cannot know it assumes few rows, and
# soon uses one generic plan of index lookups.
_FEW = "LIMIT (SELECT cardinality($1))"

# A row's version is the transaction that wrote it (xmin): it is read without unpacking the row, and every write changes it.
# Another or a restored server may repeat transaction ids, but has another start time. Ids wrap around after 2^32; that a row
# gets exactly its former id is neglected.
_EPOCH = "date_part('epoch', pg_postmaster_start_time())"

# One row a list. A neighbour counts if its track exists. OFFSET 0 keeps its lookup one by key. The order of unnest is known,
# so nothing is sorted, and no neighbour is looked up beyond those wanted.
_LISTS = f"""
WITH seed AS MATERIALIZED (
    SELECT w.track_id, w.wanted, t.key, t.xmin AS version, t.source_partition AS owner
    FROM (SELECT * FROM unnest($1::text[], $2::bigint[]) AS asked (track_id, wanted) {_FEW}) AS w
    JOIN tracks AS t USING (track_id)
)
SELECT
    s.track_id, s.wanted, {_EPOCH} AS epoch, s.key, s.version, n.keys, n.scores, n.versions,
    l.version, l.source_partition, l.source_offset, l.event_time, l.generated_at, cardinality(l.neighbours) AS length,
    s.owner
FROM seed AS s
LEFT JOIN neighbour_lists AS l ON l.key = s.key
CROSS JOIN LATERAL (
    SELECT array_agg(there.key) AS keys, array_agg(there.score) AS scores, array_agg(there.version) AS versions
    FROM (
        SELECT u.key, l.scores[u.rank] AS score, t.version
        FROM unnest(l.neighbours) WITH ORDINALITY AS u (key, rank)
        CROSS JOIN LATERAL (SELECT xmin AS version FROM tracks WHERE key = u.key OFFSET 0) AS t
        ORDER BY u.rank LIMIT s.wanted
    ) AS there
) AS n
"""  # noqa: S608 -- this module's own text

_TRACKS = f"""
SELECT
    {_EPOCH} AS epoch, t.key, t.xmin AS version, t.track_id,
    CASE WHEN (SELECT aspects IS NOT NULL FROM catalogue) THEN t.embedding END AS embedding,
    {", ".join(f"t.{name}" for name in METADATA_FIELDS)}
FROM (SELECT * FROM unnest($1::bigint[]) AS asked (key) {_FEW}) AS w
JOIN tracks AS t USING (key)
"""  # noqa: S608


class ListHeader(NamedTuple):
    """What is known about a stored neighbour list.

    Attributes:
        version: Grows with every rewrite of the list.
        source_partition: Partition of the event that changed the list last.
        source_offset: That event's offset.
        event_time: That event's own time.
        generated_at: When the list was computed.
        length: Neighbours in the list, withdrawn ones included.
        owner: Partition of the track, whose worker keeps the list.
    """

    version: int
    source_partition: int
    source_offset: int
    event_time: datetime
    generated_at: datetime
    length: int
    owner: int = 0


class ServedList(NamedTuple):
    """A track's list, without the metadata of its neighbours.

    A row's version changes with every write of the row. Compare versions within one epoch only.

    Attributes:
        epoch: The epoch of the versions.
        key: The track's key.
        version: Of the track's row.
        keys: Of its neighbours, most similar first, without withdrawn tracks.
        scores: Their cosine similarities.
        versions: Of their rows.
        header: About its list; None if it has none yet.
    """

    epoch: float
    key: int
    version: int
    keys: list[int]
    scores: list[float]
    versions: list[int]
    header: ListHeader | None


class ListedTrack(NamedTuple):
    """A track in a list.

    Attributes:
        key: Its key.
        version: Of its row, as in `ServedList`.
        track_id: Its id.
        metadata: Every field of the contract, None where unknown.
        embedding: Its vector, little-endian float32, if the catalogue has aspects.
    """

    key: int
    version: int
    track_id: str
    metadata: Metadata
    embedding: bytes | None = None


async def read_served_lists(pool: asyncpg.Pool, wanted: Sequence[Wanted]) -> dict[Wanted, ServedList]:
    """The first neighbours of each of these tracks, without withdrawn ones; unknown tracks are left out."""
    with translated_errors():
        rows = await pool.fetch(_LISTS, *(list(column) for column in zip(*wanted, strict=True)))
    return {row[:2]: _list(row) for row in rows}


def _list(row: asyncpg.Record) -> ServedList:
    epoch, key, version, keys, scores, versions, *header = row[2:]
    about = None if header[0] is None else ListHeader(*header)
    return ServedList(epoch, key, version, keys or [], scores or [], versions or [], about)


async def read_listed_tracks(pool: asyncpg.Pool, keys: Sequence[int]) -> tuple[float, list[ListedTrack]]:
    """The tracks with these keys, in any order, and the epoch of their versions; withdrawn tracks are left out."""
    with translated_errors():
        rows = await pool.fetch(_TRACKS, keys)
    tracks = [
        ListedTrack(key, version, track_id, dict(zip(METADATA_FIELDS, values, strict=True)), embedding)
        for _, key, version, track_id, embedding, *values in rows
    ]
    return rows[0][0] if rows else 0.0, tracks
