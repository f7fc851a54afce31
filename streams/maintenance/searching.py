"""Supervises the search process: loads it, and passes it every batch that the engine gets, without delaying the engine."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import asyncpg
import structlog

from store import lists, tail
from store.pool import snapshot
from store.rows import TrackVectors
from streams.engine.search import SearchProcess
from streams.engine.search.metadata import MetadataRow
from streams.engine.types import Keys, TrackBatch
from streams.kafka.retry import until_done
from streams.maintenance.arrays import later_than
from streams.metrics import WorkerMetrics

log = structlog.get_logger(__name__)

# Tracks per message while the process is loaded.
CHUNK = 4_096
OBSERVE_SECONDS = 5.0
# Maximum bytes of batches queued for a process that is being loaded or slow: half a million tracks of 64 dimensions. Beyond
# it the engine waits, too, and Kafka keeps the rest (backpressure).
QUEUE_BYTES = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Description:
    """Metadata for some tracks, and the future of those that had another."""

    keys: Keys
    metadata: Sequence[MetadataRow]
    changed: asyncio.Future[Keys]


class SearchSupervisor:
    """Starts the search process, loads it, and passes batches on.

    Args:
        process: Not started.
        ready: Called once it holds the whole catalogue.
        metrics: Shows its state.

    Attributes:
        applied: By partition, the offset below which the process holds everything.
        loaded: Whether it holds the whole catalogue.
    """

    def __init__(self, process: SearchProcess, ready: Callable[[], None], metrics: WorkerMetrics) -> None:
        self.applied: dict[int, int] = {}
        self.loaded = False
        self._process = process
        self._ready = ready
        self._metrics = metrics
        self._batches: asyncio.Queue[tuple[TrackBatch | None, dict[int, int]] | _Description] = (
            asyncio.Queue()
        )
        self._queued = 0
        self._fits = asyncio.Event()
        self._fits.set()

    async def room(self) -> None:
        """Wait while the queue is full."""
        await self._fits.wait()

    def put(self, batch: TrackBatch | None, upto: dict[int, int]) -> None:
        """Queue a batch, after which the process holds everything below `upto`; returns at once."""
        self._batches.put_nowait((batch, upto))
        self._count(_size(batch))

    async def describe(self, keys: Keys, metadata: Sequence[MetadataRow]) -> Keys:
        """Give tracks other metadata, after all batches that have been put; returns those that had another once it is done.

        Args:
            keys: int64 (m,).
            metadata: Of each, from `store.rows.metadata_row`.
        """
        await self.room()
        changed: asyncio.Future[Keys] = asyncio.get_running_loop().create_future()
        self._batches.put_nowait(_Description(keys, metadata, changed))
        return await changed

    def _count(self, size: int) -> None:
        self._queued += size
        self._metrics.search_queue.set(self._queued)
        if self._queued < QUEUE_BYTES:
            self._fits.set()
        else:
            self._fits.clear()

    async def run(self, pool: asyncpg.Pool, dimension: int) -> None:
        """Load the catalogue from the store, then apply batches for ever.

        Raises:
            SearchStoppedError: The process is gone: this worker must be started afresh.
        """
        await self._process.start()
        found, applied = await until_done(
            lambda: _read(pool, dimension),
            what="load the catalogue to be searched",
            system="postgres",
            metrics=self._metrics,
        )
        for start in range(0, len(found.keys), CHUNK):
            part = slice(start, start + CHUNK)
            await self._process.load(
                found.keys[part],
                found.track_ids[part],
                found.vectors[part],
                found.metadata[part],
                found.offsets[part],
            )
        self.applied.update(applied)
        log.info("search loaded", tracks=len(found.keys))
        del found
        self.loaded = True
        self._ready()
        while True:
            queued = await self._batches.get()
            if isinstance(queued, _Description):
                changed = await self._process.describe(queued.keys, queued.metadata)
                if not queued.changed.done():
                    queued.changed.set_result(changed)
                continue
            batch, upto = queued
            if batch is not None:
                # The store may have been read at a later state.
                await self._process.apply(later_than(batch, applied))
            for partition, offset in upto.items():
                self.applied[partition] = max(self.applied.get(partition, 0), offset)
            self._count(-_size(batch))

    async def observe(self) -> None:
        """Update the metrics with the process's state, for ever; log each failed index."""
        told = 0
        while True:
            await asyncio.sleep(OBSERVE_SECONDS)
            if self._process.pid is None:
                continue
            stats = await self._process.stats()
            metrics = self._metrics
            metrics.search_index_tracks.set(stats.index_size)
            metrics.search_index_age.set(stats.index_age if stats.index_age is not None else float("nan"))
            metrics.search_newer.set(stats.newer)
            metrics.search_failures.set(stats.failed_builds)
            if stats.failed_builds > told:
                told = stats.failed_builds
                log.warning(
                    "a search index could not be built; the last one, or none, serves until there is another",
                    reason=stats.last_error,
                    index_tracks=stats.index_size,
                    failures=told,
                )
            metrics.search_bytes.set(stats.memory_bytes)
            for phase, seconds in stats.seconds.items():
                metrics.search_seconds.labels(phase).set(seconds)


def _size(batch: TrackBatch | None) -> int:
    """The approximate size of a batch in bytes."""
    return 0 if batch is None else batch.vectors.nbytes + 200 * (len(batch.keys) + len(batch.deleted))


async def _read(pool: asyncpg.Pool, dimension: int) -> tuple[TrackVectors, dict[int, int]]:
    async with snapshot(pool) as connection:
        positions = await tail.consumed_positions(connection)
        found = await lists.read_track_vectors(connection, dimension, metadata=True)
    return found, {partition: at.consumed for partition, at in positions.items()}
