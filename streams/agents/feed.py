"""The change feed: the latest list of a track, at most once in each window.

A list that changes ten times in a second is told of once or twice: compaction would make the rest worthless. What came
and went is told against the list that was told before.
"""

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import asyncpg
import numpy as np
import numpy.typing as npt
from aiokafka import AIOKafkaProducer
from opentelemetry.trace import SpanContext

from store import partitions, tracks
from store.pool import transaction
from streams.agents.names import TrackNames
from streams.agents.ownership import Ownership
from streams.agents.retry import until_done
from streams.events import encode_list_change, tracing, track_key
from streams.faults import FaultPoint, reach
from streams.kafka import deliver_in_batches
from streams.metrics import WorkerMetrics
from streams.topics import RECOMMENDATIONS, TRACK_INGEST

# Messages built and sent between two looks at the loop.
SLICE = 1_024
# After a round of publishing the feed rests for so many times as long as it took: under load its share is bounded, and
# a track is told of less often than once in a window.
REST = 3.0


@dataclass(frozen=True, slots=True)
class Block:
    """Lists that one flush wrote.

    Attributes:
        keys: int64 (m,), whose lists.
        neighbours: int64 (m, k), keys.
        scores: float32 (m, k).
        lengths: int64 (m,), how many of the k count.
        previous: int64 (m, j), keys as told the last time; None where that is not known.
        previous_lengths: int64 (m,).
        partitions: int32 (m,), of the event that changed each list last.
        offsets: int64 (m,), likewise.
        owners: int32 (m,), the partition that each list belongs to.
        versions: int64 (m,), of the flush that wrote it.
        generated_at: float64 (m,), seconds since the epoch.
    """

    keys: npt.NDArray[np.int64]
    neighbours: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    lengths: npt.NDArray[np.int64]
    previous: npt.NDArray[np.int64] | None
    previous_lengths: npt.NDArray[np.int64]
    partitions: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    owners: npt.NDArray[np.int32]
    versions: npt.NDArray[np.int64]
    generated_at: npt.NDArray[np.float64]


@dataclass(slots=True)
class _Change:
    """A list to tell of: a row of a block, and the row of a block that has what was told before."""

    block: Block
    row: int
    told: Block
    told_row: int


@dataclass(slots=True)
class _Waiting:
    """What waits to be told of one partition's lists: changes by key, and the newest version that has come here."""

    flushed: int = 0
    changes: dict[int, _Change] = field(default_factory=dict)


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
        self._waiting: dict[int, _Waiting] = {}
        self._told_at: dict[int, float] = {}
        self._tombstones = False
        self._traces: list[SpanContext] = []
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()

    def add(
        self,
        block: Block,
        *,
        flushed: Mapping[int, int],
        withdrawn: bool,
        trace: SpanContext | None = None,
    ) -> None:
        """Take changed lists in; `flushed` has the newest version of each partition's lists, none of which is missing."""
        if trace is not None:
            self._traces.append(trace)
        for owner, version in flushed.items():
            waiting = self._waiting.setdefault(owner, _Waiting())
            waiting.flushed = max(waiting.flushed, version)
        for row, (key, owner) in enumerate(zip(block.keys.tolist(), block.owners.tolist(), strict=True)):
            changes = self._waiting[owner].changes
            earlier = changes.get(key)
            if earlier is None:
                changes[key] = _Change(block, row, block, row)
            else:
                earlier.block, earlier.row = block, row
        self._tombstones |= withdrawn
        self._wake.set()

    def keep_only(self, owners: Collection[int]) -> None:
        """Forget what was to be told of lists of any other partition."""
        self._waiting = {owner: waiting for owner, waiting in self._waiting.items() if owner in owners}

    async def quiet(self) -> None:
        """Wait until nothing is on its way of partitions that are not ours."""
        async with self._turn:
            return

    @property
    def pending(self) -> int:
        """Lists that wait to be told of."""
        return sum(len(waiting.changes) for waiting in self._waiting.values())

    async def run(self) -> None:
        """Publish for ever."""
        while True:
            if not self.pending and not self._tombstones:
                await self._wake.wait()
            self._wake.clear()
            await self._ownership.held()
            began = time.monotonic()
            await self.publish_due()
            took = time.monotonic() - began
            await asyncio.sleep(max(REST * took, min(0.1, self._window / 4) if self.pending else 0))

    async def publish_due(self, *, everything: bool = False) -> None:
        """Publish what is due, or everything, and remember it in the store."""
        async with self._turn:
            await self._publish_due(everything=everything)

    async def _publish_due(self, *, everything: bool) -> None:
        now = time.monotonic()
        self._told_at = {key: told for key, told in self._told_at.items() if now - told < self._window}
        due = [
            (owner, key)
            for owner in self._ownership.partitions
            if owner in self._waiting
            for key in self._waiting[owner].changes
            if everything or key not in self._told_at
        ]
        if not due and not self._tombstones:
            return
        self._tombstones = False
        traces, self._traces = self._traces, []
        with tracing.span("publish changes", "producer", links=traces, mess_lists=len(due)):
            for start in range(0, len(due), SLICE):
                part = self._take(due[start : start + SLICE])
                self._told_at.update((key, now) for key, _ in part)
                await self._publish(part)
            await self._settle()

    def _take(self, due: Iterable[tuple[int, int]]) -> list[tuple[int, _Change]]:
        """Changes that are still to be told, by us, and are so from now on."""
        taken = []
        for owner, key in due:
            waiting = self._waiting.get(owner)
            if waiting is not None and owner in self._ownership and key in waiting.changes:
                taken.append((key, waiting.changes.pop(key)))
        return taken

    async def _publish(self, changes: list[tuple[int, _Change]]) -> None:
        messages = await asyncio.to_thread(self._encode_all, changes)

        async def deliver() -> None:
            await deliver_in_batches(self._producer, RECOMMENDATIONS, messages)

        reach(FaultPoint.BEFORE_PUBLISH)
        await until_done(deliver, what="publish changes", system="kafka", metrics=self._metrics)
        reach(FaultPoint.AFTER_PUBLISH)
        self._metrics.changes_published.labels("list").inc(len(messages))

    def _encode_all(self, changes: Sequence[tuple[int, _Change]]) -> list[tuple[bytes, bytes | None]]:
        messages = []
        for key, change in changes:
            track_id = self._names.of(key)
            if track_id is not None:  # else it has been withdrawn since: its tombstone says so
                messages.append(self._encode(track_id, change))
        return messages

    def _encode(self, track_id: str, change: _Change) -> tuple[bytes, bytes | None]:
        block, row = change.block, change.row
        length = int(block.lengths[row])
        keys, scores = block.neighbours[row, :length].tolist(), block.scores[row, :length].tolist()
        names = self._names.of_all(keys)
        added, removed = self._difference(change, keys)
        return encode_list_change(
            track_id,
            version=int(block.versions[row]),
            neighbours=[(name, score) for name, score in zip(names, scores, strict=True) if name is not None],
            added=added,
            removed=removed,
            source=(TRACK_INGEST, int(block.partitions[row]), int(block.offsets[row])),
            generated_at=datetime.fromtimestamp(float(block.generated_at[row]), UTC),
        )

    def _difference(self, change: _Change, now: list[int]) -> tuple[list[str] | None, list[str] | None]:
        told, row = change.told, change.told_row
        if told.previous is None:
            return None, None
        before = told.previous[row, : int(told.previous_lengths[row])].tolist()
        if before == now:
            return [], []
        come, gone = set(now).difference(before), set(before).difference(now)
        added = self._names.of_all(key for key in now if key in come)
        removed = [self._names.was(key) for key in before if key in gone]
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
            await deliver_in_batches(
                self._producer, RECOMMENDATIONS, [(track_id.encode(), None) for _, track_id in owed]
            )
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
        told = {}
        for owner in owners:
            waiting = self._waiting.get(owner, _Waiting())
            oldest = min(
                (int(change.block.versions[change.row]) for change in waiting.changes.values()),
                default=waiting.flushed + 1,
            )
            told[owner] = oldest - 1
        return told
