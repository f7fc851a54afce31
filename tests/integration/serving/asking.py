"""Topics of a test's own, whoever answers on them, and streams of events read without a socket."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from serving.settings import ServingSettings
from streams.contracts import encode_list_change
from tests.integration.serving.conftest import Client
from tests.support.polling import until
from tests.support.services import KafkaBroker, unique_name

PARTITIONS = 2


async def own_topics(broker: KafkaBroker, **settings: Any) -> ServingSettings:
    """Settings of an API with topics and a group that no other test uses; the topics are there."""
    names = {
        name: unique_name(name.replace("_", "-"))
        for name in ("requests_topic", "replies_topic", "changes_topic", "worker_group")
    }
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics(
            [NewTopic(name, PARTITIONS, 1) for key, name in names.items() if key.endswith("topic")]
        )
    finally:
        await admin.close()
    return ServingSettings(health_ttl=0, **names, **settings)


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


class Answering:
    """A worker in a nutshell: a member of the workers' group that answers as it is told.

    Attributes:
        requests: Everything asked so far.
        reply: Members of the reply to a request; None for no reply.
        seconds: What it takes for each request, one after the other.
    """

    def __init__(self, settings: ServingSettings, producer: AIOKafkaProducer) -> None:
        self.requests: list[dict[str, Any]] = []
        self.reply: Reply = lambda request: {"status": "ok", **body_of(request)}
        self.seconds = 0.0
        self._settings = settings
        self._producer = producer
        self._asked = asyncio.Condition()

    async def take(self, value: bytes) -> None:
        """Answer one request."""
        request = orjson.loads(value)
        async with self._asked:
            self.requests.append(request)
            self._asked.notify_all()
        await asyncio.sleep(self.seconds)
        if (members := self.reply(request)) is not None:
            await self.send(request["request_id"], members)

    async def send(self, request_id: str, members: dict[str, Any]) -> None:
        """Send a reply."""
        value = orjson.dumps({"request_id": request_id, **members})
        await self._producer.send_and_wait(self._settings.replies_topic, key=request_id.encode(), value=value)

    async def asked(self, count: int) -> list[dict[str, Any]]:
        """The requests, once there are so many."""
        async with asyncio.timeout(20), self._asked:
            await self._asked.wait_for(lambda: len(self.requests) >= count)
        return self.requests


@asynccontextmanager
async def answering(broker: KafkaBroker, settings: ServingSettings) -> AsyncIterator[Answering]:
    """Answer what `settings` says is asked, as the one worker that there is."""
    options = {"bootstrap_servers": broker.bootstrap_servers}
    consumer = AIOKafkaConsumer(
        settings.requests_topic, **options, group_id=settings.worker_group, auto_offset_reset="earliest"
    )
    producer = AIOKafkaProducer(**options)
    await consumer.start()
    await producer.start()
    worker = Answering(settings, producer)

    async def work() -> None:
        async for message in consumer:
            await worker.take(message.value)

    task = asyncio.create_task(work())
    try:
        await until(lambda: bool(consumer.assignment()))
        yield worker
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await producer.stop()
        await consumer.stop()


class Feed:
    """Publishes changes as a worker does."""

    def __init__(self, producer: AIOKafkaProducer, settings: ServingSettings, broker: KafkaBroker) -> None:
        self.settings = settings
        self.options = {"bootstrap_servers": broker.bootstrap_servers}
        self._producer = producer
        self._version = 0

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
        sent = await self._producer.send_and_wait(self.settings.changes_topic, key=key, value=value)
        return sent.partition, sent.offset

    async def rubbish(self, track_id: str, value: bytes) -> None:
        """Somebody else has written to the topic."""
        await self._producer.send_and_wait(self.settings.changes_topic, key=track_id.encode(), value=value)

    async def withdraw(self, track_id: str) -> None:
        """A track is gone."""
        await self._producer.send_and_wait(self.settings.changes_topic, key=track_id.encode(), value=None)


class Stream:
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
async def stream(client: Client, path: str, last_event_id: str | None = None) -> AsyncIterator[Stream]:
    """Open a stream; the reader leaves at the end of the block."""
    made = Stream()
    given = [] if last_event_id is None else [(b"last-event-id", last_event_id.encode())]

    async def receive() -> dict[str, Any]:
        await made.left.wait()
        return {"type": "http.disconnect"}

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
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
