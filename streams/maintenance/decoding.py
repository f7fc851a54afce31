"""Decodes raw Kafka messages to a micro-batch of accepted and refused events, the latest event of each track."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from store.columns import METADATA_FIELDS
from store.rows import metadata_row
from store.tracks import TrackRow, Withdrawal
from streams.contracts import (
    TrackDelete,
    TrackMetadata,
    TrackUpsert,
    parse_track_event,
    times,
    track_key,
)
from streams.engine.types import EVENT, TrackBatch
from streams.kafka.poison import refusal_of
from streams.kafka.received import ReceivedMessage, RefusedMessage
from streams.strategies.aspects import Expected


@dataclass(frozen=True, slots=True, eq=False)
class AcceptedEvent:
    """A validated event with its message.

    Attributes:
        received: The message.
        event: The event.
        key: The track's key.
        time: The time of the event, else of the message, else now, in microseconds since 1970.
    """

    received: ReceivedMessage
    event: TrackUpsert | TrackDelete
    key: int
    time: int


@dataclass(slots=True)
class DecodedBatch:
    """A validated micro-batch.

    Attributes:
        accepted: The latest event of each track.
        superseded: How many events have a later one of the same track.
        refused: Refused messages.
        layout: What the catalogue's vectors are made up of, perhaps fixed by this batch.
        deleted: The tracks that its deletions have taken out of the store.
    """

    accepted: list[AcceptedEvent] = field(default_factory=list)
    superseded: int = 0
    refused: list[RefusedMessage] = field(default_factory=list)
    layout: Expected = None
    deleted: set[str] = field(default_factory=set)


def decode_messages(messages: Iterable[ReceivedMessage], layout: Expected) -> DecodedBatch:
    """Read messages of track-ingest. Takes CPU time: not for the event loop.

    Args:
        messages: Those of a partition in order.
        layout: What the catalogue's vectors are made up of; the first accepted track may fix it.
    """
    decoded = DecodedBatch(layout=layout)
    last: dict[str, AcceptedEvent] = {}
    for received in messages:
        try:
            event = parse_track_event(received.key, received.value, layout=decoded.layout)
            accepted = AcceptedEvent(received, event, track_key(event.track_id), _time_of(received, event))
        except Exception as error:  # noqa: BLE001 -- whatever one message does, the others are not its fault
            decoded.refused.append(RefusedMessage(received, refusal_of(error)))
            continue
        if isinstance(event, TrackUpsert):
            decoded.layout = event.layout
        known = last.get(event.track_id)
        decoded.superseded += known is not None
        if known is None or received.place.is_after(known.received.place):
            # Removed first, so that the batch is in the order of the last events.
            last.pop(event.track_id, None)
            last[event.track_id] = accepted
    decoded.accepted = list(last.values())
    return decoded


def _time_of(received: ReceivedMessage, event: TrackUpsert | TrackDelete) -> int:
    said = event.event_time if isinstance(event, TrackUpsert) else None
    if said is not None:
        return times.microseconds_of(said)
    stamped = times.kafka_microseconds(received.timestamp)
    return times.now_microseconds() if stamped is None else stamped


def track_rows(accepted: Iterable[AcceptedEvent]) -> list[TrackRow]:
    """The rows to insert or update."""
    return [
        TrackRow(
            track_id=a.event.track_id,
            key=a.key,
            metadata=_metadata_values(a.event.metadata),
            embedding=np.ascontiguousarray(a.event.vector, dtype="<f4").tobytes(),
            partition=a.received.partition,
            offset=a.received.offset,
            event_time=times.moment_of(a.time),
            appended=a.received.place.appended,
        )
        for a in accepted
        if isinstance(a.event, TrackUpsert)
    ]


def _metadata_values(metadata: TrackMetadata) -> tuple[object, ...]:
    values = tuple(getattr(metadata, name) for name in METADATA_FIELDS)
    return tuple(list(value) if isinstance(value, tuple) else value for value in values)


def withdrawal_rows(accepted: Iterable[AcceptedEvent]) -> list[Withdrawal]:
    """The rows to delete."""
    return [
        Withdrawal(a.event.track_id, a.key, *a.received.place)
        for a in accepted
        if isinstance(a.event, TrackDelete)
    ]


def engine_batch(
    accepted: Sequence[AcceptedEvent], dimension: int, moved: Collection[int] = ()
) -> TrackBatch:
    """The batch for the engine and the search process; `moved` as in `CommittedBatch`."""
    upserts = [a for a in accepted if isinstance(a.event, TrackUpsert)]
    deletes = [a for a in accepted if isinstance(a.event, TrackDelete)]
    vectors = [a.event.vector for a in upserts if isinstance(a.event, TrackUpsert)]
    return TrackBatch(
        keys=np.array([a.key for a in upserts], dtype=np.int64),
        track_ids=[a.event.track_id for a in upserts],
        vectors=np.array(vectors, dtype=np.float32).reshape(-1, dimension),
        events=_events(upserts),
        deleted=np.array([a.key for a in deletes], dtype=np.int64),
        deleted_events=_events(deletes),
        metadata=[
            metadata_row(getattr(a.event.metadata, name) for name in METADATA_FIELDS)
            for a in upserts
            if isinstance(a.event, TrackUpsert)
        ],
        moved=np.array(sorted(moved), dtype=np.int64),
    )


def _events(accepted: Sequence[AcceptedEvent]) -> np.ndarray:
    return np.array([(a.received.partition, a.received.offset, a.time) for a in accepted], dtype=EVENT)
