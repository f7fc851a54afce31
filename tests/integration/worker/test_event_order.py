"""Events of one track in several partitions: two workers, killed and replaced, end with the latest of each track."""

import asyncio
from collections.abc import Iterable

import numpy as np
import pytest
from aiokafka import AIOKafkaProducer

from tests.faults.history import History, LoggedCatalogue, Message
from tests.faults.oracle import at_rest, faults_at_rest
from tests.integration.worker.conftest import Line, owners
from tests.support.polling import until
from tests.support.worker import WorkerProcess, read_topic

pytestmark = pytest.mark.integration


async def publish_anywhere(servers: str, messages: Iterable[Message], rng: np.random.Generator) -> None:
    """Publish messages in order, every other one to any partition."""
    producer = AIOKafkaProducer(bootstrap_servers=servers)
    await producer.start()
    try:
        count = len(await producer.partitions_for("track-ingest"))
        for key, value in messages:
            partition = int(rng.integers(count)) if rng.random() < 0.5 else None
            await producer.send("track-ingest", value, key, partition)
        await producer.flush()
    finally:
        await producer.stop()


async def test_two_workers_that_are_killed_and_replaced_keep_the_latest_of_each_track(line: Line) -> None:
    """Tracks, lists, dead letters and every message of the feed are those of the log."""
    rng, history = np.random.default_rng(3), History(np.random.default_rng(12))
    crew = {"worker": line.worker, "second": line.another_worker("second")}
    crew["second"].start()
    everyone: list[WorkerProcess] = list(crew.values())
    try:
        await until(lambda: _owned_by(line, set(crew)))
        await publish_anywhere(line.servers, history.events(150), rng)
        crew["second"].kill()
        await publish_anywhere(line.servers, history.events(80), rng)
        crew["second"].start()
        await publish_anywhere(line.servers, history.events(80), rng)
        await until(lambda: _owned_by(line, set(crew)))
        for old in list(crew):
            await publish_anywhere(line.servers, history.events(60), rng)
            stopping = asyncio.to_thread(crew.pop(old).stop)
            new = f"after-{old}"
            crew[new] = line.another_worker(new)
            everyone.append(crew[new])
            crew[new].start()
            await publish_anywhere(line.servers, history.events(60), rng)
            assert await stopping == 0
            await until(lambda: _owned_by(line, set(crew)))
        # For those who are left, and whose metrics tell.
        await publish_anywhere(line.servers, history.events(60), rng)
        await at_rest(line.database_url, line.servers, 60)
        log = await read_topic(line.servers, "track-ingest")
        wanted = LoggedCatalogue(history.meanings).read(log)
        assert await faults_at_rest(line.database_url, line.servers, wanted) == []
        misplaced = [w.metrics().get("mess_misplaced_events_total", 0) for w in crew.values()]
        assert sum(misplaced) > 0
    finally:
        for worker in everyone:
            if worker.process is not None:
                worker.kill()
            print(worker.log.read_text()[-8000:])  # noqa: T201 -- pytest shows it with a failure


async def _owned_by(line: Line, names: set[str]) -> bool:
    return await owners(line) == names
