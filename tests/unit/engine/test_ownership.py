"""Several engines that each keep a part of the lists, against one that keeps all."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from streams.engine import acceleration
from streams.engine.exact import ExactEngine
from streams.engine.types import EVENT, StoredLists
from tests.support.examples import examples
from tests.unit.engine.helpers import batch, key_of, oracle, partition_of, unit

pytestmark = pytest.mark.unit

KERNELS = acceleration.load_kernels()
DIMENSION = 3
PARTITIONS = 4
NAMES = [f"t{i:02d}" for i in range(24)]
vectors = st.tuples(*[st.integers(-2, 2)] * DIMENSION).filter(any).map(unit)
names = st.sampled_from(NAMES)
owners = st.lists(st.integers(0, 2), min_size=PARTITIONS, max_size=PARTITIONS)
Lists = dict[int, list[tuple[int, float]]]


def stored(lists: Lists) -> StoredLists:
    """Lists as the store would give them back."""
    width = max((len(entries) for entries in lists.values()), default=0)
    padded = [entries + [(0, 0.0)] * (width - len(entries)) for entries in lists.values()]
    return StoredLists(
        keys=np.array(list(lists), dtype=np.int64),
        neighbours=np.array([[k for k, _ in e] for e in padded], dtype=np.int64).reshape(len(lists), width),
        scores=np.array([[s for _, s in e] for e in padded], dtype=np.float32).reshape(len(lists), width),
        lengths=np.array([len(e) for e in lists.values()], dtype=np.int64),
        events=np.zeros(len(lists), dtype=EVENT),
    )


def flush(engine: ExactEngine, store: Lists, owned: set[int]) -> set[int]:
    """Write what has changed, only of partitions that are owned; those whose lists are not all known."""
    changes = engine.take_changes()
    assert set(changes.owners.tolist()) | set(changes.deleted_owners.tolist()) <= owned
    for key in changes.deleted.tolist():
        store.pop(key, None)
    for i, key in enumerate(changes.keys.tolist()):
        length = int(changes.lengths[i])
        pairs = zip(changes.neighbours[i].tolist(), changes.scores[i].tolist(), strict=True)
        store[key] = list(pairs)[:length]
    return set(changes.unknown.tolist())


class SharedLists(RuleBasedStateMachine):
    """However partitions change hands, the lists that several engines write together are those of brute force."""

    @initialize(sizes=st.sampled_from([(3, 3), (3, 5), (4, 10), (5, 40)]))
    def start(self, sizes: tuple[int, int]) -> None:
        self.published = sizes[0]
        self.engines = [ExactEngine(DIMENSION, published=sizes[0], kept=sizes[1]) for _ in range(3)]
        self.owner = [0] * PARTITIONS
        for i, engine in enumerate(self.engines):
            engine.own(self.owned(i))
        self.catalogue: dict[str, np.ndarray] = {}
        self.store: Lists = {}
        # By partition, the number of the first event that its stored lists have not absorbed.
        self.absorbed = [0] * PARTITIONS
        self.events = 0

    def owned(self, i: int) -> set[int]:
        return {p for p in range(PARTITIONS) if self.owner[p] == i}

    @rule(
        upserts=st.dictionaries(names, vectors, max_size=8), deletes=st.lists(names, max_size=6, unique=True)
    )
    def change(self, upserts: dict[str, np.ndarray], deletes: list[str]) -> None:
        deletes = [name for name in deletes if name not in upserts]
        for engine in self.engines:
            engine.apply(batch(upserts, deletes, dimension=DIMENSION, first=self.events))
        self.events += len(upserts) + len(deletes)
        for name in deletes:
            self.catalogue.pop(name, None)
        self.catalogue |= upserts

    @rule(which=st.integers(0, 2))
    def write(self, which: int) -> None:
        unknown = flush(self.engines[which], self.store, self.owned(which))
        for p in self.owned(which) - unknown:
            self.absorbed[p] = self.events

    @rule(which=st.integers(0, 2))
    def compiled_loops_arrive(self, which: int) -> None:
        self.engines[which].accelerate(KERNELS)

    @rule(which=st.integers(0, 2))
    def refill_a_little(self, which: int) -> None:
        self.engines[which].refill(2)

    @rule(owner=owners, unwritten=st.booleans())
    def rebalance(self, owner: list[int], unwritten: bool) -> None:
        """Partitions change hands, what was not written of them being lost with their former owner."""
        if not unwritten:
            for which in range(3):
                self.write(which)
        moved = {p for p in range(PARTITIONS) if owner[p] != self.owner[p]}
        self.owner = owner
        live = {key_of(name) for name in self.catalogue}
        for key in self.store.keys() - live:  # what a new owner drops: nobody knows of these any more
            del self.store[key]
        for i, engine in enumerate(self.engines):
            engine.own(self.owned(i))
            gained = moved & self.owned(i)
            part = {
                key_of(n): self.store[key_of(n)]
                for n in self.catalogue
                if partition_of(n) in gained and key_of(n) in self.store
            }
            first = min((self.absorbed[p] for p in gained), default=0)
            engine.adopt(stored(part), dict.fromkeys(range(PARTITIONS), first))

    def teardown(self) -> None:
        if not hasattr(self, "engines"):
            return
        for which, engine in enumerate(self.engines):
            while engine.refill(4):
                pass
            self.write(which)
        assert self.store == oracle(self.catalogue, self.published)


SharedLists.TestCase.settings = settings(
    max_examples=examples(40), stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
TestSharedLists = SharedLists.TestCase


def test_a_track_that_moves_to_another_partition_changes_hands() -> None:
    """Where a track's newer event is of another partition, its former owner forgets the list and the new one makes it."""
    angles = {name: unit([np.cos(a), np.sin(a)]) for name, a in zip("abcd", (0, 0.1, 0.2, 3), strict=True)}
    first, second = ExactEngine(2, published=2, kept=4), ExactEngine(2, published=2, kept=4)
    home = partition_of("a")
    first.own([home])
    second.own([9])
    for engine in (first, second):
        engine.apply(batch(angles, dimension=2))
        engine.take_changes()
    again = batch({"a": angles["a"]}, dimension=2)
    again.events["partition"] = 9
    for engine in (first, second):
        engine.apply(again)
        while engine.refill(4):
            pass
    assert key_of("a") not in first.take_changes().keys
    assert first.lists.lengths[first.catalogue.slots_of(again.keys)].tolist() == [0]
    assert second.take_changes().keys.tolist() == [key_of("a")]


def test_lists_take_memory_for_owned_partitions_only(tmp_path: Path) -> None:
    """Lists take memory by the partitions that are owned, also after a loss and a start from a snapshot."""
    rng = np.random.default_rng(5)
    angles = {f"{i:05d}": unit(rng.standard_normal(4)) for i in range(8000)}
    engine = ExactEngine(4, published=20, kept=40)
    engine.own([0, 1])
    whole = batch(angles, dimension=4)
    whole.events["partition"] = np.arange(len(angles)) % 4
    engine.apply(whole)
    wanted = dict(zip(whole.keys.tolist(), whole.events["partition"].tolist(), strict=True))

    def rows(owned: set[int]) -> int:
        return sum(partition in owned for partition in wanted.values())

    both = engine.lists.memory_bytes
    assert rows({0, 1}) < len(engine.lists.slots) < 1.2 * rows({0, 1}) + 1024
    before = engine.take_changes()
    engine.own([1])
    assert len(engine.lists.slots) == rows({1}) + 1
    assert engine.lists.memory_bytes < 0.6 * both
    path = tmp_path / "engine.snapshot"
    engine.begin_snapshot(str(path), "demo", {})
    while engine.continue_snapshot(1.0) is None:
        pass
    again = ExactEngine(4, published=20, kept=40)
    again.load_snapshot(str(path), "demo")
    assert len(again.lists.slots) < 1.2 * rows({1}) + 1024
    # What one owned partition's lists held is what they hold yet: all are given again.
    again.lists.changed[:] = again.lists.owned & (again.lists.lengths > 0)
    after = again.take_changes()
    mine = np.isin(before.keys, after.keys)
    assert sorted(after.keys.tolist()) == sorted(key for key, owner in wanted.items() if owner == 1)
    order, same = np.argsort(before.keys[mine]), np.argsort(after.keys)
    assert np.array_equal(before.neighbours[mine][order], after.neighbours[same])
    assert np.array_equal(before.scores[mine][order], after.scores[same])
    assert np.array_equal(before.events[mine][order], after.events[same])
    engine.own([])
    assert len(engine.lists.slots) == 1
