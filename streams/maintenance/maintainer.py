"""Maintains the lists: applies committed batches, and flushes changed lists.

Ingest acknowledges its events as soon as the tracks are committed; the lists follow right behind. If this process dies in
between, the offsets tell which tracks the stored lists have not absorbed, and the next owner of the lists applies these.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import asyncpg
import numpy as np
import numpy.typing as npt
import structlog
from opentelemetry.trace import SpanContext

from store import lists, partitions
from store.pool import transaction
from store.rows import ListRows
from store.tail import CommittedTail
from streams.contracts import TrackUpsert, times, tracing
from streams.engine.process import EngineProcess
from streams.engine.types import ListChanges, TrackBatch
from streams.faults import FaultPoint, reach
from streams.kafka.retry import until_done
from streams.maintenance.arrays import deletion_batch
from streams.maintenance.change_publisher import ChangePublisher
from streams.maintenance.decoding import AcceptedEvent, engine_batch
from streams.maintenance.ingest import CommittedBatch
from streams.maintenance.names import TrackNames
from streams.maintenance.overtaken import OvertakenEvents
from streams.maintenance.ownership import Ownership
from streams.maintenance.pending_changes import ChangedBlock
from streams.metrics import WorkerMetrics

# Called with a batch, and the offsets below which everything has come with it or before.
Listener = Callable[[TrackBatch | None, dict[int, int]], None]

log = structlog.get_logger(__name__)

# Maximum number of committed batches that are not applied yet; beyond it, ingest waits (backpressure).
PENDING_BATCHES = 4
# Committed batches are applied together up to about so many events.
ENGINE_EVENTS = 512
# Up to so many events are made a batch on the event loop.
FEW_EVENTS = 8
# After a flush the flusher rests for so many times its duration. Longer rests avoid rewriting lists that change again, and
# delay the oldest change.
FLUSH_REST = 0.3
# With more waiting events than this, written lists would soon change again: a flush then waits until fewer wait, or for so many
# seconds.
BEHIND_EVENTS = 512
BEHIND_SECONDS = 0.6
# An idle engine completes short lists by itself; its changes are checked at this interval.
IDLE_FLUSH_SECONDS = 0.5
# Older events do not count for the measured freshness.
FRESHNESS_LIMIT = 600.0


@dataclass(frozen=True, slots=True)
class _TakenChanges:
    """The changes that a flush took from the engine.

    Attributes:
        changes: The lists.
        applied: By partition, the offset below which they have absorbed everything.
        tenures: Of their partitions; in another tenure the lists may be outdated.
        withdrawn: Whether the outbox may have new tombstones since the last flush.
        traces: The spans of the batches since then.
        moved: Whether tracks have moved between partitions since then.
    """

    changes: ListChanges
    applied: dict[int, int]
    tenures: dict[int, int]
    withdrawn: bool
    traces: list[SpanContext]
    moved: bool


@dataclass(frozen=True, slots=True)
class _Written:
    """The result of a flush: version, time in microseconds since 1970, and partitions."""

    version: int
    generated_at: int
    owners: list[int]


class ListMaintainer:
    """Applies committed batches to the engine and flushes changed lists.

    Args:
        pool: The store.
        engine: Started, and loaded with all vectors.
        ownership: The partitions whose lists are written, with their epochs.
        feed: Gets every flush.
        names: Updated with committed batches.
        applied: By partition, the offset below which the engine holds everything.
        metrics: Measures times.
        log_end: The known end of a partition's log; 0 if unknown.

    Attributes:
        turn: Held while the engine is read or changed in more than one call.
        applied: As given, kept up to date.
        owned: The partitions whose lists the engine owns.
        last_version: The engine knows the stored lists up to this version.
        keeps_lists: Whether lists that a flush replaces are kept in `list_history`.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        engine: EngineProcess,
        ownership: Ownership,
        feed: ChangePublisher,
        names: TrackNames,
        applied: dict[int, int],
        metrics: WorkerMetrics,
        log_end: Callable[[int], int],
    ) -> None:
        self.keeps_lists = False
        self.turn = asyncio.Lock()
        self.applied = applied
        self.owned: frozenset[int] = frozenset()
        self.last_version = 0
        self.engine = engine
        self._pool = pool
        self._ownership = ownership
        self._feed = feed
        self._names = names
        self._metrics = metrics
        self._log_end = log_end
        self._batches: asyncio.Queue[CommittedBatch] = asyncio.Queue(maxsize=PENDING_BATCHES)
        self._overtaken = OvertakenEvents()
        # By key, tracks that have moved between partitions since lists were last taken: where they are now, None if nowhere.
        self._moved: dict[int, int | None] = {}
        self._flush_turn = asyncio.Lock()
        # The last recorded tenures and offsets.
        self._recorded: object = None
        self._withdrawn = True
        self._flushes = 0
        self._closing = False
        self._traces: list[SpanContext] = []
        self._failures: dict[str, str] = {}
        self._wake = asyncio.Event()
        self._applied_some = asyncio.Event()
        self._listeners: list[Listener] = []
        self._brakes: list[Callable[[], Awaitable[None]]] = []

    def tell(self, listener: Listener, room: Callable[[], Awaitable[None]] | None = None) -> None:
        """Register a listener for every batch that the engine gets, in the same order; `room` is awaited before each."""
        self._listeners.append(listener)
        if room is not None:
            self._brakes.append(room)

    async def put(self, committed: CommittedBatch) -> None:
        """Queue a committed batch; waits while too many are pending."""
        await self._batches.put(committed)

    async def applied_all(self) -> None:
        """Wait until all queued batches have been applied."""
        await self._batches.join()

    async def run_applying(self) -> None:
        """Apply batches for ever, in the order they were committed."""
        while True:
            waiting = [await self._batches.get()]
            # Under load several at once, as larger products are more efficient.
            while not self._batches.empty() and sum(len(c.accepted) for c in waiting) < ENGINE_EVENTS:
                waiting.append(self._batches.get_nowait())
            async with self.turn:
                await self._apply_committed(waiting)
            for _ in waiting:
                self._batches.task_done()

    async def _apply_committed(self, waiting: list[CommittedBatch]) -> None:
        last: dict[str, AcceptedEvent] = {}
        upto: dict[int, int] = {}
        moved = set().union(*(committed.moved for committed in waiting))
        for committed in waiting:
            upto |= committed.next_offsets
            if committed.trace is not None:
                self._traces.append(committed.trace)
            for accepted in committed.accepted:
                # A claim, or following others, may have read newer events from the store meanwhile.
                place = accepted.received.place
                if place.offset >= self.applied.get(place.partition, 0) and self._overtaken.lets_pass(
                    accepted.key, place
                ):
                    last.pop(accepted.event.track_id, None)
                    last[accepted.event.track_id] = accepted
        batch = None
        if last:
            args = list(last.values()), self.engine.dimension, moved & {a.key for a in last.values()}
            # A thread begins later than a few events take.
            few = len(last) <= FEW_EVENTS
            batch = engine_batch(*args) if few else await asyncio.to_thread(engine_batch, *args)
        now = {a.key: a.received.partition for a in last.values() if isinstance(a.event, TrackUpsert)}
        await self.apply(batch, upto, {key: now.get(key) for key in moved & {a.key for a in last.values()}})

    async def follow(self, batch: TrackBatch | None, part: CommittedTail) -> None:
        """Apply what others have committed, as was read from the store. The turn must be held."""
        self._overtaken.note(part, self.applied)
        await self.apply(batch, part.upto, part.moved)

    async def apply(
        self, batch: TrackBatch | None, upto: dict[int, int], moved: Mapping[int, int | None] | None = None
    ) -> None:
        """Apply a batch to the engine, which then holds everything below `upto`. The turn must be held.

        Args:
            batch: What has changed.
            upto: By partition.
            moved: By key, tracks whose event before was of another partition: the one that they are of now, None where they
                have gone.
        """
        for room in self._brakes:
            await room()
        self._note_moves(batch, moved or {})
        if batch is not None:
            self._names.update(batch)
            self._withdrawn |= bool(len(batch.deleted))
        for listener in self._listeners:
            listener(batch, upto)
        if batch is not None:
            with self._metrics.phase_seconds.labels("neighbours").time():
                await self.engine.apply(replace(batch, behind=self._behind(), metadata=None))
        for partition, offset in upto.items():
            self.applied[partition] = max(self.applied.get(partition, 0), offset)
        self._overtaken.forget(self.applied)
        self._wake.set()
        self._applied_some.set()

    def _note_moves(self, batch: TrackBatch | None, moved: Mapping[int, int | None]) -> None:
        """Remember where tracks that have moved are now; also of those that have gone or come back since."""
        now = dict(moved)
        if batch is not None and self._moved:
            there = zip(batch.keys.tolist(), batch.events["partition"].tolist(), strict=True)
            gone = ((key, None) for key in batch.deleted.tolist())
            now = {key: at for key, at in (*gone, *there) if key in self._moved} | now
        if now:
            self._moved |= now
            self._feed.let_go(now)

    async def drop_all_but(self, keys: npt.NDArray[np.int64]) -> None:
        """Remove all tracks but these, int64 (n,), from the engine. The turn must be held."""
        gone = np.setdiff1d(await self.engine.keys(), keys)
        if len(gone):
            await self.apply(deletion_batch(gone, self.engine.dimension), {})

    async def keep(self, owned: Collection[int]) -> None:
        """Own the lists of these partitions only. The turn must be held."""
        await self.engine.own(sorted(owned))
        self.owned = frozenset(owned)
        self._withdrawn = True
        self._wake.set()

    def note_version(self, version: int) -> None:
        """Record that the engine knows all stored lists up to this version."""
        self.last_version = max(self.last_version, version)

    def restart(self, replaced: Iterable[int]) -> None:
        """Start again at the beginning of these partitions' logs."""
        self._overtaken = OvertakenEvents()
        self.applied.update(dict.fromkeys(replaced, 0))

    async def run_flushing(self) -> None:
        """Flush at once when something has changed, then rest for a share of the flush's duration.

        While many events wait, a flush is delayed for up to `BEHIND_SECONDS`.
        """
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), timeout=IDLE_FLUSH_SECONDS)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._caught_up(), timeout=BEHIND_SECONDS)
            self._wake.clear()
            if self._closing:
                return
            start = time.monotonic()
            await self.flush()
            # Afterwards: readers do not wait for it.
            await self._observe_engine()
            await asyncio.sleep(FLUSH_REST * (time.monotonic() - start))

    async def _caught_up(self) -> None:
        """Wait until at most `BEHIND_EVENTS` of the log are still to be applied."""
        while self._behind() > BEHIND_EVENTS:
            self._applied_some.clear()
            await self._applied_some.wait()

    def _behind(self) -> int:
        return sum(max(0, self._log_end(p) - self.applied.get(p, 0)) for p in self._ownership.partitions)

    def flushes(self) -> int | None:
        """Number of flushes so far; None during one."""
        return None if self._flush_turn.locked() else self._flushes

    async def drain(self) -> None:
        """Apply, flush and publish all queued batches; nothing is flushed afterwards."""
        await self._batches.join()
        self._closing = True
        await self.flush()
        await self._feed.publish_due(everything=True)

    async def flush(self) -> None:
        """Write every changed list and its absorbed offsets in one transaction; then queue the lists for the feed."""
        async with self._flush_turn:
            if not self._ownership.partitions:
                return
            # What was written is told, all of it: with too much to tell, the lists wait in the engine, which has them anyway.
            await self._feed.room()
            taken = await self._take()
            changes, tenures = taken.changes, taken.tenures
            held = {p: tenures.get(p) for p in self._ownership.partitions}
            now = held, taken.applied, changes.unknown.tolist()
            if not len(changes) and not len(changes.deleted) and now == self._recorded:
                return
            self._flushes += 1
            if taken.moved:
                # What has been absorbed lets others tell of tracks that were ours: nothing of these may be on its way.
                await self._feed.quiet()
            with (
                self._metrics.phase_seconds.labels("flush").time(),
                tracing.traced_span("flush lists", links=taken.traces, mess_lists=len(changes)),
            ):
                written = await until_done(
                    lambda: self._write_when_held(taken),
                    what="flush lists",
                    system="postgres",
                    metrics=self._metrics,
                )
                trace = tracing.current_span()
            reach(FaultPoint.AFTER_LIST_COMMIT)
            self.note_version(written.version)
            self._recorded = now
            self._note_flush(taken)
            block = _block(changes, written)
            self._feed.add(
                block.rows(self.still_of(block.keys, block.owners)),
                flushed=dict.fromkeys(written.owners, written.version),
                withdrawn=taken.withdrawn,
                trace=trace,
            )

    def still_of(self, keys: npt.NDArray[np.int64], owners: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        """Which tracks, of those that were of these partitions when lists were last taken, are so yet."""
        places = zip(keys.tolist(), owners.tolist(), strict=True)
        still = [at for at, (key, owner) in enumerate(places) if self._moved.get(key, owner) == owner]
        return np.array(still, dtype=np.int64)

    async def _take(self) -> _TakenChanges:
        async with self.turn:
            changes = await self.engine.take_changes()
            withdrawn, self._withdrawn = self._withdrawn, False
            traces, self._traces = self._traces, []
            moved, self._moved = bool(self._moved), {}
            return _TakenChanges(
                changes, dict(self.applied), self._ownership.tenures, withdrawn, traces, moved
            )

    async def _write_when_held(self, taken: _TakenChanges) -> _Written:
        # Without a partition there is no epoch, and nothing would fence this write.
        await self._ownership.held()
        return await self._ownership.under_epochs(lambda epochs: self._write(taken, epochs))

    async def _write(self, taken: _TakenChanges, epochs: dict[int, int]) -> _Written:
        tenures, changes = self._ownership.tenures, taken.changes
        owners = [p for p in epochs if tenures[p] == taken.tenures.get(p)]
        mine = np.isin(changes.owners, owners)
        rows = ListRows(
            keys=changes.keys[mine],
            neighbours=changes.neighbours[mine],
            scores=changes.scores[mine],
            lengths=changes.lengths[mine],
            partitions=changes.events["partition"][mine],
            offsets=changes.events["offset"][mine],
            event_times=changes.events["time"][mine],
            owners=changes.owners[mine],
        )
        deleted = changes.deleted[np.isin(changes.deleted_owners, owners)]
        async with self._ownership.writing, transaction(self._pool) as connection:
            await partitions.hold_partitions(connection, {p: epochs[p] for p in owners})
            version, generated_at = await lists.flush_lists(
                connection, rows, deleted, taken.applied, keep=self.keeps_lists
            )
            # Of lists that are not known the store may hold ones that have absorbed less.
            known = [p for p in owners if p not in changes.unknown]
            await partitions.record_absorbed(connection, known, taken.applied)
            reach(FaultPoint.BEFORE_LIST_COMMIT)
        return _Written(version, generated_at, owners)

    def _note_flush(self, taken: _TakenChanges) -> None:
        self._metrics.lists_written.inc(len(taken.changes))
        for partition, offset in taken.applied.items():
            self._metrics.absorbed.labels(partition).set(offset)
        ages = (times.now_microseconds() - np.unique(taken.changes.events["time"])) / 1e6
        for age in ages[(ages >= 0) & (ages < FRESHNESS_LIMIT)].tolist():
            self._metrics.freshness.observe(age)

    async def _observe_engine(self) -> None:
        stats = await self.engine.stats()
        self._metrics.tracks.set(stats.tracks)
        self._metrics.waiting_refills.set(stats.waiting_refills)
        self._metrics.unverified.set(stats.unverified)
        self._metrics.engine_bytes.set(stats.memory_bytes)
        self._metrics.engine_compiled.set(stats.compiled)
        self._metrics.engine_compile_failed.set(bool(stats.compile_failure))
        failures = {
            "the engine's inner loops could not be compiled: it goes on without them, slower, and large catalogues "
            "are compared with every newcomer as a whole": stats.compile_failure,
            "pynndescent did not find the first lists: the engine makes them itself": stats.descent_failure,
        }
        for event, reason in failures.items():
            if reason and reason != self._failures.get(event):
                log.error(event, reason=reason)
        self._failures = failures
        for phase, seconds in stats.seconds.items():
            self._metrics.engine_seconds.labels(phase).set(seconds)


def _block(changes: ListChanges, written: _Written) -> ChangedBlock:
    mine = np.isin(changes.owners, written.owners)
    count = int(mine.sum())
    return ChangedBlock(
        keys=changes.keys[mine],
        neighbours=changes.neighbours[mine],
        scores=changes.scores[mine],
        lengths=changes.lengths[mine],
        partitions=changes.events["partition"][mine],
        offsets=changes.events["offset"][mine],
        owners=changes.owners[mine],
        versions=np.full(count, written.version),
        generated_at=np.full(count, written.generated_at),
    )
