"""The change feed: what memory forgets by it, and what is pushed to readers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import orjson
import pytest
from aiokafka.partitioner import murmur2

from streams.contracts import track_key
from tests.integration.serving.asking import PARTITIONS, FeedWriter, answering, body_of, own_feed, stream
from tests.integration.serving.catalogue import ServedCatalogue
from tests.integration.serving.conftest import Database, Served, ServedClient, serve
from tests.integration.serving.problems import fields_of, problem_of
from tests.integration.serving.two_generations import make_two_generations
from tests.support.polling import until
from tests.support.services import KafkaBroker

pytestmark = pytest.mark.integration

TRACK = "test/00123"
PATH = "/recommend/test%2F00123"
STREAM = f"{PATH}/stream"
LAST = ("cached", "stale", "behind_seconds", "computation_time_ms")


@pytest.fixture
async def feed(kafka_broker: KafkaBroker) -> AsyncIterator[FeedWriter]:
    """A change feed of the test's own."""
    async with own_feed(kafka_broker) as writer:
        yield writer


@pytest.fixture
async def api(database: Database, feed: FeedWriter) -> AsyncIterator[ServedClient]:
    """The API that follows it."""
    async with serve(Served(database, feed.settings, kafka_options=feed.options)) as client:
        assert client.context.feed is not None
        await client.context.feed.ready(20)
        yield client


def _partition_of(track_id: str) -> int:
    return int(murmur2(track_id.encode()) & 0x7FFFFFFF) % PARTITIONS


async def test_a_stream_tells_of_each_change_of_its_track(api: ServedClient, feed: FeedWriter) -> None:
    """What came, what went, why, the offset and the list; other tracks' changes are not told."""
    async with stream(api, STREAM) as events:
        opened = await events.next()
        assert (events.status, opened["event"]) == (200, "open")
        assert opened["id"] == f"{_partition_of(TRACK)}:-1"
        await feed.change("test/00001", ["x"], [])
        partition, offset = await feed.change(TRACK, ["new"], ["old"])
        await feed.withdraw(TRACK)
        changed, withdrawn = await events.next(), await events.next()
    assert (changed["event"], changed["id"]) == ("change", f"{partition}:{offset}")
    assert changed["data"] == {
        "track_id": TRACK,
        "reason": "changed",
        "offset": {"partition": partition, "offset": offset},
        "added": ["new"],
        "removed": ["old"],
        "version": 2,
        "generated_at": "2026-02-03T00:00:00Z",
        "source": {"topic": "track-ingest", "partition": 1, "offset": 2},
        "space": "default",
        "generation": 1,
        "recommendations": [{"track_id": "other", "score": 0.5}, {"track_id": "new", "score": 0.25}],
    }
    assert (withdrawn["data"]["reason"], withdrawn["data"]["recommendations"]) == ("withdrawn", [])
    await until(lambda: api.context.feed is not None and api.context.feed.subscribers == 0)


async def test_a_stream_goes_on_where_it_was_after_a_restart(database: Database, feed: FeedWriter) -> None:
    """With Last-Event-ID another process tells what came meanwhile, each change once, then what comes."""
    served = Served(database, feed.settings, kafka_options=feed.options)
    tracks = [f"test/{number:05}" for number in range(200, 212)]
    async with serve(served) as first, stream(first, "/changes") as events:
        await events.next()
        for track_id in tracks[:4]:
            await feed.change(track_id, ["x"], [])
        seen = [await events.next() for _ in range(3)]
    for track_id in tracks[4:8]:
        await feed.change(track_id, ["x"], [])
    async with serve(served) as second, stream(second, "/changes", seen[-1]["id"]) as events:
        assert (await events.next())["id"] == seen[-1]["id"]
        for track_id in tracks[8:]:
            await feed.change(track_id, ["x"], [])
        rest = [await events.next() for _ in range(len(tracks) - 3)]
    told = [event["data"]["track_id"] for event in (*seen, *rest)]
    assert sorted(told) == tracks
    last = dict(part.split(":") for part in rest[-1]["id"].split(","))
    assert sum(int(offset) + 1 for offset in last.values()) == len(tracks)


async def test_a_stream_goes_on_when_another_generation_serves(
    database: Database, catalogue: ServedCatalogue, feed: FeedWriter
) -> None:
    """It keeps nothing of the old generation open, and changes outdate what memory has of the new one."""
    both = await make_two_generations(database, catalogue)
    async with serve(Served(database, feed.settings, kafka_options=feed.options)) as client:
        before = client.context
        assert before.feed is not None
        await before.feed.ready(20)
        before.recommending.bound = 0.2
        async with stream(client, STREAM) as events:
            await events.next()
            await both.promote(2)
            await until(before.pool.is_closing)
            assert both.check((await client.get(PATH)).json()) == 2
            await feed.change(TRACK, ["new"], [])
            assert (await events.next())["data"]["added"] == ["new"]
        assert client.context.memory.invalidated == 1
        assert (before.requests, client.context.requests, client.context.streams.open) == (0, 0, 0)


async def test_a_slow_reader_is_told_so_and_dropped(api: ServedClient, feed: FeedWriter) -> None:
    """Who takes nothing while more comes than is kept gets what was kept, then the end, and can come back."""
    async with stream(api, STREAM) as events:
        opened = await events.next()
        events.reading.clear()
        for number in range(120):
            await feed.change(TRACK, [f"n{number}"], [])
        assert api.context.feed is not None
        await until(lambda: sum(api.context.feed.positions.values()) == 120)  # type: ignore[union-attr]
        events.reading.set()
        told = [opened]
        while told[-1]["event"] != "end":
            told.append(await events.next())
    assert told[-1]["data"] == {"reason": "too-slow"}
    assert told[-1]["id"] == told[-2]["id"]
    assert 50 <= len(told) - 2 < 120
    async with stream(api, STREAM, told[-1]["id"]) as events:
        await events.next()
        rest = [await events.next() for _ in range(120 - (len(told) - 2))]
    assert rest[-1]["data"]["added"] == ["n119"]


async def test_readers_who_stop_reading_and_go_take_nothing_with_them(
    database: Database, feed: FeedWriter
) -> None:
    """However many come back, take nothing of what they missed and go: others are still told what they missed."""
    served = Served(database, feed.settings, kafka_options=feed.options)
    for number in range(300):
        await feed.change(TRACK, [f"n{number}"], [])
    partition = _partition_of(TRACK)
    async with serve(served) as client:
        assert client.context.feed is not None
        await client.context.feed.ready(20)
        async with contextlib.AsyncExitStack() as readers:
            for _ in range(12):
                reader = await readers.enter_async_context(stream(client, STREAM, f"{partition}:0"))
                await reader.next()
                reader.reading.clear()
            await _all_missed_are_told(client, partition)
        await _all_missed_are_told(client, partition)
        assert (client.context.streams.open, client.context.feed.subscribers) == (0, 0)


async def _all_missed_are_told(client: ServedClient, partition: int) -> None:
    async with stream(client, STREAM, f"{partition}:0") as events:
        told = [await events.next() for _ in range(300)]
    assert [event["data"]["added"] for event in told[1:]] == [[f"n{number}"] for number in range(1, 300)]


async def test_a_message_that_is_no_change_is_passed_over(api: ServedClient, feed: FeedWriter) -> None:
    """Rubbish in the feed neither ends the stream, nor comes back with each Last-Event-ID."""
    async with stream(api, STREAM) as events:
        opened = await events.next()
        for value in (b"{", b"[]", b'{"recommendations": 1}', b"\xff"):
            await feed.rubbish(TRACK, value)
        await feed.change(TRACK, ["x"], [])
        assert (await events.next())["data"]["added"] == ["x"]
    async with stream(api, STREAM, opened["id"]) as events:
        await events.next()
        assert (await events.next())["data"]["added"] == ["x"]
    unreadable = api.context.metrics.registry.get_sample_value("mess_api_feed_messages_unreadable_total")
    assert unreadable == 8


async def test_no_more_streams_are_open_than_may_be(database: Database, feed: FeedWriter) -> None:
    """Streams that are refused and streams that have ended count no more."""
    settings = feed.settings.model_copy(update={"max_streams": 2})
    async with serve(Served(database, settings, kafka_options=feed.options)) as client:
        for _ in range(3):
            async with stream(client, STREAM) as first, stream(client, "/changes") as second:
                await first.next()
                await second.next()
                problem_of(await client.get("/changes"), 503, "too-many-streams")


async def test_streams_end_when_the_process_stops(api: ServedClient) -> None:
    """At the end of the process each reader is told, and waits for nothing."""
    async with stream(api, "/changes") as events:
        await events.next()
        api.context.closing.set()
        assert (await events.next())["data"] == {"reason": "stopping"}


async def test_bad_streams_are_refused(api: ServedClient) -> None:
    """An unknown track and a Last-Event-ID that is none are problems, not streams."""
    problem_of(await api.get("/recommend/no%20such/stream"), 404, "track-not-found")
    for given in ("x", "1", "1:-2", "1:2,", "0:99999999999999999999"):
        response = await api.get("/changes", headers={"last-event-id": given})
        assert fields_of(problem_of(response, 422, "invalid-parameters")) == ["Last-Event-ID"]


async def _source_of(client: ServedClient, path: str = PATH) -> tuple[str, dict[str, object]]:
    """Where an answer came from, by the metrics, and its body."""
    registry = client.context.metrics.registry

    def counts() -> dict[str, float]:
        client.context.metrics.render()
        names = ("memory", "checked", "lists", "bodies", "workers", "fallback")
        return {
            name: registry.get_sample_value("mess_api_reads_total", {"source": name}) or 0 for name in names
        }

    before = counts()
    body = (await client.get(path)).json()
    (source,) = [name for name, count in counts().items() if count > before[name]]
    return source, body


async def _absorb(database: Database, client: ServedClient) -> None:
    """The worker takes in one more event; what the API knows of the store follows."""
    await database.execute(
        "UPDATE ingest_partitions SET consumed_offset = consumed_offset + 1 WHERE partition = 0"
    )
    await database.execute("UPDATE owner_progress SET absorbed[1] = absorbed[1] + 1")
    watch = client.context.recommending.watch
    tick = watch.tick
    await until(lambda: watch.tick > tick + 1)


async def test_memory_answers_until_a_list_changes(
    api: ServedClient, feed: FeedWriter, database: Database, catalogue: ServedCatalogue
) -> None:
    """The second read is from memory; after any event the version is looked at; a new list is read anew."""
    assert (await _source_of(api))[0] == "lists"
    assert (await _source_of(api))[0] == "memory"
    await _absorb(database, api)
    assert (await _source_of(api))[0] == "checked"
    assert (await _source_of(api))[0] == "memory"
    key = track_key(TRACK)
    await database.execute(
        "UPDATE neighbour_lists SET version = 9999, neighbours = neighbours[2:], scores = scores[2:] WHERE key = $1",
        key,
    )
    await feed.change(TRACK, [], ["x"])
    await until(lambda: api.context.memory.invalidated == 1)
    source, body = await _source_of(api)
    assert (source, body["recommendations"][0]["track_id"]) == ("lists", catalogue.expected(TRACK, 2)[1][0])


async def test_memory_follows_metadata_and_withdrawals(
    api: ServedClient, feed: FeedWriter, database: Database, catalogue: ServedCatalogue
) -> None:
    """A neighbour that is written or withdrawn takes with it what memory says of it."""
    neighbour = catalogue.expected(TRACK, 1)[0][0]
    await _source_of(api)
    track = catalogue.tracks[catalogue.by_id[neighbour]]
    await database.execute(
        "UPDATE tracks SET title = 'Renamed', source_partition = 0, source_offset = "
        "(SELECT consumed_offset FROM ingest_partitions WHERE partition = 0) WHERE key = $1",
        track.key,
    )
    await _absorb(database, api)
    source, body = await _source_of(api)
    assert (source, body["recommendations"][0]["title"]) == ("lists", "Renamed")
    await database.execute("DELETE FROM tracks WHERE key = $1", track.key)
    await feed.withdraw(neighbour)
    await until(lambda: len(api.context.memory) == 0)
    source, body = await _source_of(api)
    assert (source, body["recommendations"][0]["track_id"]) == ("lists", catalogue.expected(TRACK, 2)[1][0])


async def test_a_stale_body_is_served_and_asked_for_anew(database: Database, feed: FeedWriter) -> None:
    """A stale response is served at once, marked, while a worker computes another, which is read afterwards."""
    store = (
        "INSERT INTO materialised_recommendations (key, strategy, mode, variant, body, tag, members, list_version,"
        " outdated, generated_at, heat) VALUES ($1::bigint, 'popular', '', 0, $2, $3, ARRAY[$1::bigint], 124, $4, now(), 0)"
        " ON CONFLICT (key, strategy, mode, variant) DO UPDATE SET body = $2, tag = $3, outdated = $4"
    )

    def kept(note: str) -> bytes:
        body = body_of({"track_id": TRACK, "strategy": "popular"}, notes=[note])
        return b"%s}" % orjson.dumps({k: v for k, v in body.items() if k not in LAST})[:-1]

    path = f"{PATH}?strategy=popular"
    served = Served(database, feed.settings, kafka_options=feed.options)
    key = track_key(TRACK)
    async with answering(database) as worker, serve(served) as client:
        await database.execute(store, key, kept("old"), 'W/"old"', True)
        response = await client.get(path)
        assert (response.json()["notes"], response.json()["stale"], response.json()["cached"]) == (
            ["old"],
            True,
            True,
        )
        (request,) = await worker.asked(1)
        assert (request["track_id"], request["strategy"], request["hits"]) == (TRACK, "popular", 1)
        await database.execute(store, key, kept("new"), 'W/"new"', False)
        source, body = await _source_of(client, path)
        assert (source, body["notes"], body["stale"]) == ("bodies", ["new"], False)
        assert (await _source_of(client, path))[0] == "memory"
        assert len(worker.requests) == 1


@pytest.mark.parametrize("path", ["/changes", STREAM])
async def test_head_of_a_stream_is_its_headers_and_an_end(
    api: ServedClient, catalogue: ServedCatalogue, path: str
) -> None:
    """Nobody waits for a body that never comes, and no subscription is left behind."""
    async with asyncio.timeout(20):
        answer = await api.head(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.content == b""
    assert api.context.feed is not None
    assert (api.context.feed.subscribers, api.context.streams.open) == (0, 0)
