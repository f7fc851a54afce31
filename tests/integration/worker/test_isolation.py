"""Errors that nobody foresaw: one event of a batch raises them, the others are applied."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import orjson
import pytest
from pydantic import SecretStr

from store import interactions as stored_interactions
from store import partitions, tracks
from store.pool import open_pool, transaction
from store.settings import StoreSettings
from streams.contracts import read_dead_letter_headers, times
from streams.kafka.clients import start_producer
from streams.kafka.dead_letters import DeadLetterSender
from streams.kafka.received import ReceivedMessage
from streams.maintenance import decoding
from streams.maintenance.ingest import CommittedBatch, Ingest
from streams.maintenance.ownership import Ownership
from streams.metrics import WorkerMetrics
from streams.recommender import interactions as counting
from streams.recommender.interactions import InteractionConsumer
from streams.recommender.metrics import RecommenderMetrics
from streams.recommender.settings import RecommenderSettings
from streams.settings import KafkaSettings
from streams.strategies.aspects import Layout
from tests.support.services import KafkaBroker, renewed
from tests.support.worker import read_topic

pytestmark = pytest.mark.integration


def event(offset: int, track_id: str, **fields: Any) -> ReceivedMessage:
    """A message of track-ingest, or of interactions with `type`."""
    body = {"track_id": track_id, "embedding": [1.0, offset + 1.0], **fields}
    return ReceivedMessage(
        0, offset, track_id.encode(), orjson.dumps(body), times.now_microseconds() // 1_000
    )


@dataclass
class IsolationBench:
    """Ingest and interactions on a real store and a real broker."""

    pool: asyncpg.Pool
    ingest: Ingest
    interactions: InteractionConsumer
    metrics: WorkerMetrics
    handed_on: list[CommittedBatch]
    servers: str

    async def titles(self) -> dict[str, str]:
        """What the store has: track id and title."""
        return dict(await self.pool.fetch("SELECT track_id, title FROM tracks"))

    async def letters(self, topic: str) -> dict[int, tuple[str, str]]:
        """Dead letters of a topic: source offset, reason and detail."""
        told = [read_dead_letter_headers(r.headers) for r in await read_topic(self.servers, "dead-letters")]
        return {
            int(each["mess.source.offset"]): (each["mess.error"], each["mess.detail"])
            for each in told
            if each["mess.source.topic"] == topic
        }


@pytest.fixture
async def bench(database_url: str, kafka_broker: KafkaBroker) -> AsyncIterator[IsolationBench]:
    """Partition 0 is ours."""
    broker = renewed(kafka_broker)
    kafka = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
    pool = await open_pool(StoreSettings(database_url=SecretStr(database_url)), application_name="test")
    producer = await start_producer(kafka)
    metrics, ownership, handed_on = WorkerMetrics(), Ownership(), []
    async with transaction(pool) as connection:
        ownership.take(await partitions.claim_partitions(connection, [0], "test"))

    async def hand_on(committed: CommittedBatch) -> None:
        handed_on.append(committed)

    letters = DeadLetterSender(producer, metrics)
    recommender_metrics = RecommenderMetrics(metrics.registry)
    try:
        yield IsolationBench(
            pool,
            Ingest(pool, ownership, letters, hand_on, metrics, Layout(2), "test"),
            InteractionConsumer(pool, letters, RecommenderSettings(), recommender_metrics, metrics),
            metrics,
            handed_on,
            broker.bootstrap_servers,
        )
    finally:
        await producer.stop()
        await pool.close()


def broken(function: Any, culprit: str) -> Any:
    """`function`, with an error where it meets the culprit."""

    def wrapped(*arguments: Any, **named: Any) -> Any:
        if culprit in repr(arguments):
            raise LookupError(f"nobody foresaw {culprit}")
        return function(*arguments, **named)

    return wrapped


async def broken_upsert(connection: Any, rows: Any, _real: Any = tracks.upsert_tracks) -> Any:
    """As the store's, for all but one track."""
    if any(row.track_id == "b" for row in rows):
        raise asyncpg.NumericValueOutOfRangeError("value out of range")
    return await _real(connection, rows)


@pytest.mark.parametrize("stage", ["decode", "rows", "store"])
async def test_one_event_that_breaks_a_stage_leaves_all_others_applied(
    bench: IsolationBench, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """It becomes a dead letter with the class of the error; offsets move behind it; its track keeps what it had before."""
    patches: dict[str, tuple[Any, str, Any]] = {
        "decode": (decoding, "parse_track_event", broken(decoding.parse_track_event, "poison")),
        "rows": (decoding, "_metadata_values", broken(decoding._metadata_values, "poison")),
        "store": (tracks, "upsert_tracks", broken_upsert),
    }
    await bench.ingest.process([event(0, "old", metadata={"title": "before"})])
    monkeypatch.setattr(*patches[stage])
    good = [event(offset, f"good/{offset}", metadata={"title": "good"}) for offset in range(1, 8)]
    bad = [event(8, "b", metadata={"title": "poison"})]
    later = [event(9, "old", metadata={"title": "after"})]
    await bench.ingest.process(good + bad + later)
    assert await bench.titles() == {"old": "after"} | {f"good/{i}": "good" for i in range(1, 8)}
    found = await bench.letters("track-ingest")
    assert found.keys() == {8}
    reason, detail = found[8]
    assert reason == "unprocessable"
    assert detail.startswith(("LookupError: nobody foresaw poison", "NumericValueOutOfRangeError: "))
    async with transaction(bench.pool) as connection:
        assert (await partitions.consumed_offsets(connection))[0] == 10
    assert {a.event.track_id for c in bench.handed_on for a in c.accepted} == {
        "old",
        *(f"good/{i}" for i in range(1, 8)),
    }


async def test_what_a_culprit_had_superseded_is_applied(
    bench: IsolationBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two events of a track in a batch the first counts where the second cannot be stored."""
    monkeypatch.setattr(decoding, "_metadata_values", broken(decoding._metadata_values, "poison"))
    await bench.ingest.process(
        [
            event(0, "t", metadata={"title": "first"}),
            event(1, "t", metadata={"title": "poison"}),
            event(2, "u"),
        ]
    )
    assert await bench.titles() == {"t": "first", "u": None}
    assert (await bench.letters("track-ingest")).keys() == {1}


async def test_an_error_of_the_environment_makes_no_dead_letter(
    bench: IsolationBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table that is missing is nobody's fault among the events: nothing is refused, and the worker must end."""

    async def no_table(*_: Any) -> None:
        raise asyncpg.UndefinedTableError("relation tracks does not exist")

    monkeypatch.setattr(tracks, "upsert_tracks", no_table)
    with pytest.raises(asyncpg.UndefinedTableError):
        await bench.ingest.process([event(0, "a"), event(1, "b")])
    assert await bench.letters("track-ingest") == {}
    async with transaction(bench.pool) as connection:
        assert (await partitions.consumed_offsets(connection))[0] == 0


@pytest.mark.parametrize("stage", ["read", "commit"])
async def test_one_interaction_that_breaks_a_stage_leaves_all_others_counted_once(
    bench: IsolationBench, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """Interactions without an identity are counted once each, however often the batch is halved."""
    if stage == "read":
        monkeypatch.setattr(counting, "parse_interaction", broken(counting.parse_interaction, "poison"))
    else:
        real = stored_interactions.remember_interactions

        async def remember(connection: Any, rows: Any) -> Any:
            if any(row.type == "skip" for row in rows):
                raise OverflowError("date value out of range")
            return await real(connection, rows)

        monkeypatch.setattr(stored_interactions, "remember_interactions", remember)
    plays = [event(offset, "t", type="play") for offset in range(6)]
    plays.insert(3, event(6, "poison", type="skip", event_id="e"))
    plays[3:] = [ReceivedMessage(0, 3 + i, m.key, m.value, m.timestamp) for i, m in enumerate(plays[3:])]
    await bench.interactions.process(plays)
    await bench.interactions.process(plays)
    counts = await bench.pool.fetch("SELECT count FROM popularity")
    assert [round(row["count"]) for row in counts] == [6]
    reason, detail = (await bench.letters("track-interactions"))[3]
    assert reason == "unprocessable"
    assert detail.startswith(("LookupError: ", "OverflowError: date value"))
    assert await bench.pool.fetchval("SELECT next_offset FROM interaction_offsets") == 7


async def test_an_interaction_of_long_ago_does_not_stand_in_the_way_of_later_ones(
    bench: IsolationBench,
) -> None:
    """What is next to nothing by now would make products that are too small for Postgres."""
    long_ago = [event(offset, "t", type="play", event_time=f"{1930 + offset}-01-01") for offset in range(15)]
    await bench.interactions.process(long_ago)
    await bench.pool.execute(
        "UPDATE popularity SET value = 1e-310, count = 1e-310, reference = reference - 1e9"
    )
    await bench.interactions.process([event(15, "t", type="play")])
    assert await bench.letters("track-interactions") == {}
    assert round(await bench.pool.fetchval("SELECT count FROM popularity")) == 1
