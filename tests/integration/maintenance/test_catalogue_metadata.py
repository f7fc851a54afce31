"""What the catalogue changes and withdraws while a generation's worker is about to write a vector."""

from collections.abc import AsyncIterator

import asyncpg
import numpy as np
import pytest
from pydantic import SecretStr

from store import generations, tracks
from store.columns import METADATA_FIELDS
from store.pool import transaction
from store.settings import StoreSettings
from streams.contracts import encode_track, track_key
from streams.engine.types import TrackBatch
from streams.generations import GenerationName
from streams.kafka.received import ReceivedMessage
from streams.maintenance.catalogue_tracks import WITHDRAWN_HEADER, CatalogueTracks
from streams.maintenance.decoding import DecodedBatch
from streams.maintenance.pipeline import Pipeline
from streams.metrics import WorkerMetrics
from streams.recommender.answering import AnswerProcess
from streams.settings import KafkaSettings, StreamSettings
from tests.integration.store.test_writes import row
from tests.integration.worker.test_first_start import EmptyLog, received
from tests.support.polling import until
from tests.support.services import KafkaBroker

pytestmark = pytest.mark.integration

TITLE = METADATA_FIELDS.index("title")
NAMES = [f"late/{i}" for i in range(12)]


@pytest.fixture
async def beside(
    pool: asyncpg.Pool, database_url: str, pipeline_broker: KafkaBroker
) -> AsyncIterator[Pipeline[AnswerProcess]]:
    """The inside of a worker of a generation beside a catalogue of twelve tracks, which owns a partition."""
    async with transaction(pool) as connection:
        made = await generations.create_generation(connection, "default", None)
        rows = [row(name, offset=i, key=track_key(name), title="first") for i, name in enumerate(NAMES)]
        await tracks.upsert_tracks(connection, rows)
    assert made.name == GenerationName(number=2)
    inside = Pipeline(
        KafkaSettings(bootstrap_servers=pipeline_broker.bootstrap_servers),
        StreamSettings(sampled_lists_per_second=0, generation=2),
        StoreSettings(database_url=SecretStr(database_url)).of_schema(made.name.schema),
        WorkerMetrics(),
        AnswerProcess,
    )
    yield inside
    await inside.stop()


async def test_the_search_gets_the_metadata_that_the_store_has(
    beside: Pipeline[AnswerProcess], pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that were read before the catalogue changed them reach neither the tables nor the search process."""
    told: dict[str, object] = {}

    def listen(batch: TrackBatch | None, upto: dict[int, int]) -> None:
        del upto
        if batch is not None and batch.metadata is not None:
            told.update(zip(batch.track_ids, (row[TITLE] for row in batch.metadata), strict=True))

    beside.tell(listen)
    await beside.start()
    await beside.claim([0], EmptyLog())
    vectors = np.random.default_rng(3).standard_normal((len(NAMES), 4))
    messages = [encode_track(name, vector) for name, vector in zip(NAMES, vectors, strict=True)]
    await beside.process(received(*messages[:6], first=0))
    complete = CatalogueTracks.complete

    async def complete_and_change(self: CatalogueTracks, decoded: DecodedBatch) -> DecodedBatch:
        completed = await complete(self, decoded)
        await pool.execute("UPDATE tracks SET title = 'second' WHERE track_id = ANY($1)", NAMES[8:])
        return completed

    monkeypatch.setattr(CatalogueTracks, "complete", complete_and_change)
    await beside.process(received(*messages[6:], first=6))
    await until(lambda: NAMES[-1] in told)
    assert {told[name] for name in NAMES[6:8]} == {"first"}
    assert {told[name] for name in NAMES[8:]} == {"second"}
    stored = await pool.fetch("SELECT title FROM mess_default_2.tracks WHERE track_id = ANY($1)", NAMES[8:])
    assert [row[0] for row in stored] == ["second"] * 4


NAME = NAMES[0]


def vector_at(partition: int, offset: int, time: int) -> ReceivedMessage:
    """A vector of the first track, of its own by its offset."""
    key, value = encode_track(NAME, np.arange(1.0, 5.0) + offset)
    return ReceivedMessage(partition, offset, key, value, time, appended=True)


def withdrawal_at(partition: int, offset: int, time: int) -> ReceivedMessage:
    """The tombstone by which a worker withdraws the first track, as the catalogue did."""
    headers = ((WITHDRAWN_HEADER, b"catalogue"),)
    return ReceivedMessage(partition, offset, NAME.encode(), None, time, headers, appended=True)


async def withdraw(pool: asyncpg.Pool, time: int) -> None:
    """Have the catalogue withdraw the first track, by an event that the broker appended at a time."""
    await pool.execute("DELETE FROM tracks WHERE track_id = $1", NAME)
    await pool.execute(
        "INSERT INTO departures (key, source_partition, source_offset, appended_at) VALUES ($1, 0, 50, $2)",
        track_key(NAME),
        time,
    )


async def bring_back(pool: asyncpg.Pool) -> None:
    """Have the catalogue read that the first track is back."""
    async with transaction(pool) as connection:
        await tracks.upsert_tracks(connection, [row(NAME, offset=60, key=track_key(NAME), title="back")])


async def place_of(pool: asyncpg.Pool) -> tuple[int, int] | None:
    """Where the stored vector of the first track is from."""
    found = await pool.fetchrow(
        "SELECT source_partition, source_offset FROM mess_default_2.tracks WHERE track_id = $1", NAME
    )
    return None if found is None else tuple(found)


async def test_a_vector_from_before_the_tombstone_of_a_deletion_that_it_follows_counts(
    beside: Pipeline[AnswerProcess], pool: asyncpg.Pool
) -> None:
    """Deleted at 2 s, embedded anew at 3, and the tombstone written at 4 and read first: the new vector stays."""
    await beside.start()
    await beside.claim([0, 1], EmptyLog())
    await beside.process([vector_at(0, 0, 1_000)])
    assert await place_of(pool) == (0, 0)
    await withdraw(pool, 2_000)
    await beside.process([withdrawal_at(0, 1, 4_000)])
    assert await place_of(pool) is None
    await bring_back(pool)
    await beside.process([vector_at(1, 0, 3_000)])
    assert await place_of(pool) == (1, 0)


async def test_a_tombstone_behind_a_vector_waits_for_the_catalogue(
    beside: Pipeline[AnswerProcess], pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both in one batch, and the catalogue behind its log: the vector is of the track that is back, and stays."""
    await beside.start()
    await beside.claim([0, 1], EmptyLog())
    await beside.process([vector_at(0, 0, 1_000)])
    await withdraw(pool, 2_000)

    async def catch_up(_: CatalogueTracks) -> None:
        await bring_back(pool)

    monkeypatch.setattr(CatalogueTracks, "_until_read", catch_up)
    await beside.process([vector_at(0, 1, 3_000), withdrawal_at(0, 2, 4_000)])
    assert await place_of(pool) == (0, 1)


async def test_a_tombstone_takes_away_a_vector_that_came_after_the_deletion(
    beside: Pipeline[AnswerProcess], pool: asyncpg.Pool
) -> None:
    """As long as the catalogue does not have the track, none of its vectors stays, whatever their partition and time."""
    await beside.start()
    await beside.claim([0, 1], EmptyLog())
    await beside.process([vector_at(0, 0, 3_000)])
    await withdraw(pool, 2_000)
    await beside.process([withdrawal_at(1, 0, 4_000)])
    assert await place_of(pool) is None
