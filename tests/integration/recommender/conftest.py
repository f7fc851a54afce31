"""One catalogue, one search process and one recommender for a module's tests."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import asyncpg
import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from store.pool import open_pool
from store.settings import StoreSettings
from streams.contracts import RecommendationReply, RecommendationRequest
from streams.generations import GenerationName
from streams.recommender.answering import AnswerProcess
from streams.recommender.metrics import RecommenderMetrics
from streams.recommender.recommender import Recommender
from streams.recommender.settings import RecommenderSettings
from tests.integration.serving.catalogue import ServedCatalogue, make_catalogue, write_catalogue
from tests.support.polling import until
from tests.support.services import PostgresServer, unique_name

Result = TypeVar("Result")
SIZE, DIMENSION = 600, 24
# More than is looked at before a question is answered with what was found.
MANY = 6_000
RARE = 0.05


@dataclass
class RecommenderBench:
    """A recommender over a catalogue, as a worker has it, without its broker."""

    pool: asyncpg.Pool
    catalogue: ServedCatalogue
    search: AnswerProcess
    recommender: Recommender
    settings: RecommenderSettings
    applied: dict[int, int]

    async def ask(self, **fields: Any) -> RecommendationReply:
        """Ask, and read the answer by the contract."""
        request = RecommendationRequest.model_validate({"request_id": "r", **fields})
        seconds = None if request.timeout_ms is None else request.timeout_ms / 1000
        return RecommendationReply.model_validate_json(await self.recommender.answer(request, seconds))

    async def listed(self, **fields: Any) -> list[str]:
        """The ids of an answer that must not be an error."""
        reply = await self.ask(**fields)
        assert reply.error is None, reply.error
        assert reply.recommendations is not None
        return [item.track_id for item in reply.recommendations]

    async def written(self) -> None:
        """Wait until nothing is left to be written."""
        await until(lambda: self.recommender.materialiser.idle)


def recommender_of(
    pool: asyncpg.Pool,
    search: AnswerProcess | None,
    settings: RecommenderSettings,
    applied: dict[int, int] | None = None,
) -> Recommender:
    """A recommender as a worker makes it."""
    metrics = RecommenderMetrics(CollectorRegistry())
    return Recommender(
        pool, search, settings, metrics, generation=GenerationName(), applied=lambda: applied or {}
    )


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    """An event loop for the module, in which its services live."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def run(loop: asyncio.Runner) -> Callable[[Coroutine[Any, Any, Result]], Result]:
    """Run a coroutine in the module's loop."""
    return loop.run


@pytest.fixture(scope="module")
def bench(
    postgres_server: PostgresServer, template_database: str, loop: asyncio.Runner
) -> Iterator[RecommenderBench]:
    """A catalogue of 600 tracks, searchable, with lists."""
    yield from _bench(postgres_server, template_database, loop, SIZE)


@pytest.fixture(scope="module")
def large_bench(
    postgres_server: PostgresServer, template_database: str, loop: asyncio.Runner
) -> Iterator[RecommenderBench]:
    """As `bench`, of 6,000 tracks."""
    yield from _bench(postgres_server, template_database, loop, MANY)


def _bench(
    postgres_server: PostgresServer, template_database: str, loop: asyncio.Runner, size: int
) -> Iterator[RecommenderBench]:
    name = unique_name("recommender").replace("-", "_")
    postgres_server.create_database(name, template_database)
    url = postgres_server.owner_url_of(name)
    opened = _opened(url, size)
    bench = loop.run(anext(opened))
    try:
        yield bench
    finally:
        loop.run(anext(opened, None))
        postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def _opened(url: str, size: int) -> AsyncIterator[RecommenderBench]:
    pool = await open_pool(StoreSettings(database_url=SecretStr(url)), application_name="test")
    catalogue = make_catalogue(size, dimension=DIMENSION)
    random = np.random.default_rng(size)
    for track in catalogue.tracks:
        # One artist has nearly all of them: a cap on artists leaves few, far apart.
        rare = random.random() < RARE
        track.metadata["artists"] = [f"Artist {random.integers(100)}" if rare else "Everyman"]
    async with pool.acquire() as connection:
        await write_catalogue(connection, catalogue)
    search = AnswerProcess(DIMENSION)
    await search.start()
    await search.load(
        np.array([track.key for track in catalogue.tracks]),
        [track.track_id for track in catalogue.tracks],
        np.array([track.vector for track in catalogue.tracks]),
        [track.row for track in catalogue.tracks],
        np.array([track.offset for track in catalogue.tracks]),
    )
    settings = RecommenderSettings(popularity_window_seconds=0.05, refreshes_per_second=100)
    rows = await pool.fetch("SELECT partition, consumed_offset FROM ingest_partitions")
    applied = dict(map(tuple, rows))
    recommender = recommender_of(pool, search, settings, applied)
    tasks = [asyncio.create_task(work, name=name) for name, work in recommender.background().items()]
    yield RecommenderBench(pool, catalogue, search, recommender, settings, applied)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await recommender.close()
    await search.stop()
    await pool.close()


def now() -> datetime:
    """Now, aware."""
    return datetime.now(UTC)
