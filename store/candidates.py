"""The recommender's reads: a stored list, statistics of all lists, which tracks exist."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg
import numpy as np
import numpy.typing as npt

from store.pool import translated_errors

_KNOWN = "SELECT key FROM tracks WHERE key = ANY($1::bigint[])"

_LIST = """
SELECT array_send(neighbours) AS neighbours, array_send(scores) AS scores, version, source_partition, source_offset,
       event_time, generated_at
FROM neighbour_lists WHERE key = $1
"""
_DENSITIES = """
SELECT key, (SELECT avg(score) FROM unnest(scores[:$1::int]) AS score)::float8
FROM neighbour_lists WHERE cardinality(scores) > 0 ORDER BY key
"""
_ARRAY_HEADER: Final = 20


@dataclass(frozen=True, eq=False, slots=True)
class StoredNeighbours:
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


async def existing_keys(pool: asyncpg.Pool, keys: Sequence[int]) -> set[int]:
    """The keys that belong to a track."""
    with translated_errors():
        return {row[0] for row in await pool.fetch(_KNOWN, list(keys))}


async def fetch_list(pool: asyncpg.Pool, key: int) -> StoredNeighbours | None:
    """One track's stored list; None where it has none yet."""
    with translated_errors():
        row = await pool.fetchrow(_LIST, key)
    if row is None:
        return None
    neighbours = _elements(row[0], ">i8").astype(np.int64)
    return StoredNeighbours(neighbours, _elements(row[1], ">f4").astype(np.float32), *row[2:])


async def fetch_densities(
    pool: asyncpg.Pool, neighbours: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """For every track with a list: its key, ascending, and its mean similarity to its first few neighbours, float64 (m,)."""
    with translated_errors():
        rows = await pool.fetch(_DENSITIES, neighbours)
    keys = np.array([row[0] for row in rows], dtype=np.int64)
    return keys, np.array([row[1] for row in rows], dtype=np.float64)


def _elements(sent: bytes, kind: str) -> npt.NDArray[Any]:
    """The elements of an array without nulls, from the format of `array_send`."""
    element = np.dtype([("length", ">i4"), ("value", kind)])
    return np.frombuffer(sent, dtype=element, offset=min(len(sent), _ARRAY_HEADER))["value"]
