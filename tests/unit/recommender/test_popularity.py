"""Popularity and statistics of lists, by key."""

import numpy as np
import pytest

from streams.recommender.popularity import ListFacts, Popularity

pytestmark = pytest.mark.unit

KEYS = np.array([-5, 3, 9], dtype=np.int64)


def test_a_track_that_is_not_known_is_as_a_newcomer() -> None:
    """Known keys have their own figures, in the order asked for; others those of a track without interactions."""
    popularity = Popularity(
        4,
        KEYS,
        np.array([0.1, 0.5, 0.9]),
        np.array([0.2, 0.3, 0.4]),
        np.array([True, False, True]),
        (0.45, 1e-3),
    )
    percentile, probability, heard = popularity.of(np.array([9, 100, -5, -100, 4]))
    assert percentile is not None
    assert probability is not None
    assert heard is not None
    assert percentile.tolist() == [0.9, 0.45, 0.1, 0.45, 0.45]
    assert probability.tolist() == [0.4, 1e-3, 0.2, 1e-3, 1e-3]
    assert heard.tolist() == [True, False, True, False, False]


def test_without_interactions_nothing_is_known() -> None:
    """Not even that all are equal: strategies say so."""
    assert Popularity(keys=KEYS).of(KEYS) == (None, None, None)


def test_hubs_are_what_more_than_a_share_of_lists_hold() -> None:
    """The share itself is allowed."""
    facts = ListFacts(KEYS, np.array([0.1, 0.2, 0.3]), KEYS[:2], np.array([0.5, 0.7]))
    assert facts.hubs(0.2).tolist() == [9]
    assert facts.hubs(0.05).tolist() == KEYS.tolist()


def test_a_track_without_a_list_has_the_mean_density() -> None:
    """Without any list no density is known."""
    facts = ListFacts(listed=KEYS[:2], density=np.array([0.5, 0.7]))
    found = facts.densities(np.array([3, 9]))
    assert found is not None
    assert found.tolist() == [0.7, pytest.approx(0.6)]
    assert ListFacts().densities(KEYS) is None
