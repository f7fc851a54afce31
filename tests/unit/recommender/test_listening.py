"""The popularity of a catalogue for the strategies, and the decayed hit count of materialised responses."""

import numpy as np
import pytest

from store.popularity import StoredPopularity
from streams.recommender.listening import make_popularity
from streams.recommender.materialiser import heat_of

pytestmark = pytest.mark.unit

NOW, DAY = 1_000_000_000.0, 86_400.0
HALF_LIFE = 30 * DAY


def read(values: list[float], ages: list[float], references: list[float] | None = None) -> StoredPopularity:
    """What the store would tell of tracks 10, 20, 30, ..."""
    count = len(values)
    return StoredPopularity(
        version=3,
        keys=np.arange(1, count + 1) * 10,
        created_at=NOW - np.array(ages),
        values=np.array(values),
        references=np.array(references or [NOW if value else 0.0 for value in values]),
    )


def test_nobody_has_listened() -> None:
    """Then nothing is said of any track."""
    made = make_popularity(read([0, 0], [DAY, DAY]), NOW, HALF_LIFE)
    assert made.version == 3
    assert made.of(np.array([10])) == (None, None, None)


def test_more_listening_is_a_higher_percentile_and_share() -> None:
    """By rate; the shares of all, one unknown track included, add up to 1."""
    made = make_popularity(read([1, 5, 0], [300 * DAY] * 3), NOW, HALF_LIFE)
    percentile, probability, heard = made.of(np.array([10, 20, 30]))
    assert percentile is not None
    assert probability is not None
    assert heard is not None
    assert heard.tolist() == [True, True, False]
    assert percentile[1] > percentile[0] > percentile[2]
    assert probability[1] > probability[0] > probability[2] > 0
    assert probability.sum() + made.newcomer[1] == pytest.approx(1)


def test_tracks_that_nobody_has_heard_stand_alike_whenever_they_came() -> None:
    """Years ago, a second ago or not known yet, wherever the key sorts: one percentile and one share."""
    made = make_popularity(read([9, 0, 0, 0], [300 * DAY, 300 * DAY, 0.001, 0]), NOW, HALF_LIFE)
    percentile, probability, heard = made.of(np.array([5, 25, 999, 20, 30, 40, 10]))
    assert percentile is not None
    assert probability is not None
    assert heard is not None
    assert heard.tolist() == [False] * 6 + [True]
    for standing in (percentile, probability):
        assert len(set(standing[:6].tolist())) == 1
        assert standing[6] > standing[0]


def test_what_was_only_skipped_stands_below_what_nobody_has_met() -> None:
    """Also where nothing was ever played; both are heard as little."""
    for values in ([-2, 0, 5], [-2, 0, 0]):
        made = make_popularity(read(values, [DAY, 300 * DAY, DAY]), NOW, HALF_LIFE)
        percentile, probability, heard = made.of(np.array([10, 20]))
        assert percentile is not None
        assert probability is not None
        assert heard is not None
        assert heard.tolist() == [True, False]
        assert percentile[0] < percentile[1]
        assert probability[0] == probability[1]


def test_old_listening_counts_less() -> None:
    """Sums kept at different times are brought to one."""
    made = make_popularity(read([4, 3], [300 * DAY] * 2, [NOW - HALF_LIFE, NOW]), NOW, HALF_LIFE)
    percentile, _, _ = made.of(np.array([10, 20]))
    assert percentile is not None
    assert percentile[1] > percentile[0]


def test_heat_orders_bodies_at_any_later_time() -> None:
    """Twice the hits an hour ago are worth the hits of now."""
    assert heat_of(2, NOW) == pytest.approx(heat_of(1, NOW + 3_600))
    assert heat_of(3, NOW) > heat_of(1, NOW + 3_600)
