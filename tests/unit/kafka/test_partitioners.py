"""What placed keys is told by where they lie."""

import random

import pytest

from streams.kafka.partitioners import (
    PlacedKeys,
    crc32_partition,
    fnv1a_partition,
    murmur2_partition,
    placing_rules,
)

pytestmark = pytest.mark.unit

KEYS = [f"track/{number}".encode() for number in range(400)]


def test_rules_place_keys_as_the_clients_do() -> None:
    """CRC-32 and FNV-1a of a known text, and Kafka's own example of murmur2."""
    assert crc32_partition(b"123456789", 1 << 32) == 0xCBF43926
    # 0xbf9cf968 as a negative number, of which Sarama and librdkafka take the absolute value.
    assert fnv1a_partition(b"foobar", 1 << 32) == (1 << 32) - 0xBF9CF968
    assert murmur2_partition(b"21", 1 << 32) == -973932308 & 0x7FFFFFFF


def test_a_log_of_murmur2_alone_has_nothing_misplaced() -> None:
    """Java clients, aiokafka and the producers of this project."""
    placed = [(key, murmur2_partition(key, 8)) for key in KEYS]
    assert placing_rules(placed, 8) == PlacedKeys(400, 0, [])


@pytest.mark.parametrize(("name", "rule"), [("crc32", crc32_partition), ("fnv1a", fnv1a_partition)])
def test_another_partitioner_is_named(name: str, rule) -> None:  # type: ignore[no-untyped-def]
    """Among events that lie where they should, and a few that nobody can explain."""
    rng = random.Random(4)
    placed = [(key, rule(key, 8) if at % 2 else murmur2_partition(key, 8)) for at, key in enumerate(KEYS)]
    placed[:3] = [(key, (murmur2_partition(key, 8) + rng.randrange(1, 8)) % 8) for key in KEYS[:3]]
    seen = placing_rules(placed, 8)
    assert seen.rules[0][0] == name
    assert seen.rules[0][1] > 0.9 * seen.misplaced
    assert sum(events for _, events in seen.rules) == seen.misplaced


def test_added_partitions_are_told_from_a_partitioner() -> None:
    """What lies where murmur2 placed it while there were fewer partitions."""
    placed = [(key, murmur2_partition(key, 6 if at < 300 else 8)) for at, key in enumerate(KEYS)]
    seen = placing_rules(placed, 8)
    assert [rule for rule, _ in seen.rules] == ["murmur2 of 6 partitions"]


def test_events_placed_at_random_are_of_no_rule() -> None:
    """A producer that names partitions itself."""
    rng = random.Random(3)
    seen = placing_rules([(key, rng.randrange(8)) for key in KEYS], 8)
    assert [rule for rule, _ in seen.rules] == ["no rule that is known"]
