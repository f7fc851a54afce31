"""A catalogue without an index that is searched by few columns."""

import numpy as np
import pytest

from streams.engine import projection
from streams.engine.search import SearchSettings
from streams.engine.search.searcher import Searcher
from tests.unit.engine.helpers import batch
from tests.unit.engine.test_projection import DIMENSION, few_directions
from tests.unit.search.test_exact_search import check

pytestmark = pytest.mark.unit


def _tended(searcher: Searcher, width: int) -> None:
    """Tend until products are made with other columns than so many."""
    while searcher.tracks.columns.matrix.shape[1] == width:
        searcher.supervisor.tend()


def test_few_columns_serve_as_soon_as_they_are_found_and_anew_when_the_catalogue_has_doubled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Answers are exact before and after, with what came, changed and went meanwhile."""
    monkeypatch.setattr(projection, "SMALLEST", 1_000)
    vectors = few_directions(2_400, 3)
    everything = {f"t{i:04d}": vector for i, vector in enumerate(vectors)}
    names, queries = list(everything), few_directions(5, 4)
    catalogue = {name: everything[name] for name in names[:1_100]}
    searcher = Searcher(DIMENSION, SearchSettings())
    searcher.apply(batch(catalogue, dimension=DIMENSION))
    searcher.supervisor.tend()
    changed = dict(zip(names[:40], few_directions(40, 5, noise=0.5), strict=True))
    gone = names[40:60]
    searcher.apply(batch(changed, gone, dimension=DIMENSION))
    catalogue = {name: v for name, v in (catalogue | changed).items() if name not in gone}
    check(searcher, catalogue, queries, 20)
    _tended(searcher, DIMENSION)
    assert searcher.tracks.columns.matrix.shape[1] < DIMENSION / 3
    check(searcher, catalogue, queries, 20)
    newer = {name: everything[name] for name in names[1_100:]}
    searcher.apply(batch(newer, dimension=DIMENSION))
    catalogue |= newer
    check(searcher, catalogue, queries, 20)
    before = searcher.tracks.columns
    while searcher.tracks.columns is before:
        searcher.supervisor.tend()
    check(searcher, catalogue, queries, 20)
    assert np.isfinite(searcher.tracks.columns.matrix).all()


def test_vectors_without_leading_directions_are_searched_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is won there is nothing held beside the vectors."""
    monkeypatch.setattr(projection, "SMALLEST", 1_000)
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((1_100, DIMENSION))
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    catalogue = {f"t{i:04d}": vector.astype(np.float32) for i, vector in enumerate(noise)}
    searcher = Searcher(DIMENSION, SearchSettings())
    searcher.apply(batch(catalogue, dimension=DIMENSION))
    before = searcher.tracks.columns
    while searcher.tracks.columns is before:
        searcher.supervisor.tend()
    assert searcher.tracks.columns.memory_bytes == 0
    check(searcher, catalogue, np.array(list(catalogue.values()))[:5], 20)
