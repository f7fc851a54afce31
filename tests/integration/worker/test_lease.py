"""The lease on partitions: who has it, and who knows that it is lost."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
import pytest
from pydantic import SecretStr

from store.settings import StoreSettings
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
