"""What a worker holds in memory is what the store says, whatever overtakes what."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.rows import TrackVectors
from store.tail import CommittedTail, Departures
from streams.contracts import EventPlace
from streams.maintenance.overtaken import OvertakenEvents
from tests.support.examples import examples
from tests.support.track_logs import LoggedEvent, drawn_log, final_tracks

pytestmark = pytest.mark.unit


class Store:
    """Tracks and deletions as the tables have them."""

    def __init__(self) -> None:
        self.tracks: dict[int, EventPlace] = {}
        self.departures: dict[int, EventPlace] = {}
        self.consumed: dict[int, int] = {}

    def commit(self, batch: list[LoggedEvent]) -> list[LoggedEvent]:
        """Events of one partition; returns those that count."""
        counting = []
        for event in batch:
            known = [self.tracks.get(event.key), self.departures.get(event.key)]
            self.consumed[event.place.partition] = event.place.offset + 1
            if any(place is not None and not event.place.is_after(place) for place in known):
                continue
            counting.append(event)
            if event.is_delete:
                self.tracks.pop(event.key, None)
                self.departures[event.key] = event.place
            else:
                self.tracks[event.key] = event.place
        return counting

    def tail(self, after: dict[int, int]) -> CommittedTail:
        """What partitions have from these offsets on."""
        upto = {p: self.consumed[p] for p, first in after.items() if self.consumed.get(p, 0) > first}
        new = {k: at for k, at in self.tracks.items() if _within(at, after, upto)}
        gone = {
            k: at for k, at in self.departures.items() if k not in self.tracks and _within(at, after, upto)
        }
        keys, partitions, offsets, appended = _columns(new)
        gone_columns = _columns(gone)
        tracks = TrackVectors(keys, [], np.empty((0, 1)), partitions, offsets, offsets)
        return CommittedTail(tracks, Departures(*gone_columns), upto, True, appended, {}, dict(self.consumed))


def _within(at: EventPlace, after: dict[int, int], upto: dict[int, int]) -> bool:
    return at.partition in upto and after[at.partition] <= at.offset < upto[at.partition]


def _columns(places: dict[int, EventPlace]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rows = [(key, *place) for key, place in places.items()]
    key, partition, offset, appended = np.array(rows, dtype=np.int64).reshape(-1, 4).T
    return key, partition, offset, appended


class SimulatedWorker:
    """What one worker does with its own batches, and with those of others."""

    def __init__(self, store: Store, own: list[int]) -> None:
        self.own = own
        self._store = store
        self._queue: list[list[LoggedEvent]] = []
        self._upto: list[tuple[int, int]] = []
        self._applied: dict[int, int] = {}
        self._overtaken = OvertakenEvents()
        self.tracks: dict[int, EventPlace] = {}

    def commit(self, batch: list[LoggedEvent]) -> None:
        """A batch of one of our partitions."""
        self._queue.append(self._store.commit(batch))
        self._upto.append((batch[-1].place.partition, batch[-1].place.offset + 1))

    def pop(self) -> None:
        """Apply the batch that has waited longest."""
        if not self._queue:
            return
        for event in self._queue.pop(0):
            if self._overtaken.lets_pass(event.key, event.place):
                self._apply(event.key, event.place, is_delete=event.is_delete)
        partition, upto = self._upto.pop(0)
        self._applied[partition] = upto
        self._overtaken.forget(self._applied)

    def follow(self) -> None:
        """Apply what others have committed."""
        after = {p: self._applied.get(p, 0) for p in self._store.consumed if p not in self.own}
        part = self._store.tail(after)
        self._overtaken.note(part, self._applied)
        for key, *place in zip(
            part.tracks.keys, part.tracks.partitions, part.tracks.offsets, part.appended, strict=True
        ):
            self._apply(int(key), EventPlace(*map(int, place)), is_delete=False)
        for key in part.departures.keys:
            self.tracks.pop(int(key), None)
        self._applied |= part.upto
        self._overtaken.forget(self._applied)

    def _apply(self, key: int, place: EventPlace, *, is_delete: bool) -> None:
        if is_delete:
            self.tracks.pop(key, None)
        else:
            self.tracks[key] = place


@settings(max_examples=examples(500), deadline=None)
@given(st.integers(0, 1 << 32))
def test_every_worker_ends_with_the_tracks_of_the_store(seed: int) -> None:
    """Two workers share three partitions; batches wait, are followed and overtaken; in the end all have the same."""
    rng = random.Random(seed)
    log = drawn_log(rng, 24)
    store = Store()
    workers = [SimulatedWorker(store, [0, 2]), SimulatedWorker(store, [1])]
    left = [list(part) for part in log]
    while any(left):
        worker = rng.choice(workers)
        match rng.randrange(4):
            case 0 | 1:
                partition = rng.choice(worker.own)
                size = rng.randint(1, 3)
                batch, left[partition] = left[partition][:size], left[partition][size:]
                if batch:
                    worker.commit(batch)
            case 2:
                worker.pop()
            case _:
                worker.follow()
    for worker in rng.sample(workers, 2):
        for _ in range(24):
            worker.pop()
        worker.follow()
    wanted = final_tracks(event for part in log for event in part)
    assert store.tracks == wanted
    assert [worker.tracks for worker in workers] == [wanted, wanted]
