"""Copying a topic and writing the copy back, on a real broker."""

import pytest
from aiokafka.admin import NewTopic

from streams.errors import TopicError
from streams.kafka import topic_copies
from streams.kafka.clients import admin_client, start_producer
from streams.settings import KafkaSettings
from tests.support.services import KafkaBroker, unique_name
from tests.support.worker import read_topic

pytestmark = pytest.mark.integration


async def test_a_copy_written_back_has_every_message_in_its_partition_and_order(
    kafka_broker: KafkaBroker,
) -> None:
    """Keys, values, tombstones and times of the restored topic are those of the first."""
    kafka = KafkaSettings(bootstrap_servers=kafka_broker.bootstrap_servers)
    first, second = unique_name("first"), unique_name("second")
    async with admin_client(kafka) as admin:
        await admin.create_topics([NewTopic(name, 3, 1) for name in (first, second)])
    producer = await start_producer(kafka)
    for number in range(60):
        value = None if number % 7 == 0 else bytes([number, 255])
        await producer.send(
            first, key=b"\xffkey %d" % (number % 20), value=value, timestamp_ms=1_000 + number
        )
    await producer.stop()

    lines: list[bytes] = []
    assert await topic_copies.dump_topic(kafka, first, lines.append) == 60
    assert await topic_copies.load_topic(kafka, second, lines) == 60

    messages = []
    for topic in (first, second):
        records = await read_topic(kafka_broker.bootstrap_servers, topic)
        messages.append(
            sorted((r.partition, r.offset, r.key, r.value or b"gone", r.timestamp) for r in records)
        )
    assert messages[0] == messages[1]
    assert len(messages[0]) == 60

    with pytest.raises(TopicError, match="not empty"):
        await topic_copies.load_topic(kafka, second, lines)
