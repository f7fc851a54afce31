"""Reads by key for who makes recommendations: tracks with their metadata, a stored list, columns of the catalogue."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg
import numpy as np
import numpy.typing as npt

from store.columns import METADATA_FIELDS
from store.pool import translated

# Rows decoded at a time: what else is to be done waits no longer than for these.
_ROWS: Final = 250

_FIELDS = f"SELECT key, track_id, source_offset, {', '.join(METADATA_FIELDS)} FROM tracks"  # noqa: S608 -- columns of the schema
_TRACKS = f"{_FIELDS} WHERE key = ANY($1::bigint[])"
_TRACKS_AFTER = f"{_FIELDS} WHERE key > $1 ORDER BY key LIMIT $2"

_LIST = """
SELECT array_send(neighbours) AS neighbours, array_send(scores) AS scores, version, source_partition, source_offset,
       event_time, generated_at
FROM neighbour_lists WHERE key = $1
"""
_DENSITIES = """
SELECT key, (SELECT avg(score) FROM unnest(scores[:$2::int]) AS score)::float8
FROM neighbour_lists WHERE key = ANY($1::bigint[])
"""
_ARRAY_HEADER: Final = 20


@dataclass(frozen=True, slots=True)
class KnownTrack:
    """A track as the store has it.

    Attributes:
        key: Its 64-bit key.
        track_id: Its id.
        offset: Of the event that wrote it; another event, another offset.
        metadata: Every field of the contract, None where the catalogue says nothing.
    """

    key: int
    track_id: str
    offset: int
    metadata: dict[str, Any]


@dataclass(frozen=True, eq=False, slots=True)
class StoredList:
    """A neighbour list as the store has it.

    Attributes:
        neighbours: int64 (m,), most similar first; some may have been withdrawn since.
        scores: float32 (m,), cosine similarity.
        version: Grows with every rewrite.
        source_partition: Partition of the event that changed it last.
        source_offset: That event's offset.
        event_time: That event's own time.
        generated_at: When it was computed.
    """

    neighbours: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    version: int
    source_partition: int
    source_offset: int
    event_time: datetime
    generated_at: datetime


async def fetch_tracks(pool: asyncpg.Pool, keys: Sequence[int]) -> list[KnownTrack]:
    """These tracks in any order; those that are not there are left out."""
    found: list[KnownTrack] = []
    for start in range(0, len(keys), _ROWS):
        with translated():
            rows = await pool.fetch(_TRACKS, keys[start : start + _ROWS])
        found += _known(rows)
    return found


async def tracks_after(pool: asyncpg.Pool, key: int, count: int) -> list[KnownTrack]:
    """The first `count` tracks whose key is above `key`, by key."""
    with translated():
        return _known(await pool.fetch(_TRACKS_AFTER, key, count))


def _known(rows: Sequence[asyncpg.Record]) -> list[KnownTrack]:
    return [
        KnownTrack(row[0], row[1], row[2], dict(zip(METADATA_FIELDS, row[3:], strict=True))) for row in rows
    ]


async def fetch_list(pool: asyncpg.Pool, key: int) -> StoredList | None:
    """One track's stored list; None where it has none yet."""
    with translated():
        row = await pool.fetchrow(_LIST, key)
    if row is None:
        return None
    neighbours = _elements(row[0], ">i8").astype(np.int64)
    return StoredList(neighbours, _elements(row[1], ">f4").astype(np.float32), *row[2:])


async def fetch_densities(
    pool: asyncpg.Pool, keys: npt.NDArray[np.int64], neighbours: int
) -> npt.NDArray[np.float64]:
    """The mean similarity of each track, (m,), to the first few of its own list, float64 (m,).

    A track without a list has the mean of the others, or 0 where none has one.
    """
    with translated():
        rows = await pool.fetch(_DENSITIES, keys.tolist(), neighbours)
    known = {row[0]: row[1] for row in rows if row[1] is not None}
    usual = sum(known.values()) / len(known) if known else 0.0
    return np.array([known.get(key, usual) for key in keys.tolist()], dtype=np.float64)


def _elements(sent: bytes, kind: str) -> npt.NDArray[Any]:
    """The elements of an array without nulls as `array_send` has them."""
    element = np.dtype([("length", ">i4"), ("value", kind)])
    return np.frombuffer(sent, dtype=element, offset=min(len(sent), _ARRAY_HEADER))["value"]


async def scan(pool: asyncpg.Pool, fields: Sequence[str]) -> AsyncIterator[list[asyncpg.Record]]:
    """Every track as (key, *fields), some at a time.

    Args:
        pool: The store.
        fields: Names of `store.columns.METADATA_FIELDS`.
    """
    unknown = set(fields) - set(METADATA_FIELDS)
    if unknown:
        raise ValueError(f"no such fields: {sorted(unknown)}")
    query = f"SELECT {', '.join(['key', *fields])} FROM tracks"  # noqa: S608 -- names of the schema
    with translated():
        async with pool.acquire() as connection, connection.transaction(readonly=True):
            cursor = await connection.cursor(query)
            while rows := await cursor.fetch(4 * _ROWS):
                yield rows


async def fetch_dimension(pool: asyncpg.Pool) -> int | None:
    """The length of the catalogue's embeddings, which never changes; None before the first track."""
    with translated():
        found: int | None = await pool.fetchval("SELECT dimension FROM catalogue")
    return found


async def count_tracks(pool: asyncpg.Pool) -> int:
    """How many tracks there are."""
    with translated():
        found: int = await pool.fetchval("SELECT count(*) FROM tracks")
    return found
