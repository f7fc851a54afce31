"""The lists that the change feed has yet to tell of."""

import asyncio
from typing import Any

import numpy as np
import pytest

from streams.maintenance.change_publisher import ChangePublisher
from streams.maintenance.names import TrackNames
from streams.maintenance.ownership import Ownership
from streams.maintenance.pending_changes import ChangedBlock, PendingChanges
from streams.metrics import WorkerMetrics
from tests.support.feed_histories import memory_stores
from tests.support.feed_memory import MemoryLog, MemoryRight, Watch

pytestmark = pytest.mark.unit


def changed_block(keys: list[int], version: int, *, owner: int = 0, width: int = 2) -> ChangedBlock:
    """Lists whose neighbours and scores tell key and version."""
    count = len(keys)
    first = np.array(keys, dtype=np.int64)[:, None]
    return ChangedBlock(
        keys=np.array(keys, dtype=np.int64),
        neighbours=first * 100 + version + np.arange(width),
        scores=np.full((count, width), version, dtype=np.float32),
        lengths=np.full(count, width, dtype=np.int64),
        partitions=np.full(count, owner, dtype=np.int32),
        offsets=np.full(count, version, dtype=np.int64),
        owners=np.full(count, owner, dtype=np.int32),
        versions=np.full(count, version, dtype=np.int64),
        generated_at=np.full(count, version),
    )


def _all(waiting: PendingChanges, *owners: int) -> Any:
    taken = waiting.take(list(waiting.keys(owners)))
    assert taken is not None
    return taken


def test_a_list_that_changes_again_waits_once() -> None:
    """The latest list is kept."""
    waiting = PendingChanges()
    waiting.add(changed_block([1, 2], version=5))
    waiting.add(changed_block([2, 3], version=6))
    assert len(waiting) == 3
    taken = _all(waiting, 0)
    assert taken.keys.tolist() == [1, 2, 3]
    assert taken.versions.tolist() == [5, 6, 6]
    assert taken.neighbours[:, 0].tolist() == [105, 206, 306]
    assert len(waiting) == 0


def test_a_list_that_is_put_back_gives_way_to_a_newer_one() -> None:
    """What could not be told waits again, unless the track has a newer list by then."""
    waiting = PendingChanges()
    waiting.add(changed_block([1, 2], version=5))
    taken = _all(waiting, 0)
    waiting.add(changed_block([1], version=6))
    waiting.put_back(taken)
    left = _all(waiting, 0)
    assert dict(zip(left.keys.tolist(), left.versions.tolist(), strict=True)) == {1: 6, 2: 5}


def test_each_owner_waits_by_itself() -> None:
    """The oldest version is told by owner; lists of an owner that is let go are forgotten and their rows used again."""
    waiting = PendingChanges()
    waiting.add(changed_block([1], version=5, owner=0))
    waiting.add(changed_block([2], version=7, owner=1))
    waiting.add(changed_block([3], version=9, owner=1))
    assert waiting.oldest([0, 1, 2]) == {0: 5, 1: 7}
    waiting.keep_only({1})
    assert list(waiting.keys([0, 1])) == [(1, 2), (1, 3)]
    waiting.add(changed_block([4], version=11, owner=0))
    assert _all(waiting, 0).keys.tolist() == [4]
    assert waiting.take([(0, 4), (2, 1)]) is None


def test_thousands_of_lists_and_wider_ones_fit() -> None:
    """The table grows with what waits, in height and in width, and keeps what it has."""
    waiting = PendingChanges()
    waiting.add(changed_block([1], version=5, width=0))
    waiting.add(changed_block(list(range(2, 5_000)), version=6, width=3))
    taken = _all(waiting, 0)
    assert taken.keys.tolist() == list(range(1, 5_000))
    assert taken.lengths[0] == 0
    assert taken.neighbours[-1].tolist() == [499_906, 499_907, 499_908]


def test_memory_is_given_back_when_most_has_been_told() -> None:
    """After a burst the table is as small as what is left, which is as it was and in the order it came."""
    waiting = PendingChanges()
    waiting.add(changed_block(list(range(20_000)), version=5))
    full = waiting.memory_bytes
    taken = waiting.take([(0, key) for key in range(19_900)])
    assert taken is not None
    assert len(waiting) == 100
    assert waiting.memory_bytes < full / 10
    waiting.add(changed_block([19_950, 30_000], version=6))
    left = _all(waiting, 0)
    assert left.keys.tolist() == [*range(19_900, 20_000), 30_000]
    assert left.versions.tolist() == [6 if key in {19_950, 30_000} else 5 for key in left.keys.tolist()]


def test_what_lost_partitions_leave_behind_is_given_back() -> None:
    """Of a partition that another worker has now nothing stays, not even its room."""
    waiting = PendingChanges()
    waiting.add(changed_block(list(range(20_000)), version=5, owner=1))
    waiting.add(changed_block([7], version=5, owner=2))
    full = waiting.memory_bytes
    waiting.keep_only({2})
    assert waiting.memory_bytes < full / 10
    assert _all(waiting, 1, 2).keys.tolist() == [7]


async def test_who_flushes_waits_while_too_much_is_to_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no room there is none until something has been told, or is nobody's to tell; the metrics say how much it is."""
    monkeypatch.setattr("streams.maintenance.change_publisher.ROOM", 3)
    metrics = WorkerMetrics()
    store = memory_stores(1)[0]
    right = MemoryRight({}, store, 1)
    ledger = store.ledger(MemoryLog())
    feed = ChangePublisher(ledger, right, Watch(), Ownership(), TrackNames(), 1.0, metrics)
    feed.add(changed_block([1, 2, 3, 4], version=4), flushed={0: 4}, withdrawn=False)
    assert not feed.pending  # a silent publisher keeps nothing
    assert await feed.begin()
    feed.add(changed_block([1, 2], version=5), flushed={0: 5}, withdrawn=False)
    await feed.room()
    feed.add(changed_block([3], version=6), flushed={0: 6}, withdrawn=False)
    waiting = asyncio.create_task(feed.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    assert metrics.registry.get_sample_value("mess_feed_pending_lists") == 3
    assert metrics.registry.get_sample_value("mess_feed_pending_bytes") > 0
    feed.keep_only(())
    await waiting
    assert metrics.registry.get_sample_value("mess_feed_pending_lists") == 0
