"""A worker's start: the catalogue and its lists from the store, and what the lists have not absorbed yet."""

from collections.abc import Iterator

import asyncpg
import numpy as np
import structlog

from store import lists, partitions
from store.pool import translated
from store.rows import ListRows, TrackVectors
from streams.agents.names import TrackNames
from streams.neighbours.process import EngineProcess
from streams.neighbours.types import EVENT, Events, Keys, StoredLists, TrackBatch, no_events

log = structlog.get_logger(__name__)

# Tracks sent to the engine at a time: a bounded message, and a batch the size of a busy stream's.
BATCH = 256


async def load_engine(
    pool: asyncpg.Pool, engine: EngineProcess, names: TrackNames, dimension: int
) -> dict[int, int]:
    """Load the engine from one snapshot of the store, and apply what the stored lists lack.

    Returns:
        By partition, the offset below which the engine holds everything.
    """
    with translated():
        async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
            found = await lists.read_tracks(connection, dimension)
            stored = await lists.read_lists(connection)
            absorbed = await partitions.absorbed(connection)
            consumed = await partitions.consumed(connection)
    names.load(found.keys.tolist(), found.track_ids)
    late = unabsorbed(found, absorbed)
    await engine.load(_batch(found, np.flatnonzero(~late)), _stored(stored))
    for batch in start_batches(found, np.flatnonzero(late)):
        await engine.apply(batch)
    log.info("engine loaded", tracks=len(found.keys), lists=len(stored.keys), caught_up=int(late.sum()))
    return consumed


def unabsorbed(found: TrackVectors, absorbed: dict[int, dict[int, int]]) -> np.ndarray:
    """Which tracks changed after the stored lists were last flushed, bool (n,).

    A track is late as soon as the lists of any one partition may lack it: applying it again is harmless.
    """
    below: dict[int, int] = {}
    for offsets in absorbed.values():
        for source, offset in offsets.items():
            below[source] = min(below.get(source, offset), offset)
    bounds = np.array([below.get(p, 0) for p in found.partitions.tolist()], dtype=np.int64)
    late: np.ndarray = found.offsets >= bounds
    return late


def start_batches(found: TrackVectors, which: np.ndarray) -> Iterator[TrackBatch]:
    """These tracks in batches."""
    for start in range(0, len(which), BATCH):
        yield _batch(found, which[start : start + BATCH])


def _batch(found: TrackVectors, which: np.ndarray) -> TrackBatch:
    nothing: Keys = np.empty(0, dtype=np.int64)
    return TrackBatch(
        keys=found.keys[which],
        track_ids=[found.track_ids[i] for i in which.tolist()],
        vectors=found.vectors[which],
        events=_events(found.partitions[which], found.offsets[which], found.event_times[which]),
        deleted=nothing,
        deleted_events=no_events(),
    )


def _stored(stored: ListRows) -> StoredLists:
    return StoredLists(
        keys=stored.keys,
        neighbours=stored.neighbours,
        scores=stored.scores,
        lengths=stored.lengths,
        events=_events(stored.partitions, stored.offsets, stored.event_times),
    )


def _events(partitions: np.ndarray, offsets: np.ndarray, times: np.ndarray) -> Events:
    events = np.empty(len(partitions), dtype=EVENT)
    events["partition"], events["offset"], events["time"] = partitions, offsets, times
    return events
