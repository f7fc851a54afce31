"""Logs of track events in several partitions, some of them where their track's other events are not."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from streams.contracts import EventPlace

PARTITIONS, TRACKS = 3, 4


@dataclass(frozen=True)
class LoggedEvent:
    """One event: an upsert, or a delete of its track."""

    key: int
    place: EventPlace
    is_delete: bool


def drawn_log(rng: random.Random, count: int) -> list[list[LoggedEvent]]:
    """So many events, by partition; a partition's clock never goes back, and often stands still."""
    log: list[list[LoggedEvent]] = [[] for _ in range(PARTITIONS)]
    now = 1
    for _ in range(count):
        now += rng.random() < 0.4
        key = rng.randrange(1, TRACKS + 1)
        partition = key % PARTITIONS if rng.random() < 0.5 else rng.randrange(PARTITIONS)
        place = EventPlace(partition, len(log[partition]), now)
        log[partition].append(LoggedEvent(key, place, rng.random() < 0.35))
    return log


def compacted(log: Sequence[Sequence[LoggedEvent]]) -> list[list[LoggedEvent]]:
    """Of each partition the last event of each track, as Kafka leaves it while it keeps tombstones."""
    last = [{event.key: event for event in part} for part in log]
    return [sorted(part.values(), key=lambda event: event.place.offset) for part in last]


def interleaved(rng: random.Random, log: Sequence[Sequence[LoggedEvent]]) -> Iterator[LoggedEvent]:
    """All events, those of a partition in order."""
    left = [list(part) for part in log]
    while any(left):
        part = rng.choice([part for part in left if part])
        yield part.pop(0)


def final_tracks(events: Iterable[LoggedEvent]) -> dict[int, EventPlace]:
    """By key, the event that each track which is there in the end is of: the latest of all its events, if that is no delete."""
    last: dict[int, LoggedEvent] = {}
    for event in events:
        if event.key not in last or event.place.is_after(last[event.key].place):
            last[event.key] = event
    return {key: event.place for key, event in last.items() if not event.is_delete}
