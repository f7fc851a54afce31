"""When the map is laid out anew, on a store that tells what it is asked to tell."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from store import map_positions
from store.errors import StoreUnavailableError
from store.map_positions import MapState
from store.settings import StoreSettings
from streams.maintenance import map_keeper
from streams.maintenance.map_keeper import MapKeeper
from streams.metrics import WorkerMetrics

pytestmark = pytest.mark.unit


class FakeMap:
    """The store's map: a version of the lists, a state, and newcomers to be placed."""

    def __init__(self, state: MapState) -> None:
        self.version = 1
        self.state = state
        self.newcomers = 0
        self.states_read = 0
        self.away = False

    async def fetch_version(self, pool: object) -> int:
        del pool
        if self.away:
            raise StoreUnavailableError("away")
        return self.version

    async def fetch_state(self, pool: object) -> MapState:
        del pool
        self.states_read += 1
        return self.state

    async def place_newcomers(self, pool: object, at_once: int) -> int:
        del pool
        placed = min(self.newcomers, at_once)
        self.newcomers -= placed
        return placed

    def now(self, **changes: int) -> None:
        """Lists were written."""
        self.version += 1
        self.state = self.state._replace(**changes)


class Keeper(MapKeeper):
    """Counts layouts instead of starting processes."""

    def __init__(self, metrics: WorkerMetrics) -> None:
        super().__init__(object(), StoreSettings(database_url="postgresql://x"), {0}, metrics)  # type: ignore[arg-type]
        self.layouts = 0
        self.ends_with: int | OSError = 0

    async def _run_layout(self) -> int:
        self.layouts += 1
        if isinstance(self.ends_with, OSError):
            raise self.ends_with
        return self.ends_with

    async def looks(self, times: int = 1) -> bool:
        """Whether the last of some looks found that a layout is due."""
        return [await self._look() for _ in range(times)][-1]


Store = Callable[..., FakeMap]


@pytest.fixture
def metrics() -> WorkerMetrics:
    """Of a worker of its own."""
    return WorkerMetrics()


@pytest.fixture
def keeper(metrics: WorkerMetrics) -> Keeper:
    """Of the owner of partition 0."""
    return Keeper(metrics)


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> Store:
    """Make what the store says."""

    def make(tracks: int, settled: int = 0, gone: int = 0) -> FakeMap:
        fake = FakeMap(MapState(tracks, tracks, settled, gone))
        for name in ("fetch_version", "fetch_state", "place_newcomers"):
            monkeypatch.setattr(map_positions, name, getattr(fake, name))
        return fake

    return make


async def test_a_catalogue_is_laid_out_when_it_stands_still(keeper: Keeper, stored: Store) -> None:
    """Not while it is being filled, and not below twenty tracks."""
    store = stored(19)
    assert not await keeper.looks(3)
    for tracks in (30, 60, 90):
        store.now(tracks=tracks, lists=tracks)
        assert not await keeper.looks()
    assert await keeper.looks()


@pytest.mark.parametrize(
    ("settled", "gone", "due"),
    [
        (1_000, 0, False),
        (950, 0, False),
        (949, 0, True),
        (1_000, 25, False),
        (1_000, 26, True),
        (970, 11, True),
    ],
)
async def test_it_is_laid_out_again_when_a_twentieth_has_changed(
    keeper: Keeper, stored: Store, settled: int, gone: int, due: bool
) -> None:
    """A place of a track that is gone counts twice: its neighbours have lost one, too."""
    stored(1_000, settled, gone)
    assert await keeper.looks(2) == due


async def test_newcomers_are_placed_at_once_while_there_are_any(keeper: Keeper, stored: Store) -> None:
    """In as many statements as it takes; a catalogue without a map has nowhere to place them."""
    store = stored(10_000, settled=9_900)
    store.newcomers = 5_000
    await keeper.looks()
    assert store.newcomers == 0
    store.now(settled=0)
    store.newcomers = 7
    await keeper.looks()
    assert store.newcomers == 7


async def test_where_nothing_changes_the_state_is_not_counted_again(
    keeper: Keeper, stored: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counting reads whole tables. After half a minute it is done all the same, and after any change at once."""
    store = stored(1_000, settled=1_000)
    await keeper.looks(2)
    counted = store.states_read
    await keeper.looks(5)
    assert store.states_read == counted
    store.now()
    await keeper.looks()
    assert store.states_read == counted + 1
    await keeper.looks(3)
    counted = store.states_read
    monkeypatch.setattr(keeper, "_look_by", 0.0)
    await keeper.looks()
    assert store.states_read == counted + 1


@pytest.mark.parametrize("failure", [3, OSError("no more processes")])
async def test_a_layout_that_fails_is_tried_later(
    keeper: Keeper, stored: Store, metrics: WorkerMetrics, failure: int | OSError
) -> None:
    """Not at every look: what is there stays."""
    store = stored(1_000)
    keeper.ends_with = failure
    assert await keeper.looks(2)
    await keeper._lay_out()
    assert not await keeper.looks(2)
    keeper._not_before = 0.0
    store.now()
    assert await keeper.looks(2)
    assert metrics.map_layouts.labels("failed")._value.get() == 1


async def test_it_goes_on_when_postgres_is_back(
    keeper: Keeper, stored: Store, monkeypatch: pytest.MonkeyPatch, metrics: WorkerMetrics
) -> None:
    """A look that fails ends nothing; the layout runs beside further looks."""
    monkeypatch.setattr(map_keeper, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(map_keeper, "_LOOK_SHARE", 0)
    store = stored(1_000)
    store.away = True
    running = asyncio.create_task(keeper.run())
    await asyncio.sleep(0)
    assert store.states_read == 0
    store.away = False
    async with asyncio.timeout(10):
        while not metrics.map_layouts.labels("done")._value.get():  # noqa: ASYNC110 -- a counter has no event
            await asyncio.sleep(0)
    running.cancel()
    assert await asyncio.gather(running, return_exceptions=True) != []
    assert keeper.layouts >= 1


async def test_who_does_not_own_partition_0_keeps_no_map(
    keeper: Keeper, stored: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several workers one does."""
    monkeypatch.setattr(map_keeper, "LOOK_SECONDS", 0.0)
    keeper._ownership = {1, 2}  # type: ignore[assignment]
    store = stored(1_000)
    running = asyncio.create_task(keeper.run())
    for _ in range(20):
        await asyncio.sleep(0)
    running.cancel()
    results: list[Any] = await asyncio.gather(running, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert (store.states_read, keeper.layouts) == (0, 0)
