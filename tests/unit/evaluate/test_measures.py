"""The measures, by hand and beside those of single lists."""

import math

import numpy as np
import pytest

from mess.evaluate import labels, measures
from mess.evaluate.labels import Label
from streams.strategies import metrics

pytestmark = pytest.mark.unit

# Tracks 0 to 3 are jigs, 4 and 5 reels, 6 a waltz alone, 7 has no form.
CODES = np.array([0, 0, 0, 0, 1, 1, 2, -1])
FORM = Label("form", CODES, frozenset({"form"}), 0.0)


def test_precision_counts_places_with_the_seeds_label() -> None:
    """Two of three, none of three, and nothing to say of a label that no other track has, or of none."""
    lists = np.array([[1, 4, 2], [0, 1, 2], [0, 1, 2], [0, 1, 2]])
    found = measures.precision(lists, np.array([0, 4, 6, 7]), FORM)
    assert found[:2].tolist() == pytest.approx([2 / 3, 0])
    assert np.isnan(found[2:]).all()


def test_an_empty_place_is_a_miss() -> None:
    """A list of one hit and two empty places has a third."""
    assert measures.precision(np.array([[1, -1, -1]]), np.array([0]), FORM).tolist() == [pytest.approx(1 / 3)]


def test_ndcg_by_hand() -> None:
    """Hits at ranks 1 and 3 of three possible: (1 + 1/2) / (1 + 1/log2(3) + 1/2)."""
    found = measures.ndcg(np.array([[1, 4, 2]]), np.array([0]), FORM)
    assert found.tolist() == [pytest.approx(1.5 / (1.5 + 1 / math.log2(3)))]


def test_ndcg_is_one_where_every_possible_hit_comes_first() -> None:
    """There is only one other reel: one hit at the top is all that can be."""
    assert measures.ndcg(np.array([[5, 0, 1]]), np.array([4]), FORM).tolist() == [1.0]


def test_measures_of_many_lists_equal_those_of_each() -> None:
    """Each measure of many lists is that of one list, or its definition, list by list."""
    random = np.random.default_rng(3)
    count, k = 60, 10
    vectors = random.normal(size=(count, 5))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    codes = random.integers(-1, 4, size=count)
    label = Label("form", codes, frozenset(), 0.0)
    seeds = np.flatnonzero(label.known)
    lists = np.stack([random.permutation(np.delete(np.arange(count), seed))[:k] for seed in seeds])
    probability = random.random(count)
    for place, seed in enumerate(seeds.tolist()):
        others = [i for i in range(count) if i != seed and codes[i] == codes[seed]]
        one, row = lists[place], slice(place, place + 1)
        found, discounts = np.isin(one, others), 1 / np.log2(np.arange(2, k + 2))
        assert measures.precision(lists, seeds, label)[place] == found.mean()
        assert measures.ndcg(lists, seeds, label)[place] == pytest.approx(
            discounts[found].sum() / discounts[: len(others)].sum()
        )
        assert measures.diversity(lists[row], vectors)[0] == pytest.approx(
            metrics.intra_list_diversity(vectors[one])
        )
        assert measures.mean_novelty(lists[row], probability)[0] == pytest.approx(
            metrics.list_novelty(probability[one])
        )
    exposure = measures.exposure_of(lists, count)
    assert exposure.coverage == pytest.approx(metrics.catalogue_coverage(lists.tolist(), count))
    assert exposure.gini == pytest.approx(metrics.gini(metrics.count_occurrences(lists, count)))


def test_exposure_by_hand() -> None:
    """Four lists of two over five tracks: track 0 is in all of them, track 4 in none."""
    found = measures.exposure_of(np.array([[0, 1], [0, 2], [0, 3], [0, 1]]), 5)
    assert found.coverage == pytest.approx(0.8)
    assert found.counts.tolist() == [4, 2, 1, 1, 0]
    assert found.largest == 1.0
    assert found.hubs == 4  # each of the four is in more than 1 % of four lists
    # Ascending 0 1 1 2 4, weights -4 -2 0 2 4: (0 - 2 + 0 + 4 + 16) / (5 * 8).
    assert found.gini == pytest.approx(18 / 40)


def test_empty_places_count_for_nothing() -> None:
    """Diversity, novelty, closeness and exposure are over the tracks that are there."""
    vectors = np.array([[1, 0], [0, 1], [1, 0]], dtype=np.float32)
    lists = np.array([[1, 2, -1], [0, -1, -1]])
    assert measures.diversity(lists, vectors).tolist() == [1.0, 0.0]
    assert measures.closeness(lists, np.array([0, 1]), vectors).tolist() == [0.5, 0.0]
    assert measures.mean_novelty(lists, np.array([0.5, 0.25, 0.25])).tolist() == [2.0, 1.0]
    assert measures.exposure_of(lists, 3).counts.tolist() == [1, 1, 1]


def test_uncertainty_by_hand() -> None:
    """A copy tells everything, a constant nothing, half of a four-valued label half of it."""
    label = np.array([0, 1, 2, 3])
    assert labels.uncertainty_coefficient(label, label) == pytest.approx(1.0)
    assert labels.uncertainty_coefficient(label, np.zeros(4, dtype=np.int64)) == pytest.approx(0.0)
    assert labels.uncertainty_coefficient(label, np.array([0, 0, 1, 1])) == pytest.approx(0.5)


def test_what_is_unknown_of_a_fact_is_a_value_too() -> None:
    """Where the era is known only of some composers' works, not knowing it tells of the composer."""
    assert labels.uncertainty_coefficient(np.array([0, 0, 1, 1]), np.array([0, 0, -1, -1])) == pytest.approx(
        1.0
    )
