"""Epochs and tenures of one worker's partitions."""

import asyncio

import pytest

from store.errors import FencedError
from store.partitions import PartitionClaim
from streams.maintenance.ownership import Ownership

pytestmark = pytest.mark.unit


def claims(**epochs: int) -> dict[int, PartitionClaim]:
    """Claims by partition, as `p0=3`."""
    return {int(name[1:]): PartitionClaim(epoch, 0, 0) for name, epoch in epochs.items()}


async def test_a_write_under_an_epoch_of_before_our_own_claim_is_repeated() -> None:
    """What was refused as a rebalance gave us a newer epoch is written again under that one."""
    ownership = Ownership()
    ownership.take(claims(p0=1))
    seen = []

    async def write(epochs: dict[int, int]) -> str:
        seen.append(epochs)
        if len(seen) == 1:
            ownership.take(claims(p0=2), continued=[0])
            raise FencedError(0, 1)
        return "written"

    assert await ownership.under_epochs(write) == "written"
    assert seen == [{0: 1}, {0: 2}]


async def test_a_write_goes_on_without_a_partition_that_was_lost_meanwhile() -> None:
    """A partition that went to another worker is left out of the next attempt."""
    ownership = Ownership()
    ownership.take(claims(p0=1, p1=1))
    seen = []

    async def write(epochs: dict[int, int]) -> None:
        seen.append(epochs)
        if len(seen) == 1:
            ownership.lose([1])
            raise FencedError(1, 1)

    await ownership.under_epochs(write)
    assert seen == [{0: 1, 1: 1}, {0: 1}]


async def test_a_worker_that_was_replaced_without_knowing_is_told() -> None:
    """A partition that we still take for ours under the epoch that was refused is somebody else's."""
    ownership = Ownership()
    ownership.take(claims(p0=1))

    async def write(epochs: dict[int, int]) -> None:
        raise FencedError(0, epochs[0])

    with pytest.raises(FencedError):
        await ownership.under_epochs(write)


async def test_a_write_of_a_partition_that_is_not_ours_is_not_repeated() -> None:
    """A write for a partition that we lack is refused, not retried for ever."""
    ownership = Ownership()
    ownership.take(claims(p0=1))

    async def write(epochs: dict[int, int]) -> None:
        raise FencedError(5, epochs.get(5, 0))

    with pytest.raises(FencedError):
        await ownership.under_epochs(write)


def test_a_tenure_goes_on_only_where_it_is_said_to() -> None:
    """A partition that is taken over begins a tenure; one that nobody else has held goes on with its own."""
    ownership = Ownership()
    ownership.take(claims(p0=1, p1=1))
    first = ownership.tenures
    ownership.lose([0, 1])
    assert ownership.follows(0, PartitionClaim(2, 0, 0))
    assert not ownership.follows(1, PartitionClaim(3, 0, 0))
    ownership.take(claims(p0=2, p1=3), continued=[0])
    assert ownership.tenures[0] == first[0]
    assert ownership.tenures[1] != first[1]


async def test_whoever_waits_for_something_to_be_ours_goes_on_with_the_first_claim() -> None:
    """`held` returns once anything is claimed, and waits again when all is lost."""
    ownership = Ownership()
    waiting = asyncio.create_task(ownership.held())
    await asyncio.sleep(0)
    assert not waiting.done()
    ownership.take(claims(p0=1))
    await waiting
    ownership.lose([0])
    waiting = asyncio.create_task(ownership.held())
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()


async def test_a_write_waits_for_a_claim_that_is_being_made() -> None:
    """Between the store's word and ours no write begins: it would show an epoch that is no longer the newest."""
    ownership = Ownership()
    ownership.take(claims(p0=1))
    seen: list[dict[int, int]] = []

    async def write(epochs: dict[int, int]) -> None:
        seen.append(epochs)

    async with ownership.claiming():
        writing = asyncio.create_task(ownership.under_epochs(write))
        await asyncio.sleep(0)
        assert seen == []
        ownership.take(claims(p0=2))
    await writing
    assert seen == [{0: 2}]


def test_consumed_offsets_only_move_forward_but_for_a_new_log() -> None:
    """A late answer of the store moves nothing back; a log that starts again does."""
    ownership = Ownership()
    ownership.take({0: PartitionClaim(1, 10, 0), 1: PartitionClaim(1, 5, 0)})
    ownership.advance({0: 12, 1: 4})
    assert (ownership.consumed(0), ownership.consumed(1), ownership.consumed(9)) == (12, 5, 0)
    assert ownership.total_consumed == 17
    ownership.lose([1])
    assert (1 in ownership, ownership.consumed(1)) == (False, 5)
    ownership.restart([0])
    assert ownership.consumed(0) == 0
