"""What a worker reads of partitions that others consume."""

import asyncpg
import pytest

from store import layouts, partitions, tail, tracks
from store.pool import snapshot, transaction
from store.tail import CommittedTail
from store.tracks import Withdrawal
from tests.integration.store.test_writes import row

pytestmark = pytest.mark.integration


async def read(pool: asyncpg.Pool, after: dict[int, int], limit: int = 100) -> CommittedTail:
    """A stretch."""
    async with snapshot(pool) as connection:
        return await tail.read_tail(connection, 4, after, limit=limit)


async def consume(pool: asyncpg.Pool, upto: int) -> None:
    """Claim partitions 0 and 1 and consume the first up to an offset."""
    async with transaction(pool) as connection:
        claims = await partitions.claim_partitions(connection, [0, 1], "one")
        await partitions.advance_consumed(connection, {0: claims[0].epoch}, {0: upto})


async def test_a_stretch_ends_where_the_store_was_consumed(pool: asyncpg.Pool) -> None:
    """Tracks and deletions from the offset on are read, none beyond what counts as consumed, and no partition twice."""
    async with transaction(pool) as connection:
        await tracks.upsert_tracks(connection, [row("a", offset=1), row("b", offset=4), row("c", offset=9)])
        await tracks.withdraw_tracks(connection, [Withdrawal("x", 77, 0, 3), Withdrawal("y", 78, 0, 9)])
    await consume(pool, 6)
    found = await read(pool, {0: 2, 1: 0})
    assert found.tracks.track_ids == ["b"]
    assert found.departures.keys.tolist() == [77]
    assert found.upto == {0: 6}
    assert found.whole
    assert (await read(pool, {0: 6})).upto == {}


async def test_a_long_stretch_is_read_in_parts(pool: asyncpg.Pool) -> None:
    """A part ends behind its last track, and so do the deletions that are read with it; the next goes on from there."""
    async with transaction(pool) as connection:
        await tracks.upsert_tracks(connection, [row(f"t{i}", offset=2 * i, key=i) for i in range(5)])
        await tracks.withdraw_tracks(connection, [Withdrawal("x", 70, 0, 1), Withdrawal("y", 71, 0, 5)])
    await consume(pool, 9)
    after, seen, gone, parts = {0: 0}, [], [], 0
    while after:
        part = await read(pool, after, limit=2)
        seen += part.tracks.keys.tolist()
        gone += part.departures.keys.tolist()
        after = part.upto if not part.whole else {}
        parts += 1
    assert seen == [0, 1, 2, 3, 4]
    assert gone == [70, 71]
    assert parts == 3


async def test_deletions_are_kept_until_the_lists_of_every_partition_have_absorbed_them(
    pool: asyncpg.Pool,
) -> None:
    """As long as one owner has not absorbed an offset, its deletion stays for followers."""
    async with transaction(pool) as connection:
        await tracks.withdraw_tracks(connection, [Withdrawal("x", 70, 0, 1), Withdrawal("y", 71, 0, 5)])
    await consume(pool, 9)
    for owners, upto, left in (([0], 9, [70, 71]), ([1], 3, [71]), ([1], 9, [])):
        async with transaction(pool) as connection:
            await partitions.record_absorbed(connection, owners, {0: upto})
            await tail.prune_departures(connection, 0.0)
        assert (await read(pool, {0: 0})).departures.keys.tolist() == left


async def test_a_replaced_log_is_of_another_generation(pool: asyncpg.Pool) -> None:
    """Its deletions are void, its offsets start again, and the catalogue's identity is another."""
    async with transaction(pool) as connection:
        await layouts.fix_layout(connection, layouts.StoredLayout(4))
        await tracks.withdraw_tracks(connection, [Withdrawal("x", 70, 0, 1)])
        before = await tail.catalogue_identity(connection)
    await consume(pool, 9)
    async with transaction(pool) as connection:
        claims = await partitions.claim_partitions(connection, [0], "one")
        assert await partitions.restart_offsets(connection, {0: claims[0].epoch}) == {0: 1}
        found = await tail.consumed_positions(connection)
        assert (found[0].consumed, found[0].generation) == (0, 1)
        assert await tail.catalogue_identity(connection) != before
        assert await connection.fetchval("SELECT count(*) FROM departures") == 0
