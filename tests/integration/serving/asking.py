"""Helpers: a topic of a test's own, a worker that answers questions, and event streams without a socket."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import orjson
from aiohttp import web
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from serving.settings import ServingSettings
from streams.contracts import encode_list_change
from streams.generations import GenerationName
from tests.integration.serving.conftest import Database, ServedClient
from tests.support.services import KafkaBroker, unique_name

PARTITIONS = 2
# Those that have a feed.
SPACES = ("default", "melody")
TOKEN = "shown-by-who-asks"


async def own_topics(broker: KafkaBroker, **settings: Any) -> ServingSettings:
    """Settings of an API with a change feed that no other test uses; the topic is there."""
    name = unique_name("changes-topic")
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    await admin.start()
    try:
        topics = [GenerationName(space).feed_topic(name) for space in SPACES]
        await admin.create_topics([NewTopic(each, PARTITIONS, 1) for each in topics])
    finally:
        await admin.close()
    return ServingSettings(health_ttl=0, changes_topic=name, **settings)


def body_of(request: dict[str, Any], **members: Any) -> dict[str, Any]:
    """A body that answers a request, as short as the contract allows."""
    return {
        "reference_track": request.get("track_id"),
        "reference_metadata": None,
        "strategy": request.get("strategy", "similarity"),
        "mode": request.get("mode"),
        "generated_at": "2026-02-03T04:05:06Z",
        "recommendations": [],
        "cached": False,
        "stale": False,
        "computation_time_ms": 1.5,
        **members,
    }


Reply = Callable[[dict[str, Any]], dict[str, Any] | None]


class AnsweringServer:
    """A worker in a nutshell: a server that answers as it is told, to who shows its token.

    Attributes:
        requests: Everything asked so far.
        reply: Members of the reply to a request; None for no reply.
        seconds: What it takes for each request, one after the other.
        status: With which HTTP status; other than 200 it takes no request.
    """

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.reply: Reply = lambda request: {"status": "ok", **body_of(request)}
        self.seconds = 0.0
        self.status = 200
        self._asked = asyncio.Condition()
        self._turn = asyncio.Lock()

    async def take(self, received: web.Request) -> web.Response:
        """Answer one request."""
        if received.headers.get("authorization") != f"Bearer {TOKEN}":
            return web.Response(status=401)
        if self.status != 200:
            return web.Response(status=self.status)
        request = orjson.loads(await received.read())
        async with self._asked:
            self.requests.append(request)
            self._asked.notify_all()
        async with self._turn:
            await asyncio.sleep(self.seconds)
        members = self.reply(request)
        while members is None:
            await asyncio.sleep(0.05)
            members = self.reply(request)
        return web.Response(body=orjson.dumps({"request_id": request["request_id"], **members}))

    async def asked(self, count: int) -> list[dict[str, Any]]:
        """The requests, once there are so many."""
        async with asyncio.timeout(20), self._asked:
            await self._asked.wait_for(lambda: len(self.requests) >= count)
        return self.requests


@asynccontextmanager
async def listening(worker: AnsweringServer) -> AsyncIterator[str]:
    """Let a worker listen on loopback; yields where."""
    app = web.Application()
    app.router.add_post("/questions", worker.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/questions"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def answering(database: Database, name: str = "nutshell") -> AsyncIterator[AnsweringServer]:
    """Answer what is asked of a worker, which the store names; afterwards it is gone without notice."""
    worker = AnsweringServer()
    async with listening(worker) as url:
        await database.execute(
            "INSERT INTO worker_lives (worker, owner, questions_url, questions_token) VALUES ($1, $1, $2, $3)",
            name,
            url,
            TOKEN,
        )
        yield worker


class FeedWriter:
    """Publishes changes as a worker does."""

    def __init__(
        self,
        producer: AIOKafkaProducer,
        settings: ServingSettings,
        broker: KafkaBroker,
        space: str = "default",
    ) -> None:
        self.settings = settings
        self._topic = GenerationName(space).feed_topic(settings.changes_topic)
        self.options = {"bootstrap_servers": broker.bootstrap_servers}
        self._broker = broker
        self._producer = producer
        self._version = 0

    def of_space(self, space: str) -> "FeedWriter":
        """One that publishes changes of another space."""
        return FeedWriter(self._producer, self.settings, self._broker, space)

    async def change(self, track_id: str, added: list[str], removed: list[str]) -> tuple[int, int]:
        """A track's list has changed; returns partition and offset."""
        self._version += 1
        key, value = encode_list_change(
            track_id,
            version=self._version,
            neighbours=["other", *added],
            scores=[b"0.5", *[b"0.25"] * len(added)],
            added=added,
            removed=removed,
            source=("track-ingest", 1, self._version),
            generated_at=datetime(2026, 2, 3, tzinfo=UTC),
        )
        sent = await self._producer.send_and_wait(self._topic, key=key, value=value)
        return sent.partition, sent.offset

    async def rubbish(self, track_id: str, value: bytes) -> None:
        """Somebody else has written to the topic."""
        await self._producer.send_and_wait(self._topic, key=track_id.encode(), value=value)

    async def withdraw(self, track_id: str) -> None:
        """A track is gone."""
        await self._producer.send_and_wait(self._topic, key=track_id.encode(), value=None)


class EventReader:
    """One stream of server-sent events as its reader sees it.

    Attributes:
        status: HTTP status.
        reading: Clear it and the reader takes nothing more.
    """

    def __init__(self) -> None:
        self.status = 0
        self.reading = asyncio.Event()
        self.reading.set()
        self.left = asyncio.Event()
        self._chunks: asyncio.Queue[bytes] = asyncio.Queue()
        self._rest = b""

    async def send(self, message: Any) -> None:
        """What the application sends."""
        await self.reading.wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self._chunks.put_nowait(message.get("body", b""))

    async def next(self) -> dict[str, Any]:
        """The next event: its `event`, `id`, and `data` read as JSON; comments are passed over."""
        async with asyncio.timeout(20):
            while True:
                while b"\n\n" not in self._rest:
                    self._rest += await self._chunks.get()
                text, _, self._rest = self._rest.partition(b"\n\n")
                if text.startswith(b":"):
                    continue
                fields = dict(line.split(b": ", 1) for line in text.split(b"\n"))
                data = orjson.loads(fields.pop(b"data"))
                return {**{key.decode(): value.decode() for key, value in fields.items()}, "data": data}


@asynccontextmanager
async def stream(
    client: ServedClient, path: str, last_event_id: str | None = None
) -> AsyncIterator[EventReader]:
    """Open a stream; the reader leaves at the end of the block."""
    made = EventReader()
    given = [] if last_event_id is None else [(b"last-event-id", last_event_id.encode())]

    async def receive() -> dict[str, Any]:
        await made.left.wait()
        return {"type": "http.disconnect"}

    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": given,
    }
    task = asyncio.create_task(client.app(scope, receive, made.send))  # type: ignore[arg-type]
    try:
        yield made
    finally:
        made.left.set()
        made.reading.set()
        async with asyncio.timeout(10):
            await task


@asynccontextmanager
async def own_feed(broker: KafkaBroker) -> AsyncIterator[FeedWriter]:
    """A change feed of `default`, and one of `melody`, of one test's own."""
    settings = await own_topics(broker, stream_backlog=50)
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers)
    await producer.start()
    try:
        yield FeedWriter(producer, settings, broker)
    finally:
        await producer.stop()
