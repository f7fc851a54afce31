"""The ingest agent's work: a micro-batch of raw messages becomes tracks in the store, and engine batches."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TypeVar

import asyncpg
import structlog
from opentelemetry.trace import SpanContext

from store import catalogue_tracks, layouts, lives, partitions, tracks
from store.columns import METADATA_FIELDS
from store.layouts import StoredLayout
from store.lives import Suspect
from store.pool import transaction
from store.tracks import StoredEvents, Withdrawal
from streams.contracts import InvalidEvent, Reason, TrackDelete, TrackUpsert, times, tracing
from streams.errors import SkippedMessagesError
from streams.faults import FaultPoint, reach
from streams.kafka.dead_letters import DeadLetterSender
from streams.kafka.poison import isolating_failures, refusal_of
from streams.kafka.received import ReceivedMessage, RefusedMessage
from streams.kafka.retry import until_done
from streams.maintenance.catalogue_tracks import CatalogueTracks
from streams.maintenance.decoding import (
    AcceptedEvent,
    DecodedBatch,
    decode_messages,
    track_rows,
    withdrawal_rows,
)
from streams.maintenance.misplaced import IngestTopic, MisplacedEvents
from streams.maintenance.ownership import Ownership
from streams.maintenance.refusals import of_another_model
from streams.metrics import WorkerMetrics
from streams.strategies.aspects import Expected, Layout

# Synchronised clocks differ by less.
_FUTURE_MICROSECONDS = 60_000_000
# So many offsets from a worker's death on are processed one by one: the size of a batch.
_ALONE_OFFSETS = 1_024
# A message that was processed alone while so many workers died is refused without another attempt. Fewer would do for one
# that kills; but workers are also killed by others, again and again, and a good message must not pay for that.
_TRIALS = 6

# A batch of fewer bytes is read on the event loop, in a fraction of a millisecond: a thread begins later than that.
_SMALL_BYTES = 16 * 1024

Result = TypeVar("Result")

log = structlog.get_logger(__name__)


async def _off_the_loop(messages: Iterable[ReceivedMessage], work: Callable[[], Result]) -> Result:
    """The result of work on messages, in a thread unless they are small."""
    if sum(len(message.value or b"") for message in messages) <= _SMALL_BYTES:
        return work()
    return await asyncio.to_thread(work)


@dataclass(frozen=True, slots=True, eq=False)
class CommittedBatch:
    """A committed micro-batch that the lists have not absorbed yet.

    Attributes:
        accepted: The latest event of each track.
        next_offsets: By partition, the offset below which everything is committed with it.
        dimension: The catalogue's; None while it is empty.
        trace: The span of its commit; None while tracing is off.
        moved: Keys of the tracks whose previous event is in another partition.
    """

    accepted: list[AcceptedEvent]
    next_offsets: dict[int, int]
    dimension: int | None
    trace: SpanContext | None = None
    moved: Set[int] = frozenset()


@dataclass(frozen=True, slots=True)
class IngestSource:
    """Where messages are from.

    Attributes:
        topic: Their topic.
        catalogue: Says what they are vectors of; None: they say it themselves.
    """

    topic: IngestTopic
    catalogue: CatalogueTracks | None = None


class Ingest:
    """Applies micro-batches: decode, dead letters, one transaction, hand on. Safe to call again with the same events.

    Args:
        pool: The store.
        ownership: The partitions that this worker may consume.
        dead_letters: Takes refused events.
        hand_on: Takes committed batches, and waits while too many are pending.
        metrics: Counts events.
        layout: What the catalogue's vectors are made up of.
        owner: This life of the worker, as the store knows it.
        source: Where the messages are from; None: `track-ingest`.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        ownership: Ownership,
        dead_letters: DeadLetterSender,
        hand_on: Callable[[CommittedBatch], Awaitable[None]],
        metrics: WorkerMetrics,
        layout: Expected,
        owner: str = "",
        source: IngestSource | None = None,
    ) -> None:
        self._pool = pool
        self._ownership = ownership
        self._dead_letters = dead_letters
        self._hand_on = hand_on
        self._metrics = metrics
        self._layout = layout
        self._owner = owner
        self._suspects: dict[int, Suspect] = {}
        source = source or IngestSource(IngestTopic())
        self._misplaced = MisplacedEvents(metrics, source.topic)
        self._topic = source.topic.name
        self._catalogue = source.catalogue

    def suspect(self, found: Mapping[int, Suspect]) -> None:
        """Process messages one by one where workers have died more than once."""
        self._suspects = {p: at for p, at in found.items() if at.died > 1 or at.tried}
        for partition, at in self._suspects.items():
            log.warning(
                "workers have died here: messages are taken one by one",
                topic=self._topic,
                partition=partition,
                offset=at.offset,
                deaths=at.died,
            )

    async def process(self, messages: Sequence[ReceivedMessage]) -> None:
        """Apply a micro-batch. When this returns, its events may be acknowledged.

        Raises:
            FencedError: A partition is another worker's now.
            SkippedMessagesError: Messages are missing before these: the process must end, and begin where the store is.
        """
        fresh = [m for m in messages if m.partition in self._ownership]
        fresh = [m for m in fresh if m.offset >= self._ownership.consumed(m.partition)]
        self._require_all(fresh)
        self._metrics.events.labels("replayed").inc(len(messages) - len(fresh))
        if not fresh:
            return
        self._metrics.batch_events.observe(len(fresh))
        links = tracing.origin_spans(m.headers for m in fresh)
        with tracing.traced_span("ingest batch", "consumer", links=links, mess_batch_events=len(fresh)):
            if not any(self._is_suspect(message) for message in fresh):
                await self._process(fresh)
                return
            for message in fresh:
                await self._process_alone(message)

    def _require_all(self, fresh: Sequence[ReceivedMessage]) -> None:
        """Raise unless these follow upon what has been consumed.

        Raises:
            SkippedMessagesError: Some of a partition's messages are missing.
        """
        consumed: dict[int, int] = {}
        for message in fresh:
            upto = consumed.get(message.partition, self._ownership.consumed(message.partition))
            if message.follows is not None and message.follows > upto:
                raise SkippedMessagesError(
                    f"partition {message.partition}: messages from {upto} to {message.follows} were dropped on their way here"
                )
            consumed[message.partition] = message.offset + 1

    def _is_suspect(self, message: ReceivedMessage) -> bool:
        at = self._suspects.get(message.partition)
        return at is not None and message.offset < at.offset + _ALONE_OFFSETS

    async def _process_alone(self, message: ReceivedMessage) -> None:
        at = self._suspects.get(message.partition)
        if at is not None and at.offset == message.offset and at.tried >= _TRIALS:
            why = f"WorkerDied: {at.tried} workers died while they worked on nothing but this message"
            refused = [RefusedMessage(message, InvalidEvent(Reason.UNPROCESSABLE, why))]
            await self._dead_letters.send(self._topic, refused)
            await self.pass_over({message.partition: message.offset + 1})
            self._count(DecodedBatch(refused=refused))
            return
        await until_done(
            lambda: lives.record_trial(self._pool, self._owner, message.partition, message.offset),
            what="note a trial",
            system="postgres",
            metrics=self._metrics,
        )
        await self._process([message])

    async def pass_over(self, upto: dict[int, int]) -> None:
        """Advance offsets over a part of the log that has no messages.

        Raises:
            FencedError: As from `process`.
        """
        ours = {p: offset for p, offset in upto.items() if p in self._ownership}
        if ours:
            await self._store([], ours)
            await self._applied([], ours, frozenset())

    async def _process(self, fresh: Sequence[ReceivedMessage]) -> None:
        with self._metrics.phase_seconds.labels("decode").time(), tracing.traced_span("decode"):
            decoded = await self._decode(fresh)
            await _off_the_loop(fresh, lambda: self._misplaced.look(fresh))
        # Before the offsets are committed: a crash in between repeats a dead letter but never loses one.
        await self._dead_letters.send(self._topic, decoded.refused)
        next_offsets: dict[int, int] = {}
        for message in fresh:
            next_offsets[message.partition] = max(next_offsets.get(message.partition, 0), message.offset + 1)
        with self._metrics.phase_seconds.labels("commit").time(), tracing.traced_span("commit tracks"):
            decoded = await self._commit(fresh, decoded, next_offsets)
        self._count(decoded)

    async def _decode(self, messages: Sequence[ReceivedMessage]) -> DecodedBatch:
        if self._catalogue is None:
            return await self._decode_alone(messages)
        decoded = await self._decode_alone(await self._catalogue.counting(messages))
        return await self._catalogue.complete(decoded)

    async def _decode_alone(self, messages: Sequence[ReceivedMessage]) -> DecodedBatch:
        decoded = await _off_the_loop(messages, lambda: self._decode_now(messages))
        if not isinstance(self._layout, Layout) and isinstance(found := decoded.layout, Layout):

            async def fix() -> StoredLayout:
                async with transaction(self._pool) as connection:
                    return await layouts.fix_layout(
                        connection, StoredLayout(found.dimension, found.rows, found.model)
                    )

            fixed = await until_done(fix, what="fix the layout", system="postgres", metrics=self._metrics)
            self._layout = Layout.of_rows(*fixed)
            log.info(
                "the first track fixes the catalogue's dimension, aspects and model",
                dimension=self._layout.dimension,
                aspects=list(self._layout.names),
                model=self._layout.model,
            )
            if self._layout != found:
                return await asyncio.to_thread(self._decode_now, messages)
        return decoded

    def _decode_now(self, messages: Sequence[ReceivedMessage]) -> DecodedBatch:
        decoded = decode_messages(messages, self._layout)
        decoded.refused = [
            RefusedMessage(r.received, of_another_model(r.error, self._topic)) for r in decoded.refused
        ]
        return decoded

    async def _commit(
        self, messages: Sequence[ReceivedMessage], decoded: DecodedBatch, next_offsets: dict[int, int]
    ) -> DecodedBatch:
        """Store what was decoded of `messages`; returns what came of it, without events that cannot be stored."""
        try:
            stored = await self._store(decoded.accepted, next_offsets)
        except Exception as error:  # noqa: BLE001 -- raised again unless it is an event's
            refusal_of(error)
            decoded = await self._without_culprits(messages, decoded)
            # Offsets advance last: after a crash before this, the repetition changes nothing.
            stored = await self._store(decoded.accepted, next_offsets)
        decoded.deleted |= stored.deleted
        counting = [accepted for accepted in decoded.accepted if accepted.key in stored.keys]
        decoded.superseded += len(decoded.accepted) - len(counting)
        decoded.accepted = counting
        if self._catalogue is not None and stored.refreshed:
            counting = await self._catalogue.complete_again(counting, stored.refreshed)
        await self._applied(counting, next_offsets, stored.moved)
        return decoded

    async def _without_culprits(
        self, messages: Sequence[ReceivedMessage], decoded: DecodedBatch
    ) -> DecodedBatch:
        while refused := await self._isolate(decoded):
            await self._dead_letters.send(self._topic, refused)
            refused += decoded.refused
            left = {(letter.received.partition, letter.received.offset) for letter in refused}
            # Read anew: what a culprit had superseded counts now.
            rest = await self._decode(
                [each for each in messages if (each.partition, each.offset) not in left]
            )
            rest.refused, rest.deleted = rest.refused + refused, decoded.deleted
            decoded = rest
        return decoded

    async def _isolate(self, decoded: DecodedBatch) -> list[RefusedMessage]:
        """Store the events that can be stored, without advancing offsets; returns the others."""
        refused: list[RefusedMessage] = []

        async def store(part: Sequence[AcceptedEvent]) -> None:
            decoded.deleted |= (await self._store(part, {})).deleted

        async def refuse(culprit: AcceptedEvent, error: InvalidEvent) -> None:
            refused.append(RefusedMessage(culprit.received, error))

        await isolating_failures(decoded.accepted, store, refuse)
        return refused

    async def _store(self, accepted: Sequence[AcceptedEvent], next_offsets: dict[int, int]) -> StoredEvents:
        """Write events and offsets in one transaction; returns what became of the events."""
        rows, gone = await _off_the_loop(
            (event.received for event in accepted), lambda: (track_rows(accepted), withdrawal_rows(accepted))
        )
        touched = {a.received.partition for a in accepted} | set(next_offsets)

        async def write(epochs: dict[int, int]) -> StoredEvents:
            async with transaction(self._pool) as connection:
                await partitions.hold_partitions(connection, {p: epochs.get(p, 0) for p in touched})
                stored = await tracks.store_events(connection, rows, gone)
                if self._catalogue is not None:
                    # What the catalogue has changed since it was asked.
                    stored.refreshed.update(
                        await catalogue_tracks.refresh_batch(connection, [row.key for row in rows])
                    )
                await partitions.advance_consumed(connection, epochs, next_offsets)
                reach(FaultPoint.BEFORE_TRACK_COMMIT)
                return stored

        async def commit() -> StoredEvents:
            return await self._ownership.under_epochs(write)

        return await until_done(commit, what="commit a batch", system="postgres", metrics=self._metrics)

    async def _applied(
        self, accepted: list[AcceptedEvent], next_offsets: dict[int, int], moved: Set[int]
    ) -> None:
        """Hand on what the store has, for the lists."""
        reach(FaultPoint.AFTER_TRACK_COMMIT)
        self._ownership.advance(next_offsets)
        for partition, offset in next_offsets.items():
            self._metrics.consumed.labels(partition).set(offset)
        dimension = self._layout.dimension if isinstance(self._layout, Layout) else None
        await self._hand_on(CommittedBatch(accepted, next_offsets, dimension, tracing.current_span(), moved))

    def _count_deletes(self, gone: Sequence[Withdrawal], deleted: Set[str]) -> None:
        self._metrics.events.labels("deleted").inc(len(deleted))
        unknown = [w for w in gone if w.track_id not in deleted]
        self._metrics.events.labels("unknown_delete").inc(len(unknown))
        # Kafka Connect's JSON converter writes keys so, and the track stays.
        quoted = [w for w in unknown if w.track_id.startswith('"') and w.track_id.endswith('"')]
        if quoted:
            log.warning(
                "deletes name no track: their keys are written as JSON strings",
                events=len(quoted),
                track_id=quoted[0].track_id,
                partition=quoted[0].partition,
                offset=quoted[0].offset,
                hint="keys are the bare track_id; with Kafka Connect: "
                "key.converter=org.apache.kafka.connect.storage.StringConverter",
            )

    def _count(self, decoded: DecodedBatch) -> None:
        upserts = sum(not isinstance(a.event, TrackDelete) for a in decoded.accepted)
        self._metrics.events.labels("upserted").inc(upserts)
        self._count_deletes(withdrawal_rows(decoded.accepted), decoded.deleted)
        self._metrics.events.labels("superseded").inc(decoded.superseded)
        self._metrics.events.labels("refused").inc(len(decoded.refused))
        for accepted in decoded.accepted:
            if isinstance(accepted.event, TrackUpsert):
                for name in accepted.event.metadata.unread:
                    self._metrics.unread_cells.labels(name if name in METADATA_FIELDS else "extra").inc()
        self._note_future(decoded.accepted)

    def _note_future(self, accepted: Sequence[AcceptedEvent]) -> None:
        """Count and log events in the future: a producer's clock is wrong, or this machine's."""
        now = times.now_microseconds()
        if ahead := [a for a in accepted if a.time > now + _FUTURE_MICROSECONDS]:
            self._metrics.future_events.inc(len(ahead))
            first = ahead[0].received
            log.warning(
                "events are ahead of this machine's clock",
                events=len(ahead),
                partition=first.partition,
                offset=first.offset,
                seconds=(max(a.time for a in ahead) - now) // 1_000_000,
            )
