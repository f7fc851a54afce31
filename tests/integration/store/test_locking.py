"""Transactions that run beside each other never wait for each other in a circle, and only claims wait for flushes."""

import asyncio

import asyncpg
import pytest

from store import partitions
from store.pool import transaction
from tests.support.polling import until

pytestmark = pytest.mark.integration


async def claimed(pool: asyncpg.Pool) -> dict[int, int]:
    """Epochs of two partitions."""
    async with transaction(pool) as connection:
        claims = await partitions.claim_partitions(connection, [0, 1], "one")
    return {partition: claim.epoch for partition, claim in claims.items()}


async def one_waits(pool: asyncpg.Pool) -> None:
    """Wait until a transaction waits for another one."""

    async def waits() -> bool:
        return bool(await pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

    await until(waits)


async def test_settling_the_feed_takes_partitions_in_the_order_of_a_commit(pool: asyncpg.Pool) -> None:
    """However the rows lie, it waits for the first partition before it takes the second, which stays free to move."""
    epochs = await claimed(pool)
    # Each update moves a row behind the others, so that a plain scan meets partition 1 first.
    await pool.execute("UPDATE ingest_partitions SET owner = 'two' WHERE partition = 0")

    async def settle() -> None:
        async with transaction(pool) as connection:
            # As Postgres reads a table once it has grown, or whenever it thinks fit.
            await connection.execute("SET LOCAL enable_indexscan = off; SET LOCAL enable_bitmapscan = off")
            await partitions.hold_partitions(connection, epochs)
            await partitions.record_published(connection, {0: 7, 1: 8})

    async with transaction(pool) as connection:
        await partitions.hold_partitions(connection, epochs)
        await partitions.advance_consumed(connection, epochs, {0: 1})
        settling = asyncio.create_task(settle())
        await one_waits(pool)
        await partitions.advance_consumed(connection, epochs, {1: 1})
    await settling
    assert await pool.fetchval(
        "SELECT array_agg(published_version ORDER BY partition) FROM ingest_partitions"
    ) == [7, 8]
    assert await pool.fetchval("SELECT array_agg(consumed_offset) FROM ingest_partitions") == [1, 1]


async def test_offsets_move_while_a_flush_holds_their_partitions(pool: asyncpg.Pool) -> None:
    """A transaction that holds partitions for as long as a flush takes keeps no commit of ingest waiting."""
    epochs = await claimed(pool)
    async with transaction(pool) as flush:
        await partitions.hold_partitions(flush, epochs)
        async with transaction(pool) as commit:
            await commit.execute("SET LOCAL lock_timeout = '5s'")
            await partitions.hold_partitions(commit, epochs)
            await partitions.advance_consumed(commit, epochs, {0: 3, 1: 4})
        async with transaction(pool) as commit:
            await commit.execute("SET LOCAL lock_timeout = '5s'")
            await partitions.record_published(commit, {0: 1, 1: 1})
    assert await pool.fetchval(
        "SELECT array_agg(consumed_offset ORDER BY partition) FROM ingest_partitions"
    ) == [3, 4]


async def test_a_claim_waits_for_what_is_being_written_under_the_epoch_before(pool: asyncpg.Pool) -> None:
    """A new owner of a partition sees everything that the former one has written, and no more comes."""
    epochs = await claimed(pool)

    async def claim() -> None:
        async with transaction(pool) as connection:
            await partitions.claim_partitions(connection, [1], "two")

    async with transaction(pool) as connection:
        await partitions.hold_partitions(connection, epochs)
        claiming = asyncio.create_task(claim())
        await one_waits(pool)
        # What holds them already still moves their offsets.
        await partitions.advance_consumed(connection, epochs, {0: 1, 1: 1})
    await claiming
    assert await pool.fetchval("SELECT owner FROM ingest_partitions WHERE partition = 1") == "two"
