"""Keeps the lists: applies what ingest has committed, and flushes what has changed.

Ingest acknowledges its events as soon as the tracks are committed; the lists follow right behind. Should this process
die in between, the tracks that the stored lists have not absorbed are known by their offsets, and are applied again at
the next start.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterator

import asyncpg
import numpy as np
import structlog

from store import lists, partitions
from store.pool import transaction
from store.rows import ListRows
from streams.agents.decoding import engine_batch
from streams.agents.feed import Change, ChangeFeed
from streams.agents.ingest import Committed
from streams.agents.names import TrackNames
from streams.agents.ownership import Ownership
from streams.agents.retry import until_done
from streams.faults import FaultPoint, reach
from streams.metrics import WorkerMetrics
from streams.neighbours.process import EngineProcess
from streams.neighbours.types import ListChanges

log = structlog.get_logger(__name__)

# Batches committed but not applied yet: beyond this, ingest waits.
PENDING_BATCHES = 4
# An idle engine completes short lists by itself: what it found is looked for this often.
IDLE_FLUSH_SECONDS = 0.5
# Older events say nothing of how fresh the lists are kept.
FRESHNESS_LIMIT = 600.0


class Maintainer:
    """Applies committed batches to the engine and flushes changed lists.

    Args:
        pool: The store.
        engine: Started and loaded.
        ownership: Under whose epochs lists are written.
        feed: Told of every flush.
        names: Kept up to date with what was committed.
        applied: By partition, the offset below which the engine holds everything.
        metrics: Where times are kept.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        engine: EngineProcess,
        ownership: Ownership,
        feed: ChangeFeed,
        names: TrackNames,
        applied: dict[int, int],
        metrics: WorkerMetrics,
    ) -> None:
        self._pool = pool
        self._engine = engine
        self._ownership = ownership
        self._feed = feed
        self._names = names
        self._applied = applied
        self._metrics = metrics
        self._batches: asyncio.Queue[Committed] = asyncio.Queue(maxsize=PENDING_BATCHES)
        self._engine_turn = asyncio.Lock()
        self._flush_turn = asyncio.Lock()
        # What was recorded last: for which owned partitions, and up to where.
        self._absorbed: tuple[frozenset[int], dict[int, int]] | None = None
        # Whether tombstones may be owed since the last flush.
        self._withdrawn = True
        self._flushes = 0
        self._closing = False
        self._wake = asyncio.Event()

    async def put(self, committed: Committed) -> None:
        """Take over a committed batch; waits while too many are pending."""
        await self._batches.put(committed)

    async def run_applying(self) -> None:
        """Apply batches for ever, in the order they were committed."""
        while True:
            committed = await self._batches.get()
            await self._apply(committed)
            self._batches.task_done()
            self._wake.set()

    async def _apply(self, committed: Committed) -> None:
        async with self._engine_turn:
            if committed.accepted and committed.dimension is not None:
                batch = await asyncio.to_thread(engine_batch, committed.accepted, committed.dimension)
                self._names.update(batch)
                self._withdrawn |= bool(len(batch.deleted))
                with self._metrics.phase_seconds.labels("neighbours").time():
                    await self._engine.apply(batch)
            self._applied.update(committed.next_offsets)

    async def run_flushing(self) -> None:
        """Flush at once when there is something new, then not before as long again as the flush took."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), timeout=IDLE_FLUSH_SECONDS)
            self._wake.clear()
            if self._closing:
                return
            start = time.monotonic()
            await self.flush()
            await asyncio.sleep(time.monotonic() - start)

    def flushes(self) -> int | None:
        """How many flushes there have been; None while one is under way."""
        return None if self._flush_turn.locked() else self._flushes

    async def drain(self) -> None:
        """Apply and flush everything that was put, then publish it; nothing is flushed afterwards."""
        await self._batches.join()
        self._closing = True
        await self.flush()
        await self._feed.publish_due(everything=True)

    async def flush(self) -> None:
        """Write every changed list and the offsets it has absorbed, in one transaction; then tell the feed."""
        async with self._flush_turn:
            if not self._ownership.partitions:
                return
            async with self._engine_turn:
                changes = await self._engine.take_changes()
                applied = dict(self._applied)
                withdrawn, self._withdrawn = self._withdrawn, False
                await self._observe_engine()
            recorded = (frozenset(self._ownership.partitions), applied)
            if not len(changes) and not len(changes.deleted) and recorded == self._absorbed:
                return
            self._flushes += 1
            with self._metrics.phase_seconds.labels("flush").time():
                version, generated_at = await until_done(
                    lambda: self._write_when_held(changes, applied),
                    what="flush lists",
                    system="postgres",
                    metrics=self._metrics,
                )
            reach(FaultPoint.AFTER_LIST_COMMIT)
            self._absorbed = recorded
            self._note_flush(changes, applied)
            self._feed.add(
                _feed_changes(changes, version, generated_at),
                flushed=version,
                withdrawn=withdrawn,
            )

    async def _write_when_held(self, changes: ListChanges, applied: dict[int, int]) -> tuple[int, float]:
        # Without a partition there is no epoch to show, and nothing that would fence this write off.
        await self._ownership.held()
        return await self._ownership.under_epochs(lambda epochs: self._write(changes, applied, epochs))

    async def _write(
        self, changes: ListChanges, applied: dict[int, int], epochs: dict[int, int]
    ) -> tuple[int, float]:
        rows = ListRows(
            keys=changes.keys,
            neighbours=changes.neighbours,
            scores=changes.scores,
            lengths=changes.lengths,
            partitions=changes.events["partition"],
            offsets=changes.events["offset"],
            event_times=changes.events["time"],
        )
        async with transaction(self._pool) as connection:
            await partitions.hold(connection, epochs)
            written = await lists.flush(connection, rows, changes.deleted)
            await partitions.absorb(connection, list(epochs), applied)
            reach(FaultPoint.BEFORE_LIST_COMMIT)
        return written

    def _note_flush(self, changes: ListChanges, applied: dict[int, int]) -> None:
        self._metrics.lists_written.inc(len(changes))
        for partition, offset in applied.items():
            self._metrics.absorbed.labels(partition).set(offset)
        ages = time.time() - np.unique(changes.events["time"])
        for age in ages[(ages >= 0) & (ages < FRESHNESS_LIMIT)].tolist():
            self._metrics.freshness.observe(age)

    async def _observe_engine(self) -> None:
        stats = await self._engine.stats()
        self._metrics.tracks.set(stats.tracks)
        self._metrics.waiting_refills.set(stats.waiting_refills)
        self._metrics.refilled.set(stats.refilled)
        self._metrics.engine_bytes.set(stats.memory_bytes)
        for phase, seconds in stats.seconds.items():
            self._metrics.engine_seconds.labels(phase).set(seconds)


def _feed_changes(changes: ListChanges, version: int, generated_at: float) -> Iterator[tuple[int, Change]]:
    for i, key in enumerate(changes.keys.tolist()):
        length, before = int(changes.lengths[i]), int(changes.previous_lengths[i])
        event = changes.events[i]
        yield (
            key,
            Change(
                neighbours=changes.neighbours[i, :length],
                scores=changes.scores[i, :length],
                previous=changes.previous[i, :before],
                version=version,
                generated_at=generated_at,
                source=(int(event["partition"]), int(event["offset"])),
            ),
        )
