"""Two rankings side by side."""

import pytest

from mess.spaces.comparison import rank_biased_overlap

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ([1, 2, 3], [1, 2, 3], 1.0),
        ([1, 2], [3, 4], 0.0),
        ([], [], 1.0),
        ([], [1], 0.0),
        # By hand: agreements 0, 1; (1 - p) * (0 + p) + p^2.
        ([1, 2], [2, 1], 0.1 * 0.9 + 0.81),
        ([1, 2], [1, 3], 0.1 * (1 + 0.9 / 2) + 0.5 * 0.81),
    ],
)
def test_rank_biased_overlap_counts_the_first_places_most(
    left: list[int], right: list[int], expected: float
) -> None:
    """As Webber, Moffat and Zobel have it, extrapolated."""
    assert rank_biased_overlap(left, right) == pytest.approx(expected)
    assert rank_biased_overlap(right, left) == pytest.approx(expected)


def test_an_exchange_further_down_counts_less() -> None:
    """The first ten places have most of the weight."""
    base = list(range(50))
    early = [1, 0, *base[2:]]
    late = [*base[:48], 49, 48]
    assert rank_biased_overlap(base, early) < rank_biased_overlap(base, late) < 1
