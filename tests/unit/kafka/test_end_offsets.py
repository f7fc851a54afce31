"""Where the partitions of a topic end, asked of a consumer that learns of partitions as aiokafka's does."""

from typing import Any

import pytest
from aiokafka import TopicPartition

from streams.kafka.end_offsets import count_lag, known_partitions, read_end_offsets

pytestmark = pytest.mark.unit


class LearningConsumer:
    """Knows a topic's partitions once it has been asked for the end of one."""

    def __init__(self, ends: dict[int, int]) -> None:
        self._ends = ends
        self._asked: set[str] = set()

    async def end_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        """The ends of these."""
        self._asked |= {place.topic for place in places}
        return {place: self._ends.get(place.partition, 0) for place in places}

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        """What is known."""
        return set(self._ends) if topic in self._asked else None


async def test_every_partition_is_known_at_the_first_question() -> None:
    """Also to a consumer that has not heard of the topic."""
    consumer: Any = LearningConsumer({0: 5, 1: 0, 2: 7})
    assert await read_end_offsets(consumer, "t") == {0: 5, 1: 0, 2: 7}
    nothing: Any = LearningConsumer({})
    assert await known_partitions(nothing, "t") == set()
    assert await read_end_offsets(nothing, "t") == {}


def test_lag_is_what_is_before_the_ends_and_not_consumed() -> None:
    """A partition of which nothing is known as consumed counts whole, and one consumed beyond its end nothing."""
    assert count_lag({0: 5, 1: 3, 2: 7}, {0: 4, 2: 9}) == 4
