"""Of a track's events in several partitions the latest counts, whoever writes them, whenever, and however often."""

import asyncio
import random
from collections.abc import Sequence

import asyncpg
import numpy as np
import pytest

from store import lists, partitions, tail, told
from store.pool import transaction
from store.rows import ListRows
from store.tracks import StoredEvents, TrackRow, Withdrawal, store_events
from streams.contracts import EventPlace
from tests.integration.store.test_writes import ABSENT, METADATA_FIELDS, MOMENT
from tests.support.track_logs import (
    PARTITIONS,
    LoggedEvent,
    compacted,
    drawn_log,
    final_tracks,
    interleaved,
)

pytestmark = pytest.mark.integration


def upsert(key: int, place: EventPlace) -> TrackRow:
    """A track."""
    metadata = tuple(ABSENT.get(name) for name in METADATA_FIELDS)
    blob = np.ones(4, dtype="<f4").tobytes()
    return TrackRow(f"t{key}", key, metadata, blob, place.partition, place.offset, MOMENT, place.appended)


async def write(pool: asyncpg.Pool, events: Sequence[LoggedEvent]) -> StoredEvents:
    """One batch, of each track the latest event."""
    last: dict[int, LoggedEvent] = {}
    for event in events:
        if event.key not in last or event.place.is_after(last[event.key].place):
            last[event.key] = event
    rows = [upsert(e.key, e.place) for e in last.values() if not e.is_delete]
    gone = [Withdrawal(f"t{e.key}", e.key, *e.place) for e in last.values() if e.is_delete]
    async with transaction(pool) as connection:
        return await store_events(connection, rows, gone)


async def stored(pool: asyncpg.Pool) -> dict[int, EventPlace]:
    """By key, the event that each track is of."""
    rows = await pool.fetch("SELECT key, source_partition, source_offset, appended_at FROM tracks")
    return {key: EventPlace(*place) for key, *place in rows}


@pytest.mark.parametrize("seed", range(8))
async def test_the_same_catalogue_comes_out_live_read_again_and_after_compaction(
    pool: asyncpg.Pool, seed: int
) -> None:
    """In whatever order partitions are read, and batches committed, some of them twice."""
    rng = random.Random(seed)
    log = drawn_log(rng, 40)
    wanted = final_tracks(interleaved(rng, log))
    for what in (log, log, compacted(log)):
        await pool.execute("TRUNCATE tracks, departures, withdrawals, moves")
        events = list(interleaved(rng, what))
        while events:
            size = rng.randint(1, 5)
            batch, events = events[:size], events[size:]
            first = await write(pool, batch)
            if rng.random() < 0.3:
                again = await write(pool, batch)
                assert (again.keys, again.moved) == (first.keys, first.moved)
        assert await stored(pool) == wanted


async def test_partitions_written_at_the_same_time_end_as_one_after_the_other(pool: asyncpg.Pool) -> None:
    """A delete and an upsert of one track do not pass each other unseen."""
    for seed in range(12):
        rng = random.Random(seed)
        log = drawn_log(rng, 60)
        await pool.execute("TRUNCATE tracks, departures, withdrawals, moves")

        async def consume(part: list[LoggedEvent]) -> None:
            for start in range(0, len(part), 2):
                await write(pool, part[start : start + 2])

        await asyncio.gather(*map(consume, log))
        assert await stored(pool) == final_tracks(interleaved(rng, log)), seed


async def test_what_was_there_before_times_were_kept_is_older_than_other_partitions(
    pool: asyncpg.Pool,
) -> None:
    """An old row gives way to any event from elsewhere, and to later ones of its own partition."""
    await write(pool, [LoggedEvent(1, EventPlace(2, 50, 0), is_delete=False)])
    await write(pool, [LoggedEvent(1, EventPlace(2, 49, 0), is_delete=True)])
    assert await stored(pool) == {1: EventPlace(2, 50, 0)}
    moved = await write(pool, [LoggedEvent(1, EventPlace(0, 3, 7), is_delete=False)])
    assert (moved.keys, moved.moved) == ({1}, {1})
    assert await stored(pool) == {1: EventPlace(0, 3, 7)}


async def test_a_delete_that_comes_too_late_changes_nothing_and_owes_nothing(pool: asyncpg.Pool) -> None:
    """It leaves no deletion for followers, and no tombstone."""
    await write(pool, [LoggedEvent(1, EventPlace(0, 3, 7), is_delete=False)])
    late = await write(pool, [LoggedEvent(1, EventPlace(1, 9, 6), is_delete=True)])
    assert late == StoredEvents()
    assert await pool.fetchval("SELECT count(*) FROM departures") == 0
    assert await pool.fetchval("SELECT count(*) FROM withdrawals") == 0


async def test_a_list_made_before_its_track_moved_is_not_written(pool: asyncpg.Pool) -> None:
    """Its former owner may still flush it; once that owner has absorbed the move, it may own the track again."""
    await write(pool, [LoggedEvent(k, EventPlace(0, k, 5), is_delete=False) for k in (1, 2)])
    await write(pool, [LoggedEvent(1, EventPlace(1, 4, 6), is_delete=False)])

    async def flushed(applied: dict[int, int]) -> list[int]:
        keys = np.array([1, 2], dtype=np.int64)
        rows = ListRows(
            keys=keys,
            neighbours=keys[::-1, None],
            scores=np.ones((2, 1), dtype=np.float32),
            lengths=np.ones(2, dtype=np.int64),
            partitions=np.zeros(2, dtype=np.int32),
            offsets=keys,
            event_times=keys,
            owners=np.zeros(2, dtype=np.int32),
        )
        async with transaction(pool) as connection:
            await lists.flush_lists(connection, rows, np.empty(0, dtype=np.int64), applied)
        return [row[0] for row in await pool.fetch("SELECT key FROM neighbour_lists ORDER BY key")]

    assert await flushed({0: 9, 1: 4}) == [2]
    assert await flushed({0: 9, 1: 5}) == [1, 2]


async def test_a_moved_track_is_told_of_when_its_former_owner_has_absorbed_the_move(
    pool: asyncpg.Pool,
) -> None:
    """Until then the new owner waits; and when everybody has absorbed it, the move is forgotten."""
    await write(pool, [LoggedEvent(1, EventPlace(0, 1, 5), is_delete=False)])
    await write(pool, [LoggedEvent(1, EventPlace(1, 4, 6), is_delete=False)])
    async with transaction(pool) as connection:
        await partitions.claim_partitions(connection, list(range(PARTITIONS)), "one")
        assert await told.read_held(connection, [1, 1], [1, 0]) == {1}
        assert await told.read_held(connection, [1], [0]) == set()
        await partitions.record_absorbed(connection, [0], {1: 4})
        assert await told.read_held(connection, [1], [1]) == {1}
        await partitions.record_absorbed(connection, [0], {1: 5})
        assert await told.read_held(connection, [1], [1]) == set()
        await partitions.record_absorbed(connection, [1, 2], {1: 5})
        await tail.prune_departures(connection, 0.0)
        assert await connection.fetchval("SELECT count(*) FROM moves") == 0


async def test_deletions_are_remembered_as_long_as_the_log_keeps_them(pool: asyncpg.Pool) -> None:
    """Every owner has absorbed it, and an older event from another partition still finds it."""
    await write(pool, [LoggedEvent(1, EventPlace(0, 1, 5), is_delete=True)])
    async with transaction(pool) as connection:
        await partitions.claim_partitions(connection, [0], "one")
        await partitions.record_absorbed(connection, [0], {0: 2})
        await tail.prune_departures(connection, 3600.0)
    await write(pool, [LoggedEvent(1, EventPlace(1, 1, 4), is_delete=False)])
    assert await stored(pool) == {}
    async with transaction(pool) as connection:
        await tail.prune_departures(connection, 0.0)
        assert await connection.fetchval("SELECT count(*) FROM departures") == 0
