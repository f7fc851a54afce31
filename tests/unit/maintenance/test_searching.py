"""What keeps the search process at the catalogue's state."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from store.rows import TrackVectors
from streams.engine.search.metadata import MetadataRow
from streams.engine.types import Keys, TrackBatch
from streams.maintenance import searching
from streams.maintenance.searching import SearchSupervisor
from streams.metrics import WorkerMetrics
from tests.support.polling import until
from tests.unit.engine.helpers import batch

pytestmark = pytest.mark.unit

NOTHING = TrackVectors(
    keys=np.empty(0, dtype=np.int64),
    track_ids=[],
    vectors=np.empty((0, 8), dtype=np.float32),
    partitions=np.empty(0, dtype=np.int32),
    offsets=np.empty(0, dtype=np.int64),
    event_times=np.empty(0, dtype=np.int64),
)


class SlowProcess:
    """A search process that applies a batch when it is told to."""

    def __init__(self) -> None:
        self.turns = asyncio.Semaphore(0)
        self.applied: list[TrackBatch] = []
        self.described: list[int] = []

    async def start(self) -> None:
        """Nothing to start."""

    async def apply(self, given: TrackBatch) -> None:
        """Wait for a turn."""
        await self.turns.acquire()
        self.applied.append(given)

    async def describe(self, keys: Keys, metadata: Sequence[MetadataRow]) -> Keys:
        """All had other metadata."""
        assert len(metadata) == len(keys)
        self.described.append(len(self.applied))
        return keys


async def test_the_engine_waits_for_a_search_that_is_far_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once so many bytes are queued there is no room, until the process has taken some; nothing is lost or reordered."""

    async def read(*_: Any) -> tuple[TrackVectors, dict[int, int]]:
        return NOTHING, {}

    monkeypatch.setattr(searching, "_read", read)
    batches = [batch({f"t{i}": np.ones(8)}, dimension=8, first=i) for i in range(3)]
    monkeypatch.setattr(searching, "QUEUE_BYTES", 2 * searching._size(batches[0]))
    process, ready, metrics = SlowProcess(), asyncio.Event(), WorkerMetrics()
    keeper = SearchSupervisor(process, ready.set, metrics)  # type: ignore[arg-type]
    running = asyncio.create_task(keeper.run(SimpleNamespace(), 8))  # type: ignore[arg-type]
    await ready.wait()
    for offset, part in enumerate(batches[:2]):
        await keeper.room()
        keeper.put(part, {0: offset + 1})
    waiting = asyncio.create_task(keeper.room())
    await asyncio.sleep(0.01)
    assert not waiting.done()
    assert metrics.registry.get_sample_value("mess_search_queue_bytes") == 2 * searching._size(batches[0])
    process.turns.release()
    await waiting
    keeper.put(batches[2], {0: 3})
    for _ in range(2):
        process.turns.release()
    await until(lambda: keeper.applied == {0: 3})
    assert [one.track_ids for one in process.applied] == [["t0"], ["t1"], ["t2"]]
    assert metrics.registry.get_sample_value("mess_search_queue_bytes") == 0
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_tracks_are_described_after_what_was_given_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that waits may have earlier metadata of the same tracks; one that comes later has these or later ones."""

    async def read(*_: Any) -> tuple[TrackVectors, dict[int, int]]:
        return NOTHING, {}

    monkeypatch.setattr(searching, "_read", read)
    process, ready = SlowProcess(), asyncio.Event()
    keeper = SearchSupervisor(process, ready.set, WorkerMetrics())  # type: ignore[arg-type]
    loaded = [keeper.loaded]
    running = asyncio.create_task(keeper.run(SimpleNamespace(), 8))  # type: ignore[arg-type]
    await ready.wait()
    assert [*loaded, keeper.loaded] == [False, True]
    keys = np.array([5, 6])
    keeper.put(batch({"t0": np.ones(8)}, dimension=8), {0: 1})
    describing = asyncio.create_task(keeper.describe(keys, [(None,), (None,)]))
    await asyncio.sleep(0)
    keeper.put(batch({"t1": np.ones(8)}, dimension=8, first=1), {0: 2})
    given_up = asyncio.create_task(keeper.describe(keys, [(None,), (None,)]))
    await asyncio.sleep(0.01)
    assert not describing.done()
    given_up.cancel()
    process.turns.release()
    assert (await describing).tolist() == [5, 6]
    process.turns.release()
    await until(lambda: keeper.applied == {0: 2})
    assert (await keeper.describe(keys, [(None,), (None,)])).tolist() == [5, 6]
    assert process.described[0] == 1
    assert process.described[-1] == 2
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
