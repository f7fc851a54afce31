"""Counts of the store's contents, for health reports and `mess status`: too slow for requests."""

from dataclasses import dataclass, field

import asyncpg

from store.columns import REVISION
from store.pool import require_schema, translated_errors

# How many neighbours a stored list holds once the catalogue is large enough.
LIST_LENGTH = 50

# One statement: the figures belong to one snapshot.
_COUNTS = """
WITH size AS (SELECT count(*) AS tracks FROM tracks)
SELECT
    size.tracks,
    lists.stored,
    lists.complete,
    lists.newest,
    (SELECT dimension FROM catalogue) AS dimension,
    ARRAY(SELECT partition FROM ingest_partitions ORDER BY partition) AS partitions,
    ARRAY(SELECT consumed_offset FROM ingest_partitions ORDER BY partition) AS offsets
FROM size, LATERAL (
    SELECT
        count(*) AS stored,
        count(*) FILTER (WHERE cardinality(neighbours) >= least($1::bigint, size.tracks - 1)) AS complete,
        coalesce(max(version), 0) AS newest
    FROM neighbour_lists
) AS lists
"""


@dataclass(frozen=True, slots=True)
class StoreCounts:
    """Counts of one snapshot.

    Attributes:
        tracks: Tracks in the catalogue.
        lists: Neighbour lists stored.
        full_lists: Lists as long as the catalogue allows: 50, or every other track where there are fewer.
        list_version: The newest list version stored, 0 where there is none.
        dimension: Length of the catalogue's embeddings, None before the first track.
        consumed_offsets: For each partition of `track-ingest`, the next offset to read.
        revision: The schema's Alembic revision.
    """

    tracks: int
    lists: int
    full_lists: int
    list_version: int
    dimension: int | None
    revision: str
    consumed_offsets: dict[int, int] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every track has a full list."""
        return self.full_lists >= self.tracks


async def fetch_counts(pool: asyncpg.Pool) -> StoreCounts:
    """Count tracks, lists and consumed offsets in one snapshot.

    Reads every list's length: about 10 ms for 15,000 lists.

    Raises:
        StoreUnavailableError: Postgres cannot be reached.
        SchemaMismatchError: The schema is missing or another version's.
    """
    await require_schema(pool)
    with translated_errors():
        row = await pool.fetchrow(_COUNTS, LIST_LENGTH)
    assert row is not None
    return StoreCounts(
        tracks=row["tracks"],
        lists=row["stored"],
        full_lists=row["complete"],
        list_version=row["newest"],
        dimension=row["dimension"],
        revision=REVISION,
        consumed_offsets=dict(zip(row["partitions"], row["offsets"], strict=True)),
    )
