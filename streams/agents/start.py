"""A worker's start: the vectors of the whole catalogue from the store. Lists come with the partitions that own them."""

import asyncpg
import numpy as np
import structlog

from store import lists, tail
from store.pool import snapshot
from store.rows import ListRows, TrackVectors
from store.tail import Position
from streams.agents.names import TrackNames
from streams.neighbours.process import EngineProcess
from streams.neighbours.types import EVENT, Events, Keys, StoredLists, TrackBatch, Vectors, no_events

log = structlog.get_logger(__name__)

NO_KEYS: Keys = np.empty(0, dtype=np.int64)


async def load_engine(
    pool: asyncpg.Pool, engine: EngineProcess, names: TrackNames, dimension: int
) -> tuple[TrackVectors, dict[int, Position]]:
    """Load the engine's vectors from one snapshot of the store; it keeps no lists yet.

    Returns:
        The vectors, and by partition the offset below which the engine holds everything, and of which log.
    """
    async with snapshot(pool) as connection:
        found = await lists.read_tracks(connection, dimension)
        positions = await tail.positions(connection)
    names.load(found.keys.tolist(), found.track_ids)
    await engine.own([])
    await engine.load(_batch(found), stored_lists(lists.NO_LISTS))
    log.info("engine loaded", tracks=len(found.keys))
    return found, positions


def _batch(found: TrackVectors) -> TrackBatch:
    return TrackBatch(
        keys=found.keys,
        track_ids=found.track_ids,
        vectors=found.vectors,
        events=events_of(found.partitions, found.offsets, found.event_times),
        deleted=NO_KEYS,
        deleted_events=no_events(),
    )


def deletions(keys: Keys, dimension: int) -> TrackBatch:
    """A batch that deletes tracks by no event that is known."""
    nothing: Vectors = np.empty((0, dimension), dtype=np.float32)
    return TrackBatch(NO_KEYS, [], nothing, no_events(), keys, np.zeros(len(keys), dtype=EVENT))


def stored_lists(stored: ListRows) -> StoredLists:
    """Lists from the store as the engine takes them."""
    return StoredLists(
        keys=stored.keys,
        neighbours=stored.neighbours,
        scores=stored.scores,
        lengths=stored.lengths,
        events=events_of(stored.partitions, stored.offsets, stored.event_times),
    )


def events_of(partitions: np.ndarray, offsets: np.ndarray, times: np.ndarray) -> Events:
    """Events as the engine takes them, `EVENT` (m,)."""
    events = np.empty(len(partitions), dtype=EVENT)
    events["partition"], events["offset"], events["time"] = partitions, offsets, times
    return events
