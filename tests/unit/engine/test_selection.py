"""What the engine's speed rests on: a bound from group maxima, and an order from one sort of packed bits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.engine.similarity import group_maxima, order_within

pytestmark = pytest.mark.unit

similar = st.sampled_from([-1.0, -0.5, -0.0, 0.0, 1e-30, -1e-30, 0.25, 0.5, 1.0]) | st.floats(-1, 1, width=32)


@given(st.lists(st.tuples(st.integers(0, 4), similar, st.integers(0, 2**62)), max_size=60))
def test_order_is_by_group_then_score_then_label(rows: list[tuple[int, float, int]]) -> None:
    """Whatever the signs and ties, zeros of both signs among them, the order is that of a sort by all three."""
    groups = np.array([row[0] for row in rows], dtype=np.int32)
    scores = np.array([row[1] for row in rows], dtype=np.float32)
    labels = np.array([row[2] for row in rows], dtype=np.int64)
    ranks = order_within(groups, scores, labels)
    expected = np.lexsort((labels, -scores, groups))
    assert sorted(ranks.tolist()) == list(range(len(rows)))
    for values in (groups, scores, labels):
        assert np.array_equal(values[ranks], values[expected])


@pytest.mark.parametrize("width", [30, 199, 200, 201, 333, 1000, 4096])
def test_enough_entries_reach_the_bound_of_group_maxima(width: int) -> None:
    """At least k entries of a row reach its k-th largest maximum, dead slots or not, and few more than k."""
    rng = np.random.default_rng(width)
    product = rng.standard_normal((7, width), dtype=np.float32)
    product[:, rng.choice(width, width // 10, replace=False)] = -np.inf
    k = 10
    maxima = group_maxima(product, 10 * k)
    bounds = np.partition(maxima, maxima.shape[1] - k, axis=1)[:, maxima.shape[1] - k]
    reaching = (product >= bounds[:, None]).sum(axis=1)
    assert (reaching >= k).all()
    assert reaching.max() < 2 * k
