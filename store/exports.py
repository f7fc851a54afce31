"""Reads for an export: lists, tracks and popularity, page after page, all of one snapshot.

Every function runs inside the caller's transaction, which must be a snapshot, and yields pages in the order of keys.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from asyncpg.pool import PoolConnectionProxy

from store import binary
from store.columns import METADATA_FIELDS

# A page of lists names up to fifty times as many tracks, and a page of tracks has its vectors.
PAGE: Final = 2_048

_LISTS = """
SELECT t.key, t.track_id, array_send(l.neighbours) AS neighbours, array_send(l.scores) AS scores, l.version,
       l.source_partition, l.source_offset, l.event_time, l.generated_at
FROM tracks AS t JOIN neighbour_lists AS l USING (key) ORDER BY t.key
"""
_TRACKS = f"""
SELECT track_id, {", ".join(METADATA_FIELDS)}, embedding, source_partition, source_offset, event_time, created_at,
       updated_at
FROM tracks ORDER BY key
"""  # noqa: S608 -- columns of the schema
_POPULARITY = """
SELECT t.track_id, p.value, p.count, to_timestamp(p.reference) AS reference
FROM popularity AS p JOIN tracks AS t USING (key) ORDER BY t.key
"""
_SHAPE = """
SELECT (SELECT count(*) FROM tracks AS t JOIN neighbour_lists AS l USING (key)) AS lists,
       (SELECT count(*) FROM tracks) AS tracks,
       (SELECT count(*) FROM tracks JOIN popularity USING (key)) AS popularity,
       (SELECT coalesce(max(cardinality(neighbours)), 0) FROM neighbour_lists) AS width,
       (SELECT coalesce(max(char_length(track_id)), 1) FROM tracks) AS longest_id,
       (SELECT dimension FROM catalogue) AS dimension,
       (SELECT aspects FROM catalogue) AS aspects,
       (SELECT model FROM catalogue) AS model,
       (SELECT coalesce(max(version), 0) FROM neighbour_lists) AS version, now() AS taken_at
"""
_NAMES = "SELECT t.key, t.track_id FROM tracks AS t JOIN neighbour_lists AS l USING (key) ORDER BY t.key"


@dataclass(frozen=True, slots=True)
class ExportShape:
    """How large what is exported is.

    Attributes:
        lists: Lists of tracks that are there.
        tracks: Tracks.
        popularity: Tracks that somebody has listened to.
        width: Neighbours of the longest list.
        longest_id: Characters of the longest track id.
        dimension: Components of a vector; None of an empty catalogue.
        aspects: As in `StoredLayout`; None: there are none.
        model: The name of the model that made the vectors; None: it has none.
        version: The newest version of a list.
        taken_at: When the snapshot was taken.
    """

    lists: int
    tracks: int
    popularity: int
    width: int
    longest_id: int
    dimension: int | None
    aspects: list[tuple[str, int, float]] | None
    model: str | None
    version: int
    taken_at: datetime


@dataclass(frozen=True, eq=False, slots=True)
class ListPage:
    """Lists of tracks.

    Attributes:
        keys: int64 (m,), ascending.
        track_ids: m ids.
        neighbours: int64 (m, k), keys, most similar first, padded with zeros; some may be of tracks that have been withdrawn.
        scores: float32 (m, k), likewise.
        lengths: int64 (m,), how many of the k count.
        rest: Version, source partition, source offset, event time and time of computation, m each.
    """

    keys: npt.NDArray[np.int64]
    track_ids: list[str]
    neighbours: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    lengths: npt.NDArray[np.int64]
    rest: tuple[Sequence[Any], ...]


async def read_export_shape(connection: PoolConnectionProxy) -> ExportShape:
    """How large the snapshot is, and when it was taken."""
    row = await connection.fetchrow(_SHAPE)
    assert row is not None
    return ExportShape(**dict(row))


async def read_listed_names(
    connection: PoolConnectionProxy,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.object_]]:
    """Keys, int64 (n,), ascending, and ids, objects (n,), of the tracks that have a list: some hundred bytes a track."""
    cursor = await connection.cursor(_NAMES)
    keys, names = [np.empty(0, dtype=np.int64)], []
    while rows := await cursor.fetch(8 * PAGE):
        keys.append(np.fromiter((row[0] for row in rows), dtype=np.int64, count=len(rows)))
        names += [row[1] for row in rows]
    return np.concatenate(keys), np.array(names, dtype=object)


async def list_pages(connection: PoolConnectionProxy) -> AsyncIterator[ListPage]:
    """Every list of a track that is there."""
    cursor = await connection.cursor(_LISTS)
    while rows := await cursor.fetch(PAGE):
        keys, track_ids, sent, scored, *rest = zip(*rows, strict=True)
        neighbours, lengths = binary.decode_array(list(sent), binary.OID_INT8)
        scores, _ = binary.decode_array(list(scored), binary.OID_FLOAT4)
        yield ListPage(
            keys=np.array(keys, dtype=np.int64),
            track_ids=list(track_ids),
            neighbours=neighbours,
            scores=scores,
            lengths=lengths,
            rest=tuple(rest),
        )


async def track_pages(connection: PoolConnectionProxy) -> AsyncIterator[list[Any]]:
    """Every track: id, metadata, embedding as stored, source partition and offset, event, creation and change times."""
    cursor = await connection.cursor(_TRACKS)
    while rows := await cursor.fetch(PAGE):
        yield rows


async def popularity_pages(connection: PoolConnectionProxy) -> AsyncIterator[list[Any]]:
    """Of every track with interactions: id, decayed value and count, and the time that they are decayed to."""
    cursor = await connection.cursor(_POPULARITY)
    while rows := await cursor.fetch(8 * PAGE):
        yield rows
