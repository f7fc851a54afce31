"""A worker that is killed and started again takes its own partitions, and nobody else hears of it."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import numpy as np
import pytest

from streams.contracts import RecommendationReply
from tests.faults.history import History
from tests.integration.serving.conftest import serve
from tests.integration.worker.conftest import Line, owners
from tests.integration.worker.over_http import served
from tests.integration.worker.test_recommendations import TopicClient, client_of
from tests.integration.worker.test_rolling_restart import COMPUTED, Readers, under_load
from tests.support.polling import until
from tests.support.services import PostgresServer
from tests.support.worker import WorkerProcess, publish, settle, wrong_lists

pytestmark = pytest.mark.integration

REQUEST_PARTITIONS = 8
# Longer than a busy machine takes to start a worker again.
SETTINGS = {"MESS_SESSION_TIMEOUT_SECONDS": "60"}


@pytest.fixture(scope="module")
def worker_settings() -> dict[str, str]:
    """A worker whose session outlives the test."""
    return SETTINGS


async def held(line: Line) -> dict[str, dict[int, int]]:
    """By owner, its partitions and their epochs."""
    connection = await asyncpg.connect(line.database_url)
    try:
        rows = await connection.fetch("SELECT owner, partition, epoch FROM ingest_partitions")
    finally:
        await connection.close()
    found: dict[str, dict[int, int]] = {}
    for owner, partition, epoch in rows:
        found.setdefault(owner, {})[partition] = epoch
    return found


@asynccontextmanager
async def two_workers(line: Line, history: History) -> AsyncIterator[WorkerProcess]:
    """A second worker beside the first, once both hold partitions and a hundred events have their lists."""
    second = line.another_worker("second", **SETTINGS)
    second.start()
    try:
        await until(lambda: _owned_by(line, {"worker", "second"}))
        await publish(line.servers, history.events(100))
        await settle(line.database_url, line.servers)
        yield second
    finally:
        second.kill()
        print(second.log.read_text()[-8000:])  # noqa: T201 -- pytest shows it with a failure


async def test_a_worker_that_returns_takes_its_own_partitions(line: Line) -> None:
    """The other worker's partitions keep their epochs: there was no rebalance, and the lists are those of brute force."""
    if line.broker.kind != "kafka":
        pytest.skip("Tansu knows no static members")
    history = History(np.random.default_rng(7))
    async with two_workers(line, history) as second:
        before = await held(line)
        (first_owner,) = [owner for owner in before if owner.startswith("worker/")]
        (killed_owner,) = [owner for owner in before if owner.startswith("second/")]
        assert len(before[first_owner]) == len(before[killed_owner]) == 4
        second.kill()
        await publish(line.servers, history.events(100))
        second.start()
        await until(lambda: _replaced(line, killed_owner))
        await settle(line.database_url, line.servers)
        after = await held(line)
        assert after[first_owner] == before[first_owner]
        (returned,) = [partitions for owner, partitions in after.items() if owner != first_owner]
        assert returned == {partition: epoch + 1 for partition, epoch in before[killed_owner].items()}
        assert await wrong_lists(line.database_url) == []


async def test_no_computed_question_is_lost_with_a_worker(
    line: Line, postgres_server: PostgresServer
) -> None:
    """While one of two workers is killed and comes back, the API answers each; over Kafka, who asks again has each answered."""
    history = History(np.random.default_rng(8))
    async with (
        two_workers(line, history) as second,
        serve(served(line, postgres_server)) as client,
        client_of(line) as asker,
    ):
        readers = Readers(client, history)
        async with under_load(line, history, readers, [COMPUTED, COMPUTED]):
            await until(lambda: readers.answers[COMPUTED, 200] > 20)
            names = [key.decode() for key, _ in history.sent[:60]]
            asking = asyncio.create_task(
                _insist(asker, {f"killed/{i}": name for i, name in enumerate(names)})
            )
            (killed_owner,) = [owner for owner in await held(line) if owner.startswith("second/")]
            second.kill()
            before = readers.answers[COMPUTED, 200]
            await asking
            await until(lambda: readers.answers[COMPUTED, 200] > before + 50)
            second.start()
            await until(lambda: _replaced(line, killed_owner))
        assert readers.refused == [], readers.refused[:5]


async def _insist(asker: TopicClient, questions: dict[str, str]) -> None:
    """Ask these of tracks over Kafka, by request id; after each second those without a reply again, in the next partition."""
    for again in itertools.count():
        left = [request_id for request_id in questions if request_id not in asker.raw]
        if not left:
            break
        for place, request_id in enumerate(left, again):
            fields = {"request_id": request_id, "track_id": questions[request_id], "strategy": "diverse"}
            value = json.dumps(fields | {"exclude": [request_id]}).encode()
            await asker.send(value, request_id, place % REQUEST_PARTITIONS)
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline and not asker.raw.keys() >= questions.keys():
            await asker.look()
    for request_id in questions:
        reply = RecommendationReply.model_validate_json(asker.raw[request_id][0])
        assert reply.error is None or reply.error.status == 404, reply.error


async def _owned_by(line: Line, names: set[str]) -> bool:
    return await owners(line) == names


async def _replaced(line: Line, owner: str) -> bool:
    return owner not in await held(line)
