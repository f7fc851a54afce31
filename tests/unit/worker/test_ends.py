"""Where logs end that are not fetched from."""

from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError
from faust.types import TP

from streams.kafka.log_ends import LogEndsCache

pytestmark = pytest.mark.unit

TOPIC = "track-ingest"


class _StoppedConsumer:
    """A consumer whose fetches stopped long ago."""

    def __init__(self) -> None:
        self.fetched = {0: 10, 1: 20}
        self.ends = {0: 5_000, 1: 15}
        self.asked: list[TP] = []
        self.away = False

    def highwater(self, place: TP) -> int:
        return self.fetched.get(place.partition, 0)

    async def highwaters(self, *places: TP) -> dict[TP, int | None]:
        if self.away:
            raise KafkaTimeoutError
        self.asked += places
        return {place: self.ends.get(place.partition) for place in places}


class _App:
    def __init__(self) -> None:
        self.consumer = _StoppedConsumer()


async def test_the_broker_is_asked_for_the_ends_of_partitions_that_wait() -> None:
    """The later of what is fetched and what is asked counts; who has nothing waiting is not asked about."""
    app: Any = _App()
    waiting = {0, 1, 2}
    ends = LogEndsCache(app, TOPIC, lambda: waiting)
    assert [ends(partition) for partition in range(3)] == [10, 20, 0]
    await ends.ask()
    assert [ends(partition) for partition in range(3)] == [5_000, 20, 0]
    app.consumer.fetched[0] = 6_000
    assert ends(0) == 6_000
    waiting = {0}
    await ends.ask()
    assert app.consumer.asked == [*(TP(TOPIC, partition) for partition in range(3)), TP(TOPIC, 0)]


async def test_what_is_known_serves_while_the_broker_is_away_and_is_forgotten_when_nothing_waits() -> None:
    """An error is none of the worker's; an end asked for long ago cannot outlive its log."""
    app: Any = _App()
    waiting = {0}
    ends = LogEndsCache(app, TOPIC, lambda: waiting)
    await ends.ask()
    app.consumer.away = True
    await ends.ask()
    assert ends(0) == 5_000
    waiting = set()
    await ends.ask()
    assert ends(0) == 10
