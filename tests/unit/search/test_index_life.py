"""A search over an index, what is newer and its tombstones, while indexes come and go: held against brute force."""

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streams.neighbours.search import SearchSettings
from streams.neighbours.search.graph import LINKS, Graph, complete
from streams.neighbours.search.searcher import Searcher
from streams.neighbours.similarity import exact_similarity
from tests.unit.neighbours.helpers import batch, key_of, unit
from tests.unit.search.test_exact_search import expected
from tests.unit.search.twin import ExactIndex

pytestmark = pytest.mark.unit

D = 16
names = st.sampled_from([f"t{i:03d}" for i in range(800)])
seeds = st.integers(0, 2**32 - 1)


def random_unit(seed: int) -> np.ndarray:
    """A vector of that seed: no two of them equally similar to a third."""
    return unit(np.random.default_rng(seed).standard_normal(D))


class IndexLife(RuleBasedStateMachine):
    """Any changes of the catalogue between the beginning of a build, its end or failure, and the death of an index."""

    @initialize(seed=seeds)
    def load(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.catalogue = {f"t{i:03d}": unit(rng.standard_normal(D)) for i in range(600)}
        self.searcher = Searcher(
            D, SearchSettings(exact_below=520, rebuild_share=0.0, rest=0.0, retry=0.0), ExactIndex
        )
        self.searcher.apply(batch(self.catalogue, dimension=D))
        self.indexed = False

    @rule(upserts=st.dictionaries(names, seeds, max_size=6), deletes=st.lists(names, max_size=6, unique=True))
    def change(self, upserts: dict[str, int], deletes: list[str]) -> None:
        new = {name: random_unit(seed) for name, seed in upserts.items()}
        gone = [name for name in deletes if name not in new]
        self.searcher.apply(batch(new, gone, dimension=D))
        self.catalogue = {name: v for name, v in self.catalogue.items() if name not in gone} | new

    @rule(first=st.integers(0, 700))
    def delete_many(self, first: int) -> None:
        gone = [f"t{i:03d}" for i in range(first, first + 40)]
        self.searcher.apply(batch({}, gone, dimension=D))
        self.catalogue = {name: v for name, v in self.catalogue.items() if name not in gone}

    @rule()
    def begin_a_build_if_due(self) -> None:
        self.searcher.keeper.tend()

    @precondition(lambda self: self.searcher.keeper.building)
    @rule(fails=st.booleans())
    def end_a_build(self, fails: bool) -> None:
        index = ExactIndex.latest
        index.finish(fails=fails)
        self.searcher.keeper.tend()
        if not fails:
            self.current = index
            self.indexed = True

    @precondition(lambda self: self.indexed and self.searcher.stats().index_size)
    @rule()
    def kill_the_index(self) -> None:
        self.current.die()

    @rule(seed=seeds, count=st.integers(1, 55), left_out=st.lists(names, max_size=5))
    def search(self, seed: int, count: int, left_out: list[str]) -> None:
        query = random_unit(seed)
        without = np.array([key_of(name) for name in left_out], dtype=np.int64)
        found = self.searcher.search(query[None], count, None, without)
        rest = {name: v for name, v in self.catalogue.items() if name not in left_out}
        length = int(found.lengths[0])
        keys, scores = expected(rest, query, count)
        assert found.scores[0, :length].tolist() == scores
        assert found.keys[0, :length].tolist() == keys

    @invariant()
    def counts_add_up(self) -> None:
        stats = self.searcher.stats()
        assert stats.tracks == len(self.catalogue)
        if stats.index_size:
            assert stats.index_size - stats.tombstones + stats.newer == stats.tracks


TestIndexLife = IndexLife.TestCase
TestIndexLife.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


def indexed(catalogue: dict[str, np.ndarray], **more: float) -> Searcher:
    """A searcher with an index of the catalogue."""
    searcher = Searcher(D, SearchSettings(exact_below=1, **more), ExactIndex)  # type: ignore[arg-type]
    searcher.apply(batch(catalogue, dimension=D))
    searcher.keeper.tend()
    ExactIndex.latest.finish(fails=False)
    searcher.keeper.tend()
    return searcher


def catalogue_of(count: int) -> dict[str, np.ndarray]:
    """Random tracks."""
    rng = np.random.default_rng(3)
    return {f"t{i:03d}": unit(rng.standard_normal(D)) for i in range(count)}


def test_the_index_answers_when_it_is_there() -> None:
    """A search over an index says that it is not exact; one whose best were all left out is scanned, and says so."""
    catalogue = catalogue_of(800)
    searcher = indexed(catalogue)
    query = random_unit(1)
    assert not searcher.search(query[None], 10, None, None).exact
    best = searcher.search(query[None], 300, None, None).keys[0]
    assert searcher.search(query[None], 10, None, best).exact
    stats = searcher.stats()
    assert (stats.approximate_queries, stats.exact_queries) == (1, 2)


def test_a_query_too_hard_for_the_index_is_scanned() -> None:
    """Below the similarity from which the index has the recall wanted, the answer is an exact scan's."""
    catalogue = catalogue_of(800)
    searcher = indexed(catalogue)
    query = random_unit(1)
    last = np.sort(exact_similarity(query, np.array(list(catalogue.values()))))[-50]
    report = searcher.keeper.report
    assert report is not None
    for threshold, exact in ((float(last) - 1e-6, False), (float(last) + 1e-6, True)):
        searcher.keeper.report = type(report)(1.0, 1.0, threshold, 1, 0, {})
        assert searcher.search(query[None], 10, None, None).exact is exact


def test_a_rebuild_waits_for_enough_change() -> None:
    """No index is built for a change of less than the share, and one is for more."""
    searcher = indexed(catalogue_of(800), rebuild_share=0.1, rest=0.0)
    searcher.apply(batch({f"n{i}": random_unit(i) for i in range(40)}, ["t001"], dimension=D))
    searcher.keeper.tend()
    assert not searcher.stats().building
    searcher.apply(batch({f"t{i:03d}": random_unit(i) for i in range(100, 140)}, dimension=D))
    searcher.keeper.tend()
    assert searcher.stats().building


def test_small_catalogues_have_no_index() -> None:
    """Below the size no index is built, and one that was is given up when the catalogue has shrunk."""
    catalogue = catalogue_of(600)
    searcher = indexed(catalogue)
    searcher.keeper._settings = SearchSettings(exact_below=550)
    searcher.apply(batch({}, list(catalogue)[:100], dimension=D))
    searcher.keeper.tend()
    assert searcher.stats().index_size == 0
    found = searcher.search(random_unit(1)[None], 10, None, None)
    assert found.exact
    assert found.keys[0].tolist() == expected(dict(list(catalogue.items())[100:]), random_unit(1), 10)[0]


def test_the_graph_stays_exact_over_generations() -> None:
    """After rows were dropped, moved and added, a completed graph has the neighbours that brute force has."""
    rng = np.random.default_rng(5)
    vectors = np.array([unit(rng.standard_normal(D)) for _ in range(400)])
    graph = Graph.empty(300)
    complete(graph, vectors[:300])
    order = rng.permutation(400)[:390]
    moved = graph.moved(order)
    complete(moved, vectors[order])
    similar = vectors[order] @ vectors[order].T
    np.fill_diagonal(similar, -2)
    true = np.argsort(-similar, axis=1)[:, :LINKS]
    hits = [len(set(f) & set(t)) for f, t in zip(moved.rows.tolist(), true.tolist(), strict=True)]
    # A list that lost some of its tracks keeps the rest; what is just below is not looked for.
    assert np.mean(hits) > 0.97 * LINKS
    assert (np.diff(moved.scores, axis=1) <= 0).all()
