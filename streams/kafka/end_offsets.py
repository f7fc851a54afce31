"""Where the partitions of a topic end, asked of the broker; and how many messages are before that."""

from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition


async def known_partitions(consumer: AIOKafkaConsumer, topic: str) -> set[int]:
    """The partitions of a topic that exists."""
    # Asking for one partition makes the client learn of the others.
    await consumer.end_offsets([TopicPartition(topic, 0)])
    found: set[int] = consumer.partitions_for_topic(topic) or set()
    return found


async def read_end_offsets(consumer: AIOKafkaConsumer, topic: str) -> dict[int, int]:
    """By partition of a topic that exists, the offset of its next message."""
    wanted = [TopicPartition(topic, number) for number in sorted(await known_partitions(consumer, topic))]
    ends = await consumer.end_offsets(wanted)
    return {place.partition: end for place, end in ends.items()}


def count_lag(ends: Mapping[int, int], consumed: Mapping[int, int]) -> int:
    """How many messages are before the ends and not consumed; both by partition, next offsets."""
    return sum(max(0, end - consumed.get(partition, 0)) for partition, end in ends.items())
