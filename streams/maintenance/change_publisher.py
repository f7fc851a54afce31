"""The change feed: the latest list of a track, at most once in each window.

A list that changes ten times in a second is published once or twice, since compaction would drop the rest. `added` and
`removed` compare a list with the one published before, by whichever worker (`FeedLedger`). A version names one list: it is
published as it is stored, or not at all.
"""

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import structlog
from opentelemetry.trace import SpanContext

from store.told import ToldList
from streams.contracts import encode_list_change, encode_scores, times, tracing, track_key
from streams.faults import FaultPoint, reach
from streams.generations import TRACK_INGEST
from streams.kafka.feed_log import Message
from streams.kafka.poison import refusal_of
from streams.kafka.retry import until_done
from streams.maintenance.feed_ledger import FeedLedger, Settlement
from streams.maintenance.names import TrackNames
from streams.maintenance.ownership import Ownership
from streams.maintenance.pending_changes import ROOM, ChangedBlock, PendingChanges
from streams.metrics import WorkerMetrics

log = structlog.get_logger(__name__)

# Maximum number of lists published in a round.
ROUND = 1_024
# While lists keep changing, the publisher rests after a round for so many times its duration. That bounds its share of the
# time; a track may then be published less often than once in a window.
REST = 3.0
# Lists count as changing while the last change is no older than this.
BUSY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class _EncodedChanges:
    """Encoded messages for some lists.

    Attributes:
        messages: Keys and values.
        lists: The list of each message, not delivered yet.
        unnamed: Rows of lists that name a withdrawn track: these are about to be written again.
    """

    messages: list[Message] = field(default_factory=list)
    lists: list[tuple[int, int, Sequence[str]]] = field(default_factory=list)
    unnamed: list[int] = field(default_factory=list)


class ChangePublisher:
    """Holds changed lists until their window opens, and publishes them.

    Args:
        ledger: Publishes, and records what has been published.
        ownership: The owned partitions, whose published versions advance.
        names: Track ids by key.
        window: Seconds in which a track is published at most once.
        metrics: Counts messages.
        topic: The topic of the events that changed the lists.
    """

    def __init__(
        self,
        ledger: FeedLedger,
        ownership: Ownership,
        names: TrackNames,
        window: float,
        metrics: WorkerMetrics,
        topic: str = TRACK_INGEST,
    ) -> None:
        self._topic = topic
        self._ledger = ledger
        self._ownership = ownership
        self._names = names
        self._window = window
        self._metrics = metrics
        self._waiting = PendingChanges()
        # By partition, the epoch for which the ledger has all earlier publications.
        self._known: dict[int, int] = {}
        # The newest version received, by owner.
        self._flushed: dict[int, int] = {}
        self._added_at = 0.0
        self._told_at: dict[int, float] = {}
        self._tombstones = False
        # Tracks that have changed owners since the publication under way began, and their owners now.
        self._let_go: dict[int, int | None] = {}
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
        """Queue changed lists; `flushed` has the newest version of each partition, up to which none is missing."""
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
        """Wait while the queue of changed lists is full (backpressure)."""
        await self._fits.wait()

    def _observe(self) -> None:
        self._metrics.feed_pending.set(self.pending)
        self._metrics.feed_bytes.set(self._waiting.memory_bytes)
        if self.pending < ROOM:
            self._fits.set()
        else:
            self._fits.clear()

    def keep_only(self, owners: Collection[int]) -> None:
        """Drop queued lists of all other partitions."""
        self._waiting.keep_only(owners)
        self._flushed = {owner: version for owner, version in self._flushed.items() if owner in owners}
        self._observe()

    def let_go(self, moved: Mapping[int, int | None]) -> None:
        """Drop pending lists of tracks that are now in another partition, given by key; None: they are withdrawn."""
        self._waiting.let_go(moved)
        self._let_go |= moved
        self._observe()

    async def quiet(self) -> None:
        """Wait until no message of a partition that is not ours is in flight."""
        async with self._turn:
            return

    @property
    def pending(self) -> int:
        """Number of lists to publish."""
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
            if told < ROUND and (self.pending or self._tombstones):  # what is left waits for its window
                rest = max(rest, min(0.1, self._window / 4))
            await asyncio.sleep(rest)

    async def publish_due(self, *, everything: bool = False) -> int:
        """Publish a round of due lists, or all, and record it in the store; returns how many were due."""
        async with self._turn:
            self._let_go.clear()
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
            for start in range(0, max(len(due), 1), ROUND):
                block = self._take(due[start : start + ROUND])
                if block is not None:
                    self._told_at.update(dict.fromkeys(block.keys.tolist(), now))
                await self._publish(block)
        self._observe()
        return len(due)

    def _take(self, due: Iterable[tuple[int, int]]) -> ChangedBlock | None:
        """Remove and return the queued lists of these keys."""
        return self._waiting.take((owner, key) for owner, key in due if owner in self._ownership)

    async def _publish(self, block: ChangedBlock | None) -> None:
        """Publish some lists and the outbox's tombstones, and record it."""

        async def attempt() -> None:
            nonlocal block
            await self._know()
            block = self._still_ours(block)
            await self._tell(block)

        await until_done(attempt, what="publish changes", system="kafka", metrics=self._metrics)

    async def _know(self) -> None:
        """Bring the ledger up to date for our partitions, with publications of other workers, too."""

        async def catch_up(epochs: dict[int, int]) -> None:
            fresh = {p: epoch for p, epoch in epochs.items() if self._known.get(p) != epoch}
            if fresh:
                await self._ledger.catch_up(fresh)
            self._known = epochs

        await self._ownership.under_epochs(catch_up)

    def _still_ours(self, block: ChangedBlock | None) -> ChangedBlock | None:
        """The lists that are ours; others stay queued, in case their partition comes back."""
        if block is None:
            return None
        ours = np.isin(block.owners, self._ownership.partitions)
        self._put_back(block.rows(np.flatnonzero(~ours)))
        return block.rows(np.flatnonzero(ours))

    def _put_back(self, block: ChangedBlock) -> None:
        """Have lists wait again, but for those that are somebody else's by now."""
        places = zip(block.keys.tolist(), block.owners.tolist(), strict=True)
        ours = [at for at, (key, owner) in enumerate(places) if self._let_go.get(key, owner) == owner]
        self._waiting.put_back(block.rows(np.array(ours, dtype=np.int64)))

    async def _tell(self, block: ChangedBlock | None) -> None:
        owed = await self._owed()
        encoded = _EncodedChanges()
        if block is not None and len(block):
            block = await self._tellable(block)
        if block is not None and len(block):
            before = await self._ledger.told(block.keys)
            encoded = await asyncio.to_thread(self._encode_all, block, before)
            self._put_back(block.rows(np.array(encoded.unnamed, dtype=np.int64)))
        # A track that the engine still holds may be published once more, which must not happen after its tombstone:
        # the tombstone waits for the next flush.
        owed = [(at, track_id) for at, track_id in owed if self._names.of(track_key(track_id)) is None]
        messages = [*encoded.messages, *((track_id.encode(), None) for _, track_id in owed)]
        known, self._known = self._known, {}  # until it is recorded, nobody knows whether it was delivered
        reach(FaultPoint.BEFORE_PUBLISH)
        places = await self._ledger.deliver(messages)
        reach(FaultPoint.AFTER_PUBLISH)
        settled = Settlement(withdrawals=[at for at, _ in owed])
        gone = [(track_key(track_id), 0, None) for _, track_id in owed]
        for (partition, offset), (key, version, names) in zip(places, [*encoded.lists, *gone], strict=True):
            settled.told.append(ToldList(key, partition, offset, version, names))
        await self._settle(settled, known)
        self._known = known
        self._metrics.changes_published.labels("list").inc(len(encoded.messages))
        self._metrics.changes_published.labels("tombstone").inc(len(owed))

    async def _tellable(self, block: ChangedBlock) -> ChangedBlock:
        """The lists of which no other owner may still tell something; the others wait."""
        held = await self._ledger.held(block.keys.tolist(), block.owners.tolist())
        if not held:
            return block
        waits = np.isin(block.keys, list(held))
        self._put_back(block.rows(np.flatnonzero(waits)))
        return block.rows(np.flatnonzero(~waits))

    async def _owed(self) -> list[tuple[int, str]]:
        """Number and track id of the tombstones that may be delivered now."""
        mine = self._ownership.partitions
        if not mine:  # the next owner does it, or we when we hold something again
            self._tombstones = True
            return []
        owed = await self._ledger.owed(mine)
        if not owed:
            return []
        held = await self._ledger.held(
            [track_key(track_id) for _, track_id, _ in owed], [owner for *_, owner in owed]
        )
        free = [(at, track_id) for at, track_id, _ in owed if track_key(track_id) not in held]
        self._tombstones |= len(free) < len(owed)
        return free

    async def _settle(self, settled: Settlement, known: Mapping[int, int]) -> None:
        """Record publications, and the versions up to which everything has been published."""

        async def settle(epochs: dict[int, int]) -> None:
            settled.published = self._told(epochs)
            settled.known = [p for p, epoch in epochs.items() if known.get(p) == epoch]
            await self._ledger.settle(epochs, settled)

        await self._ownership.under_epochs(settle)

    def _encode_all(self, block: ChangedBlock, before: Mapping[int, ToldList]) -> _EncodedChanges:
        # Whole columns at a time: a hundred numbers a list are turned into Python's own.
        rows = zip(
            block.keys.tolist(),
            block.neighbours.tolist(),
            encode_scores(block.scores),
            block.lengths.tolist(),
            block.partitions.tolist(),
            block.offsets.tolist(),
            block.versions.tolist(),
            block.generated_at.tolist(),
            strict=True,
        )
        encoded = _EncodedChanges()
        for at, row in enumerate(rows):
            key, neighbours, _, length, partition, offset, *_ = row
            names = self._names.of_all(neighbours[:length])
            track_id = self._names.of(key)
            if track_id is None:  # withdrawn since: its tombstone says so
                continue
            listed = [name for name in names if name is not None]
            if len(listed) < len(names):
                encoded.unnamed.append(at)
                continue
            try:
                message = self._encode(track_id, listed, before.get(key), *row[2:])
            except Exception as error:
                refusal_of(error)  # raises what is not the list's own
                log.exception("a list cannot be told of", key=key, partition=partition, offset=offset)
                self._metrics.changes_published.labels("left_out").inc()
                continue
            if message is not None:
                encoded.messages.append(message)
                encoded.lists.append((key, row[-2], listed))
        return encoded

    def _encode(  # noqa: PLR0913, PLR0917 -- the columns of a block
        self,
        track_id: str,
        names: list[str],
        told: ToldList | None,
        scores: list[bytes],
        length: int,
        partition: int,
        offset: int,
        version: int,
        at: int,
    ) -> Message | None:
        """One list's message; None if this list has been published already."""
        before = [] if told is None or told.neighbours is None else told.neighbours
        if told is not None and told.version == version and before == names:
            return None
        now, then = set(names), set(before)
        return encode_list_change(
            track_id,
            version=version,
            neighbours=names,
            scores=scores[:length],
            added=[name for name in names if name not in then],
            removed=[name for name in before if name not in now],
            source=(self._topic, partition, offset),
            generated_at=times.moment_of(at),
        )

    def _told(self, owners: Collection[int]) -> dict[int, int]:
        """By partition, the version up to which every list has been published."""
        oldest = self._waiting.oldest(owners)
        return {owner: oldest.get(owner, self._flushed.get(owner, 0) + 1) - 1 for owner in owners}
