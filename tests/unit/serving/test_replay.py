"""Reading missed changes in parts, from a log in memory."""

import asyncio
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from serving.kafka import replay
from serving.kafka.broker import BrokerUnavailableError
from serving.kafka.replay import PART_BYTES, ReplayBusyError, Replayer

pytestmark = pytest.mark.unit

TOPIC = "recommendations"

Log = dict[int, dict[int, tuple[bytes, bytes | None]]]


class LogConsumer:
    """The used part of aiokafka's consumer, over `log`: for each partition, what is at each offset that is left."""

    log: ClassVar[Log]
    error: Exception | None = None
    started = 0

    def __init__(self, **options: Any) -> None:
        assert options["group_id"] is None
        self._at: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()

    async def start(self) -> None:
        type(self).started += 1
        if self.error is not None:
            raise self.error

    async def stop(self) -> None:
        pass

    def assign(self, places: list[TopicPartition]) -> None:
        self._at = dict.fromkeys(places, 0)

    def seek(self, place: TopicPartition, offset: int) -> None:
        self._at[place] = offset

    def pause(self, place: TopicPartition) -> None:
        self._paused.add(place)

    async def position(self, place: TopicPartition) -> int:
        return self._at[place]

    async def getmany(
        self, *places: TopicPartition, timeout_ms: int, max_records: int
    ) -> dict[TopicPartition, list[Any]]:
        assert timeout_ms > 0
        assert not self._paused & set(places)
        found = {}
        for place in places:
            left = sorted(o for o in self.log.get(place.partition, {}) if o >= self._at[place])[:max_records]
            if left:
                self._at[place] = left[-1] + 1
                found[place] = [
                    SimpleNamespace(
                        partition=place.partition,
                        offset=offset,
                        key=self.log[place.partition][offset][0],
                        value=self.log[place.partition][offset][1],
                    )
                    for offset in left
                ]
        return found


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    """The messages of the feed."""
    monkeypatch.setattr(LogConsumer, "log", {}, raising=False)
    monkeypatch.setattr(LogConsumer, "error", None)
    monkeypatch.setattr(LogConsumer, "started", 0)
    monkeypatch.setattr(replay, "AIOKafkaConsumer", LogConsumer)
    return LogConsumer.log


async def test_a_part_has_what_came_after_the_offsets_seen(log: Log) -> None:
    """Of each partition that was seen and has an end, from behind the offset seen to before the end."""
    log[0] = {offset: (b"a", b"%d" % offset) for offset in range(6)}
    log[1] = {offset: (b"b", b"%d" % offset) for offset in range(3)}
    part = await Replayer({}, TOPIC).read({0: 2, 1: -1, 9: 4}, {0: 5, 1: 2, 2: 8}, None)
    assert sorted((c.partition, c.offset) for c in part.changes) == [(0, 3), (0, 4), (1, 0), (1, 1)]
    assert part.seen == {0: 4, 1: 1}


async def test_of_one_track_only_its_changes_are_told(log: Log) -> None:
    """Messages of other tracks, and without a usable key, count as seen."""
    log[0] = {0: (b"a", b"{}"), 1: (b"b", b"{}"), 2: (b"\xff", b"{}"), 3: (b"b", None)}
    part = await Replayer({}, TOPIC).read({0: -1}, {0: 4}, "b")
    assert [(c.offset, c.value) for c in part.changes] == [(1, b"{}"), (3, None)]
    assert part.seen == {0: 3}


async def test_what_was_compacted_away_is_not_waited_for(log: Log) -> None:
    """Where nothing comes any more before the end, the partition is done."""
    log[0] = {1: (b"a", b"{}")}
    part = await Replayer({}, TOPIC).read({0: -1}, {0: 50}, None)
    assert len(part.changes) == 1
    assert part.seen == {0: 49}


async def test_a_long_absence_is_told_part_by_part(log: Log) -> None:
    """No part is much larger than its size, and together they are everything, once."""
    log[0] = dict.fromkeys(range(150), (b"a", b"x" * 10000))
    replayer, seen, offsets, parts = Replayer({}, TOPIC), {0: -1}, [], 0
    while seen[0] < 149:
        part = await replayer.read(seen, {0: 150}, None)
        assert sum(change.size for change in part.changes) < 4 * PART_BYTES
        offsets += [change.offset for change in part.changes]
        seen, parts = part.seen, parts + 1
    assert offsets == list(range(150))
    assert parts > 1


async def test_who_has_missed_nothing_takes_no_connection(log: Log) -> None:
    """The offsets seen are those before the ends already."""
    part = await Replayer({}, TOPIC).read({0: 4}, {0: 5}, None)
    assert (part.seen, part.changes, LogConsumer.started) == ({0: 4}, [], 0)


async def test_a_broker_that_is_away_is_told(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the API's own error, whatever aiokafka raised."""
    log[0] = {0: (b"a", b"{}")}
    monkeypatch.setattr(LogConsumer, "error", KafkaConnectionError("no broker"))
    with pytest.raises(BrokerUnavailableError, match="no broker"):
        await Replayer({}, TOPIC).read({0: -1}, {0: 1}, None)


async def test_who_does_not_get_a_turn_is_told_to_come_again(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only so many read at once; the turn of one who gave up is not lost."""
    log[0] = {0: (b"a", b"{}")}
    replayer, go = Replayer({}, TOPIC), asyncio.Event()
    start = LogConsumer.start

    async def held(consumer: LogConsumer) -> None:
        await go.wait()
        await start(consumer)

    monkeypatch.setattr(LogConsumer, "start", held)
    monkeypatch.setattr(replay, "_TURN", 0.01)
    reading = [asyncio.create_task(replayer.read({0: -1}, {0: 1}, None)) for _ in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(ReplayBusyError):
        await replayer.read({0: -1}, {0: 1}, None)
    go.set()
    assert [len(part.changes) for part in await asyncio.gather(*reading)] == [1] * 4
    assert len((await replayer.read({0: -1}, {0: 1}, None)).changes) == 1
