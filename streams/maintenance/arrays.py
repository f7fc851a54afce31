"""Converts rows of the store to the engine's types."""

from collections.abc import Mapping

import numpy as np

from store.rows import ListRows, TrackVectors
from streams.engine.types import EVENT, Events, Keys, StoredLists, TrackBatch, Vectors, no_events

NO_KEYS: Keys = np.empty(0, dtype=np.int64)


def catalogue_batch(found: TrackVectors) -> TrackBatch:
    """A whole catalogue, to load an empty engine with."""
    return TrackBatch(
        keys=found.keys,
        track_ids=found.track_ids,
        vectors=found.vectors,
        events=events_of(found.partitions, found.offsets, found.event_times),
        deleted=NO_KEYS,
        deleted_events=no_events(),
    )


def deletion_batch(keys: Keys, dimension: int) -> TrackBatch:
    """A batch that deletes tracks, without known events."""
    nothing: Vectors = np.empty((0, dimension), dtype=np.float32)
    return TrackBatch(NO_KEYS, [], nothing, no_events(), keys, np.zeros(len(keys), dtype=EVENT))


def stored_lists(stored: ListRows) -> StoredLists:
    """Stored lists in the engine's type."""
    return StoredLists(
        keys=stored.keys,
        neighbours=stored.neighbours,
        scores=stored.scores,
        lengths=stored.lengths,
        events=events_of(stored.partitions, stored.offsets, stored.event_times),
    )


def events_of(partitions: np.ndarray, offsets: np.ndarray, times: np.ndarray) -> Events:
    """Events in the engine's type, `EVENT` (m,)."""
    events = np.empty(len(partitions), dtype=EVENT)
    events["partition"], events["offset"], events["time"] = partitions, offsets, times
    return events


def later_than(batch: TrackBatch, offsets: Mapping[int, int]) -> TrackBatch:
    """What a batch has at or beyond the offsets of their partitions; a partition without one has everything."""
    new, gone = _beyond(batch.events, offsets), _beyond(batch.deleted_events, offsets)
    if new.all() and gone.all():
        return batch
    return TrackBatch(
        keys=batch.keys[new],
        track_ids=[batch.track_ids[i] for i in np.flatnonzero(new).tolist()],
        vectors=batch.vectors[new],
        events=batch.events[new],
        deleted=batch.deleted[gone],
        deleted_events=batch.deleted_events[gone],
        metadata=None
        if batch.metadata is None
        else [batch.metadata[i] for i in np.flatnonzero(new).tolist()],
        moved=batch.moved,
    )


def _beyond(events: Events, offsets: Mapping[int, int]) -> np.ndarray:
    first = np.array([offsets.get(p, 0) for p in events["partition"].tolist()], dtype=np.int64)
    beyond: np.ndarray = events["offset"] >= first
    return beyond
