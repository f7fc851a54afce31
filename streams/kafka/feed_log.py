"""The log of the change feed: writes it, and reads back what has been published."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition

from streams.kafka.clients import deliver_in_batches, group_less_consumer
from streams.settings import KafkaSettings

Message = tuple[bytes, bytes | None]


@dataclass(frozen=True, slots=True)
class FeedStretch:
    """Messages of one partition, in order.

    Attributes:
        partition: Which.
        messages: Offset, key and value of each.
        next_offset: The offset behind them.
        replaced: Whether the log ends before it was to be read from: another one has taken its place.
    """

    partition: int
    messages: Sequence[tuple[int, bytes | None, bytes | None]]
    next_offset: int
    replaced: bool = False


class FeedLog:
    """The topic of a space's changed lists.

    Args:
        kafka: How to reach the brokers.
        producer: Started.
        topic: Its name.
    """

    def __init__(self, kafka: KafkaSettings, producer: AIOKafkaProducer, topic: str) -> None:
        self._kafka = kafka
        self._producer = producer
        self._topic = topic

    async def deliver(self, messages: Sequence[Message]) -> list[tuple[int, int]]:
        """Deliver messages; the partition and offset of each.

        Raises:
            KafkaError: Some may not have been delivered.
        """
        return await deliver_in_batches(self._producer, self._topic, messages)

    async def read(self, starts: Mapping[int, int]) -> AsyncIterator[FeedStretch]:
        """What every partition has from an offset on, 0 where none is given, to its end.

        Raises:
            BrokerUnavailable: No broker answers.
        """
        count = len(await self._producer.partitions_for(self._topic))
        async with group_less_consumer(self._kafka) as reader:
            left = {TopicPartition(self._topic, p): starts.get(p, 0) for p in range(count)}
            reader.assign(list(left))
            for place, start in left.items():
                reader.seek(place, start)
            while left:
                found = await reader.getmany(*left, timeout_ms=100)
                for place, start in list(left.items()):
                    # An offset beyond the end is none of this log: the client goes to its beginning.
                    upto = await reader.position(place)
                    replaced = (bool(found.get(place)) and found[place][0].offset < start) or upto < start
                    if replaced or found.get(place):
                        yield FeedStretch(place.partition, _messages(found.get(place, ())), upto, replaced)
                    left[place] = upto
                    if (end := reader.highwater(place)) is not None and upto >= end:
                        del left[place]


def _messages(
    records: Sequence[ConsumerRecord[bytes, bytes]],
) -> list[tuple[int, bytes | None, bytes | None]]:
    return [(record.offset, record.key, record.value) for record in records]
