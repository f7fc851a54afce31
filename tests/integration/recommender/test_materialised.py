"""Recommendations kept ready: written on first request, found stale, refreshed, removed."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import orjson
import pytest

from serving.recommend.replies import materialised_body
from store import materialised, tracks
from store.columns import METADATA_FIELDS
from store.materialised import StoredBody
from store.pool import transaction
from store.rows import metadata_row
from streams.contracts import (
    RecommendationBody,
    RecommendationQuery,
    RecommendationRequest,
    entity_tag,
    finished_body,
    generation_members,
    split_reply,
    track_key,
)
from streams.engine.types import EVENT, TrackBatch
from streams.generations import GenerationName
from streams.recommender.materialiser import heat_of
from tests.integration.recommender.conftest import RecommenderBench, now
from tests.support.polling import until

pytestmark = pytest.mark.integration

FIRST = generation_members(GenerationName())
Run = Callable[[Any], Any]


async def kept(
    bench: RecommenderBench, seed: str, strategy: str, mode: str | None = None, **asked: Any
) -> StoredBody | None:
    """The stored body, if there is one."""
    await bench.written()
    variant = RecommendationQuery.model_validate({"track_id": seed, **asked}).variant()
    assert variant is not None
    return await materialised.read_body(bench.pool, track_key(seed), strategy, mode, variant)


def test_the_first_answer_is_kept_and_the_second_one_read(bench: RecommenderBench, run: Run) -> None:
    """The same list, the second time from the store; what is kept is a body once it is finished."""
    seed = "test/00100"
    first = run(bench.ask(track_id=seed, strategy="balanced"))
    body = run(kept(bench, seed, "hybrid"))
    second = run(bench.ask(track_id=seed, strategy="hybrid"))
    assert (first.cached, second.cached) == (False, True)
    assert {item.cached for item in second.recommendations} == {True}
    listed = [item.track_id for item in second.recommendations]
    assert listed == [item.track_id for item in first.recommendations]
    assert body is not None
    assert (body.stale, body.list_version) == (False, body.newest_version)
    whole = finished_body(body.body, FIRST, cached=True, stale=False, milliseconds=0.2)
    assert [r.track_id for r in RecommendationBody.model_validate_json(whole).recommendations] == listed
    assert set(orjson.loads(whole)) == set(RecommendationBody.model_fields)


def test_the_api_can_tell_from_an_answer_what_is_kept(bench: RecommenderBench, run: Run) -> None:
    """To the byte: so that it can have at hand what it will find in the store."""
    seed, asked = "test/00112", {"strategy": "diverse", "mode": "serendipity"}
    request = RecommendationRequest.model_validate({"request_id": "r", "track_id": seed, **asked})
    answer, error = split_reply("r", run(bench.recommender.answer(request)))
    assert answer is not None, error
    opened, mentions = materialised_body(answer)
    found = run(kept(bench, seed, **asked))
    assert (opened, entity_tag(opened)) == (found.body, found.tag)
    listed = [item["track_id"] for item in orjson.loads(answer)["recommendations"]]
    assert mentions == (seed, *listed)


def test_other_parameters_are_kept_apart(bench: RecommenderBench, run: Run) -> None:
    """Each variant has its own body, and is computed anew from what was asked."""
    seed = "test/00101"
    asked = {"parameters": {"lambda": 0.2}, "filters": {"era": {"not": ["Baroque"]}}, "top_k": 5}
    listed = run(bench.listed(track_id=seed, strategy="diverse", **asked))
    run(bench.listed(track_id=seed, strategy="diverse"))
    body = run(kept(bench, seed, "diverse", "mmr", **asked))
    assert [r["track_id"] for r in orjson.loads(body.body)["recommendations"]] == listed
    run(bench.pool.execute("UPDATE materialised_recommendations SET body = '{}', outdated = true"))

    async def refreshed() -> bool:
        found = await kept(bench, seed, "diverse", "mmr", **asked)
        return found is not None and not found.stale and found.body == body.body.replace(*_times(body, found))

    run(until(refreshed))


def _times(one: StoredBody, other: StoredBody) -> tuple[bytes, bytes]:
    """The moment in one body, and that in another."""
    moments = [orjson.loads(each.body or b"{}").get("generated_at", "").encode() for each in (one, other)]
    return moments[0], moments[1]


def test_a_body_is_stale_after_its_list_and_soon_is_not(bench: RecommenderBench, run: Run) -> None:
    """A newer list makes it stale at once; in the background it is refreshed from the newer list."""
    seed, key = "test/00102", track_key("test/00102")
    before = run(bench.listed(track_id=seed))

    async def change() -> None:
        assert (await kept(bench, seed, "similarity")) is not None
        await bench.pool.execute(
            "UPDATE neighbour_lists SET neighbours = neighbours[2:], scores = scores[2:], "
            "version = 1000000, generated_at = now() WHERE key = $1",
            key,
        )
        found = await kept(bench, seed, "similarity")
        assert found is not None
        assert found.stale or found.list_version == 1_000_000

    async def fresh() -> bool:
        found = await kept(bench, seed, "similarity")
        return found is not None and not found.stale and found.list_version == 1_000_000

    run(change())
    run(until(fresh))
    after = [
        r["track_id"] for r in orjson.loads(run(kept(bench, seed, "similarity")).body)["recommendations"]
    ]
    assert after == before


def test_what_was_searched_is_stale_once_the_catalogue_has_gone_on(bench: RecommenderBench, run: Run) -> None:
    """Candidates beyond the list may be others then, after the window; what the list alone tells is not stale."""
    seed = "test/00104"
    run(bench.listed(track_id=seed, strategy="diverse"))
    run(bench.listed(track_id=seed, top_k=20))

    async def stale() -> tuple[bool, bool]:
        searched = await kept(bench, seed, "diverse", "mmr")
        listed = await kept(bench, seed, "similarity", top_k=20)
        assert searched is not None
        assert listed is not None
        assert (searched.searched, listed.searched) == ({str(p): o for p, o in bench.applied.items()}, None)
        return searched.stale, listed.stale

    async def history() -> None:
        assert await stale() == (False, False)
        await bench.pool.execute("UPDATE ingest_partitions SET consumed_offset = consumed_offset + 1")
        assert await stale() == (False, False)  # within the window
        await bench.pool.execute("UPDATE materialised_recommendations SET searched_due = now()")
        assert await stale() == (True, False)
        await bench.pool.execute("UPDATE ingest_partitions SET consumed_offset = consumed_offset - 1")
        assert await stale() == (False, False)

    bench.recommender.materialiser.refreshing = False
    try:
        run(history())
    finally:
        bench.recommender.materialiser.refreshing = True


def test_a_body_has_the_events_that_were_searched(bench: RecommenderBench, run: Run) -> None:
    """A reader who waits for an event gets no response that was computed before it."""
    seed, (partition, offset) = "test/00105", next(iter(bench.applied.items()))
    run(bench.listed(track_id=seed, strategy="diverse"))
    body = run(kept(bench, seed, "diverse", "mmr"))
    assert (body.has(partition, offset - 1), body.has(partition, offset)) == (True, False)


def test_facts_that_changed_are_told(bench: RecommenderBench, run: Run) -> None:
    """A response is refreshed when one of its tracks has another title, although no list has changed."""
    seed = "test/00103"
    changed = run(bench.listed(track_id=seed, strategy="diverse"))[3]
    track = bench.catalogue.tracks[bench.catalogue.by_id[changed]]

    async def rename() -> None:
        await bench.written()
        columns = ", ".join(METADATA_FIELDS)
        row = await bench.pool.fetchrow(f"SELECT {columns}, event_time FROM tracks WHERE key = $1", track.key)
        metadata = ("Renamed", *list(row)[1:-1])
        async with transaction(bench.pool) as connection:
            vector = track.vector.astype("<f4").tobytes()
            written = tracks.TrackRow(
                changed, track.key, metadata, vector, track.partition, 10**6, row["event_time"]
            )
            await tracks.upsert_tracks(connection, [written])
        batch = batch_of(bench, upserted=[changed], offset=10**6)
        await bench.search.apply(replace(batch, metadata=[metadata_row(metadata)]))
        bench.recommender.follow(batch)

    async def told() -> bool:
        found = await kept(bench, seed, "diverse", "mmr")
        items = orjson.loads(found.body)["recommendations"] if found else []
        return [i["title"] for i in items if i["track_id"] == changed] == ["Renamed"]

    run(rename())
    run(until(told))
    reply = run(bench.ask(track_id=seed, strategy="diverse", top_k=9))
    assert {i.track_id: i.title for i in reply.recommendations}[changed] == "Renamed"


def test_a_withdrawn_track_is_named_nowhere(bench: RecommenderBench, run: Run) -> None:
    """Its bodies, and those that name it, are gone with it; one that is being written then is not kept."""
    seed = "test/00104"
    listed = run(bench.listed(track_id=seed, strategy="hybrid"))
    run(bench.listed(track_id=listed[0], strategy="hybrid"))
    track = bench.catalogue.tracks[bench.catalogue.by_id[listed[0]]]

    async def withdraw() -> materialised.NewBody:
        assert await kept(bench, seed, "hybrid") is not None
        row = await bench.pool.fetchrow(
            "SELECT * FROM materialised_recommendations WHERE key = $1 AND strategy = 'hybrid'",
            track_key(seed),
        )
        async with transaction(bench.pool) as connection:
            gone = await tracks.withdraw_tracks(
                connection, [tracks.Withdrawal(listed[0], track.key, track.partition, 10**7)]
            )
        assert gone.deleted == {listed[0]}
        names = ("key", "strategy", "mode", "variant", "question", "body", "tag", "members", "list_version")
        return materialised.NewBody(
            **{name: row[name] for name in names}, generated_at=row["generated_at"], heat=0.0
        )

    late = run(withdraw())
    assert run(kept(bench, seed, "hybrid")) is None
    assert run(kept(bench, listed[0], "hybrid")) is None
    assert run(materialised.write_bodies(bench.pool, [late])) == [False]
    assert run(kept(bench, seed, "hybrid")) is None
    bench_batch = batch_of(bench, deleted=[listed[0]], offset=10**7)
    run(bench.search.apply(bench_batch))
    bench.recommender.follow(bench_batch)
    assert listed[0] not in run(bench.listed(track_id=seed, strategy="hybrid"))
    reply = run(bench.ask(track_id=listed[0]))
    assert reply.error.status == 404


def test_bodies_written_together_wait_for_nobody_in_a_circle(bench: RecommenderBench, run: Run) -> None:
    """While another transaction holds the row of one of them, none is lost: all are there when it has ended."""
    seeds = ["test/00110", "test/00111"]

    async def made() -> list[materialised.NewBody]:
        names = ("key", "strategy", "mode", "variant", "question", "tag", "members", "list_version")
        for seed in seeds:
            await bench.listed(track_id=seed, strategy="hybrid")
        await bench.written()
        rows = [
            await bench.pool.fetchrow(
                "SELECT * FROM materialised_recommendations WHERE key = $1 AND strategy = 'hybrid'",
                track_key(seed),
            )
            for seed in seeds
        ]
        return [
            materialised.NewBody(
                **{name: row[name] for name in names}, body=b'{"again":true}', generated_at=now(), heat=0.0
            )
            for row in rows
        ]

    async def written_while_held(new: list[materialised.NewBody]) -> list[Any]:
        async with bench.pool.acquire() as connection:
            held = connection.transaction()
            await held.start()
            await connection.execute(
                "SELECT 1 FROM materialised_recommendations WHERE key = $1 FOR UPDATE", new[1].key
            )
            writing = asyncio.create_task(materialised.write_bodies(bench.pool, new))
            await until(lambda: _body(bench, new[0]))
            assert not writing.done()
            await held.commit()
        return await writing

    new = run(made())
    assert run(written_while_held(new)) == [True, True]
    assert all(run(_body(bench, one)) for one in new)


def test_a_body_that_postgres_refuses_is_given_up_alone(bench: RecommenderBench, run: Run) -> None:
    """Those that are written with it are kept, and so is what comes afterwards."""
    refused, fine, later = (
        materialised.NewBody(
            key=track_key(seed),
            strategy="hybrid",
            mode=None,
            variant=1,
            question=question,
            body=b'{"given":true}',
            tag="t",
            members=[],
            list_version=None,
            generated_at=now(),
        )
        for seed, question in (("test/00113", {"mood": "a\0b"}), ("test/00114", {}), ("test/00115", {}))
    )

    async def keep(*bodies: materialised.NewBody) -> list[bool]:
        for new in bodies:
            bench.recommender.materialiser.keep(new, {}, began=time.monotonic(), reason="requested")
        await bench.written()
        return [await _body(bench, new) for new in bodies]

    assert run(keep(refused, fine)) == [False, True]
    assert run(keep(later)) == [True]


@pytest.mark.parametrize("skew", [-5, 0, 5])
def test_the_body_that_knows_more_stays_whatever_the_clocks_say(
    bench: RecommenderBench, run: Run, skew: int
) -> None:
    """Last write wins by list version, offsets and popularity: five seconds of skew either way change nothing."""

    def made(text: str, seconds: int, **known: Any) -> materialised.NewBody:
        return materialised.NewBody(
            key=track_key("test/00116"),
            strategy="hybrid",
            mode=None,
            variant=100 + skew,
            question={},
            body=orjson.dumps({"made": text}),
            tag="t",
            members=[],
            generated_at=now() + timedelta(seconds=seconds),
            **known,
        )

    first = made("first", skew, list_version=7, searched={"0": 10, "1": 20}, popularity_version=3)
    cases = [
        (made("older list", 0, list_version=6, searched={"0": 99, "1": 99}, popularity_version=9), False),
        (made("older catalogue", 0, list_version=7, searched={"0": 29}, popularity_version=9), False),
        (
            made("older popularity", 0, list_version=7, searched={"0": 10, "1": 20}, popularity_version=2),
            False,
        ),
        (made("the same again", 0, list_version=7, searched={"0": 10, "1": 20}, popularity_version=3), True),
        (made("list alone", 0, list_version=7), True),
        (made("newer list", 0, list_version=8, searched={"0": 1}, popularity_version=1), True),
    ]
    bench.recommender.materialiser.refreshing = False  # it would make anew what is stale
    try:
        for other, stays in cases:
            for new in (first, other):
                assert run(materialised.write_bodies(bench.pool, [new])) == [True]
            assert run(_body(bench, other)) is stays
            run(materialised.drop_body(bench.pool, other.key, other.strategy, None, other.variant))
    finally:
        bench.recommender.materialiser.refreshing = True


async def _body(bench: RecommenderBench, new: materialised.NewBody) -> bool:
    """Whether the store has this very body."""
    found = await materialised.read_body(bench.pool, new.key, new.strategy, new.mode, new.variant)
    return found is not None and found.body == new.body


def test_a_track_without_a_list_is_answered_provisionally(bench: RecommenderBench, run: Run) -> None:
    """By a search, marked; the list says otherwise as soon as it is there."""
    seed, key = "test/00105", track_key("test/00105")
    expected = run(bench.listed(track_id=seed, top_k=7))

    async def drop() -> None:
        await bench.pool.execute("CREATE TABLE aside AS SELECT * FROM neighbour_lists WHERE key = $1", key)
        await bench.pool.execute("DELETE FROM neighbour_lists WHERE key = $1", key)

    run(drop())
    reply = run(bench.ask(track_id=seed, top_k=7))
    assert reply.provisional
    assert reply.source is None
    assert [item.track_id for item in reply.recommendations] == expected
    run(bench.written())
    run(bench.pool.execute("INSERT INTO neighbour_lists SELECT * FROM aside"))
    reply = run(bench.ask(track_id=seed, top_k=7))
    assert not reply.provisional
    assert reply.source is not None


def test_the_coldest_bodies_are_given_up(bench: RecommenderBench, run: Run) -> None:
    """Hits keep a body; those of an hour ago count half."""

    async def heats() -> list[tuple[str, int]]:
        await bench.recommender.materialiser.flush_hits()
        rows = await bench.pool.fetch(
            "SELECT t.track_id, m.hits FROM materialised_recommendations AS m JOIN tracks AS t USING (key) "
            "WHERE m.strategy = 'popular' ORDER BY m.heat DESC"
        )
        return [tuple(row) for row in rows]

    for seed in ("test/00110", "test/00111", "test/00112"):
        run(bench.listed(track_id=seed, strategy="popular"))
        run(bench.written())
    run(bench.ask(track_id="test/00111", strategy="popular", hits=50))
    assert run(heats())[0] == ("test/00111", 51)
    run(materialised.evict_bodies(bench.pool, 1))
    assert [name for name, _ in run(heats())] == ["test/00111"]
    assert heat_of(2, 0.0) == heat_of(1, 3_600.0)


def batch_of(
    bench: RecommenderBench, upserted: list[str] = (), deleted: list[str] = (), *, offset: int
) -> TrackBatch:  # type: ignore[assignment]
    """What ingest tells of events at an offset."""

    def events(names: list[str]) -> np.ndarray:
        rows = [bench.catalogue.tracks[bench.catalogue.by_id[name]] for name in names]
        return np.array([(row.partition, offset, 0.0) for row in rows], dtype=EVENT)

    rows = [bench.catalogue.tracks[bench.catalogue.by_id[name]] for name in upserted]
    return TrackBatch(
        keys=np.array([row.key for row in rows], dtype=np.int64),
        track_ids=list(upserted),
        vectors=np.array([row.vector for row in rows], dtype=np.float32).reshape(-1, 24),
        events=events(list(upserted)),
        deleted=np.array([track_key(name) for name in deleted], dtype=np.int64),
        deleted_events=events(list(deleted)),
        metadata=[row.row for row in rows],
    )
