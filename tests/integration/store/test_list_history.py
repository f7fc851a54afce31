"""Lists that are replaced, dropped and orphaned are kept, found by time and version, and deleted when their time is over."""

from datetime import timedelta

import asyncpg
import numpy as np
import pytest

from store import list_history, lists, tracks
from store.list_history import PastList
from store.pool import transaction
from store.tracks import Withdrawal
from tests.integration.store.test_writes import list_rows, row

pytestmark = pytest.mark.integration

NONE = np.empty(0, dtype=np.int64)


@pytest.fixture(params=[0, lists.FEW_LISTS], ids=["copied", "few"], autouse=True)
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists are written as many are, or as few."""
    monkeypatch.setattr(lists, "FEW_LISTS", request.param)


async def flush(
    pool: asyncpg.Pool, wanted: dict[int, list[int]], deleted: list[int] | None = None, *, keep: bool = True
) -> int:
    """Write lists, drop others, and keep what was there; returns the version."""
    async with transaction(pool) as connection:
        gone = NONE if deleted is None else np.array(deleted, dtype=np.int64)
        version, _ = await lists.flush_lists(connection, list_rows(wanted), gone, keep=keep)
        return version


async def as_of(pool: asyncpg.Pool, key: int, version: int) -> list[int] | None:
    """The neighbours at a version; those by the time at which that version was made must be the same."""
    found = await list_history.read_past_list(pool, key, version)
    moment = await pool.fetchval(
        "SELECT generated_at FROM neighbour_lists WHERE version = $1 UNION SELECT generated_at FROM list_history "
        "WHERE version = $1 UNION SELECT replaced_at FROM list_history WHERE replaced_by = $1",
        version,
    )
    by_time = await list_history.read_past_list(pool, key, moment)
    assert by_time == found
    return None if found is None else found.keys


async def test_each_list_is_found_as_it_was(pool: asyncpg.Pool) -> None:
    """By every version since it was first made: until the next one, none while the track had gone, the one that stands."""
    async with transaction(pool) as connection:
        await tracks.upsert_tracks(connection, [row("1", key=1), row("2", key=2)])
    first = await flush(pool, {1: [2], 2: [1]})
    second = await flush(pool, {1: [3]})
    async with transaction(pool) as connection:
        await tracks.withdraw_tracks(connection, [Withdrawal("1", 1, 0, 5)])
    third = await flush(pool, {2: []}, [1])
    async with transaction(pool) as connection:
        await tracks.upsert_tracks(connection, [row("1", key=1, offset=9)])
    fourth = await flush(pool, {1: [4, 5]})
    versions = (first, second, third, fourth)
    assert [await as_of(pool, 1, version) for version in versions] == [[2], [3], None, [4, 5]]
    assert [await as_of(pool, 2, version) for version in versions] == [[1], [1], [], []]
    # Before the first there was none, and after the last it is the one that stands.
    assert await list_history.read_past_list(pool, 1, first - 1) is None
    found = await list_history.read_past_list(pool, 1, fourth + 100)
    assert found is not None
    assert (found.header.version, found.replaced_at) == (fourth, None)
    ended = await list_history.read_past_list(pool, 1, first)
    assert isinstance(ended, PastList)
    stands = await pool.fetchval(
        "SELECT generated_at FROM list_history WHERE key = 1 AND version = $1", second
    )
    assert (ended.header.version, ended.header.length, ended.replaced_at) == (first, 1, stands)


async def test_without_keeping_nothing_is_kept(pool: asyncpg.Pool) -> None:
    """A flush that does not keep lists writes nothing else than before; nor does one that replaces nothing."""
    async with transaction(pool) as connection:
        await tracks.upsert_tracks(connection, [row("1", key=1)])
    await flush(pool, {1: [2]})
    await flush(pool, {1: [3]}, keep=False)
    assert await pool.fetchval("SELECT count(*) FROM list_history") == 0
    version = await flush(pool, {1: [4], 7: [1]})
    assert await pool.fetchval("SELECT array_agg(neighbours[1]) FROM list_history") == [3]
    await pool.execute("SELECT setval('list_version', $1)", version - 2)
    await flush(pool, {1: [5]})
    assert await pool.fetchval("SELECT count(*) FROM list_history") == 1


async def test_lists_that_no_flush_dropped_are_kept_too(pool: asyncpg.Pool) -> None:
    """A worker that takes partitions over drops the lists of tracks that have gone; until then they had stood."""
    async with transaction(pool) as connection:
        await tracks.upsert_tracks(connection, [row("1", key=1)])
    version = await flush(pool, {1: [2]})
    async with transaction(pool) as connection:
        await connection.execute("DELETE FROM tracks")
        assert await lists.drop_orphaned_lists(connection, keep=True) == 1
    found = await list_history.read_past_list(pool, 1, version - 1)
    assert found is None
    kept = await pool.fetchrow(
        "SELECT version, neighbours, replaced_at > generated_at AS later FROM list_history"
    )
    assert tuple(kept) == (version, [2], True)


async def test_an_orphaned_list_ends_before_what_is_drawn_while_it_is_looked_for(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A track that comes back in between may have such a version, and two lists must not stand at once."""
    async with transaction(pool) as connection:
        await tracks.upsert_tracks(connection, [row("1", key=1)])
    version = await flush(pool, {1: [2]})
    drawing = "SELECT key FROM neighbour_lists, (SELECT nextval('list_version')) AS drawn WHERE"
    monkeypatch.setattr(
        lists, "_ORPHANS", lists._ORPHANS.replace("SELECT key FROM neighbour_lists WHERE", drawing)
    )
    async with transaction(pool) as connection:
        await connection.execute("DELETE FROM tracks")
        assert await lists.drop_orphaned_lists(connection, keep=True) == 1
    assert await pool.fetchval("SELECT last_value FROM list_version") > version
    assert await pool.fetchval("SELECT replaced_by FROM list_history") == version + 1


async def test_old_lists_are_deleted_in_parts(pool: asyncpg.Pool) -> None:
    """The oldest first, so many at most; what has its time yet stays, and how far back lists go is known."""
    async with transaction(pool) as connection:
        await tracks.upsert_tracks(connection, [row("1", key=1)])
    versions = [await flush(pool, {1: [number]}) for number in range(6)]
    for hours, version in enumerate(reversed(versions[:5])):
        await pool.execute(
            "UPDATE list_history SET replaced_at = now() - $1 * interval '1 hour' WHERE version = $2",
            hours,
            version,
        )
    kept = timedelta(hours=1, minutes=30)
    assert await list_history.prune_history(pool, kept, 2) == 2
    assert await list_history.prune_history(pool, kept, 2) == 1
    assert await list_history.prune_history(pool, kept, 2) == 0
    left = await pool.fetchval("SELECT array_agg(version ORDER BY version) FROM list_history")
    assert left == versions[3:5]
    reach = await list_history.read_reach(pool, 1)
    assert (reach.version, reach.known) == (versions[4], True)
    assert reach.since == await pool.fetchval("SELECT min(replaced_at) FROM list_history")
    assert await list_history.prune_history(pool, timedelta(), 100) == 2
    assert await list_history.read_reach(pool, 8) == (None, None, False)
