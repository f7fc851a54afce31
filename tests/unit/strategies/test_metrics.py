"""Metrics of lists against numbers worked out by hand or published."""

import numpy as np
import pytest

from streams.strategies import metrics
from tests.unit.strategies.helpers import unit

pytestmark = pytest.mark.unit


def test_intra_list_diversity() -> None:
    """The mean over pairs: right angles and one opposite pair."""
    assert metrics.intra_list_diversity(unit([[1, 0], [0, 1], [-1, 0]])) == pytest.approx((1 + 1 + 2) / 3)
    assert metrics.intra_list_diversity(unit([[1, 2], [1, 2]])) == pytest.approx(0, abs=1e-6)
    assert metrics.intra_list_diversity(unit([[1, 2]])) == 0.0


def test_intra_list_diversity_equals_the_double_loop() -> None:
    """The sum of the vectors stands for all pairs."""
    vectors = unit(np.random.default_rng(4).normal(size=(20, 5)))
    pairs = [1 - float(vectors[i] @ vectors[j]) for i in range(20) for j in range(i)]
    assert metrics.intra_list_diversity(vectors) == pytest.approx(np.mean(pairs), abs=1e-6)


def test_novelty_is_mean_self_information() -> None:
    """1/2 and 1/8 are 1 and 3 bits."""
    assert metrics.list_novelty(np.array([0.5, 0.125])) == 2.0
    assert metrics.list_novelty(np.array([])) == 0.0


def test_coverage() -> None:
    """Distinct tracks by catalogue size."""
    assert metrics.catalogue_coverage([[1, 2], [2, 3]], 6) == 0.5
    with pytest.raises(ValueError, match="cannot hold"):
        metrics.catalogue_coverage([[1, 2]], 1)


def test_jaccard() -> None:
    """Order does not matter."""
    assert metrics.jaccard([1, 2, 3], [3, 2, 4]) == 0.5
    assert metrics.jaccard([], []) == 1.0


def test_rank_biased_overlap_by_hand() -> None:
    """Lists (a, b) and (b, a): agreement 0 at depth 1, 1 at depth 2 and below."""
    p = 0.9
    expected = (1 - p) / p * (0 + p**2) + p**2
    assert metrics.rank_biased_overlap("ab", "ba", persistence=p) == pytest.approx(expected)


def test_rank_biased_overlap_of_uneven_lists() -> None:
    """(a) and (a, b): what is unseen of the short list agrees as its seen part does: 1."""
    assert metrics.rank_biased_overlap("a", "ab") == pytest.approx(1.0)
    # (a, x) and (a, b, c), worked through equation 32: X = 1, 1, 1; s = 2, l = 3.
    p = 0.5
    expected = (1 - p) / p * (p + p**2 / 2 + p**3 / 3 + (1 * 1 / (2 * 3)) * p**3) + (0 + 1 / 2) * p**3
    assert metrics.rank_biased_overlap("ax", "abc", persistence=p) == pytest.approx(expected)


def test_rank_biased_overlap_at_its_ends() -> None:
    """The same, nothing in common, empty, symmetric; and the top counts most."""
    assert metrics.rank_biased_overlap("abcd", "abcd") == pytest.approx(1)
    assert metrics.rank_biased_overlap("abc", "xyz") == 0
    assert metrics.rank_biased_overlap("", "") == 1
    assert metrics.rank_biased_overlap("", "a") == 0
    assert metrics.rank_biased_overlap("abc", "bca") == metrics.rank_biased_overlap("bca", "abc")
    assert metrics.rank_biased_overlap("abcd", "abdc") > metrics.rank_biased_overlap("abcd", "bacd")
    with pytest.raises(ValueError, match="persistence"):
        metrics.rank_biased_overlap("a", "a", persistence=1.0)


def test_gini() -> None:
    """Even is 0; one of four has all is 3/4; 1, 2, 3 is 2/9."""
    assert metrics.gini(np.array([5, 5, 5])) == 0
    assert metrics.gini(np.array([0, 8, 0, 0])) == 0.75
    assert metrics.gini(np.array([3, 1, 2])) == pytest.approx(2 / 9)
    assert metrics.gini(np.zeros(3)) == 0


def test_hubs_and_orphans() -> None:
    """Occurrences are counted, empty places are not; hubs are in more than the share of lists."""
    lists = np.array([[0, 1], [0, 2], [0, -1], [1, 0]])
    counts = metrics.count_occurrences(lists, 5)
    assert counts.tolist() == [4, 2, 1, 0, 0]
    made = metrics.hubness(counts, 4, share=0.5)
    assert (made.hubs, made.orphans, made.largest) == (1, 2, 1.0)
    deviations = np.array([4, 2, 1, 0, 0]) - 1.4
    assert made.skewness == pytest.approx((deviations**3).mean() / (deviations**2).mean() ** 1.5)
    assert metrics.hubness(np.array([2, 2]), 4).skewness == 0
    with pytest.raises(ValueError, match="no lists"):
        metrics.hubness(counts, 0)
