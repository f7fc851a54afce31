"""A search over an index, what is newer and its tombstones, while indexes come and go: held against brute force."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streams.engine.search import SearchSettings, searcher
from streams.engine.search.index_supervisor import SearchIndexSupervisor
from streams.engine.search.quality import SearchQuality
from streams.engine.search.searcher import Searcher
from streams.engine.similarity import exact_similarity
from tests.support.examples import examples
from tests.unit.engine.helpers import batch, key_of, unit
from tests.unit.search.test_exact_search import expected
from tests.unit.search.twin import EVERYWHERE, ExactBuild

pytestmark = pytest.mark.unit

D = 16


@pytest.fixture(autouse=True, scope="module")
def looks_everywhere() -> Iterator[None]:
    """The twin's cells are all looked into, where else there would be a scan."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(searcher, "MOST_LOOKED_AT", 1.0)
        yield


names = st.sampled_from([f"t{i:03d}" for i in range(800)])
seeds = st.integers(0, 2**32 - 1)


def random_unit(seed: int) -> np.ndarray:
    """A vector of that seed: no two of them equally similar to a third."""
    return unit(np.random.default_rng(seed).standard_normal(D))


class IndexLife(RuleBasedStateMachine):
    """Any changes of the catalogue between the beginning of a build and its end or failure."""

    @initialize(seed=seeds, directions=st.sampled_from([0, 5]))
    def load(self, seed: int, directions: int) -> None:
        ExactBuild.directions = directions
        rng = np.random.default_rng(seed)
        self.catalogue = {f"t{i:03d}": unit(rng.standard_normal(D)) for i in range(600)}
        self.searcher = Searcher(
            D, SearchSettings(exact_below=520, rebuild_share=0.0, rest=0.0, retry=0.0), ExactBuild
        )
        self.searcher.apply(batch(self.catalogue, dimension=D))

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
        self.searcher.supervisor.tend()

    @precondition(lambda self: self.searcher.supervisor.building)
    @rule(fails=st.booleans())
    def end_a_build(self, fails: bool) -> None:
        ExactBuild.latest.finish(fails=fails)
        self.searcher.supervisor.tend()

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
TestIndexLife.settings = settings(max_examples=examples(40), stateful_step_count=25, deadline=None)


def indexed(catalogue: dict[str, np.ndarray], *, directions: int = 0, **more: float) -> Searcher:
    """A searcher with an index of the catalogue."""
    ExactBuild.directions = directions
    searcher = Searcher(D, SearchSettings(exact_below=1, **more), ExactBuild)  # type: ignore[arg-type]
    searcher.apply(batch(catalogue, dimension=D))
    searcher.supervisor.tend()
    ExactBuild.latest.finish(fails=False)
    searcher.supervisor.tend()
    return searcher


def told(supervisor: SearchIndexSupervisor, **what: Any) -> None:
    """Have the build have told something else."""
    assert supervisor.index is not None
    supervisor.index = replace(supervisor.index, report=replace(supervisor.index.report, **what))


def catalogue_of(count: int) -> dict[str, np.ndarray]:
    """Random tracks."""
    rng = np.random.default_rng(3)
    return {f"t{i:03d}": unit(rng.standard_normal(D)) for i in range(count)}


def test_the_index_answers_when_it_is_there() -> None:
    """A search over an index says that it is not exact; one for much of the catalogue is a scan, and says so."""
    catalogue = catalogue_of(800)
    searcher = indexed(catalogue)
    query = random_unit(1)
    assert not searcher.search(query[None], 10, None, None).exact
    assert searcher.search(query[None], 300, None, None).exact
    stats = searcher.stats()
    assert (stats.approximate_queries, stats.exact_queries) == (1, 1)


@pytest.mark.parametrize("directions", [0, 5])
def test_what_is_withdrawn_or_left_out_is_never_found(directions: int) -> None:
    """Of the best, what was deleted or re-embedded since the index was built, or is to be left out, is not in the answer."""
    catalogue = catalogue_of(800)
    searcher = indexed(catalogue, directions=directions)
    query = random_unit(1)
    best, _ = expected(catalogue, query, 60)
    by_key = {key_of(name): name for name in catalogue}
    gone, moved, left_out = ([by_key[key] for key in best[i::3]] for i in range(3))
    searcher.apply(batch({name: -catalogue[name] for name in moved}, gone, dimension=D))
    without = np.array([key_of(name) for name in left_out], dtype=np.int64)
    found = searcher.search(query[None], 50, None, without)
    rest = {name: v for name, v in catalogue.items() if name not in (*gone, *moved, *left_out)}
    keys, scores = expected(rest, query, 50)
    assert not found.exact
    assert found.keys[0].tolist() == keys
    assert found.scores[0].tolist() == scores
    searcher.apply(batch({"back": query}, dimension=D))
    assert searcher.search(query[None], 1, None, None).keys[0].tolist() == [key_of("back")]


def test_cells_not_looked_into_are_not_found() -> None:
    """With no slack a query finds what brute force finds in the cells nearest to it: what it says is of these rows."""
    catalogue = catalogue_of(800)
    searcher = indexed(catalogue)
    supervisor = searcher.supervisor
    told(supervisor, slack=-EVERYWHERE)
    query = random_unit(1)
    found = searcher.search(query[None], 50, None, None)
    cells = supervisor.index.report.cells
    near = np.argsort(-(cells.centroids @ query))[: cells.first(50)]
    keys = searcher.tracks.keys[: supervisor.size][np.isin(cells.of_rows(), near)]
    names = {key_of(name): name for name in catalogue}
    subset = {names[key]: catalogue[names[key]] for key in keys.tolist()}
    assert 50 < len(subset) < 400
    assert found.keys[0].tolist() == expected(subset, query, 50)[0]


@pytest.mark.parametrize("directions", [0, 5])
def test_many_queries_find_what_each_finds_alone(directions: int) -> None:
    """A call with many queries, which share products with cells, answers as a call for each of them."""
    searcher = indexed(catalogue_of(800), directions=directions)
    told(searcher.supervisor, slack=0.2)
    queries = np.array([random_unit(seed) for seed in range(70)])
    together = searcher.search(queries, 50, None, None)
    for i, query in enumerate(queries):
        alone = searcher.search(query[None], 50, None, None)
        assert together.keys[i].tolist() == alone.keys[0].tolist()
        assert together.scores[i].tolist() == alone.scores[0].tolist()


def test_a_query_too_hard_for_the_index_is_scanned() -> None:
    """Below the similarity from which the index has the recall wanted, the answer is an exact scan's."""
    catalogue = catalogue_of(800)
    searcher = indexed(catalogue)
    query = random_unit(1)
    last = np.sort(exact_similarity(query, np.array(list(catalogue.values()))))[-50]
    for threshold, exact in ((float(last) - 1e-6, False), (float(last) + 1e-6, True)):
        told(searcher.supervisor, quality=SearchQuality(1.0, 1.0, threshold))
        assert searcher.search(query[None], 10, None, None).exact is exact


def test_a_rebuild_waits_for_enough_change() -> None:
    """No index is built for a change of less than the share, and one is for more."""
    searcher = indexed(catalogue_of(800), rebuild_share=0.1, rest=0.0)
    searcher.apply(batch({f"n{i}": random_unit(i) for i in range(40)}, ["t001"], dimension=D))
    searcher.supervisor.tend()
    assert not searcher.stats().building
    searcher.apply(batch({f"t{i:03d}": random_unit(i) for i in range(100, 140)}, dimension=D))
    searcher.supervisor.tend()
    assert searcher.stats().building


def test_small_catalogues_have_no_index() -> None:
    """Below the size no index is built, and one that was is given up when the catalogue has shrunk."""
    catalogue = catalogue_of(600)
    searcher = indexed(catalogue)
    searcher.supervisor._settings = SearchSettings(exact_below=550)
    searcher.apply(batch({}, list(catalogue)[:100], dimension=D))
    searcher.supervisor.tend()
    assert searcher.stats().index_size == 0
    found = searcher.search(random_unit(1)[None], 10, None, None)
    assert found.exact
    assert found.keys[0].tolist() == expected(dict(list(catalogue.items())[100:]), random_unit(1), 10)[0]
