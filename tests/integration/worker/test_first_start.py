"""The first start on an empty catalogue: whatever commits while the engine is being loaded reaches the lists."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import numpy as np
import pytest
from pydantic import SecretStr

from store.settings import StoreSettings
from streams.kafka.received import ReceivedMessage
from streams.maintenance.claiming import PartitionClaimer
from streams.maintenance.pipeline import Pipeline
from streams.maintenance.sampler import ListSampler
from streams.maintenance.snapshots import NOTES, SNAPSHOT
from streams.metrics import WorkerMetrics
from streams.recommender.answering import AnswerProcess
from streams.settings import KafkaSettings, StreamSettings
from tests.integration.worker.conftest import Line, owners, worker_of
from tests.integration.worker.test_worker import DIMENSION, random_tracks
from tests.support.polling import until
from tests.support.services import KafkaBroker
from tests.support.worker import publish, settle, track_message, wrong_lists

pytestmark = pytest.mark.integration


class EmptyLog:
    """A topic that nothing was consumed of, and that stays ours."""

    def current(self) -> bool:
        """See `Log`."""
        return True

    async def replaced(self, consumed: dict[int, int]) -> list[int]:
        """See `Log`."""
        del consumed
        return []

    async def start_from(self, offsets: dict[int, int]) -> None:
        """See `Log`."""


def received(*messages: tuple[bytes, bytes | None], first: int, partition: int = 0) -> list[ReceivedMessage]:
    """Messages of one partition as they come from the topic."""
    return [
        ReceivedMessage(partition, first + i, key, value, time.time())
        for i, (key, value) in enumerate(messages)
    ]


async def first_track_elsewhere(database_url: str) -> None:
    """Another worker's first track fixes the catalogue's dimension."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("INSERT INTO catalogue (dimension) VALUES ($1)", DIMENSION)
    await connection.close()


@pytest.fixture
async def pipeline(database_url: str, pipeline_broker: KafkaBroker) -> AsyncIterator[Pipeline]:
    """A worker's inside on an empty catalogue, which owns the first partition."""
    inside = Pipeline(
        KafkaSettings(bootstrap_servers=pipeline_broker.bootstrap_servers),
        StreamSettings(sampled_lists_per_second=0),
        StoreSettings(database_url=SecretStr(database_url)),
        WorkerMetrics(),
        AnswerProcess,
    )
    await inside.start()
    await inside.claim([0], EmptyLog())
    yield inside
    await inside.stop()


@pytest.mark.parametrize("deletion", [False, True], ids=["insert", "deletion"])
async def test_a_batch_that_commits_after_the_engine_caught_up_reaches_the_lists(
    deletion: bool, pipeline: Pipeline, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the last look at the store and the first batch from the agent there is no gap, whatever the batch is."""
    messages = [track_message(name, vector) for name, vector in random_tracks("first", 30).items()]
    late = (messages[3][0], None) if deletion else track_message("first/late", np.arange(DIMENSION))
    attend = PartitionClaimer.attend
    batches = [asyncio.Event(), asyncio.Event()]

    async def agent() -> None:
        await batches[0].wait()
        assert await pipeline.process(received(*messages, first=0))
        await batches[1].wait()
        assert await pipeline.process(received(late, first=30))

    async def attend_among_batches(*arguments: object) -> None:
        batches[0].set()
        await until(lambda: _consumed(database_url, 30))
        await attend(*arguments)  # type: ignore[arg-type]
        batches[1].set()
        await until(lambda: _consumed(database_url, 31))

    monkeypatch.setattr(PartitionClaimer, "attend", attend_among_batches)
    working = asyncio.create_task(agent())
    await first_track_elsewhere(database_url)
    await working
    await until(lambda: _all_right(pipeline, database_url, 31))


async def test_a_deletion_counts_where_only_others_know_the_dimension(
    pipeline: Pipeline, database_url: str
) -> None:
    """A worker that another's first track gave its engine deletes what it has seen no vector of."""
    tracks = random_tracks("other", 3)
    await first_track_elsewhere(database_url)
    await until(lambda: pipeline.search is not None)
    names = list(tracks)
    await pipeline.process(received(*[track_message(n, v) for n, v in tracks.items()], first=0))
    # As a worker that has come to a partition whose tracks it knows from the store.
    pipeline._ingest._dimension = None
    assert await pipeline.process(received((names[0].encode(), None), first=3))
    await until(lambda: _all_right(pipeline, database_url, 4))


async def _consumed(database_url: str, offset: int) -> bool:
    connection = await asyncpg.connect(database_url)
    try:
        return await connection.fetchval("SELECT consumed_offset FROM ingest_partitions") == offset
    finally:
        await connection.close()


async def _all_right(pipeline: Pipeline, database_url: str, upto: int) -> bool:
    connection = await asyncpg.connect(database_url)
    try:
        absorbed = await connection.fetchval("SELECT min(absorbed_offset) FROM absorbed_offsets")
    finally:
        await connection.close()
    return absorbed == upto and await wrong_lists(database_url) == []


async def test_the_first_start_of_several_workers_leaves_no_list_behind(
    database_url: str, pipeline_broker: KafkaBroker, tmp_path: Path
) -> None:
    """Three workers start at once on an empty catalogue while its first tracks come: lists are those of brute force."""
    crew = [
        worker_of(database_url, pipeline_broker, tmp_path / f"{n}.log", MESS_WORKER_NAME=f"first-{n}")
        for n in range(3)
    ]
    line = Line(database_url, pipeline_broker, crew[0], tmp_path)
    rng = np.random.default_rng(5)
    tracks = list(random_tracks("crew", 400).items())
    try:
        for worker in crew:
            worker.start()
        while len(await owners(line)) < 3 or tracks:
            part, tracks = tracks[:20], tracks[20:]
            await publish(
                pipeline_broker.bootstrap_servers, [track_message(name, vector) for name, vector in part]
            )
            gone = [f"crew/{int(i):04d}".encode() for i in rng.integers(0, 400, 3)]
            await publish(pipeline_broker.bootstrap_servers, [(key, None) for key in gone])
            await asyncio.sleep(0.1)
        await settle(database_url, pipeline_broker.bootstrap_servers)
        assert await wrong_lists(database_url) == []
    finally:
        for worker in crew:
            worker.kill()
            print(worker.log.read_text()[-6000:])  # noqa: T201 -- pytest shows it with a failure


async def test_a_worker_that_has_just_been_restored_finds_no_list_wrong(
    database_url: str, pipeline_broker: KafkaBroker, tmp_path: Path
) -> None:
    """Its engine is as its last snapshot was, and the store has gone on: nothing is sampled before it has caught up."""

    def worker() -> Pipeline:
        return Pipeline(
            KafkaSettings(bootstrap_servers=pipeline_broker.bootstrap_servers),
            StreamSettings(sampled_lists_per_second=0, data_dir=tmp_path, snapshot_seconds=0.05),
            StoreSettings(database_url=SecretStr(database_url)),
            WorkerMetrics(),
            AnswerProcess,
        )

    tracks = [track_message(name, vector) for name, vector in random_tracks("sampled", 90).items()]
    first = worker()
    await first.start()
    await first.claim([0], EmptyLog())
    await first.process(received(*tracks[:60], first=0))
    await until((tmp_path / NOTES).exists)
    kept = {path: path.read_bytes() for path in (tmp_path / SNAPSHOT, tmp_path / NOTES)}
    await first.process(received(*tracks[60:], first=60))
    await until(lambda: _all_right(first, database_url, 90))
    await first.stop()
    for path, content in kept.items():
        path.write_bytes(content)

    second = worker()
    await second.start()
    try:
        maintainer = second._maintainer
        assert maintainer is not None
        sampler = ListSampler(second._pool, maintainer, second.ownership, second.metrics, 50)
        await sampler.look()
        assert outcomes(second) == {}
        await second.claim([0], EmptyLog())
        await sampler.look()
        assert outcomes(second).keys() <= {"right", "late"}
        try:
            async with asyncio.timeout(60):
                await until(lambda: _sampled_right(second, sampler))
        except TimeoutError:
            flushes, owned = maintainer.flushes(), maintainer.owned
            pytest.fail(f"lists are not found right: {outcomes(second)}, {flushes} flushes, owned {owned}")
        assert "wrong" not in outcomes(second)
    finally:
        await second.stop()


def outcomes(pipeline: Pipeline) -> dict[str, float]:
    """How many lists were sampled, by outcome."""
    (family,) = pipeline.metrics.sampled_lists.collect()
    counts = {s.labels["outcome"]: s.value for s in family.samples if s.name.endswith("_total")}
    return {outcome: count for outcome, count in counts.items() if count}


async def _sampled_right(pipeline: Pipeline, sampler: ListSampler) -> bool:
    before = outcomes(pipeline).get("right", 0)
    await sampler.look()
    return outcomes(pipeline).get("right", 0) >= before + 50
