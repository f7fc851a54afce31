"""Messages that the producer of dead letters refuses as they are."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from pydantic import SecretStr

from mess.dead_letters.topic import DeadLetter, DeadLetterReplayer
from store.pool import open_pool
from store.settings import StoreSettings
from streams.contracts import InvalidEvent, Reason, read_dead_letter_headers
from streams.kafka.clients import start_producer
from streams.kafka.dead_letters import DeadLetterSender
from streams.kafka.received import ReceivedMessage, RefusedMessage
from streams.metrics import WorkerMetrics
from streams.settings import KafkaSettings
from tests.support.foreign import RawName, raw_header_names
from tests.support.services import KafkaBroker, renewed, unique_name
from tests.support.worker import read_topic

pytestmark = pytest.mark.integration

WHY = InvalidEvent(Reason.MISSING_KEY, "no key")


def refused(
    offset: int, key: bytes | None, value: bytes | None, *headers: tuple[str, bytes]
) -> RefusedMessage:
    """A message of track-interactions."""
    return RefusedMessage(ReceivedMessage(0, offset, key, value, 0, headers), WHY)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    """The test's own database."""
    settings = StoreSettings(database_url=SecretStr(database_url))
    async with await open_pool(settings, application_name="test") as pool:
        yield pool


async def test_letters_arrive_whatever_their_size_and_parts(
    kafka_broker: KafkaBroker, pool: asyncpg.Pool
) -> None:
    """One with neither key nor value arrives, and one that the topic does not take arrives without its value, in order."""
    servers = renewed(kafka_broker, topics=False).bootstrap_servers
    kafka = KafkaSettings(bootstrap_servers=servers)
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    await admin.create_topics([NewTopic("dead-letters", 1, 1, topic_configs={"max.message.bytes": "100000"})])
    await admin.close()
    producer = await start_producer(kafka, compression_type=None)
    try:
        letters = [
            refused(0, None, None),
            refused(1, b"k", b"x" * 200_000, ("own", b"y")),
            refused(2, b"k", b"x" * 20_000_000),
            refused(3, b"k", b"v", ("own", b"y")),
        ]
        await DeadLetterSender(producer, WorkerMetrics()).send("track-interactions", letters)
        found = [DeadLetter.of(record) for record in await read_topic(servers, "dead-letters")]
        assert sorted(letter.source.offset for letter in found if letter.source) == [0, 1, 2, 3]
        by_offset = {letter.source.offset: letter for letter in found if letter.source}
        assert (by_offset[0].key, by_offset[0].value) == (b"", None)
        assert [dict(by_offset[n].headers)["mess.left_out_bytes"] for n in (1, 2)] == [b"200000", b"20000000"]
        assert by_offset[1].value is None
        assert (by_offset[3].value, by_offset[3].own_headers) == (b"v", [("own", b"y")])
        # Sent back without its value, it would delete the track.
        left = await DeadLetterReplayer(producer, pool, {"track-interactions": 1}).replay([by_offset[1]])
        assert [why for _, why in left] == [
            "its value was too large for dead-letters; it is at track-interactions:0:1"
        ]
    finally:
        await producer.stop()


async def test_a_header_name_that_is_no_utf8_hides_no_message(kafka_broker: KafkaBroker) -> None:
    """Messages before and behind it in the same batch are read, and it is, too, its name with replacement characters."""
    servers, topic = kafka_broker.bootstrap_servers, unique_name("foreign")
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await admin.close()
    headers = [("fine", b"1"), (RawName("\xff\xfe!"), b"2"), ("none", None)]
    with raw_header_names():
        for compression in (None, "lz4", "gzip"):
            producer = AIOKafkaProducer(
                bootstrap_servers=servers, compression_type=compression, linger_ms=100
            )
            await producer.start()
            sent = [
                await producer.send(topic, b"%d" % n, headers=headers if n == 3 else []) for n in range(6)
            ]
            for delivery in sent:
                await delivery
            await producer.stop()
    records = await read_topic(servers, topic)
    assert sorted(record.value for record in records) == sorted(b"%d" % n for n in range(6) for _ in range(3))
    odd = [read_dead_letter_headers(record.headers) for record in records if record.headers]
    assert odd == [{"fine": "1", "\ufffd\ufffd!": "2", "none": ""}] * 3
