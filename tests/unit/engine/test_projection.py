"""Upper bounds from fewer columns."""

import numpy as np
import pytest

from streams.engine import acceleration, projection
from streams.engine.exact import ExactEngine
from streams.engine.projection import Projection
from streams.engine.similarity import exact_similarity
from tests.unit.engine.helpers import KeptLists, batch, oracle, unit

pytestmark = pytest.mark.unit

TRACKS, DIMENSION = 1_500, 96


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "SMALLEST", 1_200)


def few_directions(count: int, seed: int, noise: float = 0.05) -> np.ndarray:
    """Vectors that spread over six directions, with noise in all."""
    up = np.random.default_rng(99).standard_normal((6, DIMENSION))
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((count, 6)) @ up + noise * rng.standard_normal((count, DIMENSION))
    return np.array([unit(point) for point in points])


def fitted(vectors: np.ndarray) -> Projection:
    """A projection of these vectors."""
    made = Projection(DIMENSION)
    made.fit(vectors, np.ones(len(vectors), dtype=np.bool_), 10)
    return made


def test_products_of_reduced_vectors_are_upper_bounds() -> None:
    """No product lies below the similarity by more than the stated error, newcomers of another kind included."""
    vectors = np.concatenate([few_directions(TRACKS, 0), few_directions(100, 1, noise=3.0)])
    made = fitted(vectors)
    assert made.ready
    assert made.reduced.shape[1] < DIMENSION / 3
    other = few_directions(50, 2, noise=1.0)
    grown = np.concatenate([vectors, other])
    made.update(grown, np.arange(len(vectors), len(grown), dtype=np.int32))
    product = made.reduced[: len(grown)] @ made.reduced[: len(grown)].T
    for row, vector in zip(product, grown, strict=True):
        assert (row >= exact_similarity(vector, grown) - made.error).all()


def test_a_catalogue_is_projected_slice_by_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ready when all are, with bounds for those, too, that came or changed meanwhile."""
    monkeypatch.setattr(projection, "ROWS", 100)
    vectors, made = few_directions(TRACKS + 50, 0), Projection(DIMENSION)
    alive, slices = np.ones(TRACKS, dtype=np.bool_), 0
    while not made.ready:
        made.fit(vectors, alive, 10, 1e-9)
        slices += made.renewing
        if slices == 3 and len(alive) == TRACKS:
            vectors[5], vectors[700] = vectors[700], vectors[5].copy()
            made.update(vectors, np.array([5, 700, *range(TRACKS, TRACKS + 50)], dtype=np.int32))
            alive = np.ones(TRACKS + 50, dtype=np.bool_)
    assert slices > 10
    _bounds_hold(made, vectors)


def _bounds_hold(made: Projection, vectors: np.ndarray) -> None:
    used = made.reduced[: len(vectors)]
    for row, vector in zip(used @ used.T, vectors, strict=True):
        assert (row >= exact_similarity(vector, vectors) - made.error).all()


def test_old_directions_serve_until_a_larger_catalogue_is_projected_on_new_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At no time is there nothing to use, and both hold bounds for what comes and changes meanwhile."""
    monkeypatch.setattr(projection, "ROWS", 100)
    vectors = few_directions(2 * TRACKS + 50, 0)
    made = Projection(DIMENSION)
    made.fit(vectors, np.ones(TRACKS, dtype=np.bool_), 10)
    old, slices, used = made.directions, 0, 2 * TRACKS
    made.update(vectors, np.arange(TRACKS, used, dtype=np.int32))
    while made.directions is old:
        made.fit(vectors, np.ones(used, dtype=np.bool_), 10, 1e-9)
        slices += made.renewing
        if slices == 3 and used == 2 * TRACKS:
            used += 50
            vectors[5], vectors[700] = vectors[700], vectors[5].copy()
            made.update(vectors, np.array([5, 700, *range(2 * TRACKS, used)], dtype=np.int32))
        if slices == 5:
            _bounds_hold(made, vectors[:used])
        assert made.ready
    assert slices > 20
    assert not made.renewing
    _bounds_hold(made, vectors)


def test_vectors_without_leading_directions_are_left_as_they_are() -> None:
    """White noise has nothing to leave out: no projection is made of it."""
    noise = np.random.default_rng(0).standard_normal((TRACKS, DIMENSION))
    assert not fitted(np.array([unit(point) for point in noise])).ready


def test_directions_that_let_too_much_through_are_given_up() -> None:
    """A catalogue that has changed its character is searched whole again."""
    made = fitted(few_directions(TRACKS, 0))
    made.judge(computed=200 * TRACKS, rows=200, used=TRACKS)
    assert made.ready
    made.judge(computed=100_000 * TRACKS, rows=200, used=TRACKS)
    assert not made.ready


def test_lists_found_through_bounds_equal_brute_force() -> None:
    """Inserts, re-embeddings and deletes with a projection in use end with the lists of brute force."""
    engine, follower = ExactEngine(DIMENSION, published=10, kept=20), KeptLists()
    engine.accelerate(acceleration.load_kernels())
    names = [f"{i:05d}" for i in range(TRACKS)]
    catalogue = dict(zip(names, few_directions(TRACKS, 0), strict=True))
    for start in range(0, TRACKS, 200):
        engine.apply(batch({n: catalogue[n] for n in names[start : start + 200]}, dimension=DIMENSION))
    while not engine.nearest.projection.ready:
        engine.nearest.prepare()
    moved = dict(zip(names[::7], few_directions(len(names[::7]), 5, noise=0.5), strict=True))
    gone = names[1::7]
    engine.apply(batch(moved, gone, dimension=DIMENSION))
    catalogue = {n: v for n, v in (catalogue | moved).items() if n not in set(gone)}
    while engine.refill(100):
        pass
    follower.take(engine)
    assert follower.lists == oracle(catalogue, 10)
