"""The store behind the change feed, as the property test's stand-in for it has it."""

import random
from collections.abc import Mapping
from typing import cast

import asyncpg
import pytest

from store import partitions, told
from store.partitions import PartitionClaim
from store.pool import transaction
from store.tracks import Withdrawal, withdraw_tracks
from streams.contracts import track_key
from streams.maintenance.feed_ledger import FeedLedger
from tests.support.feed_histories import KINDS, OWNERS, FeedHistory, MemoryLog, MemoryStore, Step

pytestmark = pytest.mark.integration


class RealStore:
    """Postgres as a history needs it."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._offset = 0

    async def claim(self) -> Mapping[int, PartitionClaim]:
        """Take all partitions over."""
        async with transaction(self._pool) as connection:
            return await partitions.claim_partitions(connection, list(range(OWNERS)), "test")

    async def bring(self, name: str, owner: int) -> None:
        """A track is stored."""
        self._offset += 1
        await self._pool.execute(
            "INSERT INTO tracks (track_id, key, embedding, source_partition, source_offset, event_time)"
            " VALUES ($1, $2, '', $3, $4, now())",
            name,
            track_key(name),
            owner,
            self._offset,
        )

    async def withdraw(self, name: str, owner: int) -> None:
        """A track is deleted, and owed a tombstone."""
        self._offset += 1
        async with transaction(self._pool) as connection:
            gone = [Withdrawal(name, track_key(name), owner, self._offset)]
            assert (await withdraw_tracks(connection, gone)).deleted == {name}

    def ledger(self, log: MemoryLog) -> FeedLedger:
        """The ledger of one publisher."""
        return FeedLedger(self._pool, log)


def drawn_steps(seed: int) -> list[Step]:
    """A history of a seed."""
    rng = random.Random(seed)
    return [(rng.choice(KINDS), rng.randrange(1 << 16)) for _ in range(40)]


@pytest.mark.parametrize("seed", range(6))
async def test_the_store_remembers_what_its_stand_in_remembers(pool: asyncpg.Pool, seed: int) -> None:
    """The same history ends in the same messages, and nothing is wrong with them, on Postgres as in memory."""
    real = FeedHistory(RealStore(pool))  # type: ignore[arg-type]
    await real.play(drawn_steps(seed))
    stand_in = FeedHistory(cast("MemoryStore", MemoryStore()))
    await stand_in.play(drawn_steps(seed))
    assert real.records() == stand_in.records()
    assert len(real.records()) > 10


async def test_a_feed_that_was_made_anew_has_been_told_nothing(pool: asyncpg.Pool) -> None:
    """Where the topic ends before what was recorded, its lists are forgotten and what it has is read from its start."""
    store = RealStore(pool)
    await FeedHistory(store).play(drawn_steps(0))  # type: ignore[arg-type]
    assert await pool.fetchval("SELECT count(*) FROM told_lists") > 0
    claims = await store.claim()
    await FeedLedger(pool, MemoryLog()).catch_up({p: claim.epoch for p, claim in claims.items()})
    assert await pool.fetchval("SELECT count(*) FROM told_lists") == 0
    assert await pool.fetchval("SELECT max(at) FROM told_offsets, unnest(next_offsets) AS at") == 0


async def test_whoever_makes_the_feed_anew_says_so(pool: asyncpg.Pool) -> None:
    """Then nothing counts as told, however long the new log has become when a worker reads it."""
    await FeedHistory(RealStore(pool)).play(drawn_steps(1))  # type: ignore[arg-type]
    async with transaction(pool) as connection:
        await told.begin_new_feed(connection)
    assert await pool.fetchval("SELECT count(*) FROM told_lists") == 0
    assert await pool.fetchval("SELECT count(*) FROM told_offsets") == 0
