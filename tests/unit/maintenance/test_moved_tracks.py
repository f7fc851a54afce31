"""A maintainer knows where tracks that have changed partitions are, so that nobody tells of another's lists."""

import asyncio
from typing import Any, cast

import numpy as np
import pytest

from streams.engine.types import TrackBatch, no_events
from streams.maintenance.arrays import NO_KEYS, events_of
from streams.maintenance.maintainer import ListMaintainer
from streams.maintenance.names import TrackNames
from streams.maintenance.ownership import Ownership
from streams.metrics import WorkerMetrics

pytestmark = pytest.mark.unit


class AcceptingEngine:
    """Takes every batch."""

    dimension = 2

    async def apply(self, batch: TrackBatch) -> None:
        """Nothing."""


class FeedNotes:
    """What the publisher is told."""

    def __init__(self) -> None:
        self.told: list[dict[int, int | None]] = []

    def let_go(self, moved: dict[int, int | None]) -> None:
        """Remember it."""
        self.told.append(moved)


def upsert(key: int, partition: int) -> TrackBatch:
    """One track."""
    events = events_of(np.array([partition]), np.array([1]), np.array([1]))
    keys = np.array([key], dtype=np.int64)
    return TrackBatch(keys, [f"t{key}"], np.ones((1, 2), dtype=np.float32), events, NO_KEYS, no_events())


def delete(key: int) -> TrackBatch:
    """A track's end."""
    keys = np.array([key], dtype=np.int64)
    events = events_of(np.array([3]), np.array([2]), np.array([1]))
    return TrackBatch(NO_KEYS, [], np.empty((0, 2), dtype=np.float32), no_events(), keys, events)


async def test_a_track_that_comes_back_to_where_it_was_deleted_is_of_that_partition() -> None:
    """A deletion from elsewhere, then an insert where the deletion was: no further move, and still another owner."""
    feed = FeedNotes()
    stubs: list[Any] = [
        None,
        AcceptingEngine(),
        Ownership(),
        feed,
        TrackNames(),
        {},
        WorkerMetrics(),
        lambda _: 0,
    ]
    maintainer = ListMaintainer(*cast("Any", stubs))

    def still(owner: int) -> bool:
        return len(maintainer.still_of(np.array([7]), np.array([owner], dtype=np.int32))) == 1

    async with asyncio.timeout(5):
        assert still(1)
        await maintainer.apply(upsert(7, 1), {})
        assert still(1)
        await maintainer.apply(delete(7), {}, {7: None})
        assert not still(1)
        assert not still(3)
        await maintainer.apply(upsert(7, 3), {})
        assert still(3)
        assert not still(1)
        await maintainer.apply(upsert(8, 2), {})
    assert feed.told == [{7: None}, {7: 3}]
