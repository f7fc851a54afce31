"""Interactions of listeners: their identities, decayed sums and consumed offsets, written in one transaction of the caller's.

Consumed offsets need no epochs. They are locked while a batch is applied, and events below them are skipped: two workers that
both believe that they hold a partition count nothing twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from store.pool import translated_errors

_OPEN = """
INSERT INTO interaction_offsets (partition, next_offset) SELECT p, 0 FROM unnest($1::int[]) AS p
ON CONFLICT DO NOTHING
"""
_HOLD = """
SELECT partition, next_offset FROM interaction_offsets WHERE partition = ANY($1::int[])
ORDER BY partition FOR UPDATE
"""
_REMEMBER = """
INSERT INTO interactions (identity, key, type, event_time)
SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::text[], $4::timestamptz[])
ON CONFLICT DO NOTHING RETURNING identity
"""

# Both sums are decayed to the later reference, by a factor of at most one. Tiny values become 0: Postgres refuses a product
# that underflows.
_ADD = """
INSERT INTO popularity AS p (key, value, count, reference)
SELECT key, value, count, $4::float8 FROM unnest($1::bigint[], $2::float8[], $3::float8[]) AS n (key, value, count)
ON CONFLICT (key) DO UPDATE
SET value = CASE WHEN abs(p.value) < 1e-100 THEN 0 ELSE p.value END * power(2, (p.reference - greatest(p.reference, $4)) / $5)
        + excluded.value * power(2, ($4 - greatest(p.reference, $4)) / $5),
    count = CASE WHEN abs(p.count) < 1e-100 THEN 0 ELSE p.count END * power(2, (p.reference - greatest(p.reference, $4)) / $5)
        + excluded.count * power(2, ($4 - greatest(p.reference, $4)) / $5),
    reference = greatest(p.reference, $4)
"""
_ADVANCE = """
UPDATE interaction_offsets AS o SET next_offset = n.next_offset, updated_at = now()
FROM unnest($1::int[], $2::bigint[]) AS n (partition, next_offset) WHERE o.partition = n.partition
"""


@dataclass(frozen=True, slots=True)
class InteractionRow:
    """An interaction with an identity, which a second delivery repeats."""

    identity: bytes
    key: int
    type: str
    event_time: datetime


async def interaction_offsets(pool: asyncpg.Pool | PoolConnectionProxy) -> dict[int, int]:
    """For each partition of track-interactions, the next offset to read."""
    with translated_errors():
        rows = await pool.fetch("SELECT partition, next_offset FROM interaction_offsets")
    return {row[0]: row[1] for row in rows}


async def hold_interaction_partitions(
    connection: PoolConnectionProxy, partitions: Sequence[int]
) -> dict[int, int]:
    """Lock these partitions until the transaction ends; returns the next offset to read of each."""
    await connection.execute(_OPEN, sorted(partitions))
    return {row[0]: row[1] for row in await connection.fetch(_HOLD, sorted(partitions))}


async def remember_interactions(
    connection: PoolConnectionProxy, rows: Sequence[InteractionRow]
) -> set[bytes]:
    """Store interactions; returns the identities that are new."""
    if not rows:
        return set()
    columns = zip(*((r.identity, r.key, r.type, r.event_time) for r in rows), strict=True)
    fresh = await connection.fetch(_REMEMBER, *(list(column) for column in columns))
    return {row[0] for row in fresh}


async def add_popularity(
    connection: PoolConnectionProxy,
    keys: Sequence[int],
    values: Sequence[float],
    counts: Sequence[float],
    *,
    reference: float,
    half_life: float,
) -> None:
    """Add decayed sums to the popularity of tracks, whether or not these exist.

    Args:
        connection: Inside the transaction.
        keys: The tracks, ascending, each once.
        values: Sums of weights decayed to `reference`.
        counts: Sums of decay factors.
        reference: Seconds since the epoch.
        half_life: Seconds.
    """
    if len(keys):
        await connection.execute(_ADD, list(keys), list(values), list(counts), reference, half_life)


async def advance_interactions(connection: PoolConnectionProxy, next_offsets: Mapping[int, int]) -> None:
    """Record the consumed offsets of partitions that are locked."""
    await connection.execute(_ADVANCE, list(next_offsets), list(next_offsets.values()))


async def restart_interactions(pool: asyncpg.Pool, partitions: Sequence[int]) -> None:
    """Read these partitions from their start: their log has been replaced by another."""
    with translated_errors():
        await pool.execute(
            "UPDATE interaction_offsets SET next_offset = 0 WHERE partition = ANY($1::int[])",
            list(partitions),
        )


async def forget_interactions(pool: asyncpg.Pool, age: timedelta) -> int:
    """Delete the identities of interactions received longer ago than `age`; returns how many."""
    with translated_errors():
        status: str = await pool.execute(
            "DELETE FROM interactions WHERE received_at < now() - $1::interval", age
        )
    return int(status.rpartition(" ")[2])
