"""Transactions that run beside each other in one worker never wait for each other in a circle."""

import asyncio

import asyncpg
import pytest

from store import partitions
from store.pool import transaction
from tests.support.polling import until

pytestmark = pytest.mark.integration


async def test_settling_the_feed_takes_partitions_in_the_order_of_a_commit(pool: asyncpg.Pool) -> None:
    """However the rows lie, it waits for the first partition before it takes the second, which stays free to hold."""
    async with transaction(pool) as connection:
        claims = await partitions.claim(connection, [0, 1], "one")
    # Each update moves a row behind the others, so that a plain scan meets partition 1 first.
    await pool.execute("UPDATE ingest_partitions SET owner = 'two' WHERE partition = 0")

    async def settle() -> None:
        async with transaction(pool) as connection:
            # As Postgres reads a table once it has grown, or whenever it thinks fit.
            await connection.execute("SET LOCAL enable_indexscan = off; SET LOCAL enable_bitmapscan = off")
            await partitions.set_published(connection, [0, 1], 7)

    async with transaction(pool) as connection:
        await partitions.hold(connection, {0: claims[0].epoch})
        settling = asyncio.create_task(settle())

        async def waits() -> bool:
            return bool(await pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

        await until(waits)
        await partitions.hold(connection, {1: claims[1].epoch})
        await partitions.advance(connection, {p: c.epoch for p, c in claims.items()}, {0: 1, 1: 1})
    await settling
    assert await pool.fetchval("SELECT array_agg(published_version) FROM ingest_partitions") == [7, 7]


async def test_settling_the_feed_beside_a_commit_waits_and_then_goes_on(pool: asyncpg.Pool) -> None:
    """A commit holds its partitions and then moves their offsets; settling meanwhile does not end in a deadlock."""
    async with transaction(pool) as connection:
        claims = await partitions.claim(connection, [0, 1], "one")
    epochs = {partition: claim.epoch for partition, claim in claims.items()}

    async def settle() -> None:
        async with transaction(pool) as connection:
            await partitions.hold(connection, epochs, alone=True)
            await partitions.set_published(connection, [0, 1], 7)

    async with transaction(pool) as connection:
        await partitions.hold(connection, epochs)
        settling = asyncio.create_task(settle())

        async def waits() -> bool:
            return bool(await pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

        await until(waits)
        await partitions.advance(connection, epochs, {0: 3, 1: 4})
    await settling
    assert await pool.fetchval(
        "SELECT array_agg(consumed_offset ORDER BY partition) FROM ingest_partitions"
    ) == [3, 4]
    assert await pool.fetchval("SELECT array_agg(published_version) FROM ingest_partitions") == [7, 7]
