"""The change feed: the latest list of a track, at most once in each window.

A list that changes ten times in a second is told of once or twice: compaction would make the rest worthless. What came
and went is told against the list that was told before.
"""

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import asyncpg
import numpy as np
import numpy.typing as npt
from aiokafka import AIOKafkaProducer

from store import partitions, tracks
from store.pool import transaction
from streams.agents.names import TrackNames
from streams.agents.ownership import Ownership
from streams.agents.retry import until_done
from streams.events import encode_list_change, track_key
from streams.faults import FaultPoint, reach
from streams.metrics import WorkerMetrics
from streams.topics import RECOMMENDATIONS, TRACK_INGEST

# Messages built and sent between two looks at the loop.
SLICE = 256


@dataclass(slots=True)
class Change:
    """A list to tell of.

    Attributes:
        neighbours: int64 (k,), keys.
        scores: float32 (k,).
        previous: int64 (j,), keys as told the last time; None where that is not known.
        version: Of the flush that wrote it.
        generated_at: Seconds since the epoch.
        source: Partition and offset of the event that changed it last.
        owner: The partition that the list belongs to.
    """

    neighbours: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    previous: npt.NDArray[np.int64] | None
    version: int
    generated_at: float
    source: tuple[int, int]
    owner: int


class ChangeFeed:
    """Holds changed lists until their window opens, and publishes them.

    Args:
        pool: The store, which remembers what has been published.
        producer: Started.
        ownership: Whose published version moves on.
        names: The ids behind keys.
        window: Seconds in which a track is told of at most once.
        metrics: Where messages are counted.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        producer: AIOKafkaProducer,
        ownership: Ownership,
        names: TrackNames,
        window: float,
        metrics: WorkerMetrics,
    ) -> None:
        self._pool = pool
        self._producer = producer
        self._ownership = ownership
        self._names = names
        self._window = window
        self._metrics = metrics
        self._pending: dict[int, Change] = {}
        self._told_at: dict[int, float] = {}
        # By partition, the newest version of a list that has come here.
        self._flushed: dict[int, int] = {}
        self._tombstones = False
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()

    def add(
        self, changes: Iterable[tuple[int, Change]], *, flushed: Mapping[int, int], withdrawn: bool
    ) -> None:
        """Take changed lists in, by key; `flushed` is the newest version of each partition, none of which is missing."""
        for key, change in changes:
            earlier = self._pending.get(key)
            if earlier is not None:
                change.previous = earlier.previous
            self._pending[key] = change
        for partition, version in flushed.items():
            self._flushed[partition] = max(self._flushed.get(partition, 0), version)
        self._tombstones |= withdrawn
        self._wake.set()

    def keep_only(self, partitions: Collection[int]) -> None:
        """Forget what was to be told of lists of any other partition."""
        self._pending = {key: change for key, change in self._pending.items() if change.owner in partitions}
        self._flushed = {p: version for p, version in self._flushed.items() if p in partitions}

    async def quiet(self) -> None:
        """Wait until nothing is on its way of partitions that are not ours."""
        async with self._turn:
            return

    @property
    def pending(self) -> int:
        """Lists that wait to be told of."""
        return len(self._pending)

    async def run(self) -> None:
        """Publish for ever."""
        while True:
            if not self._pending and not self._tombstones:
                await self._wake.wait()
            self._wake.clear()
            await self._ownership.held()
            await self.publish_due()
            await asyncio.sleep(min(0.1, self._window / 4) if self._pending else 0)

    async def publish_due(self, *, everything: bool = False) -> None:
        """Publish what is due, or everything, and remember it in the store."""
        async with self._turn:
            await self._publish_due(everything=everything)

    async def _publish_due(self, *, everything: bool) -> None:
        now = time.monotonic()
        self._told_at = {key: told for key, told in self._told_at.items() if now - told < self._window}
        due = [key for key in self._ours() if everything or key not in self._told_at]
        if not due and not self._tombstones:
            return
        self._tombstones = False
        for start in range(0, len(due), SLICE):
            ours = self._ours()
            part = [(key, self._pending.pop(key)) for key in due[start : start + SLICE] if key in ours]
            self._told_at.update((key, now) for key, _ in part)
            await self._publish(part)
        await self._settle()

    def _ours(self) -> dict[int, Change]:
        held = frozenset(self._ownership.partitions)
        return {key: change for key, change in self._pending.items() if change.owner in held}

    async def _publish(self, changes: list[tuple[int, Change]]) -> None:
        messages = await asyncio.to_thread(lambda: [m for m in map(self._encode, changes) if m])

        async def deliver() -> None:
            await self._deliver(messages)

        reach(FaultPoint.BEFORE_PUBLISH)
        await until_done(deliver, what="publish changes", system="kafka", metrics=self._metrics)
        reach(FaultPoint.AFTER_PUBLISH)
        self._metrics.changes_published.labels("list").inc(len(messages))

    async def _deliver(self, messages: Iterable[tuple[bytes, bytes | None]]) -> None:
        deliveries = [
            await self._producer.send(RECOMMENDATIONS, key=key, value=value) for key, value in messages
        ]
        for outcome in await asyncio.gather(*deliveries, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    def _encode(self, item: tuple[int, Change]) -> tuple[bytes, bytes] | None:
        key, change = item
        track_id = self._names.of(key)
        if track_id is None:  # withdrawn since: its tombstone says so
            return None
        named = [
            (self._names.of(k), s)
            for k, s in zip(change.neighbours.tolist(), change.scores.tolist(), strict=True)
        ]
        added, removed = self._difference(change)
        return encode_list_change(
            track_id,
            version=change.version,
            neighbours=[(name, score) for name, score in named if name is not None],
            added=added,
            removed=removed,
            source=(TRACK_INGEST, *change.source),
            generated_at=datetime.fromtimestamp(change.generated_at, UTC),
        )

    def _difference(self, change: Change) -> tuple[list[str] | None, list[str] | None]:
        if change.previous is None:
            return None, None
        before, now = change.previous.tolist(), change.neighbours.tolist()
        known, kept = set(before), set(now)
        added = [self._names.of(key) for key in now if key not in known]
        removed = [self._names.was(key) for key in before if key not in kept]
        return [name for name in added if name is not None], [name for name in removed if name is not None]

    async def _settle(self) -> None:
        """Deliver the tombstones owed, and remember up to which versions everything has been told."""

        async def settle(epochs: dict[int, int]) -> int:
            mine = sorted(epochs)
            if not mine:  # the next owner does it, or we when we hold something again
                self._tombstones = True
                return 0
            told = self._told(mine)
            async with transaction(self._pool) as connection:
                owed = await tracks.owed_tombstones(connection, mine)
            # A track that the engine still has may be told of once more, which must not come after its tombstone:
            # this one waits for the flush that follows.
            owed = [(at, track_id) for at, track_id in owed if self._names.of(track_key(track_id)) is None]
            await self._deliver([(track_id.encode(), None) for _, track_id in owed])
            async with transaction(self._pool) as connection:
                await partitions.hold(connection, epochs)
                await tracks.settle_tombstones(connection, [at for at, _ in owed])
                await partitions.set_published(connection, told)
            return len(owed)

        async def settle_held() -> int:
            return await self._ownership.under_epochs(settle)

        count = await until_done(
            settle_held, what="settle the change feed", system="postgres", metrics=self._metrics
        )
        self._metrics.changes_published.labels("tombstone").inc(count)

    def _told(self, owners: Iterable[int]) -> dict[int, int]:
        """By partition, the version up to which the feed has every list."""
        oldest: dict[int, int] = {}
        for change in self._pending.values():
            oldest[change.owner] = min(oldest.get(change.owner, change.version), change.version)
        return {p: oldest[p] - 1 if p in oldest else self._flushed.get(p, 0) for p in owners}
