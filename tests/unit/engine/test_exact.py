"""The exact engine against brute force."""

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streams.engine import acceleration
from streams.engine.exact import ExactEngine
from streams.engine.types import StoredLists
from tests.support.examples import examples
from tests.unit.engine.helpers import KeptLists, batch, key_of, oracle, unit

pytestmark = pytest.mark.unit

DIMENSION = 3
KERNELS = acceleration.load_kernels()
NAMES = [f"t{i:02d}" for i in range(24)]
# Few directions, so that equal vectors and equal similarities are common.
vectors = st.tuples(*[st.integers(-2, 2)] * DIMENSION).filter(any).map(unit)
names = st.sampled_from(NAMES)


def settle(engine: ExactEngine) -> None:
    """Refill until nothing waits."""
    for _ in range(100):
        if not engine.refill(4):
            return
    raise AssertionError("refills never end")


class AnyHistory(RuleBasedStateMachine):
    """After any history, the lists equal those of brute force."""

    @initialize(sizes=st.sampled_from([(3, 3), (3, 5), (4, 10), (5, 40)]), compiled=st.booleans())
    def start(self, sizes: tuple[int, int], *, compiled: bool) -> None:
        self.published, self.kept = sizes
        self.engine = self.make()
        if compiled:
            self.engine.accelerate(KERNELS)
        self.catalogue: dict[str, np.ndarray] = {}
        self.follower = KeptLists()

    def make(self) -> ExactEngine:
        """An empty engine."""
        return ExactEngine(DIMENSION, published=self.published, kept=self.kept)

    @rule(
        upserts=st.dictionaries(names, vectors, max_size=8), deletes=st.lists(names, max_size=6, unique=True)
    )
    def change(self, upserts: dict[str, np.ndarray], deletes: list[str]) -> None:
        deletes = [name for name in deletes if name not in upserts]
        self.engine.apply(batch(upserts, deletes, dimension=DIMENSION))
        for name in deletes:
            self.catalogue.pop(name, None)
        self.catalogue |= upserts

    @rule()
    def refill_a_little(self) -> None:
        self.engine.refill(2)

    @rule()
    def compiled_loops_arrive(self) -> None:
        self.engine.accelerate(KERNELS)

    @rule()
    def take(self) -> None:
        self.follower.take(self.engine)

    def before_restart(self, left: int) -> None:
        """What must have been done before a restart with so many tracks."""

    @precondition(lambda self: self.catalogue)
    @rule(data=st.data())
    def restart(self, data: st.DataObject) -> None:
        """Start again from what was taken, then catch up with what was not."""
        late = data.draw(st.lists(st.sampled_from(sorted(self.catalogue)), unique=True, max_size=4))
        known = {name: v for name, v in self.catalogue.items() if name not in late}
        self.before_restart(len(known))
        self.follower.take(self.engine)
        width = max([len(entries) for entries in self.follower.lists.values()], default=0)
        rows = list(self.follower.lists.items())
        stored = StoredLists(
            keys=np.array([key for key, _ in rows], dtype=np.int64),
            neighbours=np.array(
                [[k for k, _ in e] + [0] * (width - len(e)) for _, e in rows], dtype=np.int64
            ),
            scores=np.array([[s for _, s in e] + [0] * (width - len(e)) for _, e in rows], dtype=np.float32),
            lengths=np.array([len(e) for _, e in rows]),
            events=np.zeros(len(rows), dtype=self.engine.lists.events.dtype),
        )
        self.engine = self.make()
        self.engine.load(batch(known, dimension=DIMENSION), stored)
        self.engine.apply(batch({name: self.catalogue[name] for name in late}, dimension=DIMENSION))
        settle(self.engine)
        self.follower = KeptLists()
        self.engine.lists.changed[: self.engine.catalogue.used] = self.engine.catalogue.alive[
            : self.engine.catalogue.used
        ]

    @invariant()
    def short_lists_are_right_as_far_as_they_go(self) -> None:
        if not hasattr(self, "engine"):
            return
        expected = oracle(self.catalogue, self.published)
        engine = self.engine
        for name in self.catalogue:
            slot = int(engine.catalogue.slots_of(np.array([key_of(name)]))[0])
            slots = engine.lists.slots[engine.lists.row_of[slot], : self.published]
            keys = engine.catalogue.keys[slots[slots >= 0]].tolist()
            assert keys == [key for key, _ in expected[key_of(name)]][: len(keys)]

    def teardown(self) -> None:
        if not hasattr(self, "engine"):
            return
        settle(self.engine)
        self.follower.take(self.engine)
        assert self.follower.lists == oracle(self.catalogue, self.published)


AnyHistory.TestCase.settings = settings(
    max_examples=examples(60), stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
TestAnyHistory = AnyHistory.TestCase


def random_catalogue(count: int, dimension: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Clustered vectors: real embeddings are not spread evenly."""
    rng = np.random.default_rng(seed)
    centroids = rng.standard_normal((12, dimension)) * 2
    points = centroids[rng.integers(0, 12, count)] + rng.standard_normal((count, dimension))
    return {f"{i:07d}": unit(point) for i, point in enumerate(points)}


@pytest.mark.parametrize("compiled", [False, True])
def test_a_large_catalogue_under_churn_equals_brute_force(compiled: bool) -> None:
    """Three thousand tracks inserted, then re-embedded and deleted in batches, end with the lists of brute force."""
    dimension, rng = 48, np.random.default_rng(1)
    catalogue = random_catalogue(3000, dimension)
    engine, follower = ExactEngine(dimension), KeptLists()
    if compiled:
        engine.accelerate(KERNELS)
    items = list(catalogue.items())
    for start in range(0, len(items), 250):
        engine.apply(batch(dict(items[start : start + 250]), dimension=dimension))
    follower.take(engine)
    for step in range(8):
        moved = rng.choice(sorted(catalogue), 100, replace=False).tolist()
        upserts = dict(zip(moved[:60], random_catalogue(60, dimension, seed=step + 2).values(), strict=True))
        engine.apply(batch(upserts, moved[60:], dimension=dimension))
        catalogue |= upserts
        for name in moved[60:]:
            del catalogue[name]
        if step % 3 == 0:
            follower.take(engine)
    while engine.refill(256):
        pass
    follower.take(engine)
    assert follower.lists == oracle(catalogue, 50)


@pytest.mark.parametrize("compiled", [False, True])
def test_many_identical_tracks_are_ordered_by_id(compiled: bool) -> None:
    """Among three hundred copies of one vector the list holds the fifty smallest ids, whatever the order of arrival."""
    names = [f"{i:05d}" for i in np.random.default_rng(0).permutation(300)]
    engine, follower = ExactEngine(4), KeptLists()
    if compiled:
        engine.accelerate(KERNELS)
    same = unit([1, 2, 3, 4])
    for start in range(0, 300, 37):
        engine.apply(batch(dict.fromkeys(names[start : start + 37], same), dimension=4))
    follower.take(engine)
    first = [key_of(f"{i:05d}") for i in range(51)]
    assert [key for key, _ in follower.lists[key_of("00299")]] == first[:50]
    assert [key for key, _ in follower.lists[key_of("00003")]] == [
        key for key in first if key != key_of("00003")
    ]


def test_an_unchanged_embedding_changes_no_list() -> None:
    """Publishing a track again with the same embedding leaves nothing to write."""
    catalogue = random_catalogue(200, 16)
    engine = ExactEngine(16)
    engine.apply(batch(catalogue, dimension=16))
    engine.take_changes()
    engine.apply(batch({"0000007": catalogue["0000007"]}, dimension=16))
    assert len(engine.take_changes()) == 0


def test_a_change_names_the_event_behind_it() -> None:
    """A list that gained a newcomer carries the newcomer's event; one that lost a track carries the deletion's."""
    engine = ExactEngine(2, published=2, kept=4)
    angles = {name: unit([np.cos(a), np.sin(a)]) for name, a in zip("abcd", (0, 0.1, 0.2, 3), strict=True)}
    engine.apply(batch(angles, dimension=2))
    engine.take_changes()
    change = batch({"e": unit([np.cos(0.05), np.sin(0.05)])}, ["d"], dimension=2)
    engine.apply(change)
    changes = engine.take_changes()
    offsets = dict(zip(changes.keys.tolist(), changes.events["offset"].tolist(), strict=True))
    assert offsets[key_of("a")] == 1
    assert offsets[key_of("e")] == 1
    assert changes.deleted.tolist() == [key_of("d")]


def test_sizes_that_make_no_sense_are_refused() -> None:
    """Keeping fewer neighbours than are published is an error at construction."""
    with pytest.raises(ValueError, match="between 1 and kept"):
        ExactEngine(4, published=50, kept=10)


def test_a_sample_is_computed_afresh() -> None:
    """Sampled lists are those of brute force, whatever the kept lists hold; changes not taken yet are pending."""
    catalogue = random_catalogue(400, 12)
    engine = ExactEngine(12)
    assert len(engine.sample(5).keys) == 0
    engine.apply(batch(catalogue, dimension=12))
    assert engine.sample(1000).pending.all()
    engine.take_changes()
    engine.lists.slots[:, 0] = engine.lists.slots[:, 1]  # kept lists that are wrong say nothing
    found = engine.sample(1000)
    assert not found.pending.any()
    expected = oracle(catalogue, 50)
    assert sorted(found.keys.tolist()) == sorted(expected)
    for key, neighbours, scores in zip(found.keys.tolist(), found.neighbours, found.scores, strict=True):
        assert list(zip(neighbours.tolist(), scores.tolist(), strict=True)) == expected[key]
    few = ExactEngine(12)
    few.apply(batch(dict(list(catalogue.items())[:3]), dimension=12))
    assert few.sample(2).lengths.tolist() == [2, 2]
