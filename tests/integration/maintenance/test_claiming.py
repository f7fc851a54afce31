"""Partitions are claimed and released in the one order that loses nothing: on a real store, with a lease in memory."""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, cast

import asyncpg
import numpy as np
import pytest

from store.lists import read_track_vectors
from store.pool import snapshot
from streams.engine.process import EngineProcess
from streams.engine.types import StoredLists
from streams.maintenance.arrays import catalogue_batch
from streams.maintenance.change_publisher import ChangePublisher
from streams.maintenance.claiming import PartitionClaimer
from streams.maintenance.following import Follower
from streams.maintenance.lease import LeaseLostError, PartitionLease
from streams.maintenance.maintainer import ListMaintainer
from streams.maintenance.ownership import Ownership
from streams.maintenance.pending_changes import ChangedBlock
from streams.maintenance.snapshots import RestoredSnapshot
from streams.metrics import WorkerMetrics
from tests.integration.serving.catalogue import PARTITIONS, make_catalogue, write_catalogue
from tests.support.leases import FakeLease, LockTable
from tests.support.polling import until

pytestmark = pytest.mark.integration

TRACKS = 60


@dataclass
class AssignedTopic:
    """The ingest topic after a rebalance, as the worker's Faust app tells of it."""

    gone_on: bool = True
    replaced_partitions: list[int] = field(default_factory=list)
    started: dict[int, int] | None = None

    def current(self) -> bool:
        return self.gone_on

    async def replaced(self, consumed: dict[int, int]) -> list[int]:
        return [p for p in self.replaced_partitions if consumed.get(p)]

    async def start_from(self, offsets: dict[int, int]) -> None:
        self.started = offsets


class NotingFeed:
    """What the change feed is told, in order."""

    def __init__(self, told: list[str]) -> None:
        self.told = told
        self.kept: set[int] = set()
        self.blocks: list[ChangedBlock] = []
        self.flushed: dict[int, int] = {}

    async def quiet(self) -> None:
        self.told.append("quiet")

    def keep_only(self, owners: Collection[int]) -> None:
        self.kept = set(owners)

    def add(self, block: ChangedBlock, *, flushed: dict[int, int], withdrawn: bool) -> None:
        assert withdrawn
        self.blocks.append(block)
        self.flushed |= flushed


class NotingEngine:
    """What the engine is given."""

    def __init__(self) -> None:
        self.adopted: list[tuple[StoredLists, dict[int, int]]] = []
        self.given: list[StoredLists] = []

    async def adopt(self, lists: StoredLists, absorbed: dict[int, int]) -> None:
        self.adopted.append((lists, absorbed))

    async def held(self, lists: StoredLists) -> None:
        self.given.append(lists)


class Keeper:
    """A maintainer and its follower as claiming sees them: both in one, so that their order shows."""

    def __init__(self, told: list[str]) -> None:
        self.told = told
        self.turn = asyncio.Lock()
        self.owned: frozenset[int] = frozenset()
        self.engine = NotingEngine()
        self.last_version = 0
        self.generations: dict[int, int] = {}
        self.keeps_lists = False

    async def keep(self, owned: Collection[int]) -> None:
        assert self.turn.locked()
        self.owned = frozenset(owned)

    def note_version(self, version: int) -> None:
        self.last_version = max(self.last_version, version)

    def still_of(self, keys: Any, owners: Any) -> Any:
        return np.arange(len(keys))

    async def catch_up(self, *, everything: bool) -> None:
        assert self.turn.locked()
        self.told.append(f"catch up, everything={everything}")

    async def applied_all(self) -> None:
        self.told.append("applied")

    async def flush(self) -> None:
        self.told.append("flushed")

    def restart(self, replaced: Any) -> None:
        if isinstance(replaced, dict):
            self.generations |= replaced


class ClaimingWorker:
    """A worker's claims on the test's store."""

    def __init__(self, pool: asyncpg.Pool, table: LockTable, name: str) -> None:
        self.told: list[str] = []
        self.lease = FakeLease(table)
        self.ownership = Ownership()
        self.feed = NotingFeed(self.told)
        self.keeper = Keeper(self.told)
        self.metrics = WorkerMetrics()
        self.claiming = PartitionClaimer(
            pool,
            cast("PartitionLease", self.lease),
            self.ownership,
            cast("ChangePublisher", self.feed),
            name,
            30.0,
            self.metrics,
        )

    async def attend(self, restored: RestoredSnapshot | None = None) -> None:
        """Have an engine from now on."""
        keeper = self.keeper
        await self.claiming.attend(cast("ListMaintainer", keeper), cast("Follower", keeper), restored)

    async def claim(self, *partitions: int, topic: AssignedTopic | None = None) -> AssignedTopic:
        """Be assigned these partitions, and no others."""
        topic = topic or AssignedTopic()
        await self.claiming.claim(partitions, topic)
        return topic


@pytest.fixture
async def worker_of(pool: asyncpg.Pool) -> Callable[[str], ClaimingWorker]:
    """Makes workers that share one table of locks, over a store that has been filled by a worker before."""
    catalogue = make_catalogue(TRACKS, dimension=8)
    async with pool.acquire() as connection:
        await write_catalogue(cast("asyncpg.Connection", connection), catalogue)
    table = LockTable()
    return lambda name: ClaimingWorker(pool, table, name)


async def epochs(pool: asyncpg.Pool) -> dict[int, int]:
    """The epochs in the store."""
    return dict(map(tuple, await pool.fetch("SELECT partition, epoch FROM ingest_partitions")))


async def test_a_claim_takes_a_new_epoch_and_reads_from_what_is_consumed(
    pool: asyncpg.Pool, worker_of: Callable[[str], ClaimingWorker]
) -> None:
    """The store's consumed offsets are where the partitions are read from, whatever Kafka has committed."""
    worker = worker_of("one")
    topic = await worker.claim(0, 2)
    consumed = dict(map(tuple, await pool.fetch("SELECT partition, consumed_offset FROM ingest_partitions")))
    assert topic.started == {0: consumed[0], 2: consumed[2]}
    assert worker.ownership.epochs == {0: 2, 2: 2}
    assert await epochs(pool) == {p: 2 if p in (0, 2) else 1 for p in range(PARTITIONS)}
    assert worker.metrics.owned_partitions._value.get() == 2


async def test_a_partition_is_let_go_of_when_nothing_of_it_is_on_its_way(
    worker_of: Callable[[str], ClaimingWorker],
) -> None:
    """The change feed is quiet before the lease goes, and only then can another worker claim."""
    first, second = worker_of("one"), worker_of("two")
    await first.claim(0, 1)
    taking = asyncio.create_task(second.claim(1))
    await asyncio.sleep(0.01)
    assert not taking.done()
    held = []

    async def quiet() -> None:
        held.append(first.lease.held)

    first.feed.quiet = quiet  # type: ignore[method-assign]
    await first.claim(0)
    assert held == [frozenset({0, 1})]
    assert (await taking).started is not None
    assert (first.ownership.partitions, second.ownership.partitions) == ([0], [1])


async def test_nothing_assigned_is_nothing_held(worker_of: Callable[[str], ClaimingWorker]) -> None:
    """A worker that is left without partitions lets go of all, and says that it is not active."""
    worker = worker_of("one")
    await worker.claim(0, 1)
    await worker.claim()
    assert (worker.ownership.partitions, worker.lease.held) == ([], frozenset())
    assert worker.metrics.active._value.get() == 0


async def test_a_rebalance_while_waiting_claims_nothing(
    pool: asyncpg.Pool, worker_of: Callable[[str], ClaimingWorker]
) -> None:
    """Where the assignment is no longer the newest, the store is left alone: the next one is claimed for in turn."""
    first, second = worker_of("one"), worker_of("two")
    await first.claim(1)
    before, topic = await epochs(pool), AssignedTopic()
    taking = asyncio.create_task(second.claim(1, topic=topic))
    await asyncio.sleep(0.01)
    topic.gone_on = False
    await taking
    assert topic.started is None
    assert await epochs(pool) == before
    assert second.ownership.partitions == []


async def test_a_lease_in_doubt_claims_nothing_until_it_is_certain(
    pool: asyncpg.Pool, worker_of: Callable[[str], ClaimingWorker]
) -> None:
    """A claim that another worker's lease may contradict is not committed, and is tried again."""
    worker = worker_of("one")
    table = worker.lease._table
    table.away = True
    taking = asyncio.create_task(worker.claim(0))
    await until(lambda: worker.metrics.retries.labels("postgres")._value.get() > 0)
    assert await epochs(pool) == dict.fromkeys(range(PARTITIONS), 1)
    table.away = False
    await taking
    assert (await epochs(pool))[0] == 2


async def test_a_worker_that_has_lost_its_lease_does_not_fence_its_successor_off(
    pool: asyncpg.Pool, worker_of: Callable[[str], ClaimingWorker]
) -> None:
    """It ends with an error, and its claim is not committed."""
    worker = worker_of("one")
    worker.lease._lost = True
    with pytest.raises(LeaseLostError):
        await worker.claim(0)
    assert await epochs(pool) == dict.fromkeys(range(PARTITIONS), 1)


async def test_lists_are_read_of_partitions_that_others_may_have_held(
    pool: asyncpg.Pool, worker_of: Callable[[str], ClaimingWorker]
) -> None:
    """Those of a partition that came are given to the engine, with how far all have absorbed; those kept are not read."""
    worker = worker_of("one")
    await worker.attend()
    await worker.claim(0)
    ((first, absorbed),) = worker.keeper.engine.adopted
    own = await pool.fetch("SELECT key FROM tracks WHERE source_partition = 0")
    assert sorted(first.keys.tolist()) == sorted(row["key"] for row in own)
    ends = {source: len(range(source, TRACKS, PARTITIONS)) for source in range(PARTITIONS)}
    assert absorbed == ends
    assert worker.told[-1] == "catch up, everything=True"

    await worker.claim(0, 1)
    assert worker.keeper.owned == {0, 1}
    second, _ = worker.keeper.engine.adopted[1]
    own = await pool.fetch("SELECT key FROM tracks WHERE source_partition = 1")
    assert sorted(second.keys.tolist()) == sorted(row["key"] for row in own)
    assert worker.told[-1] == "catch up, everything=False"
    assert worker.feed.kept == {0}


async def test_a_partition_that_another_worker_held_meanwhile_is_read_again(
    worker_of: Callable[[str], ClaimingWorker],
) -> None:
    """Its lists in our engine may be old ones: a new tenure begins, and they come from the store."""
    first, second = worker_of("one"), worker_of("two")
    await first.attend()
    await first.claim(0)
    tenure = first.ownership.tenures[0]
    await first.claim()
    await second.claim(0)
    await second.claim()
    await first.claim(0)
    assert len(first.keeper.engine.adopted) == 2
    assert first.ownership.tenures[0] > tenure


async def test_lists_that_may_not_have_been_told_are_told_again(
    pool: asyncpg.Pool, worker_of: Callable[[str], ClaimingWorker]
) -> None:
    """Those newer than the published version go to the change feed."""
    published = TRACKS // 2
    await pool.execute("UPDATE ingest_partitions SET published_version = $1", published)
    worker = worker_of("one")
    await worker.attend()
    await worker.claim(0, 1)
    (block,) = worker.feed.blocks
    late = await pool.fetch(
        "SELECT key, version FROM neighbour_lists JOIN tracks USING (key) WHERE tracks.source_partition IN (0, 1) "
        "AND version > $1",
        published,
    )
    assert sorted(block.keys.tolist()) == sorted(row["key"] for row in late)
    assert max(worker.feed.flushed.values()) == max(row["version"] for row in late)
    assert worker.keeper.last_version >= max(worker.feed.flushed.values())


async def test_of_lists_in_a_snapshot_only_newer_ones_are_read(
    pool: asyncpg.Pool, worker_of: Callable[[str], ClaimingWorker]
) -> None:
    """What was written after the snapshot is compared with it; the others the engine has already."""
    await pool.execute("UPDATE ingest_partitions SET published_version = $1", TRACKS)
    worker = worker_of("one")
    await worker.claim(0, 1)
    await worker.attend(RestoredSnapshot({}, frozenset({0}), TRACKS - 10))
    (given,) = worker.keeper.engine.given
    expected = await pool.fetch(
        "SELECT key FROM neighbour_lists JOIN tracks USING (key) WHERE tracks.source_partition = 1 "
        "OR (tracks.source_partition = 0 AND version > $1)",
        TRACKS - 10,
    )
    assert sorted(given.keys.tolist()) == sorted(row["key"] for row in expected)


async def test_a_log_that_was_replaced_is_read_from_its_start(
    pool: asyncpg.Pool, worker_of: Callable[[str], ClaimingWorker]
) -> None:
    """What was applied is flushed first; then offsets start again, under a new generation, and tracks stay."""
    worker = worker_of("one")
    await worker.attend()
    topic = await worker.claim(0, 1, topic=AssignedTopic(replaced_partitions=[1]))
    assert topic.started is not None
    assert (topic.started[0] > 0, topic.started[1]) == (True, 0)
    assert worker.told[-2:] == ["applied", "flushed"]
    assert worker.keeper.generations == {1: 1}
    rows = await pool.fetch("SELECT partition, consumed_offset, generation FROM ingest_partitions ORDER BY 1")
    assert [(row["consumed_offset"], row["generation"]) for row in rows][1] == (0, 1)
    assert await pool.fetchval("SELECT count(*) FROM tracks") == TRACKS


async def test_an_engine_takes_what_is_read_for_it(
    pool: asyncpg.Pool, worker_of: Callable[[str], ClaimingWorker]
) -> None:
    """The lists that claiming hands over are accepted, and held, by a real engine."""
    await pool.execute("UPDATE ingest_partitions SET published_version = $1", TRACKS)
    worker = worker_of("one")
    await worker.attend()
    await worker.claim(0)
    ((stored, absorbed),) = worker.keeper.engine.adopted
    engine = EngineProcess(8)
    await engine.start()
    try:
        async with snapshot(pool) as connection:
            tracks = await read_track_vectors(connection, 8)
        await engine.apply(catalogue_batch(tracks))
        await engine.own([])
        await engine.own([0])
        await engine.adopt(stored, absorbed)
        await engine.held(stored)
        changes = await engine.take_changes()
    finally:
        await engine.stop()
    # The test's catalogue rounds scores otherwise than the engine does; the lists are the same.
    read = dict(zip(stored.keys.tolist(), stored.neighbours.tolist(), strict=True))
    assert stored.keys.size
    for key, neighbours in zip(changes.keys.tolist(), changes.neighbours.tolist(), strict=True):
        assert neighbours == read[key]


async def test_sessions_that_keep_a_claim_waiting_are_ended(
    pool: asyncpg.Pool, database_url: str, worker_of: Callable[[str], ClaimingWorker]
) -> None:
    """A frozen worker in the middle of a transaction holds its locks: its session is ended after our patience."""
    worker = worker_of("one")
    worker.claiming._patience = 0.1
    frozen = await asyncpg.connect(database_url)
    await frozen.execute("BEGIN; SELECT 1 FROM ingest_partitions WHERE partition = 0 FOR UPDATE")
    await worker.claim(0)
    await until(frozen.is_closed)
    assert (await epochs(pool))[0] == 2
