"""What the watcher of the store's offsets finds out, over a store and a memory that only note."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from serving.recommend import offset_watcher
from serving.recommend.offset_watcher import OffsetWatcher
from serving.recommend.response_cache import ANY
from store.errors import StoreUnavailableError
from store.progress import StoreProgress
from streams.generations import GenerationName

pytestmark = pytest.mark.unit


class NotedMemory:
    """A cache that notes what is outdated and dropped."""

    def __init__(self) -> None:
        self.entries = 1
        self.notes: list[tuple[str, object]] = []

    def __len__(self) -> int:
        return self.entries

    def outdate_all(self) -> None:
        self.notes.append(("outdated", "all"))

    def outdate(self, track_ids: list[str]) -> None:
        self.notes.append(("outdated", track_ids))

    def forget(self, track_id: str) -> None:
        self.notes.append(("dropped", track_id))


class SteeredStore:
    """The reads of `store.progress`, as the test sets them."""

    def __init__(self) -> None:
        self.progress = StoreProgress({0: 10, 1: 5}, {0: {0: 10, 1: 5}, 1: {0: 10, 1: 5}})
        self.written: list[str] | None = []
        self.withdrawn: list[str] = []
        self.waiting: dict[int, float] = {}
        self.dated: list[dict[int, int]] = []
        self.asked: list[tuple[dict[int, int], dict[int, int]]] = []
        self.away = False
        self.polls = 0

    async def fetch_progress(self, _: object) -> StoreProgress:
        self.polls += 1
        if self.away:
            raise StoreUnavailableError("no connection")
        return self.progress

    async def fetch_written(
        self, _: object, since: dict[int, int], until: dict[int, int], *, limit: int
    ) -> list[str] | None:
        assert limit > 0
        self.asked.append((since, until))
        return self.written

    async def fetch_waiting(self, _: object, first: dict[int, int]) -> dict[int, float]:
        self.dated.append(first)
        return {partition: seconds for partition, seconds in self.waiting.items() if partition in first}

    async def fetch_withdrawn(self, _: object) -> list[str]:
        return self.withdrawn


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> SteeredStore:
    """A store in place of Postgres."""
    steered = SteeredStore()
    monkeypatch.setattr(offset_watcher, "progress", steered)
    return steered


def watcher(
    memory: NotedMemory, interval: float = 60.0, turned: Callable[[], None] | None = None
) -> OffsetWatcher:
    """A watcher of the steered store."""
    nothing: Any = None
    noted: Any = memory
    return OffsetWatcher(
        nothing, noted, interval, 5.0, generation=GenerationName(), turned=turned or (lambda: None)
    )


async def test_only_partitions_whose_lists_may_have_changed_have_moved(store: SteeredStore) -> None:
    """A poll that finds new absorbed offsets of one partition moves that one and ANY; others stay."""
    watch = watcher(NotedMemory())
    await watch.look()
    store.progress = StoreProgress({0: 10, 1: 5}, {0: {0: 10, 1: 5}, 1: {0: 10, 1: 6}})
    await watch.look()
    assert (watch.moved(0), watch.moved(1), watch.moved(ANY)) == (1, 2, 2)


async def test_written_tracks_are_outdated_and_withdrawn_ones_dropped(store: SteeredStore) -> None:
    """The tracks between two consumed offsets; what was read before that poll must not be cached."""
    memory = NotedMemory()
    watch = watcher(memory)
    await watch.look()
    store.progress, store.written, store.withdrawn = StoreProgress({0: 12, 1: 5}, {}), ["a", "b"], ["b"]
    await watch.look()
    assert store.asked == [({0: 10, 1: 5}, {0: 12, 1: 5})]
    assert memory.notes == [("outdated", ["a", "b"]), ("dropped", "b")]
    assert watch.written == watch.tick == 2


async def test_a_bulk_load_outdates_everything_and_an_empty_memory_asks_nothing(store: SteeredStore) -> None:
    """More tracks than can be looked up are all of them; without entries there is nothing to outdate."""
    memory = NotedMemory()
    watch = watcher(memory)
    await watch.look()
    store.progress, store.written = StoreProgress({0: 9_000}, {}), None
    await watch.look()
    assert memory.notes == [("outdated", "all")]
    memory.entries, store.progress = 0, StoreProgress({0: 9_001}, {})
    await watch.look()
    assert len(store.asked) == 1


async def test_a_list_is_behind_until_it_has_absorbed_what_is_consumed(store: SteeredStore) -> None:
    """By the partition that owns it, and for ANY if one is; what waited before the first poll is dated by the store."""
    watch = watcher(NotedMemory())
    store.progress, store.waiting = (
        StoreProgress({0: 10, 1: 5}, {0: {0: 10, 1: 5}, 1: {0: 9, 1: 5}}),
        {0: 40.0},
    )
    began = time.perf_counter()
    await watch.look()
    assert store.dated == [{0: 9}]
    assert watch.behind(0, began) == 0
    now = time.perf_counter()
    assert 40 <= watch.behind(1, now) <= 40 + now - began
    assert watch.behind(1, now) == watch.behind(ANY, now)
    store.progress = StoreProgress({0: 10, 1: 5}, {0: {0: 10, 1: 5}, 1: {0: 10, 1: 5}})
    await watch.look()
    assert (watch.behind(1, began), watch.behind(ANY, began)) == (0, 0)


async def test_an_event_is_as_old_as_the_poll_that_found_it(store: SteeredStore) -> None:
    """The age grows with time, and a later event does not make the oldest one younger; the store is not asked again."""
    watch = watcher(NotedMemory())
    await watch.look()
    store.progress = StoreProgress({0: 11, 1: 5}, {0: {0: 10, 1: 5}, 1: {0: 11, 1: 5}})
    before = time.perf_counter()
    await watch.look()
    after = time.perf_counter()
    store.progress = StoreProgress({0: 15, 1: 9}, {0: {0: 10, 1: 5}, 1: {0: 15, 1: 9}})
    await watch.look()
    assert 7 - (after - before) <= watch.behind(0, before + 7) <= 7
    assert watch.behind(1, before + 7) == 0
    assert len(store.dated) == 1


async def test_who_waits_for_an_offset_is_told_when_it_comes(store: SteeredStore) -> None:
    """A reader who waits makes the watcher poll at once, not at the end of its interval."""
    watch = watcher(NotedMemory())
    running = asyncio.create_task(watch.run())
    waiting = asyncio.create_task(watch.until(lambda seen: seen.consumed.get(0, 0) > 10, 30.0))
    await asyncio.sleep(0.02)
    assert not waiting.done()
    store.progress = StoreProgress({0: 11, 1: 5}, {})
    assert await waiting
    running.cancel()


async def test_an_offset_that_does_not_come_is_no(store: SteeredStore) -> None:
    """The wait ends with its time."""
    watch = watcher(NotedMemory())
    await watch.look()
    assert await watch.until(lambda seen: bool(seen.consumed), 0.01)
    assert not await watch.until(lambda _: False, 0.01)


async def test_a_store_that_is_away_is_not_trusted_until_it_answers_again(store: SteeredStore) -> None:
    """What was seen last stays, but nobody takes it for current."""
    watch = watcher(NotedMemory(), interval=0.001)
    watch.attend(time.perf_counter())
    store.away = True
    running = asyncio.create_task(watch.run())
    await asyncio.sleep(0.02)
    assert not watch.trusted(time.perf_counter())
    store.away = False
    assert await watch.until(lambda seen: seen.consumed == {0: 10, 1: 5}, 30.0)
    assert watch.trusted(time.perf_counter())
    running.cancel()


async def test_polls_are_rare_while_nobody_reads_and_then_not_trusted(
    store: SteeredStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first reader finds nothing that is trusted, and makes the watcher poll often again."""
    monkeypatch.setattr(offset_watcher, "_UNATTENDED", 60.0)
    watch = watcher(NotedMemory(), interval=0.001)
    running = asyncio.create_task(watch.run())
    await asyncio.sleep(0.05)
    assert store.polls == 1
    assert not watch.trusted(time.perf_counter())
    watch.attend(time.perf_counter())
    assert await watch.until(lambda _: store.polls >= 5, 30.0)
    assert watch.trusted(time.perf_counter())
    running.cancel()


async def test_the_first_reader_after_a_quiet_time_learns_what_was_absorbed_in_it(
    store: SteeredStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A poll of before it came does not count for it, nor one that the store does not answer."""
    monkeypatch.setattr(offset_watcher, "_UNATTENDED", 60.0)
    monkeypatch.setattr(offset_watcher, "_ATTENDED", 0.0)
    watch = watcher(NotedMemory(), interval=0.001)
    store.progress, store.waiting = StoreProgress({0: 10}, {0: {0: 9}}), {0: 40.0}
    running = asyncio.create_task(watch.run())
    await asyncio.sleep(0.05)
    store.progress = StoreProgress({0: 10}, {0: {0: 10}})
    came = time.perf_counter()
    assert watch.behind(0, came) > 40
    watch.attend(came)
    assert await watch.renewed(came, 30.0)
    assert watch.behind(0, came) == 0
    store.away = True
    assert not await watch.renewed(time.perf_counter(), 0.01)
    running.cancel()


async def test_each_poll_that_finds_another_generation_to_serve_says_so(store: SteeredStore) -> None:
    """Its own generation is nothing to tell, nor is a store that does not say, nor another space; that none serves is."""
    told: list[set[str]] = []
    watch = watcher(NotedMemory(), turned=lambda: told.append(set(map(str, watch.seen.serving.values()))))
    melody, first, second = GenerationName("melody", 3), GenerationName(), GenerationName("default", 2)
    for serving in ((), (first,), (first, melody), (second, melody), (second,), (melody,)):
        store.progress = StoreProgress({0: 10}, {}, {name.space: name for name in serving})
        await watch.look()
    assert told == [{"default/2", "melody/3"}, {"default/2"}, {"melody/3"}]


async def test_nobody_waits_for_a_poll_of_a_store_that_is_away(store: SteeredStore) -> None:
    """Who waits already is told when a poll fails; who comes later is told at once."""
    watch = watcher(NotedMemory())
    await watch.look()
    store.away = True
    waiting = asyncio.create_task(watch.renewed(time.perf_counter(), 30.0))
    await asyncio.sleep(0)
    running = asyncio.create_task(watch.run())
    async with asyncio.timeout(20):
        assert not await waiting
        assert not await watch.renewed(time.perf_counter(), 30.0)
    running.cancel()
