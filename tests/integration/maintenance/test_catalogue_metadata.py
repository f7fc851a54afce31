"""Metadata that the catalogue changes while a generation's worker is about to write a vector."""

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
from streams.maintenance.catalogue_tracks import CatalogueTracks
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
