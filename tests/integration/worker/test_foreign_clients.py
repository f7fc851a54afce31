"""Clients that others use, at their defaults: they publish, delete, ask and get an answer, and read the change feed."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Protocol

import confluent_kafka
import numpy as np
import orjson
import pytest

from tests.integration.worker.conftest import Line
from tests.support.services import unique_name
from tests.support.worker import settle, track_message, wrong_lists

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[3]
Message = tuple[str, str | None]


class ForeignClient(Protocol):
    """What is asked of one."""

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        """Send keys and values, and wait for their delivery."""

    def read(self, topic: str) -> AsyncIterator[Message]:
        """Everything in a topic from its beginning, then what comes."""


class ConfluentClient:
    """confluent-kafka, which is librdkafka."""

    def __init__(self, servers: str) -> None:
        self._servers = servers

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        """See `ForeignClient`."""
        producer = confluent_kafka.Producer({"bootstrap.servers": self._servers})
        for key, value in messages:
            producer.produce(topic, value=None if value is None else value.encode(), key=key.encode())
        assert await asyncio.to_thread(producer.flush, 30) == 0

    async def read(self, topic: str) -> AsyncIterator[Message]:
        """See `ForeignClient`."""
        consumer = confluent_kafka.Consumer(
            {
                "bootstrap.servers": self._servers,
                "group.id": unique_name("foreign"),
                "auto.offset.reset": "earliest",
            }
        )
        consumer.subscribe([topic])
        try:
            while True:
                message = await asyncio.to_thread(consumer.poll, 0.5)
                if message is None:
                    continue
                assert message.error() is None, message.error()
                key, value = message.key(), message.value()
                yield key.decode(), None if value is None else value.decode()
        finally:
            await asyncio.to_thread(consumer.close)


class KafkajsClient:
    """kafkajs, in a process of Node.js."""

    def __init__(self, servers: str) -> None:
        self._command = ["node", str(ROOT / "tests" / "support" / "kafkajs_client.mjs"), servers]

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        """See `ForeignClient`."""
        lines = b"".join(orjson.dumps({"key": key, "value": value}) + b"\n" for key, value in messages)
        process = await asyncio.create_subprocess_exec(
            *self._command, "publish", topic, stdin=asyncio.subprocess.PIPE
        )
        await process.communicate(lines)
        assert process.returncode == 0

    async def read(self, topic: str) -> AsyncIterator[Message]:
        """See `ForeignClient`."""
        process = await asyncio.create_subprocess_exec(
            *self._command, "read", topic, stdout=asyncio.subprocess.PIPE, limit=1 << 24
        )
        assert process.stdout is not None
        try:
            async for line in process.stdout:
                message = orjson.loads(line)
                yield message["key"], message["value"]
            raise AssertionError("kafkajs has ended")
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


def kafkajs_client(servers: str) -> ForeignClient:
    """kafkajs, installed as the other tools of npm are; skipped where there is no npm."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("npm is missing: it brings kafkajs")
        pytest.skip("NOT TRIED: kafkajs, for want of npm")
    if not (ROOT / "node_modules" / "kafkajs").is_dir():
        subprocess.run(
            ["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=ROOT, check=True, timeout=300
        )
    return KafkajsClient(servers)


async def found(messages: AsyncIterator[Message], wanted: Callable[[Message], bool]) -> Message:
    """The first message that is wanted; the test's own timeout bounds the wait."""
    async with aclosing(messages):  # type: ignore[type-var]
        async for message in messages:
            if wanted(message):
                return message
    raise AssertionError("no such message")


@pytest.mark.timeout(240)
@pytest.mark.parametrize("make", [ConfluentClient, kafkajs_client])
async def test_a_foreign_client_publishes_deletes_asks_and_reads(
    line: Line, make: Callable[[str], ForeignClient]
) -> None:
    """Deletes reach their tracks wherever the client puts them, and what this project writes can be read."""
    if line.broker.kind != "kafka":
        pytest.skip("Tansu does not speak with every client")
    client, name = make(line.servers), unique_name("foreign")
    rng = np.random.default_rng(5)
    pairs = [track_message(f"{name}/{i}", rng.standard_normal(16)) for i in range(60)]
    await client.publish("track-ingest", [(key.decode(), value.decode()) for key, value in pairs])
    await settle(line.database_url, line.servers)
    gone = {f"{name}/{i}" for i in range(0, 60, 4)}
    await client.publish("track-ingest", [(track_id, None) for track_id in sorted(gone)])
    await settle(line.database_url, line.servers)
    assert await wrong_lists(line.database_url) == []

    request_id = unique_name("request")
    asked = {"request_id": request_id, "track_id": f"{name}/1", "strategy": "diverse", "top_k": 5}
    await client.publish("recommendation-requests", [(request_id, orjson.dumps(asked).decode())])
    _, reply = await found(client.read("recommendation-replies"), lambda message: message[0] == request_id)
    answer = orjson.loads(reply or b"")
    assert answer["status"] == "ok"
    assert not gone & {item["track_id"] for item in answer["recommendations"]}

    _, told = await found(client.read("recommendations"), lambda message: message[0] == f"{name}/1")
    assert orjson.loads(told or b"")["added"]
    deleted = f"{name}/0"
    assert await found(client.read("recommendations"), lambda message: message == (deleted, None))
