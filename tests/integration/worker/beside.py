"""A generation beside the catalogue of a line, its tracks and its workers."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import asyncpg
import numpy as np
from pydantic import SecretStr

from mess.spaces import lifecycle
from mess.spaces.status import GenerationStatus, generation_status
from store.generations import StoredGeneration
from store.pool import open_pool
from store.settings import StoreSettings
from streams.contracts import encode_track
from streams.generations import DEFAULT_SPACE
from streams.kafka.topics import RECOMMENDATIONS, delete_topics
from streams.settings import KafkaSettings, StreamSettings
from tests.integration.worker.conftest import Line
from tests.support.polling import until
from tests.support.worker import WorkerProcess, publish, read_topic, track_message

TRACKS = 70
MODEL = "m-2"


def name_of(number: int) -> str:
    """The id of a track."""
    return f"beside/{number:03}"


def in_catalogue(number: int, *, title: str = "Title") -> tuple[bytes, bytes]:
    """A track of the catalogue, by its first model."""
    vector = np.random.default_rng(number).standard_normal(6)
    return track_message(name_of(number), vector, title=f"{title} {number}", composer=f"C{number % 4}")


def beside(number: int, *, version: int = 0, model: str = MODEL, size: int = 4) -> tuple[bytes, bytes]:
    """The same track's vector by another model."""
    vector = np.random.default_rng([number, version]).standard_normal(size)
    return encode_track(name_of(number), vector, model=model)


class Beside:
    """A generation beside the catalogue of a line, and its workers."""

    def __init__(self, line: Line, made: StoredGeneration) -> None:
        self.line = line
        self.made = made
        self.name = made.name
        self.kafka = KafkaSettings(bootstrap_servers=line.servers)
        self.store = store_of(line)
        self.own_url = self.store.of_schema(self.name.schema).dsn
        self.workers: list[WorkerProcess] = []

    def another_worker(self, **settings: str) -> WorkerProcess:
        """A further worker of it, started."""
        worker = self.line.another_worker(
            f"beside-{self.name.space}-{len(self.workers)}",
            MESS_SPACE=self.name.space,
            MESS_GENERATION=str(self.name.number),
            **settings,
        )
        self.workers.append(worker)
        worker.start()
        return worker

    async def publish(self, messages: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Publish to its topic."""
        await publish(self.line.servers, messages, self.name.topic)

    async def status(self) -> GenerationStatus:
        """How far it is."""
        async with await open_pool(self.store, application_name="test") as pool:
            return await generation_status(self.kafka, self.store, pool, self.name)

    async def until_has(self, vectors: int) -> None:
        """Wait until it has so many vectors, all with full lists, and nothing waits."""

        async def has() -> bool:
            found = await self.status()
            counts = found.counts
            return not found.lag and counts.vectors == counts.full_lists == vectors

        await until(has, 0.2)

    async def titles(self) -> dict[str, str]:
        """By track, its title in the generation."""
        connection = await asyncpg.connect(self.own_url)
        try:
            rows = await connection.fetch("SELECT track_id, title FROM tracks")
            return {row[0]: row[1] for row in rows}
        finally:
            await connection.close()

    async def letters(self) -> dict[str, Mapping[str, bytes]]:
        """By key, the headers of its dead letters."""
        found = await read_topic(self.line.servers, "dead-letters")
        return {
            (letter.key or b"").decode(): headers
            for letter in found
            if (headers := dict(letter.headers))["mess.source.topic"] == self.name.topic.encode()
        }


def store_of(line: Line) -> StoreSettings:
    """The catalogue's store."""
    return StoreSettings(database_url=SecretStr(line.database_url))


@asynccontextmanager
async def generation_of(line: Line, space: str = DEFAULT_SPACE) -> AsyncIterator[Beside]:
    """A new generation, without workers; those that it gets are killed at the end, and its topic is deleted."""
    kafka = KafkaSettings(bootstrap_servers=line.servers)
    async with await open_pool(store_of(line), application_name="test") as pool:
        made = await lifecycle.create(kafka, StreamSettings(), pool, space=space, model=MODEL)
    async with cleared(Beside(line, made)) as found:
        yield found


@asynccontextmanager
async def cleared(found: Beside) -> AsyncIterator[Beside]:
    """A generation, whose workers are killed at the end, and whose topics are deleted."""
    try:
        yield found
    finally:
        for worker in found.workers:
            worker.kill()
            print(worker.log.read_text()[-5000:])  # noqa: T201 -- pytest shows it with a failure
        # The broker is that of other modules, too, whose databases begin with the same numbers.
        feed = found.name.feed_topic(RECOMMENDATIONS)
        await delete_topics(found.kafka, {found.name.topic, feed} - {RECOMMENDATIONS})
