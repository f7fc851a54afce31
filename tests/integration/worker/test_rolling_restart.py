"""Workers replaced one after the other, as a deployment does, while events come and readers read."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from urllib.parse import quote

import numpy as np
import pytest

from tests.faults.history import History, LoggedCatalogue
from tests.faults.oracle import at_rest, faults_at_rest
from tests.integration.serving.conftest import ServedClient, serve
from tests.integration.worker.conftest import Line, owners
from tests.integration.worker.over_http import served
from tests.support.polling import until
from tests.support.services import PostgresServer
from tests.support.worker import publish, read_topic

pytestmark = pytest.mark.integration


class Readers:
    """Ask for recommendations of tracks that have been published, without pause.

    Attributes:
        answers: How often which status came, by what was asked.
        refused: What was said with those that must not come.
    """

    def __init__(self, client: ServedClient, history: History) -> None:
        self._client = client
        self._history = history
        self.answers: Counter[tuple[str, int]] = Counter()
        self.refused: list[str] = []

    async def read(self, query: str, seed: int) -> None:
        """Read for ever; a query may have a place for a number, so that each answer has to be computed."""
        rng = np.random.default_rng(seed)
        for number in itertools.count():
            key, _ = self._history.sent[int(rng.integers(len(self._history.sent)))]
            path = f"/recommend/{quote(key.decode(), safe='')}{query.format(number)}"
            response = await self._client.get(path)
            self.answers[query, response.status_code] += 1
            if response.status_code not in {200, 404}:
                self.refused.append(f"{path}: {response.status_code} {response.text}")
            await asyncio.sleep(0.005)


# Out of the stored lists, and computed by a worker each time.
STORED, COMPUTED = "", "?strategy=diverse&exclude=nothing-{}"


@asynccontextmanager
async def under_load(
    line: Line, history: History, readers: Readers, queries: Sequence[str]
) -> AsyncIterator[list[tuple[int, int]]]:
    """Events keep coming and readers keep reading, from several tasks; yields where events were delivered."""
    delivered: list[tuple[int, int]] = []
    over = asyncio.Event()

    async def write() -> None:
        while not over.is_set():
            delivered.extend(await publish(line.servers, history.events(20)))
            await asyncio.sleep(0.1)

    writing = asyncio.create_task(write(), name="publisher")
    reading = [asyncio.create_task(readers.read(query, i), name=query) for i, query in enumerate(queries)]
    try:
        yield delivered
        for task in [writing, *reading]:
            assert not task.done(), task
    finally:
        # Not cancelled: aiokafka leaves a connection open when it is interrupted while connecting.
        over.set()
        for task in reading:
            task.cancel()
        await asyncio.gather(writing, *reading, return_exceptions=True)


async def test_workers_replaced_one_by_one_lose_nothing_and_no_reader_notices(
    line: Line, postgres_server: PostgresServer
) -> None:
    """No read is answered 5xx meanwhile, and in the end tracks, lists, dead letters and feed are those of the log."""
    # Tansu takes no notice of a member that leaves: its partitions stay unread until its session has ended.
    queries = (STORED, COMPUTED) if line.broker.kind == "kafka" else (STORED,)
    history = History(np.random.default_rng(11))
    delivered = await publish(line.servers, history.events(150))
    crew = {"worker": line.worker, "second": line.another_worker("second")}
    crew["second"].start()
    everyone = list(crew.values())
    try:
        await until(lambda: _owned_by(line, set(crew)))
        await at_rest(line.database_url, line.servers, 60)
        async with serve(served(line, postgres_server)) as client:
            readers = Readers(client, history)
            async with under_load(line, history, readers, queries) as meanwhile:
                for old in list(crew):
                    assert await asyncio.to_thread(crew.pop(old).stop) == 0
                    new = f"after-{old}"
                    crew[new] = line.another_worker(new)
                    everyone.append(crew[new])
                    crew[new].start()
                    await until(lambda: _owned_by(line, set(crew)))
            await at_rest(line.database_url, line.servers, 60)
            assert readers.refused == [], (readers.answers, readers.refused[:5])
            assert all(readers.answers[query, 200] > 50 for query in queries), readers.answers
        log = await read_topic(line.servers, "track-ingest")
        assert {*delivered, *meanwhile} <= {(record.partition, record.offset) for record in log}
        wanted = LoggedCatalogue(history.meanings).read(log)
        assert await faults_at_rest(line.database_url, line.servers, wanted) == []
    finally:
        for worker in everyone:
            worker.kill()
            print(worker.log.read_text()[-8000:])  # noqa: T201 -- pytest shows it with a failure


async def _owned_by(line: Line, names: set[str]) -> bool:
    return await owners(line) == names
