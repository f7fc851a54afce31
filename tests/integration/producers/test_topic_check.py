"""What `mess topics check` says of topics, and of the keys in them."""

import pytest
from aiokafka.errors import KafkaError

from mess.topics import check_topics
from streams.kafka.clients import admin_client, start_producer
from streams.kafka.partitioners import crc32_partition
from streams.kafka.topic_configs import set_topic_config
from streams.kafka.topics import ensure_topics
from streams.settings import KafkaSettings, StreamSettings
from tests.support.polling import until
from tests.support.services import KafkaBroker

pytestmark = pytest.mark.integration


async def test_other_clocks_and_other_partitioners_are_named(pipeline_broker: KafkaBroker) -> None:
    """Topics as they are made are as they are wanted; one with producers' times is not; librdkafka's default is known."""
    kafka, streams = KafkaSettings(bootstrap_servers=pipeline_broker.bootstrap_servers), StreamSettings()
    await ensure_topics(kafka, streams)

    async def as_wanted() -> bool:
        try:
            return await check_topics(kafka, streams) == ([], [])
        except KafkaError:  # a partition of a new topic has no leader yet
            return False

    await until(as_wanted, 0.2)
    producer = await start_producer(kafka)
    for number in range(80):
        key = f"track/{number}".encode()
        partition = crc32_partition(key, streams.ingest_partitions) if number % 2 else None
        await producer.send("track-ingest", b"{}", key=key, partition=partition)
    await producer.stop()
    differences, placement = await check_topics(kafka, streams)
    assert differences == []
    assert placement[0].startswith("track-ingest: of 80 recent events ")
    assert "crc32" in placement[1]
    assert "partitioner=murmur2_random" in placement[1]
    if pipeline_broker.kind == "kafka":
        async with admin_client(kafka) as admin:
            await set_topic_config(admin, "track-ingest", {"message.timestamp.type": "CreateTime"})
        ((line,), _) = await check_topics(kafka, streams)
        assert "message.timestamp.type=CreateTime; LogAppendTime is wanted" in line
