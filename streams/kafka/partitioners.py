"""Which rule the producers of a topic follow when they choose partitions, as far as its log shows."""

import asyncio
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from aiokafka import TopicPartition
from aiokafka.partitioner import murmur2

from streams.kafka.clients import group_less_consumer
from streams.settings import KafkaSettings

# Messages looked at of each partition, the newest.
RECENT = 500
# A rule is believed of at least so many misplaced messages, and of at least this share of them.
_LEAST, _SHARE = 5, 0.5
_PATIENCE_SECONDS = 20.0

# A key and the partition that it lies in.
PlacedKey = tuple[bytes, int]


@dataclass(slots=True)
class PlacedKeys:
    """How the keys of recent messages lie.

    Attributes:
        looked_at: How many messages.
        misplaced: How many of them lie elsewhere than murmur2 places their keys.
        rules: What is believed to have placed these, and how many each.
    """

    looked_at: int = 0
    misplaced: int = 0
    rules: list[tuple[str, int]] = field(default_factory=list)


def murmur2_partition(key: bytes, count: int) -> int:
    """As Java clients, aiokafka, kafka-python and `mess` do, and librdkafka with `murmur2_random`."""
    return int(murmur2(key) & 0x7FFFFFFF) % count


def crc32_partition(key: bytes, count: int) -> int:
    """As librdkafka does by default (`consistent_random`)."""
    return zlib.crc32(key) % count


def fnv1a_partition(key: bytes, count: int) -> int:
    """As Sarama does by default, and librdkafka with `fnv1a_random`."""
    value = 0x811C9DC5
    for byte in key:
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return (value if value < 1 << 31 else (1 << 32) - value) % count


def placing_rules(placed: Sequence[PlacedKey], count: int) -> PlacedKeys:
    """Say what has placed keys in a topic of so many partitions."""
    left = [(key, at) for key, at in placed if murmur2_partition(key, count) != at]
    found = PlacedKeys(len(placed), len(left))
    rules: list[tuple[str, Callable[[bytes], int]]] = [
        ("crc32", lambda key: crc32_partition(key, count)),
        ("fnv1a", lambda key: fnv1a_partition(key, count)),
        *(
            (f"murmur2 of {fewer} partitions", lambda key, fewer=fewer: murmur2_partition(key, fewer))
            for fewer in range(count - 1, 0, -1)
        ),
    ]
    while len(left) >= _LEAST:
        fits = {name: [rule(key) == at for key, at in left] for name, rule in rules}
        best = max(fits, key=lambda name: sum(fits[name]))
        if sum(fits[best]) < max(_LEAST, _SHARE * len(left)):
            break
        found.rules.append((best, sum(fits[best])))
        left = [place for place, is_fit in zip(left, fits[best], strict=True) if not is_fit]
    if left:
        found.rules.append(("no rule that is known", len(left)))
    return found


async def recent_keys(kafka: KafkaSettings, topic: str, count: int) -> list[PlacedKey]:
    """The keys of the newest messages of each of a topic's partitions.

    Raises:
        BrokerUnavailable: No broker answers.
    """
    found: list[PlacedKey] = []
    async with group_less_consumer(kafka) as reader:
        places = [TopicPartition(topic, partition) for partition in range(count)]
        reader.assign(places)
        ends = await reader.end_offsets(places)
        for place in places:
            reader.seek(place, max(0, ends[place] - RECENT))
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                while left := [p for p in places if await reader.position(p) < ends[p]]:
                    for place, records in (await reader.getmany(*left, timeout_ms=500)).items():
                        found += [(r.key, place.partition) for r in records if r.key is not None]
        except TimeoutError:
            pass  # what has been read says enough
    return found


async def describe_placement(kafka: KafkaSettings, topic: str, count: int) -> list[str]:
    """In a line each, how the producers of a topic of so many partitions place keys; nothing of an empty one.

    Raises:
        BrokerUnavailable: No broker answers.
    """
    keys = await recent_keys(kafka, topic, count)
    if not keys:
        return []
    seen = placing_rules(keys, count)
    lines = [
        f"{topic}: of {seen.looked_at:,} recent events {seen.looked_at - seen.misplaced:,} lie where murmur2 places their keys"
    ]
    for rule, events in seen.rules:
        lines.append(f"{topic}: {events:,} lie where {rule} places them{_ADVICE.get(rule.split()[0], '')}")
    return lines


_ADVICE = {
    "crc32": ": librdkafka's default; set partitioner=murmur2_random in its clients (confluent-kafka, kcat)",
    "fnv1a": ": Sarama's default; set a murmur2 partitioner, in librdkafka partitioner=murmur2_random",
    "murmur2": ": partitions were added since; of such tracks the event counts that the broker appended last",
}
