"""The lease on partitions: who has it, and who knows that it is lost."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
import pytest
from pydantic import SecretStr

from store import generations, promotion
from store.pool import open_pool, transaction
from store.settings import StoreSettings
from store.terms import TermEndedError
from streams.generations import FIRST_GENERATION, GenerationName
from streams.maintenance.lease import LeaseLostError, PartitionLease
from tests.support.leases import FakeLease, LockTable
from tests.support.polling import until

pytestmark = pytest.mark.integration

Pair = tuple[PartitionLease | FakeLease, PartitionLease | FakeLease]


def always() -> bool:
    """A partition is wanted for as long as it takes."""
    return True


@dataclass(frozen=True)
class Office:
    """Makes leases, and ends the connections that hold them, as a lost host's are ended."""

    source: str | LockTable

    def lease(self) -> PartitionLease | FakeLease:
        """A lease that is not started yet."""
        if isinstance(self.source, LockTable):
            return FakeLease(self.source)
        return PartitionLease(StoreSettings(database_url=SecretStr(self.source)), 30.0)

    async def cut(self) -> None:
        """Free all locks."""
        if isinstance(self.source, LockTable):
            self.source.cut()
        else:
            await cut(self.source)


@pytest.fixture(params=["real", "fake"])
def office(request: pytest.FixtureRequest) -> Office:
    """Where leases are had: Postgres, or the table of the fake that other tests use."""
    if request.param == "fake":
        return Office(LockTable())
    return Office(request.getfixturevalue("database_url"))


@pytest.fixture
async def leases(office: Office) -> AsyncIterator[Pair]:
    """Of two workers."""
    pair = office.lease(), office.lease()
    for lease in pair:
        lease.start()
    yield pair
    for lease in pair:
        await lease.close()


async def cut(database_url: str) -> None:
    """End the connections that hold leases, as a lost host's are ended."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    await connection.close()


async def test_a_partition_is_had_when_its_holder_lets_go(leases: Pair) -> None:
    """The second waits for what the first has, gets it when that is released, and is certain of it."""
    first, second = leases
    assert await first.take([0, 1], always)
    taking = asyncio.create_task(second.take([1, 2], always))
    await until(lambda: 2 in second.held)
    assert not taking.done()
    await first.release([1])
    assert await taking
    assert first.held == {0}
    assert second.held == {1, 2}
    assert first.certain()
    assert second.certain()


async def test_waiting_ends_when_the_partition_is_wanted_no_more(leases: Pair) -> None:
    """A rebalance while one waits ends the waiting; what it has got stays until it is released."""
    first, second = leases
    await first.take([0], always)
    wanted = True
    taking = asyncio.create_task(second.take([0, 3], lambda: wanted))
    await until(lambda: 3 in second.held)
    wanted = False
    assert not await taking


async def test_a_holder_whose_connection_was_cut_has_its_partitions_again(
    leases: Pair, office: Office
) -> None:
    """Where nobody was quicker it goes on, having been uncertain for a moment."""
    first, _ = leases
    await first.take([0, 1], always)
    await office.cut()
    await until(lambda: not first.certain())
    await until(first.certain)
    first.require()


async def test_a_holder_that_was_replaced_knows(leases: Pair, office: Office) -> None:
    """Where another worker was quicker it is not certain from then on, and must end."""
    first, second = leases
    await first.take([0, 1], always)
    taking = asyncio.create_task(second.take([1], always))
    while not taking.done():  # the first asks twice a second, the second ten times: it is quicker soon
        await office.cut()
        await asyncio.wait({taking}, timeout=0.4)

    def lost() -> bool:
        try:
            first.require()
        except LeaseLostError:
            return True
        return False

    await until(lost)
    assert not first.certain()


async def test_a_holder_that_ends_lets_others_have_everything(office: Office) -> None:
    """What an orderly end leaves is had at once, without waiting for a session to run out."""
    first, second = office.lease(), office.lease()
    first.start()
    assert await first.take([0, 1], always)
    await first.close()
    second.start()
    async with asyncio.timeout(10):
        assert await second.take([0, 1], always)
    await second.close()


SECOND = GenerationName(number=2)


class Rights:
    """Leases of two generations of one catalogue, each with the feed right to take."""

    def __init__(self, database_url: str) -> None:
        self.url = database_url
        self.settings = StoreSettings(database_url=SecretStr(database_url))
        self.opened: list[PartitionLease] = []

    def of(self, name: GenerationName) -> PartitionLease:
        """A further worker's lease, started."""
        lease = PartitionLease(self.settings.of_schema(name.schema), 30.0, name)
        lease.start()
        self.opened.append(lease)
        return lease

    async def create(self, *spaces: str) -> None:
        """Create a generation of each of these spaces."""
        async with (
            await open_pool(self.settings, application_name="test") as pool,
            transaction(pool) as connection,
        ):
            for space in spaces:
                await generations.create_generation(connection, space, None)

    async def promote(self, name: GenerationName) -> None:
        """Let a generation serve."""
        async with (
            await open_pool(self.settings, application_name="test") as pool,
            transaction(pool) as connection,
        ):
            await promotion.promote_generation(connection, name)


@pytest.fixture
async def rights(database_url: str) -> AsyncIterator[Rights]:
    """Of default/1, which serves, and default/2."""
    found = Rights(database_url)
    await found.create("default")
    yield found
    for lease in found.opened:
        await lease.close()


async def test_one_generation_has_the_feed_right(rights: Rights) -> None:
    """Its workers share it; after a promotion the other one gets it when all have let go."""
    first, fellow, second = rights.of(FIRST_GENERATION), rights.of(FIRST_GENERATION), rights.of(SECOND)
    assert await second.take_feed() is None
    before = await first.take_feed()
    assert before is not None
    assert await fellow.take_feed() == before
    await rights.promote(SECOND)
    assert await second.take_feed() is None
    await first.release_feed()
    assert await second.take_feed() is None
    await fellow.release_feed()
    after = await second.take_feed()
    assert after is not None
    assert (before.promoted, after.promoted) == (False, True)
    assert await first.take_feed() is None
    second.require_feed()


async def test_each_space_has_a_feed_right_of_its_own(rights: Rights) -> None:
    """A generation of another space with the same number neither has it nor keeps it from anybody."""
    melody, second_melody = GenerationName("melody", 1), GenerationName("melody", 2)
    await rights.create("melody", "melody")
    await rights.promote(melody)
    first, second = rights.of(FIRST_GENERATION), rights.of(SECOND)
    other, next_other = rights.of(melody), rights.of(second_melody)
    term = await other.take_feed()
    assert term is not None
    assert term.promoted
    assert await first.take_feed() is not None
    await rights.promote(second_melody)
    assert await next_other.take_feed() is None
    await other.release_feed()
    assert await next_other.take_feed() is not None
    await rights.promote(SECOND)
    assert await second.take_feed() is None
    await first.release_feed()
    assert await second.take_feed() is not None
    next_other.require_feed()


async def test_who_waits_in_vain_does_not_keep_others_from_the_right(rights: Rights) -> None:
    """A worker that waits for the right when its generation ceases to serve gives up its lock at the next request."""
    first, second = rights.of(FIRST_GENERATION), rights.of(SECOND)
    before = await first.take_feed()
    await rights.promote(SECOND)
    assert await second.take_feed() is None
    await first.release_feed()
    await rights.promote(FIRST_GENERATION)
    assert await first.take_feed() is None
    assert await second.take_feed() is None
    after = await first.take_feed()
    assert after is not None
    assert after != before


async def test_a_right_is_kept_through_a_broken_connection_in_one_term(rights: Rights) -> None:
    """Until the lock is there again nothing is certain; nobody can have published meanwhile."""
    first = rights.of(FIRST_GENERATION)
    assert await first.take([0], always)
    term = await first.take_feed()
    await cut(rights.url)
    await until(lambda: not first.certain())
    await until(first.certain)
    first.require_feed()
    assert await first.take_feed() == term


async def test_a_right_is_lost_with_a_connection_that_broke_in_another_term(rights: Rights) -> None:
    """Nothing may be written until the holder has given the right up, even if its generation serves again."""
    first, second = rights.of(FIRST_GENERATION), rights.of(SECOND)
    assert await first.take([0], always)
    assert await first.take_feed() is not None
    await second.take([0], always)
    async with first._turn:  # it cannot connect again yet
        await cut(rights.url)
        await rights.promote(SECOND)
        await rights.promote(FIRST_GENERATION)

    def lost() -> bool:
        try:
            first.require_feed()
        except TermEndedError:
            return True
        return False

    await until(lost)
    assert not first.certain()
    assert first.held == {0}
    assert await first.take_feed() is None
    await first.release_feed()
    assert first.certain()
    assert await first.take_feed() is not None
