"""Correction of hubs, by hand."""

import numpy as np
import pytest

from streams.strategies import InvalidQuery, Query, Seed, candidates_wanted, hubs, select_list
from tests.unit.strategies.helpers import candidates

pytestmark = pytest.mark.unit


def test_correction_is_half_the_density_above_the_mean() -> None:
    """0.9 - (0.8 - 0.6) / 2 = 0.8, and 0.85 - (0.4 - 0.6) / 2 = 0.95."""
    pool, notes = hubs.correct_hubs(candidates([0.9, 0.85], density=np.array([0.8, 0.4])), 1.0)
    assert pool.similarity.tolist() == pytest.approx([0.8, 0.95])
    assert notes == ()


def test_full_correction_ranks_as_csls() -> None:
    """The order is that of 2 cos(x, y) - r(x) - r(y), whatever r(x) is."""
    random = np.random.default_rng(0)
    similarity, density = random.random(50), random.random(50)
    made = select_list(
        candidates(similarity.tolist(), density=density),
        Query(seeds=(Seed(-1),), top_k=50, hub_correction=1.0),
    )
    assert made.keys == np.argsort(-(2 * similarity - 0.3 - density)).tolist()


def test_a_hub_gives_way_and_its_cosine_is_still_told() -> None:
    """What is corrected is the score that ranks; the similarity of the item stays the cosine."""
    pool = candidates([0.9, 0.85], density=np.array([0.8, 0.4]))
    query = Query(seeds=(Seed(-1),), top_k=2, hub_correction=1.0)
    made = select_list(pool, query)
    assert made.keys == [1, 0]
    assert [item.similarity for item in made.items] == pytest.approx([0.85, 0.9])
    assert made.items[0].score == pytest.approx(0.95)


def test_without_densities_nothing_changes_and_a_note_says_so() -> None:
    """The answer still comes."""
    made = select_list(candidates([0.9, 0.85]), Query(seeds=(Seed(-1),), top_k=2, hub_correction=1.0))
    assert made.keys == [0, 1]
    assert made.notes == (hubs.NO_DENSITY,)


def test_no_correction_by_default() -> None:
    """Densities alone change nothing."""
    pool = candidates([0.9, 0.85], density=np.array([0.8, 0.4]))
    assert select_list(pool, Query(seeds=(Seed(-1),), top_k=2)).keys == [0, 1]


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_strength_out_of_bounds_is_refused(strength: float) -> None:
    """Between 0 and 1."""
    with pytest.raises(InvalidQuery):
        Query(seeds=(Seed(-1),), hub_correction=strength)


def test_a_correction_wants_more_candidates_than_places() -> None:
    """What is to move up must be among them."""
    plain = Query(seeds=(Seed(-1),), top_k=10)
    assert candidates_wanted(plain) == 11
    assert candidates_wanted(Query(seeds=(Seed(-1),), top_k=10, hub_correction=1.0)) == 201
