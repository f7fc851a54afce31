"""Follows the partitions of other workers: applies what they have committed to our lists, too.

Followers read the store, which holds exactly what the owner of a partition has accepted; see
docs/decisions/partitions-own-lists.md.
"""

import asyncio
import time
from collections.abc import Mapping

import asyncpg
import numpy as np
import structlog

from store import tail
from store.pool import snapshot, transaction, translated_errors
from store.tail import CommittedTail, ConsumedPosition
from streams.engine.types import TrackBatch, no_events
from streams.kafka.retry import until_done
from streams.kafka.topics import TOMBSTONE_MS
from streams.maintenance.arrays import events_of
from streams.maintenance.maintainer import ListMaintainer
from streams.maintenance.ownership import Ownership
from streams.metrics import WorkerMetrics

log = structlog.get_logger(__name__)

# Seconds between reads of others' offsets, and between checks if all partitions are ours.
FOLLOW_SECONDS = 0.05
ALONE_SECONDS = 0.5
PRUNE_SECONDS = 60.0
# Deletions are remembered for as long as the log keeps tombstones: an older event from another partition may still come.
REMEMBERED_SECONDS = TOMBSTONE_MS / 1000


class StaleEngineError(Exception):
    """This worker's state in memory is invalid: a new process must load it again."""


class Follower:
    """Brings the engine up to date with the store.

    Args:
        pool: The store.
        maintainer: Has the engine.
        ownership: The owned partitions, which need no following.
        dimension: d of the vectors.
        generations: By partition, the log that `maintainer.applied` refers to.
        metrics: Counts failures.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        maintainer: ListMaintainer,
        ownership: Ownership,
        dimension: int,
        generations: dict[int, int],
        metrics: WorkerMetrics,
    ) -> None:
        self._pool = pool
        self._maintainer = maintainer
        self._ownership = ownership
        self._dimension = dimension
        self._generations = generations
        self._metrics = metrics
        self._pruned = time.monotonic()

    async def run(self) -> None:
        """Follow for ever."""
        while True:
            alone = await until_done(
                self._look, what="follow other workers", system="postgres", metrics=self._metrics
            )
            if time.monotonic() > self._pruned + PRUNE_SECONDS:
                self._pruned = time.monotonic()
                await until_done(self._prune, what="tidy up", system="postgres", metrics=self._metrics)
            await asyncio.sleep(ALONE_SECONDS if alone else FOLLOW_SECONDS)

    async def _look(self) -> bool:
        """Apply what others have committed; returns whether there are no others."""
        with translated_errors():
            found = await tail.consumed_positions(self._pool)
        others = {p: at for p, at in found.items() if p not in self._ownership}
        self.check(others)
        applied = self._maintainer.applied
        behind = any(at.consumed > applied.get(p, 0) for p, at in others.items())
        while behind:
            async with self._maintainer.turn:
                behind = not await self._step([p for p in others if p not in self._ownership])
        return not others

    def check(self, found: Mapping[int, ConsumedPosition]) -> None:
        """Check that these offsets belong to the followed logs.

        Raises:
            StaleEngineError: A log has been replaced by another one.
        """
        for partition, at in found.items():
            if self._generations.setdefault(partition, at.generation) != at.generation:
                raise StaleEngineError(f"the log of partition {partition} has been replaced")

    def restart(self, generations: Mapping[int, int]) -> None:
        """Record logs that this worker itself has restarted."""
        self._generations.update(generations)

    async def catch_up(self, *, everything: bool) -> None:
        """Apply everything that the store has and the engine has not. The maintainer's turn must be held.

        Args:
            everything: Also find deletions that were not recorded for this worker, which was unknown then.
        """
        async with transaction(self._pool) as connection:
            found = await tail.consumed_positions(connection)
        self.check(found)
        while not await self._step(list(found)):
            pass
        if everything:
            async with transaction(self._pool) as connection:
                keys = await tail.read_keys(connection)
            await self._maintainer.drop_all_but(keys)

    async def _step(self, partitions: list[int]) -> bool:
        """Apply a part of the tail; returns whether it was the last."""
        after = {p: self._maintainer.applied.get(p, 0) for p in partitions}
        async with snapshot(self._pool) as connection:
            part = await tail.read_tail(connection, self._dimension, after)
        if part.upto:
            await self._maintainer.follow(batch_of(part), part)
        return part.whole

    async def _prune(self) -> None:
        async with transaction(self._pool) as connection:
            await tail.prune_departures(connection, REMEMBERED_SECONDS)


def batch_of(part: CommittedTail) -> TrackBatch | None:
    """A part of the tail in the engine's type; None if it is empty."""
    tracks, gone = part.tracks, part.departures
    keys, first = np.unique(gone.keys, return_index=True)
    away = ~np.isin(keys, tracks.keys)
    if not len(tracks.keys) and not away.any():
        return None
    which = first[away]
    events = (
        no_events()
        if not len(which)
        else events_of(gone.partitions[which], gone.offsets[which], np.zeros(len(which)))
    )
    return TrackBatch(
        keys=tracks.keys,
        track_ids=tracks.track_ids,
        vectors=tracks.vectors,
        events=events_of(tracks.partitions, tracks.offsets, tracks.event_times),
        deleted=keys[away],
        deleted_events=events,
        metadata=tracks.metadata,
        moved=np.array(list(part.moved), dtype=np.int64),
    )
