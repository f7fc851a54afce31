"""The engine that has its first lists found elsewhere, held against brute force."""

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from streams.engine import approximate, descent
from streams.engine.descent import DescentEngine, NeighbourGraph
from streams.engine.types import Slots, StoredLists, Vectors, no_events
from tests.unit.engine.helpers import KeptLists, batch, oracle
from tests.unit.engine.test_approximate import settle, share_right
from tests.unit.engine.test_exact import KERNELS, random_catalogue

pytestmark = pytest.mark.unit

D, PUBLISHED = 16, 10


class Graph:
    """What `NeighbourGraph` is, ready or failed when the test says so: `latest` is the one begun last."""

    latest: "Graph"

    def __init__(self, vectors: Vectors, slots: Slots, links: int) -> None:
        Graph.latest = self
        self.slots, self.failure = slots, ""
        self.neighbours: Slots | None = None
        self._found = vectors[slots].copy(), links

    def finish(self) -> None:
        """The neighbours but every fifth, as pynndescent gives them: the track itself too, and the last row where a place is empty."""
        vectors, links = self._found
        graph = np.argsort(-(vectors @ vectors.T), axis=1)[:, : links + 1]
        graph[::5, 3:] = len(graph) - 1
        self.neighbours = self.slots[graph]


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of missing lists count as thousands."""
    monkeypatch.setattr(approximate, "MANY", 100)
    monkeypatch.setattr(descent, "MANY", 100)
    monkeypatch.setattr(descent, "NeighbourGraph", Graph)


def unlisted(
    catalogue: Mapping[str, np.ndarray], *, compiled: bool, exact_upto: int
) -> tuple[DescentEngine, KeptLists]:
    """An engine loaded with a catalogue and no lists."""
    engine = DescentEngine(D, published=PUBLISHED, kept=20, exact_upto=exact_upto)
    if compiled:
        engine.accelerate(KERNELS)
    none = np.empty(0, dtype=np.int64)
    nothing = StoredLists(none, none.reshape(0, 0), np.empty((0, 0), dtype=np.float32), none, no_events())
    engine.load(batch(catalogue, dimension=D), nothing)
    return engine, KeptLists()


@pytest.mark.parametrize(("compiled", "exact_upto"), [(True, 200), (True, 5_000), (False, 5_000)])
def test_lists_come_from_the_graph_and_are_completed(compiled: bool, exact_upto: int) -> None:
    """What the graph has is served; what it lacks, and what came, moved and went meanwhile, is right in the end."""
    catalogue = random_catalogue(600, D, seed=1)
    engine, follower = unlisted(catalogue, compiled=compiled, exact_upto=exact_upto)
    assert engine.refill(50) == 600
    changed = {f"new{i}": vector for i, vector in enumerate(random_catalogue(40, D, seed=2).values())}
    changed |= dict(zip(list(catalogue)[:20], random_catalogue(20, D, seed=3).values(), strict=True))
    gone = list(catalogue)[20:40]
    engine.apply(batch(changed, gone, dimension=D, first=600))
    catalogue = {name: vector for name, vector in (catalogue | changed).items() if name not in gone}
    assert engine.refill(50) > 500
    Graph.latest.finish()
    for _ in range(3):
        engine.refill(200)
    assert engine.stats().seconds["descent"] > 0
    follower.take(engine)
    assert 0.3 < share_right(follower, oracle(catalogue, PUBLISHED)) < 1
    settle(engine)
    follower.take(engine)
    assert follower.lists == oracle(catalogue, PUBLISHED)
    assert engine.stats().unverified == 0


def test_where_the_graph_fails_the_engine_makes_the_lists() -> None:
    """The failure is told, and nothing is begun again."""
    catalogue = random_catalogue(300, D, seed=4)
    engine, follower = unlisted(catalogue, compiled=True, exact_upto=5_000)
    assert engine.refill(50) > 0
    failed = Graph.latest
    failed.failure = "no memory"
    settle(engine)
    follower.take(engine)
    assert follower.lists == oracle(catalogue, PUBLISHED)
    assert engine.stats().descent_failure == "no memory"
    assert Graph.latest is failed


def test_a_few_missing_lists_need_no_graph() -> None:
    """Where most lists are there, a newcomer's is made as ever."""
    engine, _ = unlisted({}, compiled=True, exact_upto=5_000)
    engine.apply(batch(random_catalogue(300, D, seed=5), dimension=D))
    Graph.latest = None  # type: ignore[assignment]
    settle(engine)
    assert Graph.latest is None


INSTEAD = """
import numpy as np

class NNDescent:
    def __init__(self, vectors, metric, n_neighbors):
        assert metric == "dot"
        self.neighbor_graph = np.argsort(-(vectors @ vectors.T), axis=1)[:, :n_neighbors], None
"""


def put_in_place(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    """Have processes that are started from now on import a library that compiles nothing."""
    (directory / "pynndescent.py").write_text(INSTEAD)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(directory), str(Path.cwd())]))


def test_the_graph_of_some_slots_comes_from_a_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What the library finds for the rows that it is given is of the slots; here it is a library that compiles nothing."""
    put_in_place(monkeypatch, tmp_path)
    vectors = np.array(list(random_catalogue(300, D, seed=6).values()))
    slots = np.arange(1, 300, 2, dtype=np.int32)
    graph = NeighbourGraph(vectors, slots, 5)
    while graph.neighbours is None:
        assert not graph.failure
        time.sleep(0.01)
    similar = vectors[slots] @ vectors[slots].T
    assert graph.neighbours.shape == (150, 6)
    assert graph.neighbours.dtype == np.int32
    assert np.array_equal(graph.neighbours, slots[np.argsort(-similar, axis=1)[:, :6]])


def test_a_process_that_ends_badly_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its status is the reason; nothing stays in the directory of temporary files."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    graph = NeighbourGraph(np.ones((4, D), dtype=np.float32), np.arange(4, dtype=np.int32), 2)
    while not graph.failure:
        time.sleep(0.01)
    assert graph.failure == "pynndescent ended with status 1"
    assert graph.neighbours is None
