"""The change feed: the latest list of a track, at most once in each window.

A list that changes ten times in a second is told of once or twice: compaction would make the rest worthless. What came
and went is told against the list that was told before.
"""

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping
from itertools import islice

import asyncpg
import structlog
from aiokafka import AIOKafkaProducer
from opentelemetry.trace import SpanContext

from store import partitions, tracks
from store.pool import transaction
from streams.contracts import encode_list_change, encode_scores, times, tracing, track_key
from streams.faults import FaultPoint, reach
from streams.kafka.clients import deliver_in_batches
from streams.kafka.poison import refusal_of
from streams.kafka.retry import until_done
from streams.kafka.topics import RECOMMENDATIONS, TRACK_INGEST
from streams.maintenance.names import TrackNames
from streams.maintenance.ownership import Ownership
from streams.maintenance.pending_changes import ROOM, ChangedBlock, PendingChanges
from streams.metrics import WorkerMetrics

log = structlog.get_logger(__name__)

# Lists told of in a round at most.
ROUND = 1_024
# While lists keep changing, the feed rests after a round for so many times as long as it took: its share of the time is
# bounded, and a track may be told of less often than once in a window.
REST = 3.0
# Lists keep changing as long as the last change is no older.
BUSY_SECONDS = 0.5


class ChangePublisher:
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
        self._waiting = PendingChanges()
        # The newest version that has come here, by owner.
        self._flushed: dict[int, int] = {}
        self._added_at = 0.0
        self._told_at: dict[int, float] = {}
        self._tombstones = False
        self._traces: list[SpanContext] = []
        self._wake = asyncio.Event()
        self._fits = asyncio.Event()
        self._fits.set()
        self._turn = asyncio.Lock()

    def add(
        self,
        block: ChangedBlock,
        *,
        flushed: Mapping[int, int],
        withdrawn: bool,
        trace: SpanContext | None = None,
    ) -> None:
        """Take changed lists in; `flushed` has the newest version of each partition's lists, none of which is missing."""
        if trace is not None:
            self._traces.append(trace)
        for owner, version in flushed.items():
            self._flushed[owner] = max(self._flushed.get(owner, 0), version)
        self._waiting.add(block)
        self._added_at = time.monotonic()
        self._tombstones |= withdrawn
        self._wake.set()
        self._observe()

    async def room(self) -> None:
        """Wait while so many lists wait to be told that no more should be added."""
        await self._fits.wait()

    def _observe(self) -> None:
        self._metrics.feed_pending.set(self.pending)
        self._metrics.feed_bytes.set(self._waiting.memory_bytes)
        if self.pending < ROOM:
            self._fits.set()
        else:
            self._fits.clear()

    def keep_only(self, owners: Collection[int]) -> None:
        """Forget what was to be told of lists of any other partition."""
        self._waiting.keep_only(owners)
        self._flushed = {owner: version for owner, version in self._flushed.items() if owner in owners}
        self._observe()

    async def quiet(self) -> None:
        """Wait until nothing is on its way of partitions that are not ours."""
        async with self._turn:
            return

    @property
    def pending(self) -> int:
        """Lists that wait to be told of."""
        return len(self._waiting)

    async def run(self) -> None:
        """Publish for ever."""
        while True:
            if not self.pending and not self._tombstones:
                await self._wake.wait()
            self._wake.clear()
            await self._ownership.held()
            began = time.monotonic()
            told = await self.publish_due()
            ended = time.monotonic()
            busy = ended - self._added_at < BUSY_SECONDS
            rest = REST * (ended - began) if busy else 0.0
            if told < ROUND and self.pending:  # what is left waits for its window
                rest = max(rest, min(0.1, self._window / 4))
            await asyncio.sleep(rest)

    async def publish_due(self, *, everything: bool = False) -> int:
        """Publish a round of what is due, or everything, and remember it in the store; return how many were due."""
        async with self._turn:
            return await self._publish_due(everything=everything)

    async def _publish_due(self, *, everything: bool) -> int:
        now = time.monotonic()
        self._told_at = {key: told for key, told in self._told_at.items() if now - told < self._window}
        waiting = self._waiting.keys(self._ownership.partitions)
        if everything:
            due = list(waiting)
        else:
            due = list(islice((which for which in waiting if which[1] not in self._told_at), ROUND))
        if not due and not self._tombstones:
            return 0
        self._tombstones = False
        traces, self._traces = self._traces, []
        with tracing.traced_span("publish changes", "producer", links=traces, mess_lists=len(due)):
            for start in range(0, len(due), ROUND):
                block = self._take(due[start : start + ROUND])
                if block is not None:
                    self._told_at.update(dict.fromkeys(block.keys.tolist(), now))
                    await self._publish(block)
            await self._settle()
        self._observe()
        return len(due)

    def _take(self, due: Iterable[tuple[int, int]]) -> ChangedBlock | None:
        """Lists that are still to be told of, by us, and are not from now on."""
        return self._waiting.take((owner, key) for owner, key in due if owner in self._ownership)

    async def _publish(self, block: ChangedBlock) -> None:
        messages = await asyncio.to_thread(self._encode_all, block)

        async def deliver() -> None:
            await deliver_in_batches(self._producer, RECOMMENDATIONS, messages)

        reach(FaultPoint.BEFORE_PUBLISH)
        await until_done(deliver, what="publish changes", system="kafka", metrics=self._metrics)
        reach(FaultPoint.AFTER_PUBLISH)
        self._metrics.changes_published.labels("list").inc(len(messages))

    def _encode_all(self, block: ChangedBlock) -> list[tuple[bytes, bytes | None]]:
        # Whole columns at a time: a hundred numbers a list are turned into Python's own.
        rows = zip(
            block.keys.tolist(),
            block.neighbours.tolist(),
            encode_scores(block.scores),
            block.lengths.tolist(),
            block.previous.tolist(),
            block.previous_lengths.tolist(),
            block.partitions.tolist(),
            block.offsets.tolist(),
            block.versions.tolist(),
            block.generated_at.tolist(),
            strict=True,
        )
        messages: list[tuple[bytes, bytes | None]] = []
        for row in rows:
            try:
                message = self._encode(*row)
            except Exception as error:
                refusal_of(error)  # raises what is not the list's own
                log.exception("a list cannot be told of", key=row[0], partition=row[6], offset=row[7])
                self._metrics.changes_published.labels("left_out").inc()
                continue
            if message is not None:
                messages.append(message)
        return messages

    def _encode(  # noqa: PLR0913, PLR0917 -- the columns of a block
        self,
        key: int,
        keys: list[int],
        scores: list[bytes],
        length: int,
        before: list[int],
        told: int,
        partition: int,
        offset: int,
        version: int,
        at: int,
    ) -> tuple[bytes, bytes | None] | None:
        """One list's message; None where its track has been withdrawn since, as its tombstone says so."""
        track_id = self._names.of(key)
        if track_id is None:
            return None
        now = keys[:length]
        added, removed = self._difference(now, None if told < 0 else before[:told])
        names, known = self._names.of_all(now), scores[:length]
        if None in names:
            known = [score for name, score in zip(names, known, strict=True) if name is not None]
        return encode_list_change(
            track_id,
            version=version,
            neighbours=[name for name in names if name is not None],
            scores=known,
            added=added,
            removed=removed,
            source=(TRACK_INGEST, partition, offset),
            generated_at=times.moment_of(at),
        )

    def _difference(
        self, now: list[int], told: list[int] | None
    ) -> tuple[list[str] | None, list[str] | None]:
        if told is None:
            return None, None
        if told == now:
            return [], []
        come, gone = set(now).difference(told), set(told).difference(now)
        added = self._names.of_all(key for key in now if key in come)
        removed = [self._names.was(key) for key in told if key in gone]
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
                await partitions.hold_partitions(connection, epochs)
                await tracks.settle_tombstones(connection, [at for at, _ in owed])
                await partitions.record_published(connection, told)
            return len(owed)

        async def settle_held() -> int:
            return await self._ownership.under_epochs(settle)

        count = await until_done(
            settle_held, what="settle the change feed", system="postgres", metrics=self._metrics
        )
        self._metrics.changes_published.labels("tombstone").inc(count)

    def _told(self, owners: Collection[int]) -> dict[int, int]:
        """By partition, the version up to which the feed has every list."""
        oldest = self._waiting.oldest(owners)
        return {owner: oldest.get(owner, self._flushed.get(owner, 0) + 1) - 1 for owner in owners}
