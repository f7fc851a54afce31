"""Copying a topic to another one, on a real broker: resumed, followed, refused."""

import asyncio
from collections.abc import Sequence

import pytest
from aiokafka.admin import NewTopic

from streams.errors import TopicError
from streams.kafka.clients import admin_client, start_producer
from streams.kafka.topic_configs import read_topic_config
from streams.kafka.topic_mirror import mirror_topic
from streams.settings import KafkaSettings
from tests.support.polling import until
from tests.support.services import KafkaBroker, unique_name
from tests.support.worker import read_topic

pytestmark = pytest.mark.integration

BROKER_TIME = {"message.timestamp.type": "LogAppendTime"}
Message = tuple[int, bytes | None, bytes | None, int, Sequence[tuple[str, bytes]]]


@pytest.fixture
def kafka(kafka_broker: KafkaBroker) -> KafkaSettings:
    """How to reach the broker."""
    return KafkaSettings(bootstrap_servers=kafka_broker.bootstrap_servers)


async def make_topics(kafka: KafkaSettings, *partitions: int) -> list[str]:
    """New topics with so many partitions, whose messages get the broker's time where it has one."""
    names = [unique_name("mirror") for _ in partitions]
    config = BROKER_TIME
    async with admin_client(kafka) as admin:
        await admin.create_topics(
            [
                NewTopic(name, count, 1, topic_configs=config)
                for name, count in zip(names, partitions, strict=True)
            ]
        )
    return names


async def publish_numbers(kafka: KafkaSettings, topic: str, numbers: range) -> None:
    """A message a number, a few of them tombstones, over three partitions."""
    producer = await start_producer(kafka)
    try:
        for number in numbers:
            await producer.send(
                topic,
                key=b"\xffkey %d" % (number % 20),
                value=None if number % 7 == 0 else b"%d" % number,
                partition=number % 3,
                headers=[("number", b"%d" % number)],
            )
    finally:
        await producer.stop()


async def messages(kafka: KafkaSettings, topic: str) -> list[Message]:
    """What a topic has, partition by partition in order, without offsets."""
    records = await read_topic(kafka.bootstrap_servers, topic)
    ordered = sorted(records, key=lambda each: (each.partition, each.offset))
    return [(r.partition, r.key, r.value, r.timestamp, tuple(r.headers)) for r in ordered]


async def test_a_copy_has_every_message_and_goes_on_with_what_comes(kafka: KafkaSettings) -> None:
    """Partitions, order, times and headers are those of the first; the next run copies only what has come since."""
    source, target = await make_topics(kafka, 3, 4)
    await publish_numbers(kafka, source, range(700))
    shown: list[tuple[int, int]] = []
    done = await mirror_topic(kafka, source, target, show=lambda *each: shown.append(each))
    assert (done.messages, done.resumed) == (700, False)
    assert shown[-1] == (700, 700)
    assert await messages(kafka, target) == await messages(kafka, source)
    await publish_numbers(kafka, source, range(700, 730))
    done = await mirror_topic(kafka, source, target)
    assert (done.messages, done.resumed) == (30, True)
    assert await messages(kafka, target) == await messages(kafka, source)
    assert (await mirror_topic(kafka, source, target)).messages == 0


async def test_a_copy_that_was_broken_off_is_completed(
    kafka: KafkaSettings, kafka_broker: KafkaBroker
) -> None:
    """What was on its way comes twice at most, in order, and the topic has its own configuration again."""
    source, target = await make_topics(kafka, 3, 3)
    await publish_numbers(kafka, source, range(2_000))
    begun = asyncio.Event()
    first = asyncio.create_task(mirror_topic(kafka, source, target, show=lambda *_: begun.set()))
    await begun.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    done = await mirror_topic(kafka, source, target)
    assert done.resumed
    assert 0 < done.messages < 2_000
    wanted, found = await messages(kafka, source), await messages(kafka, target)
    for partition in range(3):
        place = 0
        whole = [each for each in wanted if each[0] == partition]
        for each in (each for each in found if each[0] == partition):
            at = whole.index(each)
            assert at <= place
            place = max(place, at + 1)
        assert place == len(whole)
    if kafka_broker.kind == "kafka":
        async with admin_client(kafka) as admin:
            config = await read_topic_config(admin, target)
        assert {name: config[name] for name in BROKER_TIME} == {n: (v, True) for n, v in BROKER_TIME.items()}


async def test_a_copy_may_follow(kafka: KafkaSettings) -> None:
    """It goes on with what comes until it is stopped, and the next run with what came after."""
    source, target = await make_topics(kafka, 3, 3)
    await publish_numbers(kafka, source, range(10))
    following = asyncio.create_task(mirror_topic(kafka, source, target, follow=True))

    async def has(count: int) -> bool:
        return len(await messages(kafka, target)) == count

    await until(lambda: has(10))
    await publish_numbers(kafka, source, range(10, 40))
    await until(lambda: has(40))
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following
    await publish_numbers(kafka, source, range(40, 45))
    await mirror_topic(kafka, source, target)
    found = await messages(kafka, target)
    assert [each for at, each in enumerate(found) if each not in found[:at]] == await messages(kafka, source)


async def test_a_copy_into_what_others_wrote_is_refused(kafka: KafkaSettings) -> None:
    """So is one into fewer partitions, of a topic to itself, and of none; nothing is written then."""
    source, used, fewer = await make_topics(kafka, 3, 3, 2)
    await publish_numbers(kafka, source, range(5))
    await publish_numbers(kafka, used, range(1))
    for one, other, said in (
        (source, used, "is not empty"),
        (source, fewer, "has 2 partitions, and .* has 3"),
        (source, source, "to itself"),
        ("no-such-topic", fewer, "there is no topic"),
    ):
        with pytest.raises(TopicError, match=said):
            await mirror_topic(kafka, one, other)
    assert len(await messages(kafka, used)) == 1
