"""The store behind the change feed, as the property test's stand-in for it has it."""

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from store import generations, lists, partitions, promotion, told
from store.partitions import PartitionClaim
from store.pool import open_pool, transaction
from store.settings import StoreSettings
from store.terms import ServingTerm, read_term
from store.tracks import Withdrawal, withdraw_tracks
from streams.contracts import track_key
from streams.generations import GenerationName
from streams.maintenance.feed_ledger import FeedLedger
from tests.support.feed_histories import KINDS, SWITCHES, FeedHistory, Step, memory_stores
from tests.support.feed_memory import OWNERS, TRACKS, MemoryLog, StoredList

pytestmark = pytest.mark.integration

NAMES = {track_key(f"t{i}"): f"t{i}" for i in range(TRACKS)}


class RealStore:
    """Postgres as a history needs it.

    Args:
        pool: Of the generation.
        number: Which.
    """

    def __init__(self, pool: asyncpg.Pool, number: int = 1) -> None:
        self._pool = pool
        self._name = GenerationName(number=number)
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
        """A track is deleted with its list, and owed a tombstone."""
        self._offset += 1
        async with transaction(self._pool) as connection:
            gone = [Withdrawal(name, track_key(name), owner, self._offset)]
            assert (await withdraw_tracks(connection, gone)).deleted == {name}
            await connection.execute("DELETE FROM neighbour_lists WHERE key = $1", track_key(name))

    async def write(self, written: Mapping[str, tuple[int, list[str]]]) -> int:
        """A flush writes lists, with the events and times that `list_rows` gives them."""
        async with transaction(self._pool) as connection:
            version = await lists.draw_version(connection)
            for name, (owner, names) in written.items():
                await connection.execute(
                    "INSERT INTO neighbour_lists VALUES ($1, $2, $3, $4, $5, 7, to_timestamp(1), to_timestamp(1))"
                    " ON CONFLICT (key) DO UPDATE SET"
                    " neighbours = excluded.neighbours, scores = excluded.scores, version = excluded.version",
                    track_key(name),
                    [track_key(other) for other in names],
                    [0.5] * len(names),
                    version,
                    owner,
                )
        return version

    async def lists(self) -> dict[str, StoredList]:
        """All lists, by track."""
        rows = await self._pool.fetch(
            "SELECT key, source_partition, version, neighbours FROM neighbour_lists"
        )
        return {NAMES[key]: (owner, version, [NAMES[k] for k in keys]) for key, owner, version, keys in rows}

    async def term(self) -> ServingTerm | None:
        """The term that it serves in."""
        async with transaction(self._pool) as connection:
            return await read_term(connection, self._name)

    async def promote(self) -> None:
        """It serves from now on."""
        async with transaction(self._pool) as connection:
            await promotion.promote_generation(connection, self._name)

    def ledger(self, log: MemoryLog) -> FeedLedger:
        """The ledger of one publisher."""
        return FeedLedger(self._pool, log)


def drawn_steps(seed: int, kinds: Sequence[str] = KINDS, count: int = 40) -> list[Step]:
    """A history of a seed."""
    rng = random.Random(seed)
    return [(rng.choice(kinds), rng.randrange(1 << 16)) for _ in range(count)]


@pytest.fixture
async def both(pool: asyncpg.Pool, database_url: str) -> AsyncIterator[list[RealStore]]:
    """The stores of two generations."""
    async with transaction(pool) as connection:
        made = await generations.create_generation(connection, "default", None)
    settings = StoreSettings(database_url=SecretStr(database_url)).of_schema(made.name.schema)
    async with AsyncExitStack() as stack:
        own = await open_pool(settings, application_name="test")
        stack.push_async_callback(own.close)
        yield [RealStore(pool), RealStore(own, made.name.number)]


async def same_as_in_memory(pool: asyncpg.Pool, stores: Any, steps: list[Step]) -> None:
    """The same history ends in the same messages, and nothing is wrong with them, on Postgres as in memory."""
    await pool.execute("ALTER SEQUENCE list_version RESTART 1")
    real = FeedHistory(stores)
    await real.play(steps)
    stand_in = FeedHistory(memory_stores(len(stores)))
    await stand_in.play(steps)
    assert real.records() == stand_in.records()
    assert len(real.records()) > 10 / len(stores)


@pytest.mark.parametrize("seed", range(6))
async def test_the_store_remembers_what_its_stand_in_remembers(pool: asyncpg.Pool, seed: int) -> None:
    """Of one generation."""
    await same_as_in_memory(pool, [RealStore(pool)], drawn_steps(seed))


@pytest.mark.parametrize("seed", range(8))
async def test_generations_share_a_store_as_their_stand_ins_share_one(
    pool: asyncpg.Pool, both: list[RealStore], seed: int
) -> None:
    """Through promotions that are noticed late or never, and rights that are lost."""
    await same_as_in_memory(pool, both, drawn_steps(seed, (*KINDS, *SWITCHES), 120))


async def test_a_feed_that_was_made_anew_has_been_told_nothing(pool: asyncpg.Pool) -> None:
    """Where the topic ends before what was recorded, its lists are forgotten and what it has is read from its start."""
    store = RealStore(pool)
    await FeedHistory([store]).play(drawn_steps(0))  # type: ignore[arg-type]
    assert await pool.fetchval("SELECT count(*) FROM told_lists") > 0
    claims = await store.claim()
    await FeedLedger(pool, MemoryLog()).catch_up({p: claim.epoch for p, claim in claims.items()})
    assert await pool.fetchval("SELECT count(*) FROM told_lists") == 0
    assert await pool.fetchval("SELECT max(at) FROM told_offsets, unnest(next_offsets) AS at") == 0


async def test_whoever_makes_the_feed_anew_says_so(pool: asyncpg.Pool) -> None:
    """Then nothing counts as told, however long the new log has become when a worker reads it."""
    await FeedHistory([RealStore(pool)]).play(drawn_steps(1))  # type: ignore[arg-type]
    async with transaction(pool) as connection:
        await told.begin_new_feed(connection)
    assert await pool.fetchval("SELECT count(*) FROM told_lists") == 0
    assert await pool.fetchval("SELECT count(*) FROM told_offsets") == 0
