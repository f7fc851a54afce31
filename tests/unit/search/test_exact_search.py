"""What a search finds while it has no index, held against brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.engine.search import SearchSettings
from streams.engine.search.searcher import Searcher
from streams.engine.similarity import exact_similarity
from tests.support.examples import examples
from tests.unit.engine.helpers import batch, key_of, unit

pytestmark = pytest.mark.unit

D = 6


def expected(
    catalogue: dict[str, np.ndarray], query: np.ndarray, count: int
) -> tuple[list[int], list[float]]:
    """The best of a catalogue by brute force, equal ones by track id."""
    if not catalogue:
        return [], []
    names = list(catalogue)
    scores = exact_similarity(query, np.array([catalogue[name] for name in names]))
    best = sorted(zip(names, scores.tolist(), strict=True), key=lambda pair: (-pair[1], pair[0]))[:count]
    return [key_of(name) for name, _ in best], [score for _, score in best]


def check(searcher: Searcher, catalogue: dict[str, np.ndarray], queries: np.ndarray, count: int) -> None:
    """Hold an exact answer of the searcher against brute force."""
    found = searcher.search(queries, count, None, None)
    assert found.exact
    for i, query in enumerate(queries):
        keys, scores = expected(catalogue, query, count)
        length = int(found.lengths[i])
        assert found.keys[i, :length].tolist() == keys
        assert found.scores[i, :length].tolist() == scores
        assert not found.keys[i, length:].any()
        assert not found.scores[i, length:].any()


# Few directions, so that many tracks are equally similar and ids decide.
directions = st.tuples(*[st.integers(-1, 1)] * D).filter(any).map(unit)
names = st.sampled_from([f"t{i:02d}" for i in range(30)])
batches = st.lists(
    st.tuples(st.dictionaries(names, directions, max_size=8), st.lists(names, max_size=4, unique=True)),
    max_size=8,
)


@given(batches, st.lists(directions, min_size=1, max_size=4), st.integers(1, 12))
@settings(max_examples=examples(150), deadline=None)
def test_any_history_is_searched_as_its_final_catalogue(
    history: list[tuple[dict[str, np.ndarray], list[str]]], queries: list[np.ndarray], count: int
) -> None:
    """After any inserts, re-embeddings and deletes, a search finds what brute force finds, ties by track id."""
    searcher = Searcher(D, SearchSettings())
    catalogue: dict[str, np.ndarray] = {}
    for upserts, deletes in history:
        gone = [name for name in deletes if name not in upserts]
        searcher.apply(batch(upserts, gone, dimension=D))
        catalogue = {name: v for name, v in catalogue.items() if name not in gone} | upserts
        check(searcher, catalogue, np.array(queries), count)


@given(
    st.dictionaries(names, directions, min_size=1),
    st.lists(names, unique=True),
    st.lists(names, unique=True),
    directions,
    st.integers(1, 12),
)
@settings(max_examples=examples(100), deadline=None)
def test_a_subset_is_searched_as_if_it_were_all(
    catalogue: dict[str, np.ndarray], subset: list[str], left_out: list[str], query: np.ndarray, count: int
) -> None:
    """`among` considers only these tracks and `without` none of those; unknown keys are passed over."""
    searcher = Searcher(D, SearchSettings())
    searcher.apply(batch(catalogue, dimension=D))
    among = np.array([key_of(name) for name in subset], dtype=np.int64)
    without = np.array([key_of(name) for name in left_out], dtype=np.int64)
    for chosen, keys in ((None, catalogue), (among, subset)):
        found = searcher.search(query[None], count, chosen, without)
        rest = {name: catalogue[name] for name in keys if name in catalogue and name not in left_out}
        length = int(found.lengths[0])
        assert found.keys[0, :length].tolist() == expected(rest, query, count)[0]


def test_a_large_catalogue_is_scanned_exactly() -> None:
    """Rounding of the float32 product never decides: thousands of nearly equal vectors come in their true order."""
    rng = np.random.default_rng(1)
    centre = rng.standard_normal(64)
    catalogue = {f"t{i:05d}": unit(centre + 1e-4 * rng.standard_normal(64)) for i in range(3000)}
    searcher = Searcher(64, SearchSettings())
    searcher.apply(batch(catalogue, dimension=64))
    check(searcher, catalogue, np.array([unit(centre), unit(rng.standard_normal(64))]), 50)


def test_queries_of_any_length_are_scaled() -> None:
    """A query twice as long finds the same with the same scores."""
    rng = np.random.default_rng(2)
    catalogue = {f"t{i}": unit(rng.standard_normal(D)) for i in range(50)}
    searcher = Searcher(D, SearchSettings())
    searcher.apply(batch(catalogue, dimension=D))
    query = unit(rng.standard_normal(D))
    short = searcher.search(query[None], 5, None, None)
    long = searcher.search(query[None] * 2, 5, None, None)
    assert short.keys.tolist() == long.keys.tolist()
    assert short.scores.tolist() == long.scores.tolist()


@pytest.mark.parametrize(
    ("query", "count", "message"),
    [
        (np.zeros((1, D)), 5, "zero or not finite"),
        (np.full((1, D), np.nan), 5, "zero or not finite"),
        (np.ones((1, D + 1)), 5, r"must be \(q, 6\), not \(1, 7\)"),
        (np.ones((1, D)), 0, "at least 1, not 0"),
    ],
)
def test_a_query_that_means_nothing_is_refused(query: np.ndarray, count: int, message: str) -> None:
    """Zero, NaN, another dimension and a count below 1 are errors that say so."""
    with pytest.raises(ValueError, match=message):
        Searcher(D, SearchSettings()).search(query, count, None, None)


def test_vectors_are_given_by_key() -> None:
    """Known tracks' vectors come as they were put, unknown ones are zero and said to be unknown."""
    searcher = Searcher(D, SearchSettings())
    vector = unit(np.arange(D) + 1)
    searcher.apply(batch({"a": vector}, dimension=D))
    vectors, known = searcher.vectors(np.array([key_of("b"), key_of("a")]))
    assert known.tolist() == [False, True]
    assert vectors.tolist() == [[0.0] * D, vector.tolist()]
