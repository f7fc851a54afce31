"""The engine of large catalogues against brute force and the exact engine; the threshold is lowered."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize

from streams.engine import approximate, inverted_file
from streams.engine.approximate import ApproximateEngine, InflowEstimate
from streams.engine.exact import ExactEngine
from streams.engine.types import EVENT, StoredLists
from tests.support.examples import examples
from tests.unit.engine.helpers import KeptLists, batch, oracle
from tests.unit.engine.test_exact import DIMENSION, KERNELS, AnyHistory, random_catalogue
from tests.unit.engine.test_process import _ChangedEngine

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
    max_examples=examples(60), stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(autouse=True)
def _small_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approximate, "MAKING_SECONDS", 60.0)
    monkeypatch.setattr(approximate, "LEAST_MADE", 50)
    monkeypatch.setattr(approximate, "STRAYS_AT_ONCE", (5, 20))
    monkeypatch.setattr(inverted_file, "ROOM", 64)
    monkeypatch.setattr(inverted_file, "TARGET", 32)


class TestAnyLargeHistory(AnyLargeHistory.TestCase):  # type: ignore[name-defined,misc]
    """Run it with cells of three."""

    def setUp(self) -> None:
        self._before = inverted_file.ROOM, inverted_file.TARGET
        inverted_file.ROOM, inverted_file.TARGET = 3, 2

    def tearDown(self) -> None:
        inverted_file.ROOM, inverted_file.TARGET = self._before


def inserted(engine: ExactEngine, catalogue: dict[str, np.ndarray], start: int, dimension: int) -> None:
    """Insert a catalogue in batches, from one of its tracks on."""
    items = list(catalogue.items())
    for at in range(start, len(items), 100):
        engine.apply(batch(dict(items[at : at + 100]), dimension=dimension, first=at))


def share_right(follower: KeptLists, expected: dict[int, list[tuple[int, float]]]) -> float:
    """The share of lists that are those expected."""
    return float(np.mean([follower.lists.get(key) == entries for key, entries in expected.items()]))


def test_nearly_all_lists_are_right_at_once_and_all_after_repair(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the threshold: at least .99 of all lists at once, with few comparisons, and every one once it is idle."""
    # On a slow machine a window of the inflow would end in the middle: a catalogue that is being filled gets no lists.
    monkeypatch.setattr(approximate, "WINDOW_SECONDS", np.inf)
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
    follower, expected = KeptLists(), oracle(catalogue, 20)
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
    follower = KeptLists()
    follower.take(engine)
    assert follower.lists == oracle(catalogue, 8)


def test_stored_lists_of_a_large_catalogue_are_compared_again() -> None:
    """Lists stored before they were verified are made right after a start from them."""
    dimension, catalogue = 16, random_catalogue(600, 16, seed=9)
    first = ApproximateEngine(dimension, published=8, kept=16, exact_upto=100)
    first.accelerate(KERNELS)
    first.nearest.probes = 1
    inserted(first, catalogue, 0, dimension)
    follower, expected = KeptLists(), oracle(catalogue, 8)
    changes = first.take_changes()
    stored = StoredLists(changes.keys, changes.neighbours, changes.scores, changes.lengths, changes.events)
    second = ApproximateEngine(dimension, published=8, kept=16, exact_upto=100)
    second.accelerate(KERNELS)
    second.load(batch(catalogue, dimension=dimension), stored)
    follower.take(_ChangedEngine(changes))  # type: ignore[arg-type]
    assert 0.5 < share_right(follower, expected) < 1
    settle(second)
    follower.take(second)
    assert follower.lists == expected


def unlisted(catalogue: dict[str, np.ndarray], dimension: int, exact_upto: int) -> ApproximateEngine:
    """An engine loaded with a catalogue and no lists, whose cells are made."""
    engine = ApproximateEngine(dimension, published=10, kept=20, exact_upto=exact_upto)
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
    engine.load(batch(catalogue, dimension=dimension), lists)
    if len(catalogue) > exact_upto:
        assert engine.nearest.look_near(60)
    return engine


def make_lists(engine: ApproximateEngine) -> int:
    """Refill until no list is missing; the number of slices."""
    for slices in range(10_000):
        if not engine.stats().waiting_refills:
            return slices
        engine.refill(200)
    raise AssertionError("lists are never made")


def test_a_large_catalogue_without_lists_gets_them_slice_by_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists appear as refills go on, nearly all right at first; newcomers meanwhile do not wait for the rest."""
    monkeypatch.setattr(approximate, "MANY", 100)
    dimension = 24
    catalogue = random_catalogue(1_500, dimension, seed=8)
    engine, follower = unlisted(dict(list(catalogue.items())[:1_400]), dimension, 500), KeptLists()
    engine.nearest.among = 500
    assert engine.refill(200) > 0
    follower.take(engine)
    assert 200 <= len(follower.lists) < 200 + inverted_file.ROOM
    inserted(engine, catalogue, 1_400, dimension)
    follower.take(engine)
    assert len(follower.lists) >= 300
    before = engine.nearest.computed
    assert make_lists(engine) > 5
    assert engine.nearest.computed - before < 1_400 * 700
    follower.take(engine)
    expected = oracle(catalogue, 10)
    assert share_right(follower, expected) > 0.95
    settle(engine)
    follower.take(engine)
    assert follower.lists == expected


def test_newcomers_get_their_lists_at_once_where_even_the_backlog_makes_no_large_catalogue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However much is to come: their products serve the lists that they belong in, too."""
    monkeypatch.setattr(approximate, "FILLING_EVENTS", 100)
    dimension = 24
    catalogue = random_catalogue(600, dimension, seed=14)
    engine, follower = ApproximateEngine(dimension, published=10, kept=20, exact_upto=600), KeptLists()
    items = list(catalogue.items())
    for at in range(0, 600, 100):
        some = batch(dict(items[at : at + 100]), dimension=dimension, first=at)
        engine.apply(replace(some, behind=500 - at))
        follower.take(engine)
        assert follower.lists == oracle(dict(items[: at + 100]), 10)


@pytest.mark.parametrize("large", [True, False])
def test_lists_of_a_catalogue_that_is_being_filled_are_made_when_the_flow_ebbs(
    monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    """While much is to come, newcomers are only taken in; then their lists are made and those known before take them in.

    Also where the catalogue is not as large in the end as it was going to be: some of what came was not new.
    """
    monkeypatch.setattr(approximate, "MANY", 100)
    monkeypatch.setattr(approximate, "FILLING_EVENTS", 400)
    monkeypatch.setattr(approximate, "FILLED_EVENTS", 10)
    monkeypatch.setattr(approximate, "PAUSE_SECONDS", 1e9)
    dimension = 24
    catalogue = random_catalogue(1_600, dimension, seed=12)
    engine = unlisted(dict(list(catalogue.items())[:900]), dimension, 850 if large else 1_650)
    not_new = 0 if large else 100
    follower, items = KeptLists(), list(catalogue.items())
    settle(engine)
    follower.take(engine)
    for at in range(900, 1_600, 100):
        some = batch(dict(items[at : at + 100]), dimension=dimension, first=at)
        engine.apply(replace(some, behind=1_590 + not_new - at))
    moved = dict(zip(list(catalogue)[:30], random_catalogue(30, dimension, seed=13).values(), strict=True))
    gone = list(catalogue)[30:40]
    engine.apply(replace(batch(moved, gone, dimension=dimension, first=5_000), behind=10 + not_new))
    catalogue = {k: v for k, v in (catalogue | moved).items() if k not in gone}
    assert engine.refill(200) == 0
    follower.take(engine)
    assert len(follower.lists) == 890
    assert engine.stats().waiting_refills == 700
    assert 700 <= engine.stats().unverified <= 730
    engine.apply(batch({}, dimension=dimension))
    make_lists(engine)
    follower.take(engine)
    expected = oracle(catalogue, 10)
    assert share_right(follower, expected) > (0.97 if large else 0.999)
    settle(engine)
    follower.take(engine)
    assert follower.lists == expected
    assert engine.stats().unverified == 0


def test_flow_is_measured_over_seconds_and_ends_with_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large catalogue is filled by what would double it within the hour, any by a long backlog; a pause ends both."""
    now = 100.0
    monkeypatch.setattr(approximate.time, "monotonic", lambda: now)
    flow = InflowEstimate()
    for _ in range(7):
        now += 1.0
        flow.note(300, 0, 1_000_000)
    assert flow.fills(1_000_000, large=True)
    assert not flow.fills(1_100_000, large=True)
    assert not flow.fills(1_000_000, large=False)
    flow.note(300, 30_000, 200_000)
    assert not flow.fills(200_000, large=False)
    flow.note(300, 30_000, 100_000)
    assert flow.fills(100_000, large=False)
    flow.note(300, 1_000, 129_000)
    assert flow.fills(129_000, large=False)
    now += approximate.PAUSE_SECONDS
    assert not flow.fills(129_000, large=True)
    flow.note(300, 999, 129_300)
    assert not flow.fills(129_300, large=False)


def test_cells_are_made_in_slices_while_tracks_come_and_go() -> None:
    """What was placed, moved or forgotten before they were ready is in one cell, or in none."""
    rng = np.random.default_rng(3)
    vectors = np.array(list(random_catalogue(3_000, 12).values()))
    made, slices = inverted_file.InvertedFile(vectors, np.arange(2_000, dtype=np.int32)), 1
    gone = rng.choice(2_500, 300, replace=False).astype(np.int32)
    while not made.advance(0):
        if slices == 5:
            made.place(vectors, np.arange(2_000, 3_000, dtype=np.int32))
            made.forget(gone)
            vectors[:50] = vectors[50:100]
            made.place(vectors, np.setdiff1d(np.arange(50), gone).astype(np.int32))
        slices += 1
    assert slices > 20
    members = np.concatenate([row[:count] for row, count in zip(made.members, made.counts, strict=True)])
    assert sorted(members.tolist()) == np.setdiff1d(np.arange(3_000), gone).tolist()
    assert made.counts.max() < inverted_file.ROOM


def test_without_compiled_loops_it_is_the_exact_engine() -> None:
    """Above the threshold too, every list is right at once."""
    catalogue = random_catalogue(400, 8)
    engine = ApproximateEngine(8, published=5, kept=10, exact_upto=100)
    inserted(engine, catalogue, 0, 8)
    assert engine.stats().unverified == 0
    follower = KeptLists()
    follower.take(engine)
    assert follower.lists == oracle(catalogue, 5)


@pytest.mark.parametrize("alike", [False, True])
def test_cells_hold_every_track_once(alike: bool) -> None:
    """After any placing, moving and forgetting, identical vectors included, each slot is in one cell, and none is over-full."""
    rng = np.random.default_rng(0)
    vectors = np.array(list(random_catalogue(1_000, 12).values()))
    if alike:
        vectors[:] = vectors[0]
    made = inverted_file.InvertedFile(vectors[:500], np.arange(500, dtype=np.int32))
    assert made.advance(60)
    made.place(vectors, np.arange(500, 1_000, dtype=np.int32))
    gone = rng.choice(1_000, 200, replace=False).astype(np.int32)
    made.forget(gone)
    moved = np.setdiff1d(np.arange(1_000), gone)[:150].astype(np.int32)
    vectors[moved] = vectors[moved][::-1]
    made.place(vectors, moved)
    members = np.concatenate([row[:count] for row, count in zip(made.members, made.counts, strict=True)])
    assert sorted(members.tolist()) == np.setdiff1d(np.arange(1_000), gone).tolist()
    assert made.counts.max() < inverted_file.ROOM
