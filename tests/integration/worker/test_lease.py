"""The lease on partitions: who has it, and who knows that it is lost."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from pydantic import SecretStr

from store.settings import StoreSettings
from streams.maintenance.lease import Lease, LeaseLostError
from tests.support.polling import until

pytestmark = pytest.mark.integration


def always() -> bool:
    """A partition is wanted for as long as it takes."""
    return True


@pytest.fixture
async def leases(database_url: str) -> AsyncIterator[tuple[Lease, Lease]]:
    """Of two workers."""
    settings = StoreSettings(database_url=SecretStr(database_url))
    pair = Lease(settings, 30.0), Lease(settings, 30.0)
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


async def test_a_partition_is_had_when_its_holder_lets_go(leases: tuple[Lease, Lease]) -> None:
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


async def test_waiting_ends_when_the_partition_is_wanted_no_more(leases: tuple[Lease, Lease]) -> None:
    """A rebalance while one waits ends the waiting; what it has got stays until it is released."""
    first, second = leases
    await first.take([0], always)
    wanted = True
    taking = asyncio.create_task(second.take([0, 3], lambda: wanted))
    await until(lambda: 3 in second.held)
    wanted = False
    assert not await taking


async def test_a_holder_whose_connection_was_cut_has_its_partitions_again(
    leases: tuple[Lease, Lease], database_url: str
) -> None:
    """Where nobody was quicker it goes on, having been uncertain for a moment."""
    first, _ = leases
    await first.take([0, 1], always)
    await cut(database_url)
    await until(lambda: not first.certain())
    await until(first.certain)
    first.require()


async def test_a_holder_that_was_replaced_knows(leases: tuple[Lease, Lease], database_url: str) -> None:
    """Where another worker was quicker it is not certain from then on, and must end."""
    first, second = leases
    await first.take([0, 1], always)
    taking = asyncio.create_task(second.take([1], always))
    while not taking.done():  # the first asks twice a second, the second ten times: it is quicker soon
        await cut(database_url)
        await asyncio.wait({taking}, timeout=0.4)

    def lost() -> bool:
        try:
            first.require()
        except LeaseLostError:
            return True
        return False

    await until(lost)
    assert not first.certain()
