"""The engine of large catalogues against brute force and the exact engine; the threshold is lowered."""

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize

from streams.neighbours import approximate, cells
from streams.neighbours.approximate import ApproximateEngine
from streams.neighbours.exact import ExactEngine
from streams.neighbours.types import EVENT, StoredLists
from tests.unit.neighbours.helpers import Follower, batch, oracle
from tests.unit.neighbours.test_exact import DIMENSION, KERNELS, AnyHistory, random_catalogue
from tests.unit.neighbours.test_process import _Taken

pytestmark = pytest.mark.unit


def settle(engine: ExactEngine) -> None:
    """Repair until nothing waits."""
    for _ in range(10_000):
        if not engine.refill(64):
            return
    raise AssertionError("repairs never end")


class AnyLargeHistory(AnyHistory):
    """After any history and its repair, the lists equal those of brute force, whatever cells there are."""

    @initialize(sizes=st.sampled_from([(3, 3), (3, 5), (4, 10), (5, 40)]), exact_upto=st.integers(0, 12))
    def start(self, sizes: tuple[int, int], exact_upto: int) -> None:
        self.exact_upto = exact_upto
        super().start(sizes, compiled=False)

    def make(self) -> ExactEngine:
        engine = ApproximateEngine(
            DIMENSION, published=self.published, kept=self.kept, exact_upto=self.exact_upto
        )
        engine.accelerate(KERNELS)
        # So few that what is looked at is a part of so small a catalogue.
        engine.nearest.probes = 1
        return engine

    def before_restart(self, left: int) -> None:
        """A catalogue that is started with less than half of the threshold is trusted to have had its lists repaired."""
        if left <= self.exact_upto // 2:
            settle(self.engine)

    def short_lists_are_right_as_far_as_they_go(self) -> None:
        """Only once repaired."""


AnyLargeHistory.TestCase.settings = settings(
    max_examples=60, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(autouse=True)
def _small_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "ROOM", 64)
    monkeypatch.setattr(cells, "TARGET", 32)


class TestAnyLargeHistory(AnyLargeHistory.TestCase):  # type: ignore[name-defined,misc]
    """Run it with cells of three."""

    def setUp(self) -> None:
        self._before = cells.ROOM, cells.TARGET
        cells.ROOM, cells.TARGET = 3, 2

    def tearDown(self) -> None:
        cells.ROOM, cells.TARGET = self._before


def inserted(engine: ExactEngine, catalogue: dict[str, np.ndarray], start: int, dimension: int) -> None:
    """Insert a catalogue in batches, from one of its tracks on."""
    items = list(catalogue.items())
    for at in range(start, len(items), 100):
        engine.apply(batch(dict(items[at : at + 100]), dimension=dimension, first=at))


def share_right(follower: Follower, expected: dict[int, list[tuple[int, float]]]) -> float:
    """The share of lists that are those expected."""
    return float(np.mean([follower.lists.get(key) == entries for key, entries in expected.items()]))


def test_nearly_all_lists_are_right_at_once_and_all_after_repair() -> None:
    """Above the threshold: at least .99 of all lists at once, with few comparisons, and every one once it is idle."""
    dimension = 24
    catalogue = random_catalogue(2_600, dimension, seed=4)
    engine = ApproximateEngine(dimension, published=20, kept=40, exact_upto=2_000)
    engine.accelerate(KERNELS)
    engine.nearest.probes = 12
    inserted(engine, dict(list(catalogue.items())[:2_000]), 0, dimension)
    assert engine.stats().unverified == 0
    before = engine.nearest.computed
    inserted(engine, catalogue, 2_000, dimension)
    assert engine.stats().unverified > 400
    assert engine.nearest.computed - before < 600 * 600
    follower, expected = Follower(), oracle(catalogue, 20)
    follower.take(engine)
    assert share_right(follower, expected) >= 0.99
    settle(engine)
    follower.take(engine)
    assert follower.lists == expected
    assert engine.stats().unverified == 0


def test_moves_and_deletes_among_unverified_tracks_are_repaired() -> None:
    """Churn right after inserts, before any repair, ends with the lists of brute force."""
    dimension, rng = 16, np.random.default_rng(5)
    catalogue = random_catalogue(1_200, dimension, seed=6)
    engine = ApproximateEngine(dimension, published=8, kept=16, exact_upto=300)
    engine.accelerate(KERNELS)
    engine.nearest.probes = 2
    inserted(engine, catalogue, 0, dimension)
    for step in range(5):
        some = rng.choice(sorted(catalogue), 80, replace=False).tolist()
        moved = dict(zip(some[:40], random_catalogue(40, dimension, seed=50 + step).values(), strict=True))
        engine.apply(batch(moved, some[40:], dimension=dimension))
        catalogue = {k: v for k, v in (catalogue | moved).items() if k not in some[40:]}
        engine.refill(30)
    settle(engine)
    follower = Follower()
    follower.take(engine)
    assert follower.lists == oracle(catalogue, 8)


def test_stored_lists_of_a_large_catalogue_are_compared_again() -> None:
    """Lists stored before they were verified are made right after a start from them."""
    dimension, catalogue = 16, random_catalogue(600, 16, seed=9)
    first = ApproximateEngine(dimension, published=8, kept=16, exact_upto=100)
    first.accelerate(KERNELS)
    first.nearest.probes = 1
    inserted(first, catalogue, 0, dimension)
    follower, expected = Follower(), oracle(catalogue, 8)
    changes = first.take_changes()
    stored = StoredLists(changes.keys, changes.neighbours, changes.scores, changes.lengths, changes.events)
    second = ApproximateEngine(dimension, published=8, kept=16, exact_upto=100)
    second.accelerate(KERNELS)
    second.load(batch(catalogue, dimension=dimension), stored)
    follower.take(_Taken(changes))  # type: ignore[arg-type]
    assert 0.5 < share_right(follower, expected) < 1
    settle(second)
    follower.take(second)
    assert follower.lists == expected


def test_a_large_catalogue_without_lists_gets_them_slice_by_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists appear as refills go on, nearly all right at first; newcomers meanwhile do not wait for the rest."""
    monkeypatch.setattr(approximate, "MANY", 100)
    dimension = 24
    catalogue = random_catalogue(1_500, dimension, seed=8)
    engine = ApproximateEngine(dimension, published=10, kept=20, exact_upto=500)
    engine.accelerate(KERNELS)
    engine.nearest.probes = 12
    nothing = np.empty((0, 0))
    lists = StoredLists(
        keys=np.empty(0, dtype=np.int64),
        neighbours=nothing.astype(np.int64),
        scores=nothing.astype(np.float32),
        lengths=np.empty(0, dtype=np.int64),
        events=np.empty(0, dtype=EVENT),
    )
    known = dict(list(catalogue.items())[:1_400])
    engine.load(batch(known, dimension=dimension), lists)
    follower = Follower()
    assert engine.refill(200) > 0
    follower.take(engine)
    assert len(follower.lists) == 200
    inserted(engine, catalogue, 1_400, dimension)
    follower.take(engine)
    assert len(follower.lists) >= 300
    while engine.stats().waiting_refills:
        engine.refill(200)
    follower.take(engine)
    expected = oracle(catalogue, 10)
    assert share_right(follower, expected) > 0.95
    settle(engine)
    follower.take(engine)
    assert follower.lists == expected


def test_without_compiled_loops_it_is_the_exact_engine() -> None:
    """Above the threshold too, every list is right at once."""
    catalogue = random_catalogue(400, 8)
    engine = ApproximateEngine(8, published=5, kept=10, exact_upto=100)
    inserted(engine, catalogue, 0, 8)
    assert engine.stats().unverified == 0
    follower = Follower()
    follower.take(engine)
    assert follower.lists == oracle(catalogue, 5)


@pytest.mark.parametrize("alike", [False, True])
def test_cells_hold_every_track_once(alike: bool) -> None:
    """After any placing, moving and forgetting, identical vectors included, each slot is in one cell, and none is over-full."""
    rng = np.random.default_rng(0)
    vectors = np.array(list(random_catalogue(1_000, 12).values()))
    if alike:
        vectors[:] = vectors[0]
    made = cells.Cells(vectors[:500], np.arange(500, dtype=np.int32))
    made.place(vectors, np.arange(500, 1_000, dtype=np.int32))
    gone = rng.choice(1_000, 200, replace=False).astype(np.int32)
    made.forget(gone)
    moved = np.setdiff1d(np.arange(1_000), gone)[:150].astype(np.int32)
    vectors[moved] = vectors[moved][::-1]
    made.place(vectors, moved)
    members = np.concatenate([row[:count] for row, count in zip(made.members, made.counts, strict=True)])
    assert sorted(members.tolist()) == np.setdiff1d(np.arange(1_000), gone).tolist()
    assert made.counts.max() < cells.ROOM
