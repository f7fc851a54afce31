"""Consumed and absorbed offsets, and the epochs that fence a worker that has lost a partition."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from store import materialised
from store.errors import FencedError
from store.owner_offsets import ABSORBED
from store.pool import UNAVAILABLE


@dataclass(frozen=True, slots=True)
class PartitionClaim:
    """A partition, as its new owner claims it.

    Attributes:
        epoch: Must be presented with every write.
        consumed_offset: The next offset to read.
        published_version: The newest list version of this partition that is known to be on the change feed.
        generation: How often its log has been replaced by another one.
    """

    epoch: int
    consumed_offset: int
    published_version: int
    generation: int = 0


# Waits for all who hold one of these partitions, and blocks new holders meanwhile.
_TAKE_FROM_HOLDERS = """
SELECT partition FROM ingest_partitions WHERE partition = ANY($1::int[]) ORDER BY partition FOR UPDATE
"""

# Claims partitions: earlier owners can no longer write.
_CLAIM = """
INSERT INTO ingest_partitions AS p (partition, epoch, owner)
SELECT partition, 1, $2 FROM unnest($1::int[]) AS partition
ON CONFLICT (partition) DO UPDATE SET epoch = p.epoch + 1, owner = $2, updated_at = now()
RETURNING partition, epoch, consumed_offset, published_version, generation
"""

_EVICT = "SELECT pg_terminate_backend(pid) FROM unnest(pg_blocking_pids($1)) AS pid"

# Advances offsets of partitions that are still held under the given epochs.
_ADVANCE = """
WITH held AS (
    SELECT p.partition, n.next_offset FROM ingest_partitions AS p
    JOIN unnest($1::int[], $2::bigint[], $3::bigint[]) AS n (partition, epoch, next_offset) USING (partition, epoch)
    ORDER BY p.partition FOR NO KEY UPDATE OF p
)
UPDATE ingest_partitions AS p
SET consumed_offset = greatest(p.consumed_offset, held.next_offset), updated_at = now()
FROM held WHERE p.partition = held.partition
RETURNING p.partition
"""

# Blocks claims of these partitions until the transaction ends, but not changes of their offsets: ingest continues during a
# flush.
_HOLD = """
SELECT p.partition FROM ingest_partitions AS p
JOIN unnest($1::int[], $2::bigint[]) AS n (partition, epoch) USING (partition, epoch)
ORDER BY p.partition FOR KEY SHARE OF p
"""

# Rows are locked in the order in which commits update them: another order would deadlock.
_SET_PUBLISHED = """
WITH held AS (
    SELECT p.partition, n.version FROM ingest_partitions AS p
    JOIN unnest($1::int[], $2::bigint[]) AS n (partition, version) USING (partition)
    WHERE p.published_version < n.version
    ORDER BY p.partition FOR NO KEY UPDATE OF p
)
UPDATE ingest_partitions AS p SET published_version = held.version
FROM held WHERE p.partition = held.partition
"""

_LOCK_PUBLISHED = (
    "SELECT FROM ingest_partitions WHERE partition = ANY($1::int[]) ORDER BY partition FOR NO KEY UPDATE"
)

# The log was replaced by another one, whose offsets start again: the old offsets mean nothing any more.
_RESTART_OFFSETS = """
UPDATE ingest_partitions AS p SET consumed_offset = 0, generation = p.generation + 1, updated_at = now()
FROM unnest($1::int[], $2::bigint[]) AS n (partition, epoch)
WHERE p.partition = n.partition AND p.epoch = n.epoch
RETURNING p.partition, p.generation
"""
# Offsets page through a partition, as no two tracks share an event; returns the last, null if there was none.
_FORGET_PAGE = """
WITH page AS (
    SELECT key, source_offset FROM tracks WHERE source_partition = $1 AND source_offset > $2
    ORDER BY source_offset LIMIT $3
), forgotten AS (UPDATE tracks AS t SET source_offset = -1 FROM page WHERE t.key = page.key)
SELECT max(source_offset) FROM page
"""
# Tracks whose offsets a statement changes at most.
PAGE_TRACKS = 4_096
_NEW_LOG = """
UPDATE ingest_partitions SET consumed_offset = 0, generation = generation + 1, epoch = epoch + 1, updated_at = now()
WHERE consumed_offset > 0
RETURNING partition
"""


async def claim_partitions(
    connection: PoolConnectionProxy, partitions: list[int], owner: str
) -> dict[int, PartitionClaim]:
    """Take `partitions` over under new epochs."""
    await connection.execute(_TAKE_FROM_HOLDERS, partitions)
    rows = await connection.fetch(_CLAIM, sorted(partitions), owner)
    return {
        row["partition"]: PartitionClaim(
            row["epoch"], row["consumed_offset"], row["published_version"], row["generation"]
        )
        for row in rows
    }


@asynccontextmanager
async def evicting_blockers(pool: asyncpg.Pool, process: int, patience: float) -> AsyncIterator[None]:
    """While a block waits for locks, end the sessions that have blocked it for longer than `patience` seconds.

    A worker that freezes in the middle of a transaction keeps its locks.

    Args:
        pool: Of the role of the blocking sessions.
        process: The waiting session's process id in Postgres.
        patience: Seconds.
    """

    async def evict() -> None:
        while True:
            await asyncio.sleep(patience)
            await pool.execute(_EVICT, process)

    task = asyncio.create_task(evict(), name="evict")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, *UNAVAILABLE):
            await task


async def advance_consumed(
    connection: PoolConnectionProxy, epochs: Mapping[int, int], next_offsets: Mapping[int, int]
) -> None:
    """Advance the consumed offsets of the partitions in `next_offsets`, never back.

    Raises:
        FencedError: One of them is held by another worker now; nothing may be committed.
    """
    partitions = sorted(next_offsets)
    rows = await connection.fetch(
        _ADVANCE, partitions, [epochs[p] for p in partitions], [next_offsets[p] for p in partitions]
    )
    _require_all({p: epochs[p] for p in partitions}, {row["partition"] for row in rows})


async def hold_partitions(connection: PoolConnectionProxy, epochs: Mapping[int, int]) -> None:
    """Keep these partitions ours until the transaction ends.

    Other transactions may hold them, and advance their offsets, at the same time; only a claim waits.

    Raises:
        FencedError: One of them is held by another worker now; nothing may be committed.
    """
    partitions = sorted(epochs)
    rows = await connection.fetch(_HOLD, partitions, [epochs[p] for p in partitions])
    _require_all(epochs, {row["partition"] for row in rows})


def _require_all(epochs: Mapping[int, int], found: set[int]) -> None:
    for partition, epoch in epochs.items():
        if partition not in found:
            raise FencedError(partition, epoch)


async def record_absorbed(
    connection: PoolConnectionProxy, owners: list[int], next_offsets: Mapping[int, int]
) -> None:
    """Record that the lists of `owners` have absorbed each source partition below its offset."""
    await ABSORBED.advance(connection, owners, next_offsets)


async def consumed_offsets(connection: PoolConnectionProxy) -> dict[int, int]:
    """For each partition, the next offset to read."""
    rows = await connection.fetch("SELECT partition, consumed_offset FROM ingest_partitions")
    return {row["partition"]: row["consumed_offset"] for row in rows}


async def absorbed_offsets(connection: PoolConnectionProxy) -> dict[int, dict[int, int]]:
    """For each owner partition, the offset below which each source partition has been absorbed.

    Source partitions of which nothing has been absorbed are left out. After a new log, all their tracks may be missing in the
    lists.
    """
    rows = await connection.fetch("SELECT owner_partition, absorbed FROM owner_progress")
    return {
        row["owner_partition"]: {source: offset for source, offset in enumerate(row["absorbed"]) if offset}
        for row in rows
    }


async def restart_offsets(connection: PoolConnectionProxy, epochs: Mapping[int, int]) -> dict[int, int]:
    """Read these partitions from their beginning, as their log has been replaced by another.

    Tracks and lists stay, and everything consumed counts as absorbed. Returns the new logs' generations.

    Raises:
        FencedError: One of them is held by another worker now.
    """
    partitions = sorted(epochs)
    rows = await connection.fetch(_RESTART_OFFSETS, partitions, [epochs[p] for p in partitions])
    _require_all(epochs, {row["partition"] for row in rows})
    await _forget_offsets(connection, partitions)
    return {row["partition"]: row["generation"] for row in rows}


async def begin_new_log(connection: PoolConnectionProxy) -> list[int]:
    """Record that the caller has just created the ingest topic anew; returns the partitions consumed before.

    A worker that starts later can only detect this while the new log is shorter than the old one was. Running workers are
    fenced: they know the old log.
    """
    rows = await connection.fetch(_NEW_LOG)
    partitions = [row["partition"] for row in rows]
    await _forget_offsets(connection, partitions)
    return partitions


async def _forget_offsets(connection: PoolConnectionProxy, partitions: list[int]) -> None:
    await ABSORBED.forget(connection, partitions)
    await connection.execute("DELETE FROM departures WHERE source_partition = ANY($1)", partitions)
    await connection.execute("DELETE FROM moves WHERE to_partition = ANY($1)", partitions)
    for partition in partitions:
        offset: int | None = -1
        while offset is not None:
            offset = await connection.fetchval(_FORGET_PAGE, partition, offset, PAGE_TRACKS)
    await materialised.forget_progress(connection)


async def unpublished(connection: PoolConnectionProxy, partitions: Collection[int]) -> set[int]:
    """Those of these partitions of which nothing counts as published."""
    rows = await connection.fetch(
        "SELECT partition FROM ingest_partitions WHERE published_version = 0 AND partition = ANY($1::int[])",
        list(partitions),
    )
    return {row["partition"] for row in rows}


async def partition_count(connection: PoolConnectionProxy) -> int:
    """How many partitions have been claimed: all, once workers have shared them out."""
    found: int = await connection.fetchval("SELECT coalesce(max(partition) + 1, 0) FROM ingest_partitions")
    return found


async def lock_published(connection: PoolConnectionProxy, partitions: Collection[int]) -> None:
    """Let no other transaction change what is published of these partitions until this one ends.

    A statement that follows sees each change that was made before.
    """
    await connection.execute(_LOCK_PUBLISHED, list(partitions))


async def record_published(connection: PoolConnectionProxy, versions: Mapping[int, int]) -> None:
    """Record, by partition, the version up to which the change feed has all its lists."""
    await connection.execute(_SET_PUBLISHED, list(versions), list(versions.values()))
