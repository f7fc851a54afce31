"""Several seeds as one query vector."""

import numpy as np
import pytest

from streams.strategies import InvalidQuery, MissingData, Query, Seed
from streams.strategies.seeds import combine_seeds, seed_contributions
from tests.unit.strategies.helpers import candidates, unit

pytestmark = pytest.mark.unit

X, Y = np.array([1, 0], dtype=np.float32), np.array([0, 1], dtype=np.float32)


def test_rocchio_by_hand() -> None:
    """Embedding, two seeds of weights 1 and 3, and a negative, each with its share."""
    query = Query(embedding=X, seeds=(Seed(1, 1.0, X), Seed(2, 3.0, Y)), negatives=(Seed(3, 1.0, Y),))
    made = combine_seeds(query)
    raw = np.array([1 + 0.75 / 4, 0.75 * 3 / 4 - 0.15])
    assert made.vector == pytest.approx(raw / np.linalg.norm(raw))
    assert made.coefficients == pytest.approx(np.array([0.1875, 0.5625]) / np.linalg.norm(raw))
    assert made.vector.dtype == np.float32


def test_one_seed_is_itself() -> None:
    """A single seed gives its own vector to the bit, whatever its weight."""
    vector = unit(np.random.default_rng(0).normal(size=7))
    made = combine_seeds(Query(seeds=(Seed(1, 5.0, vector),)))
    assert (made.vector == vector).all()
    assert made.coefficients.tolist() == [1.0]


def test_weights_are_relative() -> None:
    """Doubling every weight changes nothing; order does not matter either."""
    one = combine_seeds(Query(seeds=(Seed(1, 1.0, X), Seed(2, 2.0, Y))))
    other = combine_seeds(Query(seeds=(Seed(2, 4.0, Y), Seed(1, 2.0, X))))
    assert one.vector == pytest.approx(other.vector)
    assert one.vector[1] > one.vector[0]


def test_a_negative_pushes_away() -> None:
    """The cosine to a negative falls below what it was without."""
    seeds = (Seed(1, 1.0, unit([1, 0.5])),)
    assert combine_seeds(Query(seeds=seeds, negatives=(Seed(2, 1.0, Y),))).vector @ Y < unit([1, 0.5]) @ Y


def test_contributions_by_hand() -> None:
    """Each seed adds its coefficient times its cosine to the candidate."""
    query = Query(seeds=(Seed(1, 1.0, X), Seed(2, 1.0, Y)))
    vectors = unit([[0, 1], [1, 0], [1, 1]])
    half = np.sqrt(0.5)
    made = seed_contributions(query, candidates([0.7, 1], vectors=vectors[1:]))
    assert made == pytest.approx(np.array([[half, 0.0], [0.5, 0.5]]), abs=1e-6)
    assert seed_contributions(Query(seeds=(Seed(1, 1.0, X),)), candidates([0.7], vectors=vectors[:1])) is None
    assert seed_contributions(query, candidates([0.7])) is None


@pytest.mark.parametrize(
    ("query", "error", "said"),
    [
        (Query(), InvalidQuery, "nothing to start from"),
        (Query(negatives=(Seed(1, 1.0, X),)), InvalidQuery, "nothing to start from"),
        (Query(seeds=(Seed(1, 1.0, X), Seed(2, 1.0, -X))), InvalidQuery, "cancel out"),
        (Query(embedding=np.ones(3, "f4"), negatives=(Seed(1, 1.0, X),)), InvalidQuery, "dimension"),
        (Query(seeds=(Seed(1, 1.0, X), Seed(2, 1.0, np.ones(3, "f4")))), InvalidQuery, "dimension"),
        (Query(seeds=(Seed(1),)), MissingData, "needs its vector"),
    ],
)
def test_what_cannot_be_combined(query: Query, error: type[Exception], said: str) -> None:
    """No start, nothing left, other dimensions and missing vectors each have their sentence."""
    with pytest.raises(error, match=said):
        combine_seeds(query)
