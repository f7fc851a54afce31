"""Tracks, lists, offsets and epochs in a real Postgres."""

from dataclasses import replace
from datetime import UTC, datetime

import asyncpg
import numpy as np
import pytest

from store import lists, partitions, tail, tracks
from store.columns import METADATA_FIELDS
from store.errors import FencedError, TrackRejectedError
from store.pool import transaction
from store.rows import ListRows
from store.tracks import TrackRow, Withdrawal
from streams.contracts import times
from tests.support.metadata import ABSENT

pytestmark = pytest.mark.integration

MOMENT = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)


def row(track_id: str, *, offset: int = 0, key: int | None = None, title: str | None = None) -> TrackRow:
    """A track row with few facts."""
    facts = {"title": title, "tags": ["a", "b"], "extra": {"n": [1, None, "ü"]}}
    return TrackRow(
        track_id=track_id,
        key=hash(track_id) if key is None else key,
        metadata=tuple(facts.get(name, ABSENT.get(name)) for name in METADATA_FIELDS),
        embedding=np.ones(4, dtype="<f4").tobytes(),
        partition=0,
        offset=offset,
        event_time=MOMENT,
    )


async def title_of(pool: asyncpg.Pool, track_id: str) -> str | None:
    """The stored title."""
    return await pool.fetchval("SELECT title FROM tracks WHERE track_id = $1", track_id)


async def test_an_older_event_never_overwrites_a_newer_one(pool: asyncpg.Pool) -> None:
    """A row keeps the newest event of its partition, whatever the order of arrival."""
    for offset, title in ((5, "five"), (3, "three"), (5, "five again"), (6, "six")):
        async with transaction(pool) as connection:
            await tracks.upsert_tracks(connection, [row("t", offset=offset, title=title)])
        assert await title_of(pool, "t") == ("six" if offset == 6 else "five")


async def test_metadata_comes_back_as_it_went_in(pool: asyncpg.Pool) -> None:
    """Tags and free-form values survive the binary path."""
    async with transaction(pool) as connection:
        await tracks.upsert_tracks(connection, [row("t", title="Ünïcode 🎵")])
    found = await pool.fetchrow("SELECT title, tags, extra, search FROM tracks")
    assert (found["title"], found["tags"], found["extra"]) == (
        "Ünïcode 🎵",
        ["a", "b"],
        {"n": [1, None, "ü"]},
    )


async def test_a_withdrawal_owes_one_tombstone_until_it_is_settled(pool: asyncpg.Pool) -> None:
    """A deletion owes a tombstone, also of an unknown track; none once the track has come back."""
    async with transaction(pool) as connection:
        await tracks.upsert_tracks(connection, [row("a"), row("b")])
        gone = await tracks.withdraw_tracks(
            connection, [Withdrawal("a", 1, 0, 5), Withdrawal("b", 2, 0, 6), Withdrawal("unknown", 9, 0, 7)]
        )
        assert gone.deleted == {"a", "b"}
    async with transaction(pool) as connection:
        await tracks.upsert_tracks(connection, [row("b", offset=9)])
        owed = await tracks.owed_tombstones(connection, [0])
        assert [track_id for _, track_id, _ in owed] == ["a", "unknown"]
        await tracks.settle_tombstones(connection, [at for at, *_ in owed])
        assert await tracks.owed_tombstones(connection, [0]) == []


async def test_a_key_collision_rejects_the_batch_and_leaves_nothing(pool: asyncpg.Pool) -> None:
    """A track whose key belongs to another is refused, be the other stored or in the same batch."""
    async with transaction(pool) as connection:
        await tracks.upsert_tracks(connection, [row("first", key=7)])
    for batch in ([row("second", key=7)], [row("x", key=8), row("y", key=8)]):
        with pytest.raises(TrackRejectedError, match="64-bit key"):
            async with transaction(pool) as connection:
                await tracks.upsert_tracks(connection, batch)
    assert await pool.fetchval("SELECT count(*) FROM tracks") == 1


def list_rows(neighbours: dict[int, list[int]]) -> ListRows:
    """Lists with falling scores."""
    count, width = len(neighbours), max(map(len, neighbours.values()))
    matrix = np.zeros((count, width), dtype=np.int64)
    for i, entries in enumerate(neighbours.values()):
        matrix[i, : len(entries)] = entries
    return ListRows(
        keys=np.array(list(neighbours), dtype=np.int64),
        neighbours=matrix,
        scores=np.linspace(1, -1, max(width, 1), dtype=np.float32)[None, :width].repeat(count, axis=0),
        lengths=np.array([len(entries) for entries in neighbours.values()], dtype=np.int64),
        partitions=np.arange(count, dtype=np.int32),
        offsets=np.arange(count, dtype=np.int64) + 100,
        event_times=np.full(count, times.LATEST),
    )


@pytest.fixture(params=[0, lists.FEW_LISTS], ids=["copied", "few"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists are written as many are, or as few."""
    monkeypatch.setattr(lists, "FEW_LISTS", request.param)


@pytest.mark.usefixtures("both_ways")
async def test_lists_of_every_length_come_back_as_they_were_flushed(pool: asyncpg.Pool) -> None:
    """Full, short and empty lists, keys at both ends of 64 bits, make the round trip, on insert and on update."""
    low, high = -(2**63), 2**63 - 1
    wanted = {1: list(range(2, 52)), 2: [low, high, -1], 3: []}
    async with transaction(pool) as connection:
        await tracks.upsert_tracks(connection, [row(str(key), key=key) for key in wanted])
    for _ in range(2):
        rows = list_rows(wanted)
        async with transaction(pool) as connection:
            version, _ = await lists.flush_lists(connection, rows, np.empty(0, dtype=np.int64))
        async with transaction(pool) as connection:
            found = await lists.read_lists(connection)
        order = np.argsort(found.keys)
        assert {
            int(found.keys[i]): found.neighbours[i, : found.lengths[i]].tolist() for i in order.tolist()
        } == wanted
        assert found.scores[order[0]].tolist() == rows.scores[0].tolist()
        assert found.event_times[0] == times.LATEST
        assert set(found.versions.tolist()) == {version}
        wanted = {key: entries[::-1][:40] for key, entries in wanted.items()}


async def test_what_a_take_over_reads_and_writes_comes_whole_in_pages(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lists, orphans, keys, names and forgotten offsets are the same however few rows a statement has."""
    monkeypatch.setattr(lists, "FEW_LISTS", 0)
    for page in ("store.lists.PAGE_ROWS", "store.tail.PAGE_TRACKS", "store.partitions.PAGE_TRACKS"):
        monkeypatch.setattr(page, 3)
    monkeypatch.setattr("store.lists._COMPARED_ROWS", 4)
    keys = [-(2**63), *range(20), 2**63 - 1]
    wanted = {key: [1, 2, 3, 4][: i % 5] for i, key in enumerate(keys)}
    async with transaction(pool) as connection:
        await tracks.upsert_tracks(
            connection,
            [replace(row(str(k), key=k, offset=i), partition=i % 2) for i, k in enumerate(keys)],
        )
        version, _ = await lists.flush_lists(connection, list_rows(wanted), np.empty(0, dtype=np.int64))
        await lists.flush_lists(connection, list_rows({4: [1]}), np.empty(0, dtype=np.int64))
    async with transaction(pool) as connection:
        owned = await lists.read_lists_owned(connection, {0: -1, 1: version})
        read = {
            (int(owner), int(key)): owned.neighbours[i, : owned.lengths[i]].tolist()
            for i, (owner, key) in enumerate(zip(owned.owners, owned.keys, strict=True))
        }
        # Of the second partition, only what the second flush has written is newer than the first one.
        assert read == {(0, key): wanted[key] for key in keys[::2]} | {(1, 4): [1]}
        assert sorted((await tail.read_keys(connection)).tolist()) == keys
        found, names = await tail.read_names(connection)
        assert [str(key) for key in found.tolist()] == names
        await partitions._forget_offsets(connection, [1])
        offsets = await connection.fetch("SELECT source_partition, source_offset FROM tracks")
        assert {offset for partition, offset in offsets if partition == 1} == {-1}
        assert -1 not in {offset for partition, offset in offsets if partition == 0}
        gone = [keys[0], 3, 4, 11, keys[-1]]
        await connection.execute("DELETE FROM tracks WHERE key = ANY($1)", gone)
        assert await lists.drop_orphaned_lists(connection) == len(gone)
        left = (await lists.read_lists(connection)).keys
        assert sorted(left.tolist()) == sorted(set(keys) - set(gone))


@pytest.mark.usefixtures("both_ways")
async def test_a_list_of_a_track_that_has_gone_is_not_written(pool: asyncpg.Pool) -> None:
    """A flush skips lists without a track, and drops those it is told to drop, unless their track has come back."""
    async with transaction(pool) as connection:
        await tracks.upsert_tracks(connection, [row("1", key=1), row("2", key=2)])
        await lists.flush_lists(connection, list_rows({1: [2], 2: [1], 3: [1]}), np.empty(0, dtype=np.int64))
    assert [r["key"] for r in await pool.fetch("SELECT key FROM neighbour_lists ORDER BY key")] == [1, 2]
    async with transaction(pool) as connection:
        await lists.flush_lists(connection, list_rows({1: []}), np.array([2]))
        assert await connection.fetchval("SELECT count(*) FROM neighbour_lists") == 2
        await tracks.withdraw_tracks(connection, [Withdrawal("2", 2, 0, 5)])
        await lists.flush_lists(connection, list_rows({1: []}), np.array([2]))
    assert [r["key"] for r in await pool.fetch("SELECT key FROM neighbour_lists")] == [1]


@pytest.mark.usefixtures("both_ways")
async def test_a_newer_list_stays(pool: asyncpg.Pool) -> None:
    """A flush whose version was drawn before that of the stored list changes nothing."""
    async with transaction(pool) as connection:
        await tracks.upsert_tracks(connection, [row("1", key=1), row("2", key=2)])
        version, _ = await lists.flush_lists(connection, list_rows({1: [2]}), np.empty(0, dtype=np.int64))
        await connection.execute("SELECT setval('list_version', $1)", version - 1)
        await lists.flush_lists(connection, list_rows({1: [3], 2: [1]}), np.empty(0, dtype=np.int64))
        found = await lists.read_lists(connection)
    assert dict(zip(found.keys.tolist(), found.neighbours[:, 0].tolist(), strict=True)) == {1: 2, 2: 1}


async def test_tracks_are_read_for_the_engine_as_they_were_written(pool: asyncpg.Pool) -> None:
    """Keys, ids, vectors and offsets come back; more rows than one fetch holds."""
    async with transaction(pool) as connection:
        await tracks.upsert_tracks(connection, [row(f"{i:05d}", key=i, offset=i) for i in range(5000)])
        found = await lists.read_track_vectors(connection, 4)
    assert sorted(found.keys.tolist()) == list(range(5000))
    assert found.vectors.shape == (5000, 4)
    assert [int(track_id) for track_id in found.track_ids] == found.offsets.tolist()


@pytest.mark.usefixtures("both_ways")
async def test_every_time_that_an_event_may_have_comes_back_from_the_store(pool: asyncpg.Pool) -> None:
    """The first and the last there is, and one in between, by track and by list, to the microsecond."""
    moments = [times.microseconds_of(datetime.min.replace(tzinfo=UTC)) + 1, 1, times.LATEST]
    rows = [replace(row(str(key), key=key), event_time=times.moment_of(at)) for key, at in enumerate(moments)]
    stored = replace(list_rows({key: [] for key in range(3)}), event_times=np.array(moments, dtype=np.int64))
    async with transaction(pool) as connection:
        await tracks.upsert_tracks(connection, rows)
        await lists.flush_lists(connection, stored, np.empty(0, dtype=np.int64))
        found, kept = await lists.read_track_vectors(connection, 4), await lists.read_lists(connection)
        read = await connection.fetch("SELECT event_time FROM neighbour_lists ORDER BY key")
    assert found.event_times[np.argsort(found.keys)].tolist() == moments
    assert kept.event_times[np.argsort(kept.keys)].tolist() == moments
    assert [times.microseconds_of(each["event_time"]) for each in read] == moments


async def test_whoever_claims_last_writes_alone(pool: asyncpg.Pool) -> None:
    """After another claim of a partition, writes under the older epoch fail and change nothing."""
    async with transaction(pool) as connection:
        first = await partitions.claim_partitions(connection, [0, 1], "one")
        await partitions.advance_consumed(connection, {0: first[0].epoch}, {0: 10})
    async with transaction(pool) as connection:
        second = await partitions.claim_partitions(connection, [0], "two")
    assert second[0].consumed_offset == 10
    for attempt in (
        lambda c: partitions.advance_consumed(c, {0: first[0].epoch}, {0: 99}),
        lambda c: partitions.hold_partitions(c, {0: first[0].epoch, 1: first[1].epoch}),
    ):
        with pytest.raises(FencedError):
            async with transaction(pool) as connection:
                await attempt(connection)
    async with transaction(pool) as connection:
        await partitions.hold_partitions(connection, {1: first[1].epoch})
        assert await partitions.consumed_offsets(connection) == {0: 10, 1: 0}


async def test_offsets_never_go_back(pool: asyncpg.Pool) -> None:
    """Consumed and absorbed offsets keep their highest value."""
    async with transaction(pool) as connection:
        claims = await partitions.claim_partitions(connection, [0], "one")
        for offset in (10, 5):
            await partitions.advance_consumed(connection, {0: claims[0].epoch}, {0: offset})
            await partitions.record_absorbed(connection, [0, 1], {0: offset})
            await partitions.record_absorbed(connection, [1], {2: offset})
        assert await partitions.consumed_offsets(connection) == {0: 10}
        assert await partitions.absorbed_offsets(connection) == {0: {0: 10}, 1: {0: 10, 2: 10}}


async def test_a_new_log_is_read_from_its_start_and_may_change_every_track(pool: asyncpg.Pool) -> None:
    """After the offsets have been restarted, events with small offsets are newer than what is stored."""
    async with transaction(pool) as connection:
        claims = await partitions.claim_partitions(connection, [0], "one")
        await tracks.upsert_tracks(connection, [row("t", offset=500, title="old log")])
        await partitions.advance_consumed(connection, {0: claims[0].epoch}, {0: 501})
        await partitions.restart_offsets(connection, {0: claims[0].epoch})
        assert await partitions.consumed_offsets(connection) == {0: 0}
    async with transaction(pool) as connection:
        await tracks.upsert_tracks(connection, [row("t", offset=0, title="new log")])
    assert await title_of(pool, "t") == "new log"


async def test_whoever_makes_the_topic_anew_fences_off_who_knew_the_old_one(pool: asyncpg.Pool) -> None:
    """A log noted as new is read from its start, and a worker that consumed the old one cannot move its offsets."""
    async with transaction(pool) as connection:
        claims = await partitions.claim_partitions(connection, [0, 1], "one")
        await tracks.upsert_tracks(connection, [row("t", offset=500, title="old log")])
        await partitions.advance_consumed(connection, {0: claims[0].epoch}, {0: 501})
        await partitions.record_absorbed(connection, [0, 1], {0: 400, 1: 7})
        assert await partitions.begin_new_log(connection) == [0]
        # Of the tracks of partition 0 nobody knows which ones the lists have.
        assert await partitions.absorbed_offsets(connection) == {0: {1: 7}, 1: {1: 7}}
        assert await partitions.consumed_offsets(connection) == {0: 0, 1: 0}
    with pytest.raises(FencedError):
        async with transaction(pool) as connection:
            await partitions.advance_consumed(connection, {0: claims[0].epoch}, {0: 502})
    async with transaction(pool) as connection:
        await tracks.upsert_tracks(connection, [row("t", offset=0, title="new log")])
    assert await title_of(pool, "t") == "new log"
