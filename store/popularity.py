"""Reads the popularity of all tracks as arrays, and how many lists hold each track."""

import io
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import numpy as np
import numpy.typing as npt

from store.pool import translated_errors

# Grows after every committed batch of interactions: a later read has that batch.
_VERSION = "SELECT last_value + is_called::int FROM popularity_version"

_ALL = """
SELECT t.key, extract(epoch FROM t.created_at)::float8, coalesce(p.value, 0)::float8,
       coalesce(p.reference, 0)::float8
FROM tracks AS t LEFT JOIN popularity AS p USING (key) ORDER BY t.key
"""
_OCCURRENCES = """
SELECT n::bigint, count(*)::float8 FROM neighbour_lists, unnest(neighbours) AS n GROUP BY n ORDER BY n
"""
_HEADER_BYTES: Final = 19
_TRAILER_BYTES: Final = 2


@dataclass(frozen=True, eq=False, slots=True)
class StoredPopularity:
    """The interactions with each track of the catalogue, summed up.

    Attributes:
        version: At least this version of the popularity.
        keys: int64 (n,), ascending.
        created_at: float64 (n,), when the store first held the track, seconds since the epoch.
        values: float64 (n,), decayed weights of its interactions.
        references: float64 (n,), the moment that they are decayed to; 0 where there are none.
    """

    version: int
    keys: npt.NDArray[np.int64]
    created_at: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]
    references: npt.NDArray[np.float64]


async def popularity_version(pool: asyncpg.Pool) -> int:
    """The version of the popularity; it changes with every batch of interactions."""
    with translated_errors():
        found: int = await pool.fetchval(_VERSION)
    return found


async def bump_popularity(pool: asyncpg.Pool) -> int:
    """Set a new version. Call it after interactions were committed."""
    with translated_errors():
        await pool.fetchval("SELECT nextval('popularity_version')")
    return await popularity_version(pool)


async def read_popularity(pool: asyncpg.Pool) -> StoredPopularity:
    """The popularity of all tracks, as of now."""
    found = await popularity_version(pool)
    rows = await _copied(pool, _ALL, (">i8", ">f8", ">f8", ">f8"))
    keys, created_at, values, references = rows
    return StoredPopularity(
        found, keys.astype(np.int64), *(c.astype(np.float64) for c in (created_at, values, references))
    )


async def list_counts(pool: asyncpg.Pool) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], int]:
    """For each track in any list: its key (m,), ascending, and the number of its lists (m,); and the number of all lists."""
    keys, counts = await _copied(pool, _OCCURRENCES, (">i8", ">f8"))
    with translated_errors():
        lists: int = await pool.fetchval("SELECT count(*) FROM neighbour_lists")
    return keys.astype(np.int64), counts.astype(np.float64), lists


async def _copied(pool: asyncpg.Pool, query: str, types: tuple[str, ...]) -> list[npt.NDArray[Any]]:
    """The columns of a query by binary COPY; values must have eight bytes and not be null."""
    output = io.BytesIO()
    with translated_errors():
        async with pool.acquire() as connection:
            await connection.copy_from_query(query, output=output, format="binary")
    fields: list[Any] = [("fields", ">i2")]
    for i, kind in enumerate(types):
        fields += [(f"length{i}", ">i4"), (f"value{i}", kind)]
    rows = np.frombuffer(
        output.getbuffer()[_HEADER_BYTES : output.tell() - _TRAILER_BYTES], dtype=np.dtype(fields)
    )
    return [rows[f"value{i}"] for i in range(len(types))]
