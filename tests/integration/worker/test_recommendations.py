"""Requests and interactions through a real broker and a worker: what any Kafka client can do."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from streams.contracts import RecommendationReply, track_key
from streams.strategies import registry
from tests.integration.worker.conftest import Line
from tests.integration.worker.over_http import check_all
from tests.support.polling import until
from tests.support.services import PostgresServer, unique_name
from tests.support.worker import publish, read_topic, settle, track_message

pytestmark = pytest.mark.integration

TRACKS = 90
VECTORS = np.random.default_rng(5).standard_normal((TRACKS, 12)).astype(np.float32)


def name_of(number: int) -> str:
    """The id of a track."""
    return f"rec/{number:03}"


class TopicClient:
    """Asks over Kafka and reads the replies, as any client of the topics can."""

    def __init__(self, producer: AIOKafkaProducer, consumer: AIOKafkaConsumer) -> None:
        self._producer = producer
        self._consumer = consumer
        self.raw: dict[str, list[bytes]] = {}

    async def send(self, value: bytes, key: str | None, partition: int | None = None) -> None:
        """Publish a request as it is."""
        delivery = await self._producer.send(
            "recommendation-requests", value, key=None if key is None else key.encode(), partition=partition
        )
        await delivery

    async def put(self, **fields: Any) -> str:
        """Publish a request; returns its id."""
        request_id = fields.setdefault("request_id", unique_name("r"))
        await self.send(json.dumps(fields).encode(), request_id)
        return str(request_id)

    async def look(self) -> None:
        """Read the replies that have come."""
        for records in (await self._consumer.getmany(timeout_ms=200)).values():
            for record in records:
                self.raw.setdefault(record.key.decode(), []).append(record.value)

    async def replies(self, request_id: str, count: int = 1) -> list[RecommendationReply]:
        """Wait for so many replies to a request."""
        while len(self.raw.get(request_id, [])) < count:
            await self.look()
        return [RecommendationReply.model_validate_json(value) for value in self.raw[request_id]]

    async def ask(self, **fields: Any) -> RecommendationReply:
        """Publish a request and wait for its reply."""
        return (await self.replies(await self.put(**fields)))[0]


@asynccontextmanager
async def client_of(line: Line) -> AsyncIterator[TopicClient]:
    """A client that sees the replies from now on."""
    producer = AIOKafkaProducer(bootstrap_servers=line.servers)
    consumer = AIOKafkaConsumer(
        "recommendation-replies", bootstrap_servers=line.servers, auto_offset_reset="earliest"
    )
    await producer.start()
    await consumer.start()
    try:
        yield TopicClient(producer, consumer)
    finally:
        await consumer.stop()
        await producer.stop()


@pytest.fixture(scope="module")
def worker_settings() -> dict[str, str]:
    """A worker whose recommendations follow what happens at once."""
    return {
        "MESS_RECOMMENDER_POPULARITY_WINDOW_SECONDS": "0.2",
        "MESS_RECOMMENDER_REFRESHES_PER_SECOND": "100",
    }


async def test_requests_over_kafka_are_answered(line: Line) -> None:
    """Every strategy; what is asked again under its id has the same reply; what is wrong is told, or a dead letter."""
    await publish(
        line.servers,
        [
            track_message(name_of(i), VECTORS[i], title=f"Title {i}", composer=f"Composer {i % 7}")
            for i in range(TRACKS)
        ],
    )
    await settle(line.database_url, line.servers)
    async with client_of(line) as client:
        # The search is loaded after the first track has come.
        await until(lambda: _searchable(client))
        for strategy in (each.name for each in registry.STRATEGIES):
            reply = await client.ask(track_id=name_of(1), strategy=strategy)
            assert reply.error is None, reply.error
            assert len(reply.recommendations or []) == 10
            assert name_of(1) not in {item.track_id for item in reply.recommendations or []}

        request_id = await client.put(track_id=name_of(2), strategy="diverse", exclude=["x"])
        await client.replies(request_id)
        await client.put(request_id=request_id, track_id=name_of(2), strategy="diverse", exclude=["x"])
        await client.replies(request_id, 2)
        assert client.raw[request_id][0] == client.raw[request_id][1]
        await client.put(request_id=request_id, track_id=name_of(3))
        other = (await client.replies(request_id, 3))[2]
        assert other.error is not None
        assert other.error.status == 409

        unknown = await client.ask(track_id="rec/none")
        assert unknown.error is not None
        assert unknown.error.status == 404
        wrong = await client.ask(track_id=name_of(1), top_k=51)
        assert wrong.error is not None
        assert (wrong.error.status, wrong.error.errors[0].field) == (422, "top_k")
        await client.send(b"not JSON", "by-key")
        assert (await client.replies("by-key"))[0].status == "error"
        await client.send(b"no JSON, no key", None)

        async def buried() -> bool:
            letters = await read_topic(line.servers, "dead-letters")
            return [record.value for record in letters] == [b"no JSON, no key"]

        await until(buried)


async def _searchable(client: TopicClient) -> bool:
    return (await client.ask(track_id=name_of(0), strategy="diverse")).status == "ok"


def play(number: int, **fields: Any) -> tuple[bytes, bytes]:
    """An interaction."""
    event = {"track_id": name_of(number), "type": "play", **fields}
    return name_of(number).encode(), json.dumps(event).encode()


async def test_listening_moves_popular(line: Line) -> None:
    """Plays count once however often they are delivered; late ones less; the list of `popular` follows."""
    async with client_of(line) as client:
        asked = {"track_id": name_of(1), "strategy": "popular", "parameters": {"weight": 1.0}}
        before = await client.ask(**asked)
        last = (before.recommendations or [])[-1].track_id
        number = int(last.split("/")[1])
        await publish(
            line.servers,
            [
                *[play(number, event_id=f"e{i % 8}") for i in range(24)],
                play(number, user_id="u", event_time="2020-01-01T00:00:00Z"),
                play(number, user_id="u", event_time="2020-01-01T00:00:00Z"),
                (name_of(number).encode(), b'{"type": "play"}'),
            ],
            "track-interactions",
        )

        async def first() -> bool:
            reply = await client.ask(**asked)
            return (reply.recommendations or [])[0].track_id == last

        await until(first)
        value, count = await popularity(line, number)
        # Eight just now; the one of years ago counts next to nothing.
        assert value == pytest.approx(8, abs=1e-3)
        assert count == pytest.approx(8, abs=1e-3)
        # The last of them may come in a batch of their own.
        await until(lambda: _counted(line, "duplicate") >= 17 and _counted(line, "refused") >= 1)
        assert (_counted(line, "duplicate"), _counted(line, "refused")) == (17, 1)


def _counted(line: Line, outcome: str) -> float:
    return line.worker.metrics().get(f"mess_interactions_total{{outcome={outcome}}}", 0.0)


async def popularity(line: Line, number: int) -> tuple[float, float]:
    """What is stored of a track's interactions."""
    connection = await asyncpg.connect(line.database_url)
    try:
        row = await connection.fetchrow(
            "SELECT value, count FROM popularity WHERE key = $1", track_key(name_of(number))
        )
        assert row is not None
        return row[0], row[1]
    finally:
        await connection.close()


async def test_kept_bodies_follow_the_catalogue(line: Line) -> None:
    """A materialised response is refreshed when a nearer track comes, and deleted with a track that it names."""
    key = track_key(name_of(4))

    async def body() -> str | None:
        connection = await asyncpg.connect(line.database_url)
        try:
            found = await connection.fetchval(
                "SELECT convert_from(body, 'UTF8') FROM materialised_recommendations "
                "WHERE key = $1 AND strategy = 'diverse'",
                key,
            )
            return None if found is None else str(found)
        finally:
            await connection.close()

    async with client_of(line) as client:
        await client.ask(track_id=name_of(4), strategy="diverse")

        async def kept() -> bool:
            return "rec/999" in (await body() or "")

        async def gone() -> bool:
            return "rec/999" not in (await body() or "")

        await publish(line.servers, [track_message("rec/999", VECTORS[4] + 0.01, title="New")])
        await until(kept)
        assert "rec/999" in {
            item.track_id
            for item in (await client.ask(track_id=name_of(4), strategy="diverse")).recommendations or []
        }
        await publish(line.servers, [(b"rec/999", None)])
        await until(gone)
        await settle(line.database_url, line.servers)
        reply = await client.ask(track_id=name_of(4), strategy="diverse")
        assert "rec/999" not in {item.track_id for item in reply.recommendations or []}
        missing = await client.ask(track_id="rec/999")
        assert missing.error is not None
        assert missing.error.status == 404


async def test_a_worker_that_died_owes_nothing(line: Line) -> None:
    """Requests that came while it was away are answered, interactions counted once, when it is back."""
    before = await popularity_or_none(line, 7)
    async with client_of(line) as client:
        await publish(line.servers, [play(7) for _ in range(5)], "track-interactions")

        async def counted() -> bool:
            return await popularity_or_none(line, 7) != before

        await until(counted)
        line.worker.kill()
        waiting = [await client.put(track_id=name_of(i)) for i in range(5)]
        await publish(line.servers, [play(7) for _ in range(5)], "track-interactions")
        line.worker.start()
        for request_id in waiting:
            assert (await client.replies(request_id))[0].error is None

        async def all_counted() -> bool:
            found = await popularity_or_none(line, 7)
            return found is not None and found > 9.9

        await until(all_counted)
        assert await popularity_or_none(line, 7) == pytest.approx(10, abs=1e-3)
    await asyncio.sleep(0)


async def popularity_or_none(line: Line, number: int) -> float | None:
    """The stored value of a track's interactions."""
    connection = await asyncpg.connect(line.database_url)
    try:
        found = await connection.fetchval(
            "SELECT value FROM popularity WHERE key = $1", track_key(name_of(number))
        )
        return None if found is None else float(found)
    finally:
        await connection.close()


async def test_the_api_asks_the_worker(line: Line, postgres_server: PostgresServer) -> None:
    """Over HTTP: every strategy computed once and kept, questions, explanations, own writes read and pushed."""
    await check_all(line, postgres_server, [name_of(1), name_of(2)], VECTORS[1] + 0.01)
