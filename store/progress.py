"""Reads offsets, which generations serve, and which lists and tracks have changed since: called many times a second.

Every function takes one round trip, and raises `StoreUnavailableError` if Postgres cannot be reached.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from store.pool import translated_errors
from streams.generations import GenerationName

# One statement, so that all belong to one snapshot. Owners of one worker have absorbed the same, mostly.
_PROGRESS = """
SELECT NULL AS owners, array_agg(partition) AS partitions, array_agg(consumed_offset) AS offsets,
    (SELECT array_agg(space || '/' || number) FROM generations WHERE serving) AS serving
FROM ingest_partitions
UNION ALL
SELECT array_agg(owner_partition), NULL, absorbed, NULL FROM owner_progress GROUP BY absorbed
"""

_WRITTEN = """
SELECT t.track_id
FROM unnest($1::integer[], $2::bigint[], $3::bigint[]) AS r (partition, low, high)
JOIN tracks AS t
    ON t.source_partition = r.partition AND t.source_offset >= r.low AND t.source_offset < r.high
LIMIT $4
"""

# The time of the first event at or behind an offset, as far as its track has had none since.
_WAITING = """
SELECT f.partition, extract(epoch FROM clock_timestamp() - t.updated_at)::float8 AS seconds
FROM unnest($1::integer[], $2::bigint[]) AS f (partition, first), LATERAL (
    SELECT updated_at FROM tracks WHERE source_partition = f.partition AND source_offset >= f.first
    ORDER BY source_offset LIMIT 1
) AS t
"""

_VERSIONS = "SELECT key, version FROM neighbour_lists WHERE key = ANY($1::bigint[])"
_WITHDRAWN = "SELECT track_id FROM withdrawals"


@dataclass(frozen=True, slots=True)
class StoreProgress:
    """One snapshot of the offsets, and of which generations serve.

    Attributes:
        consumed: For each partition of `track-ingest`, the next offset to read: everything below is in `tracks`.
        absorbed: For each partition whose lists are kept, and each source partition, the offset below which
            these lists hold the effect of everything.
        serving: The generation that readers of a space should get, by space; empty if the store has not said.
    """

    consumed: dict[int, int]
    absorbed: dict[int, dict[int, int]]
    serving: Mapping[str, GenerationName] = field(default_factory=dict)

    def behind(self, owner: int) -> bool:
        """Whether events have been accepted that the lists of `owner` have not absorbed yet."""
        taken = self.absorbed.get(owner, {})
        return any(offset > taken.get(source, 0) for source, offset in self.consumed.items())


async def fetch_progress(pool: asyncpg.Pool | PoolConnectionProxy) -> StoreProgress:
    """The offsets as of now, and which generations serve."""
    with translated_errors():
        rows = await pool.fetch(_PROGRESS)
    consumed: dict[int, int] = {}
    serving: dict[str, GenerationName] = {}
    absorbed: dict[int, dict[int, int]] = {}
    for owners, partitions, offsets, names in rows:
        if owners is None:
            serving = {name.space: name for name in map(GenerationName.parse, names or ())}
            consumed = dict(zip(partitions or (), offsets or (), strict=True))
        else:
            taken = dict(enumerate(offsets))
            absorbed |= dict.fromkeys(owners, taken)
    return StoreProgress(consumed, absorbed, serving)


async def fetch_written(
    pool: asyncpg.Pool, since: Mapping[int, int], until: Mapping[int, int], *, limit: int
) -> list[str] | None:
    """Ids of the tracks that were written by events from `since` to before `until`, by partition.

    Returns:
        None if there are more than `limit`.
    """
    moved = [(p, since.get(p, 0), end) for p, end in until.items() if end > since.get(p, 0)]
    if not moved:
        return []
    with translated_errors():
        rows = await pool.fetch(_WRITTEN, *(list(column) for column in zip(*moved, strict=True)), limit + 1)
    return None if len(rows) > limit else [row["track_id"] for row in rows]


async def fetch_waiting(pool: asyncpg.Pool, first: Mapping[int, int]) -> dict[int, float]:
    """For how many seconds the first event at or behind an offset has been stored, by partition.

    Partitions without such an event are left out.
    """
    if not first:
        return {}
    with translated_errors():
        rows = await pool.fetch(_WAITING, list(first), list(first.values()))
    return {row["partition"]: max(0.0, row["seconds"]) for row in rows}


async def fetch_withdrawn(pool: asyncpg.Pool) -> list[str]:
    """Ids of the withdrawn tracks whose tombstone is still to be published."""
    with translated_errors():
        return [row["track_id"] for row in await pool.fetch(_WITHDRAWN)]


async def fetch_versions(pool: asyncpg.Pool, keys: Sequence[int]) -> dict[int, int]:
    """The version of each of these tracks' lists; tracks without a list are left out."""
    with translated_errors():
        return {row[0]: row[1] for row in await pool.fetch(_VERSIONS, keys)}
