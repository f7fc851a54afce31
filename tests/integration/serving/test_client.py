"""The client, synchronous and asynchronous, against the API as a process of its own: over sockets, as users have it."""

import asyncio
import contextlib
import http.server
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import ClassVar

import orjson
import pytest
from aiokafka import AIOKafkaProducer
from mess_client import (
    AsyncMessClient,
    ConnectionFailedError,
    InvalidQuestionError,
    KeyRefusedError,
    MessClient,
    NotFoundError,
    Recommendations,
    Retries,
    UnavailableError,
)

from mess.stack.ports import pick_free
from tests.integration.serving.asking import PARTITIONS, FeedWriter, own_topics
from tests.integration.serving.catalogue import AWKWARD_IDS, ServedCatalogue, make_catalogue
from tests.integration.serving.conftest import SIZE, Database
from tests.integration.serving.process import Process, running_api
from tests.integration.serving.two_generations import add_generation, promote
from tests.support.services import KafkaBroker

pytestmark = pytest.mark.integration

TRACK = "test/00123"
ONCE = Retries(attempts=1)


async def _drain(running: Process) -> None:
    """Read what it logs, or it would stand still once the pipe is full."""
    assert running.process.stdout is not None
    while await running.process.stdout.readline():
        pass


@asynccontextmanager
async def api(database: Database, servers: str | None = None, **environment: str) -> AsyncIterator[str]:
    """An API over a database; yields where it is."""
    environment["MESS_API_ACCESS_LOG"] = "false"
    async with running_api(database.api_url, servers=servers, **environment) as running:
        url = await running.url()
        draining = asyncio.create_task(_drain(running))
        try:
            yield url
        finally:
            running.process.kill()
            await draining


async def test_both_clients_read_what_is_stored(database: Database, catalogue: ServedCatalogue) -> None:
    """Lists with any id, the catalogue page after page, names, strategies, health: each alike, and as it is stored."""
    stored = {track.track_id for track in catalogue.tracks}

    def synchronously(url: str) -> list[object]:
        with MessClient(url) as client:
            for track_id in AWKWARD_IDS:
                assert client.recommend(track_id, top_k=1).reference_track == track_id
                assert client.track(track_id).track_id == track_id
            ids = [track.track_id for track in client.tracks(page_size=70)]
            assert (len(ids), set(ids)) == (len(stored), stored)
            return [
                client.recommend(TRACK, top_k=50, exclude=["test/00001"]).track_ids,
                client.tracks_page(composer="Bach", limit=3),
                client.metadata(TRACK),
                client.composers(limit=2),
                client.tags(),
                client.strategies(),
                client.health().status,
                list(client.map_points(field="composer")),
            ]

    async with api(database) as url, AsyncMessClient(url) as client:
        found = await asyncio.to_thread(synchronously, url)
        for track_id in AWKWARD_IDS:
            expected = catalogue.expected(track_id, 5)
            recommended = (await client.recommend(track_id, top_k=5)).recommendations
            assert [each.track_id for each in recommended] == [name for name, _ in expected]
        assert [track.track_id async for track in client.tracks(page_size=70)] == sorted(stored)
        assert found == [
            (await client.recommend(TRACK, top_k=50, exclude=["test/00001"])).track_ids,
            await client.tracks_page(composer="Bach", limit=3),
            await client.metadata(TRACK),
            await client.composers(limit=2),
            await client.tags(),
            await client.strategies(),
            (await client.health()).status,
            [page async for page in client.map_points(field="composer")],
        ]


async def test_every_method_reads_in_the_space_that_is_named(database: Database) -> None:
    """Lists, tracks, names, the map and health of another space; one that there is not is said to be none."""
    other = make_catalogue(SIZE - 20, seed=21, ids=AWKWARD_IDS)
    name = await add_generation(database, "melody", other)
    await promote(database, name)
    expected = [track_id for track_id, _ in other.expected(TRACK, 5)]
    size = len(other.tracks)
    async with api(database) as url, AsyncMessClient(url, retries=ONCE) as client:
        assert [each.space for each in (await client.spaces()).spaces] == ["default", "melody"]
        one = await client.recommend(TRACK, top_k=5, space="melody")
        (many,) = await client.recommend_many([{"track_id": TRACK, "top_k": 5, "space": "melody"}])
        assert isinstance(many, Recommendations)
        assert one.track_ids == many.track_ids == expected
        assert (await client.track(TRACK, space="melody")).source.topic == name.topic
        assert len([track async for track in client.tracks(page_size=70, space="melody")]) == size
        assert (await client.tracks_page(limit=1, space="melody")).total == size
        assert (await client.metadata(TRACK, space="melody")).title == f"{one.reference_metadata.title}"  # type: ignore[union-attr]
        assert sum(each.count for each in (await client.composers(space="melody")).composers) < size
        assert (await client.tags(space="melody")).tags
        assert [page.space async for page in client.map_points(space="melody")] == ["melody"]
        report = await client.health(detailed=True, space="melody")
        assert report.checks["generation"].model_dump()["space"] == "melody"
        with pytest.raises(NotFoundError) as missing:
            await client.recommend(TRACK, space="mood")
        assert missing.value.kind == "unknown-space"


async def test_refusals_are_exceptions_that_say_why(database: Database) -> None:
    """Each of its own class, with the problem document's members; a batch's in its place."""
    async with api(database) as url, AsyncMessClient(url, retries=ONCE) as client:
        with pytest.raises(NotFoundError) as missing:
            await client.recommend("nothing")
        assert (missing.value.kind, missing.value.status) == ("track-not-found", 404)
        assert missing.value.request_id
        with pytest.raises(InvalidQuestionError, match="top_k") as wrong:
            await client.recommend(TRACK, top_k=51)
        assert [field.field for field in wrong.value.fields] == ["top_k"]
        with pytest.raises(UnavailableError) as away:
            await client.recommend(TRACK, strategy="diverse")
        assert (away.value.kind, away.value.retry_after is not None) == ("no-worker", True)
        answers = await client.recommend_many([{"track_id": TRACK}, {"track_id": "nothing"}])
        assert isinstance(answers[0], Recommendations)
        assert isinstance(answers[1], NotFoundError)
    with (
        MessClient(url, retries=ONCE) as gone,
        pytest.raises(ConnectionFailedError, match="cannot be reached"),
    ):
        gone.health()


async def test_a_key_is_sent_with_every_request(database: Database) -> None:
    """Without it what needs one is refused."""
    async with api(database, MESS_API_REQUIRE_KEYS="true") as url:
        for key in (None, "mess_nonsense"):
            async with AsyncMessClient(url, key=key, retries=ONCE) as client:
                with pytest.raises(KeyRefusedError, match="key-missing" if key is None else "key-invalid"):
                    await client.composers()
                with pytest.raises(KeyRefusedError):
                    async with client.changes() as changes:
                        await anext(changes)


class _Scripted(http.server.BaseHTTPRequestHandler):
    """Answers by a script, one entry a request: a server that is sick in ways that a well one cannot be made to be."""

    script: ClassVar[list[tuple[int, dict[str, str], bytes] | None]] = []
    asked: ClassVar[list[float]] = []

    def do_GET(self) -> None:
        """Answer with the next entry; None: hang up."""
        self.asked.append(time.monotonic())
        entry = self.script.pop(0)
        if entry is None:
            self.close_connection = True
            return
        status, headers, body = entry
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def scripted(*script: tuple[int, dict[str, str], bytes] | None) -> Iterator[tuple[str, list[float]]]:
    """A server that answers by a script; yields where it is, and when it was asked."""
    _Scripted.script, _Scripted.asked = list(script), []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Scripted) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", _Scripted.asked
        finally:
            server.shutdown()
            thread.join()


def _problem(status: int, kind: str) -> bytes:
    return orjson.dumps(
        {"type": f"urn:mess-ai:problem:{kind}", "title": kind, "status": status, "detail": kind}
    )


COMPOSERS = (200, {}, b'{"composers":[],"total":0}')


def test_what_may_pass_is_waited_for() -> None:
    """A broken connection, a proxy without a backend, a refusal with `Retry-After`: then the answer."""
    busy = (503, {"retry-after": "1"}, _problem(503, "too-busy"))
    with scripted(None, (502, {}, b"<h1>Bad gateway</h1>"), busy, COMPOSERS) as (url, asked):
        with MessClient(url, retries=Retries(first_wait=0.01)) as client:
            assert client.composers().total == 0
        assert len(asked) == 4
        assert asked[3] - asked[2] >= 1.0


async def test_what_asks_for_more_patience_than_there_is_is_raised_at_once() -> None:
    """Asking earlier than the API wants would only add to what it has to do."""
    with scripted((429, {"retry-after": "60"}, _problem(429, "too-many-requests"))) as (url, asked):
        async with AsyncMessClient(url) as client:
            with pytest.raises(Exception, match="too-many-requests") as refused:
                await client.composers()
        assert (refused.value.retry_after, len(asked)) == (60.0, 1)  # type: ignore[attr-defined]


async def test_a_stream_goes_on_behind_what_was_seen(database: Database, kafka_broker: KafkaBroker) -> None:
    """Through the end that the API sets, through the death of its process, and in another process: each change once."""
    settings = await own_topics(kafka_broker)
    (port,) = pick_free(1)
    environment = {
        "MESS_API_PORT": str(port),
        "MESS_API_CHANGES_TOPIC": settings.changes_topic,
        "MESS_API_STREAM_LIFETIME": "2",
    }
    servers = kafka_broker.bootstrap_servers
    tracks = [f"test/{number:05}" for number in range(200, 230)]
    producer = AIOKafkaProducer(bootstrap_servers=servers)
    await producer.start()
    feed = FeedWriter(producer, settings, kafka_broker)
    patient = Retries(attempts=60, first_wait=0.1, longest_wait=1.0)
    told: list[str] = []
    try:
        async with AsyncMessClient(f"http://127.0.0.1:{port}", retries=patient) as client:
            beginning = ",".join(f"{partition}:-1" for partition in range(PARTITIONS))
            async with client.changes(last_event_id=beginning) as changes:
                for part in (tracks[:10], tracks[10:20]):  # before and after the death of the process
                    async with api(database, servers, **environment), asyncio.timeout(60):
                        for track_id in part[:5]:
                            await feed.change(track_id, ["x"], [])
                        told += [(await anext(changes)).track_id for _ in part[:5]]
                        await asyncio.sleep(2.1)  # the stream has been ended meanwhile
                        for track_id in part[5:]:
                            await feed.change(track_id, ["x"], [])
                        told += [(await anext(changes)).track_id for _ in part[5:]]
            for track_id in tracks[20:]:
                await feed.change(track_id, ["x"], [])

        def elsewhere(url: str) -> list[str]:
            with (
                MessClient(url) as another,
                another.changes(last_event_id=changes.last_event_id) as following,
            ):
                return [next(following).track_id for _ in tracks[20:]]

        async with api(database, servers, **environment) as url:
            told += await asyncio.to_thread(elsewhere, url)
    finally:
        await producer.stop()
    assert sorted(told) == tracks


async def test_a_stream_of_one_track_has_its_list(database: Database, kafka_broker: KafkaBroker) -> None:
    """Whole with each change, and nothing of other tracks."""
    settings = await own_topics(kafka_broker)
    producer = AIOKafkaProducer(bootstrap_servers=kafka_broker.bootstrap_servers)
    await producer.start()
    feed = FeedWriter(producer, settings, kafka_broker)
    try:
        async with (
            api(
                database,
                kafka_broker.bootstrap_servers,
                MESS_API_CHANGES_TOPIC=settings.changes_topic,
            ) as url,
            AsyncMessClient(url) as client,
        ):
            seen = ",".join(f"{partition}:-1" for partition in range(PARTITIONS))
            await feed.change("test/00001", ["x"], [])
            await feed.change(TRACK, ["new"], ["old"])
            await feed.withdraw(TRACK)
            async with client.track_changes(TRACK, last_event_id=seen) as changes, asyncio.timeout(30):
                changed, withdrawn = await anext(changes), await anext(changes)
            assert [each.track_id for each in changed.recommendations or ()] == ["other", "new"]
            assert (changed.added, changed.removed) == (["new"], ["old"])
            assert (withdrawn.track_id, withdrawn.reason) == (TRACK, "withdrawn")
            with pytest.raises(NotFoundError):
                async with client.track_changes("nothing") as nothing:
                    await anext(nothing)
    finally:
        await producer.stop()
