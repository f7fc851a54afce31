"""Plays, likes and skips: from raw messages to the popularity of tracks, each counted once."""

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
from streams.kafka.dead_letters import DeadLetters
from streams.kafka.received import Received, Refused
from streams.kafka.retry import until_done
from streams.kafka.topics import TRACK_INTERACTIONS
from streams.metrics import WorkerMetrics
from streams.recommender.metrics import RecommenderMetrics
from streams.recommender.settings import RecommenderSettings
from streams.strategies.popularity import tally

_DAY: Final = 86_400.0
_FORGET_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class _Counted:
    """An interaction that passed the door, where it stood, and when it happened, in microseconds since 1970."""

    received: Received
    event: Interaction
    identity: bytes | None
    time: int


@dataclass(slots=True)
class _Read:
    counted: list[_Counted] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    duplicates: int = 0


def _read(messages: Sequence[Received]) -> _Read:
    """Take messages through the door; of those that are the same event, the first."""
    read = _Read()
    seen: set[bytes] = set()
    for received in messages:
        try:
            event = parse_interaction(received.key, received.value)
        except InvalidEvent as error:
            read.refused.append(Refused(received, error))
            continue
        identity = interaction_identity(event)
        if identity is not None and identity in seen:
            read.duplicates += 1
            continue
        if identity is not None:
            seen.add(identity)
        read.counted.append(_Counted(received, event, identity, _time_of(received, event)))
    return read


def _time_of(received: Received, event: Interaction) -> int:
    """As the event says, else as the message does, else now."""
    if event.event_time is not None:
        return times.microseconds_of(event.event_time)
    stamped = times.kafka_microseconds(received.timestamp)
    return times.now_microseconds() if stamped is None else stamped


class Interactions:
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
        dead_letters: DeadLetters,
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
        """From where each partition is to be read: the store's offsets are the truth."""
        return await until_done(
            lambda: interactions.offsets(self._pool),
            what="read the offsets of interactions",
            system="postgres",
            metrics=self._worker_metrics,
        )

    async def restart(self, partitions: Sequence[int]) -> None:
        """Another log has taken the place of the one that was consumed."""
        await until_done(
            lambda: interactions.restart(self._pool, partitions),
            what="restart interactions",
            system="postgres",
            metrics=self._worker_metrics,
        )

    async def process(self, messages: Sequence[Received]) -> None:
        """Apply a batch. When this returns, its messages may be acknowledged."""
        read = await asyncio.to_thread(_read, messages)
        # Before the offsets are committed: a crash in between repeats a dead letter but never loses one.
        await self._dead_letters.send(TRACK_INTERACTIONS, read.refused)
        counted, duplicates, replayed = await until_done(
            lambda: self._commit(messages, read),
            what="count interactions",
            system="postgres",
            metrics=self._worker_metrics,
        )
        # Also after a replay: a commit whose answer was lost has not been told of.
        if read.counted:
            await until_done(
                lambda: popularity.bump(self._pool),
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

    async def _commit(self, messages: Sequence[Received], read: _Read) -> tuple[int, int, int]:
        """Count what is new, and move the offsets, in one transaction: (counted, duplicates, replayed)."""
        ends: dict[int, int] = {}
        for message in messages:
            ends[message.partition] = max(ends.get(message.partition, 0), message.offset + 1)
        async with transaction(self._pool) as connection:
            held = await interactions.hold(connection, list(ends))
            new = [c for c in read.counted if c.received.offset >= held[c.received.partition]]
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
            known = await interactions.remember(connection, rows)
            fresh = [c for c in new if c.identity is None or c.identity in known]
            await self._add(connection, fresh)
            await interactions.advance(connection, {p: max(end, held[p]) for p, end in ends.items()})
        return len(fresh), len(new) - len(fresh), len(read.counted) - len(new)

    async def _add(self, connection: asyncpg.pool.PoolConnectionProxy, fresh: Sequence[_Counted]) -> None:
        if not fresh:
            return
        half_life = self._settings.half_life_days * _DAY
        sums = tally(
            np.array([track_key(c.event.track_id) for c in fresh], dtype=np.int64),
            [c.event.type.value for c in fresh],
            np.array([c.time for c in fresh], dtype=np.float64) / 1e6,
            time.time(),
            half_life=half_life,
        )
        await interactions.add(
            connection,
            sums.keys.tolist(),
            sums.values.tolist(),
            sums.counts.tolist(),
            reference=sums.reference,
            half_life=half_life,
        )

    async def run_forgetting(self) -> None:
        """For ever, forget events that are too old to be delivered again."""
        age = timedelta(days=self._settings.remembered_interactions_days)
        while True:
            await asyncio.sleep(_FORGET_SECONDS)
            try:
                await interactions.forget(self._pool, age)
            except StoreUnavailableError:
                continue
