"""Producers that write in transactions: what is committed counts, and nothing else; markers leave no lag."""

import asyncio
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import numpy as np
import orjson
import pytest
from aiokafka import AIOKafkaProducer

from mess.stack.topic_lag import read_lags
from serving.kafka.broker import KafkaLogEnds
from streams.kafka.topics import TRACK_INGEST
from tests.integration.worker.conftest import Line
from tests.support.services import require_kafka, unique_name
from tests.support.worker import track_message, wrong_lists

pytestmark = pytest.mark.integration

DIMENSION = 8


@pytest.fixture(autouse=True, scope="module")
def _apache_kafka() -> None:
    """Tansu has no transactions."""
    require_kafka()


@asynccontextmanager
async def transactional(line: Line) -> AsyncIterator[AIOKafkaProducer]:
    """A producer that writes in transactions."""
    producer = AIOKafkaProducer(bootstrap_servers=line.servers, transactional_id=unique_name("transaction"))
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def send(producer: AIOKafkaProducer, prefix: str, count: int) -> None:
    """Send so many tracks, and wait until the broker has them."""
    vectors = np.random.default_rng(len(prefix)).standard_normal((count, DIMENSION))
    messages = [track_message(f"{prefix}/{i}", vector) for i, vector in enumerate(vectors)]
    await asyncio.gather(
        *[await producer.send(TRACK_INGEST, key=key, value=value) for key, value in messages]
    )


async def known(line: Line) -> set[str]:
    """What the names in the catalogue begin with."""
    connection = await asyncpg.connect(line.database_url)
    try:
        return {row[0] for row in await connection.fetch("SELECT split_part(track_id, '/', 1) FROM tracks")}
    finally:
        await connection.close()


async def lags(line: Line) -> list[int | None]:
    """How far the store is behind, as everyone who says so says: the worker, the API's health, `mess status`."""
    options = {"bootstrap_servers": line.servers}
    connection = await asyncpg.connect(line.database_url)
    ends = KafkaLogEnds(options, timeout=10)
    try:
        rows = await connection.fetch("SELECT partition, consumed_offset FROM ingest_partitions")
        consumed: dict[int, int] = {row[0]: row[1] for row in rows}
        health = sum(
            max(0, end - consumed.get(p, 0)) for p, end in (await ends.end_offsets(TRACK_INGEST)).items()
        )
        (status,) = (lag for lag in await read_lags(options, consumed) if lag.topic == TRACK_INGEST)
    finally:
        await ends.close()
        await connection.close()
    metrics = await asyncio.to_thread(line.worker.metrics)
    return [int(metrics["mess_ingest_lag_events"]), health, status.lag]


async def no_lag(line: Line) -> bool:
    """Whether nobody sees any; not as long as the worker is starting."""
    try:
        return await lags(line) == [0, 0, 0]
    except (OSError, KeyError):
        return False


def liveness(line: Line) -> dict[str, object]:
    """What the worker says of itself."""
    with urllib.request.urlopen(f"http://127.0.0.1:{line.worker.port}/live", timeout=5) as reply:
        told: dict[str, object] = orjson.loads(reply.read())
    return told


async def until(condition, line: Line, seconds: float = 40) -> None:  # type: ignore[no-untyped-def]
    """Wait until a condition on the line holds."""
    deadline = time.monotonic() + seconds
    while not await condition(line):
        assert time.monotonic() < deadline, f"only {await known(line)} are known"
        await asyncio.sleep(0.2)


async def test_committed_aborted_and_open_transactions(line: Line) -> None:
    """Aborted tracks never exist, open ones not yet; whatever a log ends with, silence after it leaves no lag."""
    async with transactional(line) as producer:
        await producer.begin_transaction()
        await send(producer, "committed", 40)
        await producer.commit_transaction()
        await until(no_lag, line)
        assert await known(line) == {"committed"}

        await producer.begin_transaction()
        await send(producer, "aborted", 30)
        await producer.abort_transaction()
        await until(no_lag, line)
        assert await known(line) == {"committed"}

        await producer.begin_transaction()
        await send(producer, "open", 10)
        await until(no_lag, line)
        assert await known(line) == {"committed"}
        await producer.commit_transaction()

        async def opened(line: Line) -> bool:
            return await known(line) == {"committed", "open"} and await no_lag(line)

        await until(opened, line)
    assert await wrong_lists(line.database_url) == []
    assert (await asyncio.to_thread(liveness, line))["status"] == "live"


async def test_a_worker_that_starts_before_nothing_but_markers_has_no_lag(line: Line) -> None:
    """What a transaction left behind while no worker ran is passed over by the next one."""
    line.worker.stop()
    async with transactional(line) as producer:
        await producer.begin_transaction()
        await send(producer, "unseen", 30)
        await producer.abort_transaction()
    line.worker.start()

    await until(no_lag, line)
    assert "unseen" not in await known(line)
