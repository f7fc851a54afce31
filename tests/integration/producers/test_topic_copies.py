"""Copying a topic and writing the copy back, on a real broker."""

import pytest
from aiokafka.admin import NewTopic

from streams.errors import TopicError
from streams.kafka import topic_copies
from streams.kafka.clients import admin_client, start_producer
from streams.kafka.topic_configs import read_topic_config
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


async def test_times_survive_where_the_broker_gives_its_own(kafka_broker: KafkaBroker) -> None:
    """Messages of one key in two partitions keep their partitions and times, and the topic its configuration."""
    if kafka_broker.kind != "kafka":
        pytest.skip("Tansu lets every message keep its time")
    kafka = KafkaSettings(bootstrap_servers=kafka_broker.bootstrap_servers)
    first, second, fewer = (unique_name(name) for name in ("first", "second", "fewer"))
    wanted = {"message.timestamp.type": "LogAppendTime", "cleanup.policy": "compact"}
    async with admin_client(kafka) as admin:
        await admin.create_topics([NewTopic(name, 3, 1, topic_configs=wanted) for name in (first, second)])
        await admin.create_topics([NewTopic(fewer, 2, 1)])
    producer = await start_producer(kafka)
    for partition in (2, 0, 1):
        await producer.send_and_wait(first, b"%d" % partition, key=b"one", partition=partition)
    await producer.stop()
    lines: list[bytes] = []
    await topic_copies.dump_topic(kafka, first, lines.append)
    assert await topic_copies.load_topic(kafka, second, lines) == 3
    told = []
    for topic in (first, second):
        records = await read_topic(kafka_broker.bootstrap_servers, topic)
        told.append(sorted((r.partition, r.offset, r.value, r.timestamp) for r in records))
    assert told[0] == told[1]
    async with admin_client(kafka) as admin:
        found = await read_topic_config(admin, second)
        assert {name: found[name] for name in wanted} == {
            name: (value, True) for name, value in wanted.items()
        }
    with pytest.raises(TopicError, match="2 partitions, and line 3 is of partition 2"):
        await topic_copies.load_topic(kafka, fewer, lines)
