"""Confidence intervals."""

import numpy as np
import pytest

from mess.evaluate import intervals

pytestmark = pytest.mark.unit


def test_the_interval_of_a_mean_is_that_of_the_normal_law() -> None:
    """1.96 standard errors on either side, within a tenth."""
    values = np.random.default_rng(0).normal(5, 2, size=(400, 1))
    means = intervals.resampled_means(values, np.random.default_rng(1), draws=2000)[:, 0]
    found = intervals.percentile_interval(float(values.mean()), means)
    error = 1.96 * values.std() / np.sqrt(400)
    assert found.half == pytest.approx(error, rel=0.1)
    assert found.low < values.mean() < found.high


def test_columns_are_drawn_together() -> None:
    """What differs by one always differs by one in every draw: the difference has no width."""
    column = np.random.default_rng(0).random(50)
    means = intervals.resampled_means(np.stack([column, column + 1], axis=1), np.random.default_rng(1))
    assert (means[:, 1] - means[:, 0]) == pytest.approx(1)


def test_seeds_with_nothing_to_say_are_left_out() -> None:
    """A column of one known value has that value in every draw that holds it."""
    values = np.array([[0.25], [np.nan], [np.nan]])
    means = intervals.resampled_means(values, np.random.default_rng(0), draws=200)[:, 0]
    assert np.isnan(means).any()
    assert intervals.percentile_interval(0.25, means) == intervals.Interval(0.25, 0.25, 0.25)


def test_nothing_measured_has_no_interval() -> None:
    """All NaN."""
    found = intervals.percentile_interval(float("nan"), np.full(5, np.nan))
    assert np.isnan([found.mean, found.low, found.high]).all()
