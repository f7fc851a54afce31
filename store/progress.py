"""Reads offsets, and which lists and tracks have changed since: called many times a second.

Every function takes one round trip, and raises `StoreUnavailableError` if Postgres cannot be reached.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from store.pool import translated_errors

# One statement, so that both belong to one snapshot.
_PROGRESS = """
SELECT
    ARRAY(SELECT partition::bigint FROM ingest_partitions ORDER BY partition) AS partitions,
    ARRAY(SELECT consumed_offset FROM ingest_partitions ORDER BY partition) AS consumed,
    ARRAY(SELECT owner_partition::bigint FROM absorbed_offsets
          ORDER BY owner_partition, source_partition) AS owners,
    ARRAY(SELECT source_partition::bigint FROM absorbed_offsets
          ORDER BY owner_partition, source_partition) AS sources,
    ARRAY(SELECT absorbed_offset FROM absorbed_offsets
          ORDER BY owner_partition, source_partition) AS absorbed
"""

_WRITTEN = """
SELECT t.track_id
FROM unnest($1::integer[], $2::bigint[], $3::bigint[]) AS r (partition, low, high)
JOIN tracks AS t
    ON t.source_partition = r.partition AND t.source_offset >= r.low AND t.source_offset < r.high
LIMIT $4
"""

_VERSIONS = "SELECT key, version FROM neighbour_lists WHERE key = ANY($1::bigint[])"
_WITHDRAWN = "SELECT track_id FROM withdrawals"


@dataclass(frozen=True, slots=True)
class StoreProgress:
    """One snapshot of the offsets.

    Attributes:
        consumed: For each partition of `track-ingest`, the next offset to read: everything below is in `tracks`.
        absorbed: For each partition whose lists are kept, and each source partition, the offset below which
            these lists hold the effect of everything.
    """

    consumed: dict[int, int]
    absorbed: dict[int, dict[int, int]]

    def behind(self, owner: int) -> bool:
        """Whether events have been accepted that the lists of `owner` have not absorbed yet."""
        taken = self.absorbed.get(owner, {})
        return any(offset > taken.get(source, 0) for source, offset in self.consumed.items())


async def fetch_progress(pool: asyncpg.Pool | PoolConnectionProxy) -> StoreProgress:
    """The offsets as of now."""
    with translated_errors():
        row = await pool.fetchrow(_PROGRESS)
    assert row is not None
    absorbed: dict[int, dict[int, int]] = {}
    for owner, source, offset in zip(row["owners"], row["sources"], row["absorbed"], strict=True):
        absorbed.setdefault(owner, {})[source] = offset
    return StoreProgress(dict(zip(row["partitions"], row["consumed"], strict=True)), absorbed)


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


async def fetch_withdrawn(pool: asyncpg.Pool) -> list[str]:
    """Ids of the withdrawn tracks whose tombstone is still to be published."""
    with translated_errors():
        return [row["track_id"] for row in await pool.fetch(_WITHDRAWN)]


async def fetch_versions(pool: asyncpg.Pool, keys: Sequence[int]) -> dict[int, int]:
    """The version of each of these tracks' lists; tracks without a list are left out."""
    with translated_errors():
        return {row[0]: row[1] for row in await pool.fetch(_VERSIONS, keys)}
