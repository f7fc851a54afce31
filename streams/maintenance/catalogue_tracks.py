"""What a generation beside the first takes from the catalogue: its tracks' metadata, and their deletions.

Its own topic has vectors alone. The catalogue's tracks, which the workers of the first generation write from `track-ingest`,
say what they are vectors of. Nothing of it goes the other way.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

import asyncpg
import structlog
from aiokafka import AIOKafkaProducer

from store import catalogue_tracks, materialised
from store.catalogue_tracks import CatalogueTrackState
from store.pool import transaction
from streams.contracts import InvalidEvent, Reason, TrackMetadata, TrackUpsert, track_key
from streams.generations import TRACK_INGEST
from streams.kafka.clients import group_less_consumer
from streams.kafka.end_offsets import count_lag, read_end_offsets
from streams.kafka.received import ReceivedMessage, RefusedMessage
from streams.kafka.retry import until_done
from streams.maintenance.decoding import AcceptedEvent, DecodedBatch
from streams.maintenance.ownership import Ownership
from streams.metrics import WorkerMetrics
from streams.settings import KafkaSettings

Result = TypeVar("Result")

log = structlog.get_logger(__name__)

# On a tombstone that a worker has written because the catalogue withdrew the track: it counts for vectors of before.
WITHDRAWN_HEADER: Final = "mess.withdrawn"
# Seconds between looks at the catalogue: at what it reads while a track is waited for, and at what it has changed.
_WAIT_SECONDS: Final = 0.05
_FOLLOW_SECONDS: Final = 0.5
# Looks at changed tracks between two comparisons of all: a deletion leaves no row.
_COMPARE_EVERY: Final = 20
_WITHDRAWN_TOGETHER: Final = 1_000
_TELL_SECONDS: Final = 10.0
# After so long a tombstone is written again.
_AGAIN_SECONDS: Final = 60.0


class CatalogueTracks:
    """Completes the events of a generation with what the catalogue says of their tracks.

    Args:
        pool: The store, of the generation.
        kafka: How to reach the brokers.
        metrics: Counts repeated attempts.
    """

    def __init__(self, pool: asyncpg.Pool, kafka: KafkaSettings, metrics: WorkerMetrics) -> None:
        self._pool = pool
        self._kafka = kafka
        self._metrics = metrics

    async def counting(self, messages: Sequence[ReceivedMessage]) -> list[ReceivedMessage]:
        """The messages without the catalogue's tombstones of tracks that are back, with a vector that came since.

        The others have the time of the catalogue's deletion, or one right after the vector that they take away: a vector that
        came between the deletion and its tombstone counts, though it be read later, from another partition.
        """
        told = {key for m in messages if _is_of_catalogue(m) and (key := _key(m)) is not None}
        if not told:
            return list(messages)
        states = await self._states(told)
        if any(not states[key].there for key in told & {_key(m) for m in messages if m.value is not None}):
            # It may be back, and the catalogue has not read that yet.
            await self._until_read()
            states = await self._states(told)
        newest = {key: state.vector for key, state in states.items()}
        counting = []
        for message in messages:
            key = _key(message)
            if key is not None and key in told:
                if message.value is not None:
                    newest[key] = max(newest[key], message.place.appended)
                elif _is_of_catalogue(message):
                    state = states[key]
                    if _is_back(state, newest[key]):
                        continue
                    counting.append(replace(message, timestamp=max(state.withdrawn, state.vector + 1)))
                    continue
            counting.append(message)
        return counting

    async def _states(self, keys: Iterable[int]) -> dict[int, CatalogueTrackState]:
        async def read() -> dict[int, CatalogueTrackState]:
            async with transaction(self._pool) as connection:
                return await catalogue_tracks.read_catalogue_states(connection, sorted(keys))

        return await self._done(read, "read the catalogue's deletions")

    async def complete(self, decoded: DecodedBatch) -> DecodedBatch:
        """The batch with the catalogue's metadata; a vector of no track is refused.

        A track that the catalogue does not have may be one that it has not read yet: it is waited for until the catalogue
        has read what `track-ingest` holds now.
        """
        wanted = {a.event.track_id for a in decoded.accepted if isinstance(a.event, TrackUpsert)}
        known = await self._metadata(wanted)
        if known.keys() != wanted:
            await self._until_read()
            known = await self._metadata(wanted)
        accepted, refused = [], list(decoded.refused)
        for each in decoded.accepted:
            if not isinstance(each.event, TrackUpsert):
                accepted.append(each)
            elif (found := known.get(each.event.track_id)) is None:
                refused.append(RefusedMessage(each.received, _unknown(each.event.track_id)))
            else:
                accepted.append(_completed(each, each.event, found))
        return replace(decoded, accepted=accepted, refused=refused)

    async def complete_again(
        self, accepted: Sequence[AcceptedEvent], keys: Collection[int]
    ) -> list[AcceptedEvent]:
        """The events, those of tracks whose metadata have changed since with the ones of now."""
        known = await self._metadata(
            a.event.track_id for a in accepted if a.key in keys and isinstance(a.event, TrackUpsert)
        )
        return [
            _completed(a, a.event, found)
            if isinstance(a.event, TrackUpsert) and (found := known.get(a.event.track_id)) is not None
            else a
            for a in accepted
        ]

    async def _metadata(self, track_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        names = list(track_ids)
        if not names:
            return {}

        async def read() -> dict[str, dict[str, Any]]:
            async with transaction(self._pool) as connection:
                return await catalogue_tracks.read_catalogue_metadata(connection, names)

        return await self._done(read, "read the catalogue's tracks")

    async def _until_read(self) -> None:
        """Wait until the catalogue has read what `track-ingest` holds now."""
        ends = await self._done(self._ends, "read the ends of track-ingest", system="kafka")
        looks = 0
        while behind := count_lag(ends, await self._done(self._read, "read the catalogue's offsets")):
            if looks % round(_TELL_SECONDS / _WAIT_SECONDS) == 0 and looks:
                log.warning(
                    "waiting for the catalogue's own workers, which are behind track-ingest", messages=behind
                )
            looks += 1
            await asyncio.sleep(_WAIT_SECONDS)

    async def _ends(self) -> dict[int, int]:
        async with group_less_consumer(self._kafka) as consumer:
            return await read_end_offsets(consumer, TRACK_INGEST)

    async def _read(self) -> dict[int, int]:
        async with transaction(self._pool) as connection:
            return await catalogue_tracks.catalogue_offsets(connection)

    async def _done(
        self, attempt: Callable[[], Awaitable[Result]], what: str, system: str = "postgres"
    ) -> Result:
        return await until_done(attempt, what=what, system=system, metrics=self._metrics)


class CatalogueFollower:
    """Gives a generation's tracks the metadata that the catalogue changes, and withdraws what it withdraws.

    Args:
        pool: The store, of the generation.
        producer: Writes tombstones to the generation's topic.
        topic: That topic.
        ownership: A worker withdraws tracks of its own partitions.
        metrics: Counts repeated attempts.

    Attributes:
        seen: By partition of the catalogue's topic, the offset below which the generation's tracks have every change.
        refreshed: Set once they have what the catalogue had at the start.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        producer: AIOKafkaProducer,
        topic: str,
        ownership: Ownership,
        metrics: WorkerMetrics,
    ) -> None:
        self._pool = pool
        self._producer = producer
        self._topic = topic
        self._ownership = ownership
        self._metrics = metrics
        # From the start: nobody knows what was missed.
        self.seen: dict[int, int] = {}
        self.refreshed = asyncio.Event()
        self._owned: tuple[int, ...] = ()
        self._looks = 0
        # Tracks whose tombstone may be on its way, and since when.
        self._withdrawn: dict[str, float] = {}

    async def run(self) -> None:
        """Follow for ever."""
        while True:
            await until_done(self.look, what="follow the catalogue", system="postgres", metrics=self._metrics)
            await asyncio.sleep(_FOLLOW_SECONDS)

    async def look(self) -> None:
        """Take over what has changed since the last look."""
        owned = tuple(sorted(self._ownership.partitions))
        moved = await self._refresh()
        if owned and (moved or owned != self._owned or self._looks % _COMPARE_EVERY == 0):
            await self._withdraw(owned)
        self._owned = owned
        self._looks += 1

    async def _refresh(self) -> bool:
        async with transaction(self._pool) as connection:
            seen = await catalogue_tracks.catalogue_offsets(connection)
            if self.refreshed.is_set() and seen == self.seen:
                return False
            # Alone: a track that is being written would keep what the catalogue said before.
            await materialised.lock_withdrawals(connection)
            since = catalogue_tracks.unseen(self.seen, seen)
            changed = await catalogue_tracks.refresh_changed(connection, since)
            await materialised.mark_bodies_outdated(connection, changed)
        self.seen = seen
        self.refreshed.set()
        return True

    async def _withdraw(self, owned: Sequence[int]) -> None:
        """Write tombstones, which every worker of the generation reads, in the order of its log."""
        async with transaction(self._pool) as connection:
            gone = await catalogue_tracks.withdrawn_from_catalogue(connection, owned, _WITHDRAWN_TOGETHER)
        now = time.monotonic()
        self._withdrawn = {name: at for name, at in self._withdrawn.items() if now - at < _AGAIN_SECONDS}
        gone = [name for name in gone if name not in self._withdrawn]
        if not gone:
            return
        headers = [(WITHDRAWN_HEADER, b"catalogue")]
        sent = [
            await self._producer.send(self._topic, key=name.encode(), value=None, headers=headers)
            for name in gone
        ]
        await asyncio.gather(*sent)
        self._withdrawn |= dict.fromkeys(gone, now)


def _key(message: ReceivedMessage) -> int | None:
    """The track's key; None where the message's is no track id."""
    try:
        return None if message.key is None else track_key(message.key.decode())
    except UnicodeDecodeError:
        return None


def _is_of_catalogue(message: ReceivedMessage) -> bool:
    return message.value is None and any(name == WITHDRAWN_HEADER for name, _ in message.headers)


def _is_back(state: CatalogueTrackState, vector: int) -> bool:
    """Whether the catalogue has a track, and its newest vector is no older than its last deletion."""
    return state.there and state.withdrawn <= vector


def _unknown(track_id: str) -> InvalidEvent:
    said = f"track-ingest has no track {track_id!r}: publish it there, with its metadata, then replay this"
    return InvalidEvent(Reason.UNKNOWN_TRACK, said)


def _completed(accepted: AcceptedEvent, event: TrackUpsert, found: dict[str, Any]) -> AcceptedEvent:
    # What the store has was validated when it came.
    values: Any = {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}
    return replace(accepted, event=replace(event, metadata=TrackMetadata.model_construct(**values)))
