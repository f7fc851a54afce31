"""Consumes plays, likes and skips: adds each to the popularity of its track, exactly once in effect."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import asyncpg
import numpy as np

from store import interactions, popularity
from store.errors import StoreUnavailableError
from store.interactions import InteractionRow
from store.pool import transaction
from streams.contracts import (
    Interaction,
    InvalidEvent,
    interaction_identity,
    parse_interaction,
    times,
    track_key,
)
from streams.kafka.dead_letters import DeadLetterSender
from streams.kafka.poison import isolating_failures, refusal_of
from streams.kafka.received import ReceivedMessage, RefusedMessage
from streams.kafka.retry import until_done
from streams.kafka.topics import TRACK_INTERACTIONS
from streams.metrics import WorkerMetrics
from streams.recommender.metrics import RecommenderMetrics
from streams.recommender.settings import RecommenderSettings
from streams.strategies.popularity import tally_interactions

_DAY: Final = 86_400.0
_FORGET_SECONDS: Final = 600.0
# What decades ago was listened to counts nothing; a number this small would be too small for Postgres some time later.
_NOTHING: Final = 1e-100


@dataclass(frozen=True, slots=True)
class _CountedInteraction:
    """A validated interaction, its offset, and its time in microseconds since 1970."""

    received: ReceivedMessage
    event: Interaction
    identity: bytes | None
    time: int


@dataclass(slots=True)
class _ReadInteractions:
    counted: list[_CountedInteraction] = field(default_factory=list)
    refused: list[RefusedMessage] = field(default_factory=list)
    duplicates: int = 0


def _read(messages: Sequence[ReceivedMessage]) -> _ReadInteractions:
    """Validate messages; of several deliveries of one event, the first counts."""
    read = _ReadInteractions()
    seen: set[bytes] = set()
    for received in messages:
        try:
            event = parse_interaction(received.key, received.value)
            counted = _CountedInteraction(
                received, event, interaction_identity(event), _time_of(received, event)
            )
        except Exception as error:  # noqa: BLE001 -- whatever one message does, the others are not its fault
            read.refused.append(RefusedMessage(received, refusal_of(error)))
            continue
        if counted.identity is not None and counted.identity in seen:
            read.duplicates += 1
            continue
        if counted.identity is not None:
            seen.add(counted.identity)
        read.counted.append(counted)
    return read


def _time_of(received: ReceivedMessage, event: Interaction) -> int:
    """The time of the event, else of the message, else now."""
    if event.event_time is not None:
        return times.microseconds_of(event.event_time)
    stamped = times.kafka_microseconds(received.timestamp)
    return times.now_microseconds() if stamped is None else stamped


class InteractionConsumer:
    """Applies batches of track-interactions. Safe to call again with the same messages, by any worker.

    Args:
        pool: The store.
        dead_letters: Where refused events go.
        settings: Half-life, and how long events are remembered.
        metrics: Where events are counted.
        worker_metrics: Where retries are counted.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        dead_letters: DeadLetterSender,
        settings: RecommenderSettings,
        metrics: RecommenderMetrics,
        worker_metrics: WorkerMetrics,
    ) -> None:
        self._pool = pool
        self._dead_letters = dead_letters
        self._settings = settings
        self._metrics = metrics
        self._worker_metrics = worker_metrics

    async def offsets(self) -> dict[int, int]:
        """The offset at which to read each partition: the store's offsets are authoritative."""
        return await until_done(
            lambda: interactions.interaction_offsets(self._pool),
            what="read the offsets of interactions",
            system="postgres",
            metrics=self._worker_metrics,
        )

    async def restart(self, partitions: Sequence[int]) -> None:
        """Start again at the beginning of a log that has replaced the consumed one."""
        await until_done(
            lambda: interactions.restart_interactions(self._pool, partitions),
            what="restart interactions",
            system="postgres",
            metrics=self._worker_metrics,
        )

    async def process(self, messages: Sequence[ReceivedMessage]) -> None:
        """Apply a batch. When this returns, its messages may be acknowledged."""
        read = await asyncio.to_thread(_read, messages)
        # Before the offsets are committed: a crash in between repeats a dead letter but never loses one.
        await self._dead_letters.send(TRACK_INTERACTIONS, read.refused)
        counted, duplicates, replayed = await self._count(messages, read)
        # Also after a replay: a commit whose answer was lost has not been told of.
        if read.counted:
            await until_done(
                lambda: popularity.bump_popularity(self._pool),
                what="tell of another popularity",
                system="postgres",
                metrics=self._worker_metrics,
            )
        outcomes = {
            "counted": counted,
            "duplicate": duplicates + read.duplicates,
            "replayed": replayed,
            "refused": len(read.refused),
        }
        for outcome, count in outcomes.items():
            self._metrics.interactions.labels(outcome).inc(count)

    async def _count(
        self, messages: Sequence[ReceivedMessage], read: _ReadInteractions
    ) -> tuple[int, int, int]:
        """Commit a batch, in parts where one event does not let the others be counted; see `_commit`."""
        events = {id(c.received): c for c in read.counted}
        totals = np.zeros(3, dtype=np.int64)

        async def commit(part: Sequence[ReceivedMessage]) -> None:
            counted = [events[id(m)] for m in part if id(m) in events]
            outcome = await until_done(
                lambda: self._commit(part, counted),
                what="count interactions",
                system="postgres",
                metrics=self._worker_metrics,
            )
            totals[:] += outcome

        async def refuse(culprit: ReceivedMessage, error: InvalidEvent) -> None:
            if id(culprit) not in events:  # it is the offsets that cannot be moved
                raise error
            letter = RefusedMessage(culprit, error)
            await self._dead_letters.send(TRACK_INTERACTIONS, [letter])
            read.refused.append(letter)
            del events[id(culprit)]
            await commit([culprit])

        # Each part moves the offsets behind it: whatever crashes, nothing is counted twice.
        await isolating_failures(messages, commit, refuse)
        counted, duplicates, replayed = totals.tolist()
        return counted, duplicates, replayed

    async def _commit(
        self, messages: Sequence[ReceivedMessage], counted: Sequence[_CountedInteraction]
    ) -> tuple[int, int, int]:
        """Count what is new, and move the offsets, in one transaction: (counted, duplicates, replayed)."""
        ends: dict[int, int] = {}
        for message in messages:
            ends[message.partition] = max(ends.get(message.partition, 0), message.offset + 1)
        async with transaction(self._pool) as connection:
            held = await interactions.hold_interaction_partitions(connection, list(ends))
            new = [c for c in counted if c.received.offset >= held[c.received.partition]]
            rows = [
                InteractionRow(
                    c.identity,
                    track_key(c.event.track_id),
                    c.event.type.value,
                    times.moment_of(c.time),
                )
                for c in new
                if c.identity is not None
            ]
            known = await interactions.remember_interactions(connection, rows)
            fresh = [c for c in new if c.identity is None or c.identity in known]
            await self._add(connection, fresh)
            await interactions.advance_interactions(
                connection, {p: max(end, held[p]) for p, end in ends.items()}
            )
        return len(fresh), len(new) - len(fresh), len(counted) - len(new)

    async def _add(
        self, connection: asyncpg.pool.PoolConnectionProxy, fresh: Sequence[_CountedInteraction]
    ) -> None:
        if not fresh:
            return
        half_life = self._settings.half_life_days * _DAY
        sums = tally_interactions(
            np.array([track_key(c.event.track_id) for c in fresh], dtype=np.int64),
            [c.event.type.value for c in fresh],
            np.array([c.time for c in fresh], dtype=np.float64) / 1e6,
            time.time(),
            half_life=half_life,
        )
        await interactions.add_popularity(
            connection,
            sums.keys.tolist(),
            *(
                np.where(np.abs(column) < _NOTHING, 0.0, column).tolist()
                for column in (sums.values, sums.counts)
            ),
            reference=sums.reference,
            half_life=half_life,
        )

    async def run_forgetting(self) -> None:
        """For ever, forget events that are too old to be delivered again."""
        age = timedelta(days=self._settings.remembered_interactions_days)
        while True:
            await asyncio.sleep(_FORGET_SECONDS)
            try:
                await interactions.forget_interactions(self._pool, age)
            except StoreUnavailableError:
                continue
