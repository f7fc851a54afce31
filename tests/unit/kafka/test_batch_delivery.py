"""Deliveries of whole batches: what a failure leaves under way."""

import asyncio
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import RecordMetadata, TopicPartition

from streams.kafka.clients import deliver_in_batches

pytestmark = pytest.mark.unit

TOPIC = "feed"
# Two of them do not fit in one batch.
LARGE = [(b"a", b"x" * 700), (b"a", b"y" * 700), (b"a", b"z" * 700)]


class FakeProducer:
    """Takes batches of at most 1,000 bytes; the test says what becomes of each."""

    def __init__(self) -> None:
        self.deliveries: list[asyncio.Future[RecordMetadata]] = []
        self.full_after = 100

    async def partitions_for(self, _topic: str) -> set[int]:
        """The topic's only partition."""
        return {0}

    def create_batch(self) -> BatchBuilder:
        """An empty batch, as aiokafka makes it."""
        return BatchBuilder(1_000, 0, is_transactional=False)

    async def send_batch(
        self, _batch: BatchBuilder, _topic: str, *, partition: int
    ) -> asyncio.Future[RecordMetadata]:
        """Take a batch, until the buffer is full."""
        assert partition == 0
        if len(self.deliveries) == self.full_after:
            raise KafkaTimeoutError
        self.deliveries.append(asyncio.get_running_loop().create_future())
        return self.deliveries[-1]

    def arrive(self, at: int, offset: int) -> None:
        """Let the batch taken as number `at` arrive."""
        place = TopicPartition(TOPIC, 0)
        self.deliveries[at].set_result(RecordMetadata(TOPIC, 0, place, offset, None, 0, 0))


async def begun(producer: FakeProducer, taken: int) -> asyncio.Task[Any]:
    """A delivery of three batches, of which the producer has taken so many."""
    delivering = asyncio.create_task(deliver_in_batches(cast("AIOKafkaProducer", producer), TOPIC, LARGE))
    while len(producer.deliveries) < taken:
        assert not delivering.done()
        await asyncio.sleep(0)
    return delivering


async def settled(task: asyncio.Task[Any]) -> bool:
    """Whether the task ends without anything else happening."""
    for _ in range(20):
        await asyncio.sleep(0)
    return task.done()


async def test_each_message_has_its_place() -> None:
    """The offsets are those of the batches, counted on."""
    producer = FakeProducer()
    delivering = await begun(producer, 3)
    for at, offset in enumerate((5, 9, 12)):
        producer.arrive(at, offset)
    assert await delivering == [(0, 5), (0, 9), (0, 12)]


async def test_a_failure_is_told_when_nothing_is_under_way_any_more() -> None:
    """Who tries again first looks at what has arrived, and must not look too early."""
    producer = FakeProducer()
    delivering = await begun(producer, 3)
    producer.deliveries[0].set_exception(KafkaTimeoutError())
    producer.arrive(2, 9)
    assert not await settled(delivering)
    producer.arrive(1, 8)
    with pytest.raises(KafkaTimeoutError):
        await delivering


async def test_a_full_buffer_is_told_after_what_it_has_taken() -> None:
    """A batch that is not taken fails the delivery, once the batches before it have come to their end."""
    producer = FakeProducer()
    producer.full_after = 1
    delivering = await begun(producer, 1)
    assert not await settled(delivering)
    producer.arrive(0, 3)
    with pytest.raises(KafkaTimeoutError):
        await delivering


async def test_a_batch_at_an_unknown_place_is_a_failure() -> None:
    """A broker that had a batch already does not say where it is."""
    producer = FakeProducer()
    delivering = await begun(producer, 3)
    for at, offset in enumerate((5, -1, 6)):
        producer.arrive(at, offset)
    with pytest.raises(KafkaError, match="not known"):
        await delivering
