"""Means over the last while."""

import math

import pytest

from streams.maintenance.recent_mean import RecentMean

pytestmark = pytest.mark.unit


def test_a_mean_is_of_the_last_while_alone() -> None:
    """What is older than the window counts no more, though nothing new has come; of nothing the mean is NaN."""
    now = 0.0
    recent = RecentMean(60, clock=lambda: now)
    assert math.isnan(recent.mean())
    for value in (0.5, 0.25):
        recent.add(value)
    assert recent.mean() == 0.375
    now = 40.0
    recent.add(1.0)
    now = 61.0
    assert recent.mean() == 1.0
    now = 101.0
    assert math.isnan(recent.mean())
